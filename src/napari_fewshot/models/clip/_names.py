"""Names of parameters: whatever renamed them, back to open_clip's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn

    from napari_fewshot.models.sam._names import State

# The port of BiomedCLIP to Hugging Face (in which MedCLIP-SAM's weights are published)
# to open_clip's names, in this order.
RENAMES = (
    (r"^vision_model\.encoder\.layers\.", "visual.trunk.blocks."),
    (r"\.layer_norm([12])\.", r".norm\1."),
    (r"\.self_attn\.out_proj\.", ".attn.proj."),
    (r"\.self_attn\.([qkv])_proj\.", r".attn.\1."),
    (r"^vision_model\.post_layernorm\.", "visual.trunk.norm."),
    (r"^vision_model\.pre_layr?norm\.", "visual.trunk.norm_pre."),
    (r"^vision_model\.embeddings\.class_embedding$", "visual.trunk.cls_token"),
    (
        r"^vision_model\.embeddings\.position_embedding\.weight$",
        "visual.trunk.pos_embed",
    ),
    (
        r"^vision_model\.embeddings\.patch_embedding\.",
        "visual.trunk.patch_embed.proj.",
    ),
    (r"^visual_projection\.", "visual.head.proj."),
    (r"^text_projection\.fc1\.", "text.proj.0."),
    (r"^text_projection\.fc2\.", "text.proj.2."),
    (r"^text_model\.", "text.transformer."),
)
PARTS = ("q", "k", "v")
# What some files hold besides weights: it is computed, or only training reads it.
NEEDLESS = (
    r"position_ids$",
    r"(^|\.)attn_mask$",
    r"^(input_resolution|context_length|vocab_size)$",
    r"^text\.transformer\.pooler\.",
)
# Parameters of a text tower that `CustomTextCLIP` keeps under "text.".
READER = (
    "text_projection",
    "positional_embedding",
    "token_embedding.",
    "transformer.",
    "ln_final.",
)


def plain_names(state: State) -> State:
    """Rename the port of BiomedCLIP to open_clip's names; leave out what is needless.

    Parameters
    ----------
    state : dict of str to tensor
        Under either's names.
    """
    state = {k: t for k, t in state.items() if not _is_needless(k)}
    is_port = "vision_model.embeddings.class_embedding" in state and any(
        key.startswith("text_model.encoder.layer.") for key in state
    )
    if not is_port:
        return state
    renamed: State = {}
    for key, tensor in state.items():
        for pattern, new in RENAMES:
            key = re.sub(pattern, new, key)
        if not _is_needless(key):
            renamed[key] = tensor
    for key, dimensions in (("cls_token", 3), ("pos_embed", 3)):
        token = renamed[f"visual.trunk.{key}"]
        renamed[f"visual.trunk.{key}"] = token.reshape(
            *[1] * (dimensions - token.ndim), *token.shape
        )
    return _joined(renamed)


def fitting_names(state: State, network: nn.Module) -> State:
    """Return tensors under the names that a network has for them.

    The text tower is kept under "text." or not; temperatures are numbers or arrays.

    Parameters
    ----------
    state : dict of str to tensor
        Under names of open_clip, of whatever age.
    network : Module
        Of open_clip.
    """
    wanted = network.state_dict()
    inside = any(key.startswith("text.") for key in wanted)
    if inside and not any(key.startswith("text.") for key in state):
        state = {
            f"text.{k}" if k.startswith(READER) else k: t for k, t in state.items()
        }
    elif not inside:
        state = {k.removeprefix("text."): t for k, t in state.items()}
    for key in ("logit_scale", "logit_bias"):
        if key in state and key in wanted and state[key].numel() == 1:
            state[key] = state[key].reshape(wanted[key].shape)
    return state


def _is_needless(key: str) -> bool:
    return any(re.search(pattern, key) for pattern in NEEDLESS)


def _joined(state: State) -> State:
    """Stack the matrices of q, k and v of every block, and their biases."""
    found = {k: t for k, t in state.items() if not re.search(r"\.attn\.[qkv]\.", k)}
    for key in [k for k in state if re.search(r"\.attn\.q\.(weight|bias)$", k)]:
        start, _, kind = key.rpartition("q.")
        parts = [state[f"{start}{part}.{kind}"] for part in PARTS]
        found[f"{start}qkv.{kind}"] = torch.cat(parts)
    return found
