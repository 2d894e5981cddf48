"""From a weights file or folder and the name of a model to the model."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_fewshot.errors import ModelError, WeightsError
from napari_fewshot.models._device import resolve_device, resolve_precision
from napari_fewshot.models._places import weights_of
from napari_fewshot.models.clip._identify import described, weights_file
from napari_fewshot.models.clip._makes import CONFIG, build, make_of
from napari_fewshot.models.clip._model import ClipModel
from napari_fewshot.models.clip._names import fitting_names, plain_names
from napari_fewshot.models.clip._tokens import Tokens, has_tokenizer
from napari_fewshot.models.sam._files import fill, read_state

if TYPE_CHECKING:
    from torch import nn

    from napari_fewshot.models._spec import ModelSpec
    from napari_fewshot.models.clip._makes import Make
    from napari_fewshot.models.sam._names import State

INSTALL = 'pip install "napari-fewshot[hf]"'


def load(spec: ModelSpec, checkpoint: Any, device: str, precision: str) -> ClipModel:
    """Load a model of the CLIP kind, both towers.

    Parameters
    ----------
    spec : ModelSpec
        Which one; its name tells the architecture.
    checkpoint : path
        safetensors or what ``torch.save`` wrote, in the layout of open_clip or of the
        port of BiomedCLIP to Hugging Face (as MedCLIP-SAM's weights); or a folder with
        such a file and, if need be, files of a tokenizer. If the folder has
        ``open_clip_config.json``, that counts as the architecture, whatever the name.
    device, precision : str
        See `nf.load_model`.

    Raises
    ------
    WeightsError
        If there is no such file, it holds other weights, or a file is missing.
    ModelError
        If it is of a kind that is not supported.
    """
    if checkpoint is None:
        raise WeightsError(
            f"{spec.name} needs its weights: download them from {spec.url} and pass "
            "their path as checkpoint."
        )
    path = weights_file(checkpoint).absolute()
    folder = path.parent if Path(checkpoint).is_dir() else None
    place = resolve_device(device)
    stamps = tuple(_stamp(f) for f in _read_files(path, folder))
    return _load(spec, path, folder, stamps, place, resolve_precision(place, precision))


@functools.lru_cache(maxsize=1)
def _load(
    spec: ModelSpec,
    path: Path,
    folder: Path | None,
    stamps: tuple[int, ...],
    device: str,
    precision: str,
) -> ClipModel:
    """Load once per file (until one changes), device and precision."""
    make = make_of(spec.name, folder)
    if make.text.get("hf_model_name") or make.text.get("hf_tokenizer_name"):
        _need_transformers(make)
    tokens = Tokens(make, _tokenizer_folder(spec, path))
    state = plain_names(read_state(path))
    network = build(make, folder, state)
    put(network, state, make, path.name)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ClipModel(network, tokens, make, spec, device, precision, digest)


def put(network: nn.Module, state: State, make: Make, name: str) -> None:
    """Put tensors into a network: all that it wants, and no others.

    Parameters
    ----------
    network : Module
        Of open_clip; is changed.
    state : dict of str to tensor
        Under open_clip's names.
    make : Make
        What the network is, for messages.
    name : str
        Of the file, for messages.

    Raises
    ------
    WeightsError
        If names or shapes differ, or values are not finite.
    """
    fitting = fitting_names(state, network)
    shapes = {k: tuple(t.shape) for k, t in network.state_dict().items()}
    missing = sorted(k for k in shapes if k not in fitting)
    surplus = sorted(k for k in fitting if k not in shapes)
    other = sorted(
        k for k in shapes if k in fitting and tuple(fitting[k].shape) != shapes[k]
    )
    if missing or surplus or other:
        parts = [
            f"{len(keys)} tensors {what} (such as {', '.join(keys[:3])})"
            for keys, what in (
                (missing, "are missing"),
                (surplus, "are not of it"),
                (other, "have other shapes"),
            )
            if keys
        ]
        looks = described(state)
        held = f"It looks like {looks}. " if looks and looks != make.name else ""
        raise WeightsError(
            f"{name} does not hold {make.name}: {'; '.join(parts)}. {held}Choose the "
            f"right model or file, or a folder with its {CONFIG}."
        )
    fill(network, fitting, name)


def _tokenizer_folder(spec: ModelSpec, path: Path) -> Path | None:
    """Return where a tokenizer may be: beside the weights, or with installed ones."""
    if has_tokenizer(path.parent):
        return path.parent
    installed = weights_of(spec.name)
    if installed is None:
        return None
    return installed if installed.is_dir() else installed.parent


def _need_transformers(make: Make) -> None:
    if importlib.util.find_spec("transformers") is None:
        raise ModelError(
            f"The words of {make.name} are read with the package transformers, which "
            f"is not here: {INSTALL}."
        )


def _read_files(path: Path, folder: Path | None) -> tuple[Path, ...]:
    """Return the files that a model may be read from."""
    if folder is None:
        return (path,)
    more = sorted((*folder.glob("*.json"), *folder.glob("*.txt")))
    return (path, *more)


def _stamp(path: Path) -> int:
    return path.stat().st_mtime_ns if path.is_file() else 0
