"""From a weights file and the name of a model to the encoder."""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING, Any

from napari_fewshot.errors import FewShotError, WeightsError
from napari_fewshot.models._device import resolve_device, resolve_precision
from napari_fewshot.models.dense._frame import OPENAI, Preset
from napari_fewshot.models.dense._identify import Kind, kind, weights_file
from napari_fewshot.models.dense._model import DenseModel
from napari_fewshot.models.dense._names import plain_names
from napari_fewshot.models.dense._networks import Convolutional, Transformer
from napari_fewshot.models.sam._files import fill, read_state

if TYPE_CHECKING:
    from pathlib import Path

    from napari_fewshot.models._spec import ModelSpec
    from napari_fewshot.models.dense._networks import Network
    from napari_fewshot.models.sam._names import State


def load(spec: ModelSpec, checkpoint: Any, device: str, precision: str) -> DenseModel:
    """Load an encoder from a file; widths and depths are read from it.

    Parameters
    ----------
    spec : ModelSpec
        Which one.
    checkpoint : path
        safetensors or what ``torch.save`` wrote, in the layout of the publisher, of
        timm or, for DINOv2 and DINOv3 transformers, of Hugging Face; or a folder
        with one such file.
    device, precision : str
        See `nf.load_model`.

    Raises
    ------
    WeightsError
        If there is no such file, or it holds other weights.
    """
    if checkpoint is None:
        raise WeightsError(
            f"{spec.name} needs its weights ({spec.size_mb:.0f} MB, {spec.licence}): "
            f"download them from {spec.url} and pass their path as checkpoint."
        )
    path = weights_file(checkpoint).absolute()
    stamp = path.stat().st_mtime_ns if path.is_file() else 0
    place = resolve_device(device)
    return _load(spec, path, stamp, place, resolve_precision(place, precision))


@functools.lru_cache(maxsize=1)
def _load(
    spec: ModelSpec, path: Path, stamp: int, device: str, precision: str
) -> DenseModel:
    """Load once per file (until it changes), device and precision."""
    state = plain_names(read_state(path))
    try:
        network, preset = _network(spec, state, path.name)
        fill(network.module, network.converted(state), path.name)
    except (LookupError, ArithmeticError, ValueError, RuntimeError) as error:
        # Names of one of these with shapes that make no network.
        if isinstance(error, FewShotError):
            raise
        raise WeightsError(
            f"{path.name} is incomplete or damaged ({error}). Download it again."
        ) from error
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return DenseModel(network, spec, preset, device, precision, digest)


def _network(spec: ModelSpec, state: State, name: str) -> tuple[Network, Preset]:
    """Build the network that tensors are for, without weights, and say how it sees."""
    family, _, size = spec.name.partition("/")
    if family == "timm" or size.startswith("convnext"):
        network = Convolutional(size)
        facts = network.module.pretrained_cfg
        return network, Preset(network.step, tuple(facts["mean"]), tuple(facts["std"]))
    found = _checked(spec, kind(state, name), name)
    biased = any(k.endswith((".qkv.bias", ".q_bias")) for k in state)
    preset = Preset(found.patch)
    if family == "clip":
        biased, preset = True, Preset(found.patch, *OPENAI)
    elif family == "dinov2" and not found.registers:
        # Weights without registers were published with this way of resizing.
        preset = Preset(found.patch, offset=0.1, smooth=False)
    return Transformer(found, qkv_bias=biased), preset


def _checked(spec: ModelSpec, found: Kind | None, name: str) -> Kind:
    """Return the make-up of a file if it is that of the model."""
    right = found is not None and (
        found.name == spec.name if found.name else found.is_size_of(spec.name)
    )
    if found is not None and right:
        return found
    other = "another model" if found is None else found.name or found.form
    raise WeightsError(
        f"{name} holds weights of {other}, not of {spec.name}. Choose the right model "
        "or another file."
    )
