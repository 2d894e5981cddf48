"""Weights files of the SAM family: read safely, put into networks strictly.

Only tensors are read (``weights_only=True``): a file that wants to run code is refused.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_fewshot.errors import WeightsError
from napari_fewshot.models.sam._names import State, plain_names, unwrap

if TYPE_CHECKING:
    import os

    from torch import nn

# Parts of names that tell a family which is not loaded here, in this order: which.
OTHERS = {
    "image_encoder.cnn_encoder.": (
        "PRISM, a model of volumes that is not supported; use a SAM on planes"
    ),
    "prompt_encoder.crop_nets.": (
        "MCP-MedSAM, which also needs a CLIP and is not supported; use medsam/lite"
    ),
    "mask_query.": "ESP-MedSAM, which is not supported; use mobilesam/vit_t",
    "patch_decoder.": "ESP-MedSAM, which is not supported; use mobilesam/vit_t",
    "image_encoder.trunk.": "SAM 2, which is loaded with transformers; use sam2 models",
    "sam_mask_decoder.": "SAM 2, which is loaded with transformers; use sam2 models",
    "vision_encoder.backbone.": (
        "SAM 2 or 3, which are loaded with transformers; use sam2 models"
    ),
    "w_g_": "I-MedSAM, which is not supported; use samed/vit_b or hsam/vit_b",
    ".lora_A.": (
        "a LoRA of the package peft; merge it there into its base (merge_and_unload) "
        "and save that"
    ),
}
_UNKNOWN = (
    "{name} is damaged or no weights file (safetensors, or what torch.save writes). "
    "Download it again or choose another file."
)


def read_state(path: str | os.PathLike[str], *, lazy: bool = False) -> State:
    """Read the tensors of a weights file under Meta's names.

    Parameters
    ----------
    path : path
        safetensors, or what ``torch.save`` wrote.
    lazy : bool
        Whether to leave the numbers on disk where the format allows it; for a look at
        names and shapes.

    Returns
    -------
    dict of str to tensor

    Raises
    ------
    WeightsError
        If it can't be read, is no weights file, or would run code.
    """
    file = Path(path)
    try:
        with file.open("rb") as opened:
            head = opened.read(16)
    except OSError as error:
        raise WeightsError(
            f"The weights file {file.name} cannot be read ({error.strerror}). "
            "Check its path."
        ) from error
    found = _safetensors(file) if head[8:9] == b"{" else _pickled(file, head, lazy=lazy)
    if isinstance(found, dict) and {"encoder_dict", "feature_dict"} <= set(found):
        raise WeightsError(
            f"{file.name} holds 3DSAM-adapter, a model of volumes that is not "
            "supported; use a SAM on planes."
        )
    state = plain_names(unwrap(found))
    if not state:
        raise WeightsError(f"{file.name} holds no tensors. Choose another file.")
    return state


def fill(network: nn.Module, state: State, name: str) -> None:
    """Put tensors into a network, strictly; the network may be on "meta".

    Parameters
    ----------
    network : Module
        Is changed.
    state : dict of str to tensor
        May hold more than the network wants.
    name : str
        Of the file, for messages.

    Raises
    ------
    WeightsError
        If names or shapes differ, or values are not finite.
    """
    shapes = {k: tuple(v.shape) for k, v in network.state_dict().items()}
    # A counter that only training reads.
    wanted = {k: s for k, s in shapes.items() if not k.endswith("num_batches_tracked")}
    missing = [k for k in wanted if k not in state]
    if missing:
        raise WeightsError(
            f"{name} is incomplete: {len(missing)} tensors are missing, for example "
            f"{missing[0]}. Download it again."
        )
    for key, shape in wanted.items():
        if tuple(state[key].shape) != shape:
            raise WeightsError(
                f"In {name} the tensor {key} has the shape {tuple(state[key].shape)} "
                f"and not {shape}; it is of another model. Choose another file."
            )
    held = {k: state[k].float() for k in wanted}
    for key, tensor in held.items():
        if not bool(torch.isfinite(tensor).all()):
            raise WeightsError(
                f"In {name} the tensor {key} holds values that are not numbers. "
                "Download it again."
            )
    counters = {k: torch.tensor(0) for k in shapes if k not in wanted}
    network.load_state_dict(held | counters, assign=True)
    network.requires_grad_(requires_grad=False)


def refuse_others(state: State, name: str) -> None:
    """Refuse weights of families that are known but not loaded here.

    Parameters
    ----------
    state : dict of str to tensor
        Under Meta's names.
    name : str
        Of the file, for messages.

    Raises
    ------
    WeightsError
        If it is one of them; says which.
    """
    for part, what in OTHERS.items():
        if any(part in key for key in state):
            raise WeightsError(f"{name} holds {what}.")
    place = state.get("image_encoder.pos_embed")
    patches = state.get("image_encoder.patch_embed.proj.weight")
    if patches is not None and patches.ndim == 5:
        raise WeightsError(
            f"{name} holds SAM-Med3D, a model of volumes that is not supported; use a "
            "SAM on planes."
        )
    if place is not None and place.ndim == 3:
        raise WeightsError(
            f"{name} holds EfficientSAM, which is not supported; use mobilesam/vit_t."
        )


def _safetensors(file: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"The weights file {file.name} is damaged ({error}). Download it again."
        ) from error


def _pickled(file: Path, head: bytes, *, lazy: bool) -> Any:
    archive = zipfile.is_zipfile(file)
    try:
        with warnings.catch_warnings():
            # Of unusual formats; what is refused is said below.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(
                file, map_location="cpu", weights_only=True, mmap=lazy and archive
            )
    except pickle.UnpicklingError as error:
        if archive or head.startswith(b"\x80"):
            raise WeightsError(
                f"{file.name} holds more than tensors and could run code when it is "
                "opened, so it was refused. If you trust its source, convert it once: "
                f"napari-fewshot models convert {file}"
            ) from error
        raise WeightsError(_UNKNOWN.format(name=file.name)) from error
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        AttributeError,
        TypeError,
        IndexError,
    ) as error:
        raise WeightsError(_UNKNOWN.format(name=file.name)) from error
