"""Names of parameters in Hugging Face's layout, back to those of the publishers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from napari_fewshot.models.sam._names import State

# Hugging Face's names of DINOv2 and DINOv3 to Meta's, in this order.
RENAMES = (
    (r"^embeddings\.patch_embeddings\.(projection\.)?", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.", ""),
    (r"^(encoder\.)?layer\.", "blocks."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.attention\.(attention\.)?([qkv])(uery|ey|alue|_proj)\.", r".attn.\2."),
    (r"\.mlp\.up_proj\.", ".mlp.fc1."),
    (r"\.mlp\.down_proj\.", ".mlp.fc2."),
    (r"^layernorm\.", "norm."),
)
PARTS = ("q", "k", "v")


def plain_names(state: State) -> State:
    """Rename Hugging Face's layout to Meta's, with one matrix for q, k and v.

    Parameters
    ----------
    state : dict of str to tensor
        Under either's names.
    """
    if "embeddings.cls_token" not in state:
        return state
    third = "embeddings.patch_embeddings.weight" in state
    renamed: State = {}
    for key, tensor in state.items():
        for pattern, new in RENAMES:
            key = re.sub(pattern, new, key)
        renamed[key] = tensor
    if third and "register_tokens" in renamed:
        renamed["storage_tokens"] = renamed.pop("register_tokens")
    return _joined(renamed)


def _joined(state: State) -> State:
    """Stack the matrices of q, k and v, and their biases; keys may have none."""
    found = {k: t for k, t in state.items() if not re.search(r"\.attn\.[qkv]\.", k)}
    for key in [k for k in state if k.endswith(".attn.q.weight")]:
        block = key.removesuffix("q.weight")
        found[f"{block}qkv.weight"] = torch.cat(
            [state[f"{block}{part}.weight"] for part in PARTS]
        )
        if f"{block}q.bias" in state:
            nothing = torch.zeros_like(state[f"{block}q.bias"])
            found[f"{block}qkv.bias"] = torch.cat(
                [state.get(f"{block}{part}.bias", nothing) for part in PARTS]
            )
    return found
