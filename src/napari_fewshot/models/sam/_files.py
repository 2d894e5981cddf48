"""Weights files of the SAM family: read safely, recognised by their keys.

Only tensors are read (``weights_only=True``): a file that wants to run code is refused.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from napari_fewshot.errors import WeightsError
from napari_fewshot.models.sam._vit import PATCH, VitConfig

if TYPE_CHECKING:
    import os

    from torch import nn

State = dict[str, Tensor]
WRAPPERS = ("model", "model_state_dict", "model_state", "state_dict", "network")
PREFIXES = ("module.", "sam.", "model.", "_orig_mod.")
# Width to name, depth, heads and blocks with global attention.
VITS = {
    768: ("vit_b", 12, 12, (2, 5, 8, 11)),
    1024: ("vit_l", 24, 16, (5, 11, 17, 23)),
    1280: ("vit_h", 32, 16, (7, 15, 23, 31)),
}
# Keys that tell a family that is not loaded here: what it is.
OTHERS = {
    "downs.0.conv.0.weight": "a ScribblePrompt U-Net",
    "mask_decoder.hf_token.weight": "HQ-SAM weights",
    "image_encoder.patch_embed.seq.0.c.weight": "a SAM with a TinyViT encoder",
    "image_encoder.blocks.0.Adapter.channel.0.weight": "SAM-Med2D weights",
    "prompt_encoder.crop_nets.0.weight": "MCP-MedSAM weights",
    "memory_encoder.out_proj.weight": "SAM 2 weights",
    "w_a_000": "a LoRA file without its base weights",
}
# Hugging Face's names to Meta's, in this order.
RENAMES = (
    (r"^vision_encoder\.", "image_encoder."),
    (r"^image_encoder\.patch_embed\.projection\.", "image_encoder.patch_embed.proj."),
    (r"^image_encoder\.layers\.", "image_encoder.blocks."),
    (r"(image_encoder\.blocks\.\d+\.)layer_norm([12])\.", r"\1norm\2."),
    (r"^image_encoder\.neck\.conv1\.", "image_encoder.neck.0."),
    (r"^image_encoder\.neck\.layer_norm1\.", "image_encoder.neck.1."),
    (r"^image_encoder\.neck\.conv2\.", "image_encoder.neck.2."),
    (r"^image_encoder\.neck\.layer_norm2\.", "image_encoder.neck.3."),
    (r"^prompt_encoder\.point_embed\.", "prompt_encoder.point_embeddings."),
    (r"^prompt_encoder\.mask_embed\.conv1\.", "prompt_encoder.mask_downscaling.0."),
    (
        r"^prompt_encoder\.mask_embed\.layer_norm1\.",
        "prompt_encoder.mask_downscaling.1.",
    ),
    (r"^prompt_encoder\.mask_embed\.conv2\.", "prompt_encoder.mask_downscaling.3."),
    (
        r"^prompt_encoder\.mask_embed\.layer_norm2\.",
        "prompt_encoder.mask_downscaling.4.",
    ),
    (r"^prompt_encoder\.mask_embed\.conv3\.", "prompt_encoder.mask_downscaling.6."),
    (r"(transformer\.layers\.\d\.)layer_norm([1-4])\.", r"\1norm\2."),
    (r"transformer\.layer_norm_final_attn\.", "transformer.norm_final_attn."),
    (r"^mask_decoder\.upscale_conv1\.", "mask_decoder.output_upscaling.0."),
    (r"^mask_decoder\.upscale_layer_norm\.", "mask_decoder.output_upscaling.1."),
    (r"^mask_decoder\.upscale_conv2\.", "mask_decoder.output_upscaling.3."),
    # The middle layer first: later rules make other names of the same form.
    (r"(_mlps\.\d|iou_prediction_head)\.layers\.0\.", r"\1.layers.1."),
    (r"(_mlps\.\d|iou_prediction_head)\.proj_in\.", r"\1.layers.0."),
    (r"(_mlps\.\d|iou_prediction_head)\.proj_out\.", r"\1.layers.2."),
)
MATRIX = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"


def read_state(path: str | os.PathLike[str]) -> State:
    """Read the tensors of a weights file under Meta's names.

    Parameters
    ----------
    path : path
        safetensors, or what ``torch.save`` wrote.

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
    found = _safetensors(file) if head[8:9] == b"{" else _pickled(file)
    return _plain_names(_unwrap(found, file.name))


