"""From the names and shapes in a file to what kind it is and the make-up it needs."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch.nn.functional as F

from napari_fewshot.errors import WeightsError
from napari_fewshot.models.sam._decoder import DEPTH, DecoderConfig
from napari_fewshot.models.sam._files import refuse_others
from napari_fewshot.models.sam._tiny_vit import TinyConfig
from napari_fewshot.models.sam._vit import PATCH, VitConfig

if TYPE_CHECKING:
    from napari_fewshot.models.sam._names import State

# Width to name, heads and blocks with global attention.
VITS: dict[int, tuple[str, int, tuple[int, ...]]] = {
    768: ("vit_b", 12, (2, 5, 8, 11)),
    1024: ("vit_l", 16, (5, 11, 17, 23)),
    1280: ("vit_h", 16, (7, 15, 23, 31)),
}
PLACES = "image_encoder.pos_embed"
STEM = "image_encoder.patch_embed.seq.0.c.weight"
UNET = "downs.0.conv.0.weight"


@dataclass(frozen=True)
class SamConfig:
    """Make-up of the whole network.

    Attributes
    ----------
    encoder : VitConfig or TinyConfig
    decoder : DecoderConfig
    """

    encoder: VitConfig | TinyConfig
    decoder: DecoderConfig


def kind(state: State, name: str) -> tuple[str, str]:
    """Return what a file holds and of which size.

    Parameters
    ----------
    state : dict of str to tensor
        Under Meta's names; only names and shapes are looked at.
    name : str
        Of the file, for messages.

    Returns
    -------
    kind : str
        "sam" or, at 256 pixels a side, "sam 256"; "hq"; "conv adapters"; "tuned"
        (finetune-SAM); "tiny", "tiny 256", "tiny hq"; "unet"; "lora", "lora twice".
    size : str
        "vit_b", "vit_l", "vit_h", or "" for others.

    Raises
    ------
    WeightsError
        If it is no SAM at all, or of a family that is not loaded here.
    """
    refuse_others(state, name)
    if UNET in state:
        return "unet", ""
    if "w_a_000" in state:
        twice = any(key.startswith("mask_decoder2.") for key in state)
        return ("lora twice" if twice else "lora"), ""
    fine = "mask_decoder.hf_token.weight" in state
    if STEM in state:
        if fine:
            return "tiny hq", ""
        return ("tiny" if state[STEM].shape[-1] > 1 else "tiny 256"), ""
    place = state.get(PLACES)
    if place is None or place.ndim != 4:
        raise WeightsError(
            f"{name} holds no weights of SAM: the table of positions of its encoder "
            "is missing or has an unknown shape. Choose a file of SAM or MedSAM."
        )
    size = VITS[place.shape[-1]][0] if place.shape[-1] in VITS else ""
    if fine:
        return "hq", size
    if _has(state, r"\.Adapter\.channel\.0\.weight$"):
        return "conv adapters", size
    tokens = state.get("mask_decoder.mask_tokens.weight")
    usual = tokens is None or len(tokens) == 4
    if not usual or _has(state, r"\.(linear_a_q|w_a|Space_Adapter|MLP_Adapter)\."):
        return "tuned", size
    return ("sam 256" if place.shape[1] * PATCH == 256 else "sam"), size


def sam_config(state: State, side: int) -> SamConfig:
    """Return the make-up of the network that a file is for.

    Parameters
    ----------
    state : dict of str to tensor
        Under Meta's names, LoRA merged.
    side : int
        Of the frame, for encoders without a table of positions.
    """
    encoder: VitConfig | TinyConfig
    encoder = tiny_config(state, side) if STEM in state else vit_config(state)
    tokens = state.get("mask_decoder.mask_tokens.weight")
    early = state.get("mask_decoder.compress_vit_feat.0.weight")
    adapters = [
        i
        for i in range(DEPTH)
        if f"mask_decoder.transformer.layers.{i}.MLP_Adapter.D_fc1.weight" in state
    ]
    return SamConfig(
        encoder,
        DecoderConfig(
            4 if tokens is None else len(tokens),
            0 if early is None else len(early),
            tuple(adapters),
            refined="mask_decoder2.mask_tokens.weight" in state,
        ),
    )


def vit_config(state: State) -> VitConfig:
    """Return the make-up of the vision transformer that a file holds.

    Blocks whose table of relative positions is of another length than the first one's
    see the whole image.

    Parameters
    ----------
    state : dict of str to tensor
        Under Meta's names.
    """
    place = state[PLACES]
    dim = int(place.shape[-1])
    _, heads, everywhere = VITS.get(dim, ("", 0, ()))
    tables = _numbered(state, r"image_encoder\.blocks\.(\d+)\.attn\.rel_pos_h")
    if tables:
        rows = {number: len(state[key]) for number, key in tables.items()}
        first = rows.get(0, 27)
        other = tuple(n for n, count in sorted(rows.items()) if count != first)
        # At 224 pixels all tables are alike; windows and the whole image are, too.
        everywhere = other or everywhere
        heads = dim // int(state[tables[min(tables)]].shape[-1])
        offsets = rows[other[0]] if other else first
        window = (first + 1) // 2
    else:
        offsets, window = 0, 14
    return VitConfig(
        dim,
        len(_numbered(state, r"image_encoder\.blocks\.(\d+)\.norm1\.weight")),
        heads or max(1, dim // 64),
        everywhere,
        int(place.shape[1]) * PATCH,
        window,
        offsets,
        tuple(_numbered(state, r"image_encoder\.blocks\.(\d+)\.Adapter\.norm\.weight")),
        tuple(
            _numbered(
                state, r"image_encoder\.blocks\.(\d+)\.Space_Adapter\.D_fc1\.weight"
            )
        ),
    )


def tiny_config(state: State, side: int) -> TinyConfig:
    """Return the make-up of the TinyViT that a file holds.

    Parameters
    ----------
    state : dict of str to tensor
        Under the published names.
    side : int
        Of the frame: this encoder has no table of positions.
    """
    stages = _numbered(
        state, r"image_encoder\.layers\.(\d+)\.downsample\.conv1\.c.weight"
    )
    dims = [len(state["image_encoder.patch_embed.seq.2.c.weight"])]
    dims += [len(state[stages[n]]) for n in sorted(stages)]
    depths, heads, windows = [], [], []
    for number in range(len(dims)):
        part = rf"image_encoder\.layers\.{number}\.blocks\.(\d+)\."
        depths.append(len(_numbered(state, part + r"(?:mlp\.norm|conv1\.bn)\.weight")))
        biases = _numbered(state, part + r"attn\.attention_biases")
        shape = state[biases[0]].shape if 0 in biases else (0, 0)
        heads.append(int(shape[0]))
        windows.append(math.isqrt(int(shape[1])))
    return TinyConfig(
        tuple(dims),
        tuple(depths),
        tuple(heads),
        tuple(windows),
        side,
        shrinks=state[STEM].shape[-1] > 1,
    )


def resized(state: State, side: int) -> State:
    """Return the weights of a vision transformer for another side of the frame.

    The table of positions is resized bilinearly to the new grid, the tables of relative
    positions of the blocks that see the whole image linearly; those of windows stay.

    Parameters
    ----------
    state : dict of str to tensor
        Under Meta's names; is not changed.
    side : int
        In pixels, a multiple of 16.

    Raises
    ------
    WeightsError
        If it is no multiple of 16.
    """
    check_side(side)
    config = vit_config(state)
    if config.side == side:
        return state
    grid = side // PATCH
    found = dict(state)
    place = state[PLACES].float().permute(0, 3, 1, 2)
    place = F.interpolate(place, (grid, grid), mode="bilinear", align_corners=False)
    found[PLACES] = place.permute(0, 2, 3, 1).contiguous()
    for number in config.global_blocks:
        for axis in "hw":
            key = f"image_encoder.blocks.{number}.attn.rel_pos_{axis}"
            table = state[key].float().T[None]
            table = F.interpolate(table, 2 * grid - 1, mode="linear")
            found[key] = table[0].T.contiguous()
    return found


def check_side(side: int) -> None:
    """Refuse a side in pixels that no grid of patches fills.

    Raises
    ------
    WeightsError
        If it is no multiple of 16.
    """
    if side <= 0 or side % PATCH:
        raise WeightsError(f"A side of {side} pixels is no multiple of {PATCH}.")


def _has(state: State, pattern: str) -> bool:
    return any(re.search(pattern, key) for key in state)


def _numbered(state: State, pattern: str) -> dict[int, str]:
    """Return the numbers that a pattern finds in keys, in order, and the keys."""
    found = {}
    for key in state:
        match = re.fullmatch(pattern, key)
        if match:
            found[int(match[1])] = key
    return dict(sorted(found.items()))
