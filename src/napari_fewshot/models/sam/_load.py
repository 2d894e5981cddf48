"""From a file and the name of a model to the model."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_fewshot.errors import ModelError, WeightsError
from napari_fewshot.models._device import (
    PRECISIONS,
    resolve_device,
    resolve_precision,
)
from napari_fewshot.models.sam._configs import (
    PLACES,
    UNET,
    check_side,
    kind,
    resized,
    sam_config,
)
from napari_fewshot.models.sam._files import fill, read_state
from napari_fewshot.models.sam._identify import fitting
from napari_fewshot.models.sam._lora import merge_inside, merge_pair
from napari_fewshot.models.sam._model import SamModel, SamNetwork
from napari_fewshot.models.sam._presets import FAMILIES
from napari_fewshot.models.sam._unet import ClickUnet, UnetModel, widths
from napari_fewshot.models.sam._vit import ImageEncoderVit

if TYPE_CHECKING:
    from napari_fewshot.models._spec import ModelSpec
    from napari_fewshot.models.sam._names import State
    from napari_fewshot.models.sam._promptable import Promptable

# Files that are only an update of another one.
UPDATES = ("lora", "lora twice")
SECOND = "mask_decoder2.norm1.weight"


def load(
    spec: ModelSpec,
    checkpoint: Any,
    device: str,
    precision: str,
    side: int = 0,
    *,
    compiled: bool = False,
) -> Promptable:
    """Load SAM or weights of the same make from a file.

    Parameters
    ----------
    spec : ModelSpec
        Which of them.
    checkpoint : path or pair of paths, optional
        Weights; there are no bundled ones. SAMed and H-SAM want a pair: the LoRA file
        and the SAM file it was trained on.
    device, precision : str
        See `nf.load_model`.
    side : int
        Side of the frame in pixels, if another than that of the file or family.
    compiled : bool
        Whether torch compiles the image encoder.

    Raises
    ------
    ModelError
        If the model is not one of this make.
    WeightsError
        If there is no file, or it holds other weights.
    """
    if spec.name not in FAMILIES:
        raise ModelError(f"{spec.name} is no model of the SAM family.")
    if checkpoint is None:
        raise WeightsError(
            f"{spec.name} needs its weights ({spec.size_mb:.0f} MB, {spec.licence}): "
            f"download them from {spec.url} and pass their path as checkpoint."
        )
    pair = isinstance(checkpoint, (tuple, list))
    paths = tuple(Path(p) for p in (checkpoint if pair else (checkpoint,)))
    place = resolve_device(device)
    half = FAMILIES[spec.name].preset.half
    bits = resolve_precision(place, precision, same_masks=half)
    return _load(spec, paths, _stamps(paths), place, bits, side, compiled=compiled)


def _stamps(paths: tuple[Path, ...]) -> tuple[int, ...]:
    """When files changed; a missing one is reported when it is read."""
    return tuple(p.stat().st_mtime_ns if p.is_file() else 0 for p in paths)


@functools.lru_cache(maxsize=1)
def _load(
    spec: ModelSpec,
    paths: tuple[Path, ...],
    stamps: tuple[int, ...],
    device: str,
    precision: str,
    side: int,
    *,
    compiled: bool,
) -> Promptable:
    """Load once per file (until it changes), device and precision."""
    name, preset = paths[0].name, FAMILIES[spec.name].preset
    if side:
        check_side(side)
    try:
        state = _read(spec, paths, side)
        with torch.device("meta"):
            network = _network(state, side or preset.side)
    except (LookupError, ArithmeticError, ValueError, RuntimeError) as error:
        # Names of SAM with shapes that make no network.
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(
            f"{name} is incomplete or damaged ({error}). Download it again."
        ) from error
    fill(network, state, name)
    facts = (spec, preset, device, precision, _digest(paths))
    if isinstance(network, ClickUnet):
        return UnetModel(network, *facts)
    if device == "cpu" and isinstance(network.image_encoder, ImageEncoderVit):
        network.image_encoder.pack(PRECISIONS[precision])
    return SamModel(network, *facts, compiled=compiled)


def _network(state: State, side: int) -> SamNetwork | ClickUnet:
    """Build the network that tensors are for, without weights."""
    if UNET in state:
        return ClickUnet(widths(state))
    return SamNetwork(sam_config(state, side))


def _read(spec: ModelSpec, paths: tuple[Path, ...], side: int) -> State:
    """Read the files of a model, merged to one, for a side (0: its own)."""
    name, family = paths[0].name, FAMILIES[spec.name]
    state = read_state(paths[0])
    found, size = kind(state, name)
    if found not in family.kinds or (size and family.size != size):
        others = ", ".join(fitting(found, size)) or "a model that is not known here"
        raise WeightsError(
            f"{name} holds weights of {others}, not of {spec.name}. Choose the right "
            "model or another file."
        )
    if found not in UPDATES:
        state = merge_inside(state)
        return resized(state, side) if side and PLACES in state else state
    if len(paths) != 2:
        raise WeightsError(
            f"{name} only updates a SAM. Give the file it was trained on, too: "
            "checkpoint=(lora, base), where base is for example sam_vit_b_01ec64.pth."
        )
    base = read_state(paths[1])
    if kind(base, paths[1].name)[0] not in ("sam", "sam 256"):
        raise WeightsError(f"{paths[1].name} is no plain SAM to be updated.")
    merged = merge_pair(state, base, name)
    # The second decoder of H-SAM has layers as long as the grid has cells.
    cells = state.get(SECOND)
    own = family.preset.side if cells is None else 16 * round(len(cells) ** 0.5)
    return resized(merged, side or own)


def _digest(paths: tuple[Path, ...]) -> str:
    """SHA-256 of the files, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(2**22):
                digest.update(block)
    return digest.hexdigest()