def vit_config(state: State, name: str) -> VitConfig:
    """Return the make-up of the encoder that a plain SAM file holds.

    Parameters
    ----------
    state : dict of str to tensor
        Under Meta's names.
    name : str
        Of the file, for messages.

    Raises
    ------
    WeightsError
        If it is another family, or no SAM at all.
    """
    for key, what in OTHERS.items():
        if key in state:
            raise WeightsError(
                f"{name} holds {what}, which this model does not load. "
                "Choose a file of SAM or MedSAM with a ViT-B, L or H encoder."
            )
    place = state.get("image_encoder.pos_embed")
    if place is None or place.ndim != 4 or place.shape[-1] not in VITS:
        raise WeightsError(
            f"{name} holds no weights of SAM: the table of positions of its encoder "
            "is missing or has an unknown shape. Choose a file of SAM or MedSAM."
        )
    dim = int(place.shape[-1])
    _, depth, heads, everywhere = VITS[dim]
    window = state.get("image_encoder.blocks.0.attn.rel_pos_h")
    side = 14 if window is None else (len(window) + 1) // 2
    return VitConfig(dim, depth, heads, everywhere, int(place.shape[1]) * PATCH, side)


def fill(network: nn.Module, state: State, name: str) -> None:
    """Put tensors into a network, strictly; the network may be on "meta".

    Raises
    ------
    WeightsError
        If names or shapes differ, or values are not finite.
    """
    wanted = {k: tuple(v.shape) for k, v in network.state_dict().items()}
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
    network.load_state_dict(held, assign=True)
    network.requires_grad_(requires_grad=False)


def _safetensors(file: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"The weights file {file.name} is damaged ({error}). Download it again."
        ) from error


def _pickled(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=False)
    except pickle.UnpicklingError as error:
        if zipfile.is_zipfile(file):
            raise WeightsError(
                f"{file.name} holds more than tensors and could run code when it is "
                "opened, so it was refused. If you trust its source, open it once "
                "with torch.load(file, weights_only=False) and save its state dict "
                "with safetensors.torch.save_file."
            ) from error
        raise WeightsError(_UNKNOWN.format(name=file.name)) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise WeightsError(_UNKNOWN.format(name=file.name)) from error


_UNKNOWN = (
    "{name} is damaged or no weights file (safetensors, or what torch.save writes). "
    "Download it again or choose another file."
)


def _unwrap(found: Any, name: str) -> State:
    """Return the tensors, whatever training script wrapped them."""
    if isinstance(found, dict):
        inside = [k for k in WRAPPERS if isinstance(found.get(k), dict)]
        if len(inside) == 1:
            found = found[inside[0]]
    tensors = {}
    if isinstance(found, dict):
        tensors = {str(k): v for k, v in found.items() if isinstance(v, Tensor)}
    if not tensors:
        raise WeightsError(f"{name} holds no tensors. Choose another file.")
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in tensors):
            tensors = {k.removeprefix(prefix): v for k, v in tensors.items()}
    return tensors


def _plain_names(state: State) -> State:
    """Rename Hugging Face's layout to Meta's."""
    if not any(key.startswith("vision_encoder.layers.") for key in state):
        return state
    renamed: State = {}
    for key, tensor in state.items():
        meta = key
        for pattern, new in RENAMES:
            meta = re.sub(pattern, new, meta)
        # One table under two names, of which a file may hold either.
        renamed[MATRIX if key.endswith(".positional_embedding") else meta] = tensor
    return renamed
