"""Names of SAM 3's detector in Meta's files and in `transformers`.

Weights that were trained further with Meta's code, such as Medical-SAM3's
``checkpoint_2D.pt``, hold the detector under Meta's names, without ``detector.`` in
front. The names are facts of Meta's published code (SAM 3, 2025) and of the public
conversion in transformers (Apache-2.0). No such file was at hand: what a file lacks or
has too much is refused by the loader, which names it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    State = dict[str, torch.Tensor]

VISION, TEXT = "vision_encoder.backbone", "text_encoder.text_model"
# Whole parts: what Meta's names begin with, and those of transformers.
PARTS = (
    (r"backbone\.vision_backbone\.trunk\.", f"{VISION}."),
    (
        r"backbone\.vision_backbone\.convs\.(\d+)\.",
        r"vision_encoder.neck.fpn_layers.\1.",
    ),
    (r"backbone\.language_backbone\.resizer\.", "text_projection."),
    (
        r"backbone\.language_backbone\.encoder\.text_projection$",
        "text_encoder.@.weight",
    ),
    (r"backbone\.language_backbone\.encoder\.", f"{TEXT}."),
    (r"geometry_encoder\.encode\.(\d+)\.", r"geometry_encoder.layers.\1."),
    (r"transformer\.(en|de)coder\.", r"detr_\1coder."),
    (r"dot_prod_scoring\.", "dot_product_scoring."),
    (r"segmentation_head\.", "mask_decoder."),
)
# Within a part, in this order.
RENAMES = {
    VISION: (
        (r"\.pos_embed$", ".embeddings.position_embeddings"),
        (r"\.patch_embed\.proj\.", ".embeddings.patch_embeddings.projection."),
        (r"\.ln_pre\.", ".layer_norm."),
        (r"\.blocks\.", ".layers."),
        (r"\.norm([12])\.", r".layer_norm\1."),
        (r"\.attn\.proj\.", ".attention.o_proj."),
        (r"\.attn\.", ".attention."),
    ),
    "vision_encoder.neck": (
        (r"\.dconv_2x2(?:_0)?\.", ".scale_layers.0."),
        # The activation between them is number 1.
        (r"\.dconv_2x2_1\.", ".scale_layers.2."),
        (r"\.conv_1x1\.", ".proj1."),
        (r"\.conv_3x3\.", ".proj2."),
    ),
    TEXT: (
        (r"\.token_embedding\.", ".embeddings.token_embedding."),
        (r"\.positional_embedding$", ".embeddings.position_embedding.weight"),
        (r"\.ln_final\.", ".final_layer_norm."),
        (r"\.transformer\.resblocks\.", ".encoder.layers."),
        (r"\.attn\.", ".self_attn."),
        (r"\.ln_([12])\.", r".layer_norm\1."),
        (r"\.c_fc\.", ".fc1."),
        (r"\.c_proj\.", ".fc2."),
    ),
    "geometry_encoder": (
        (r"^geometry_encoder\.img_pre_norm\.", "geometry_encoder.vision_layer_norm."),
        (r"^geometry_encoder\.norm\.", "geometry_encoder.prompt_layer_norm."),
        (r"^geometry_encoder\.encode_norm\.", "geometry_encoder.output_layer_norm."),
    ),
    "detr_decoder": (
        (r"\.norm1\.", ".vision_cross_attn_layer_norm."),
        (r"\.norm2\.", ".self_attn_layer_norm."),
        (r"\.norm3\.", ".mlp_layer_norm."),
        (r"\.catext_norm\.", ".text_cross_attn_layer_norm."),
        (r"\.ca_text\.", ".text_cross_attn."),
        (r"(\.layers\.\d+)\.cross_attn\.", r"\1.vision_cross_attn."),
        (r"\.presence_token_head\.", ".presence_head."),
        (r"\.presence_token_out_norm\.", ".presence_layer_norm."),
        (r"^detr_decoder\.norm\.", "detr_decoder.output_layer_norm."),
        (r"\.bbox_embed\.", ".box_head."),
        (r"\.boxRPB_embed_", ".box_rpb_embed_"),
    ),
    "dot_product_scoring": (
        (r"\.prompt_mlp\.out_norm\.", ".text_mlp_out_norm."),
        (r"\.prompt_mlp\.", ".text_mlp."),
        (r"\.prompt_proj\.", ".text_proj."),
        (r"\.hs_proj\.", ".query_proj."),
    ),
    "mask_decoder": (
        (r"\.(?:mask_predictor\.)?mask_embed\.", ".mask_embedder."),
        (r"\.instance_seg_head\.", ".instance_projection."),
        (r"\.semantic_seg_head\.", ".semantic_projection."),
        (r"\.cross_attend_prompt\.", ".prompt_cross_attn."),
        (r"\.cross_attn_norm\.", ".prompt_cross_attn_norm."),
    ),
}
# Layers of the geometry encoder and of both halves of DETR have the same names.
LAYERS = (
    (r"\.cross_attn_image\.", ".cross_attn."),
    (r"\.linear([12])\.", r".mlp.fc\1."),
    (r"(\.layers\.\d+)\.norm([123])\.", r"\1.layer_norm\2."),
)
# Perceptrons count their layers from 1 in transformers; that of masks does not.
COUNTED = re.compile(r"(_head|_mlp|_embed_[xy])\.layers\.(\d)\.")
ALIKE = ("geometry_encoder.", "detr_encoder.", "detr_decoder.")
# Computed, or only of the tracker and the interactive half.
NOT_READ = re.compile(
    r"freqs_cis|\.instance_(?!seg_head)|(?:^|\.)(?:inst_interactive|tracker)|"
    r"\.sam2_convs\.|^geometry_encoder\.(?:points|mask)_|\.attn_mask$"
)
BEGINNINGS = ("detector.", "sam3_model.", "module.")


def is_native(state: State) -> bool:
    """Whether tensors have the names of Meta's detector.

    Parameters
    ----------
    state : dict of str to tensor
        Of a file.
    """
    return any("backbone.vision_backbone.trunk." in key for key in state)


def to_transformers(state: State) -> State:
    """Return the detector of Meta's layout under the names of `transformers`.

    Queries, keys and values, one tensor there, become three; the projection of the
    text is turned; the table of positions loses the place of a class token.

    Parameters
    ----------
    state : dict of str to tensor
        Of a file; what belongs to the tracker is left out.

    Returns
    -------
    dict of str to tensor
        Names that are unknown stay, so that the loader finds them.
    """
    found: State = {}
    inner = any(key.startswith("detector.") for key in state)
    for key, tensor in state.items():
        if inner and not key.startswith("detector."):
            continue
        name = key
        for beginning in BEGINNINGS:
            name = name.removeprefix(beginning)
        if not NOT_READ.search(name):
            found |= _split(renamed(name), tensor)
    return found


def renamed(key: str) -> str:
    """Return the name of a tensor in `transformers`; fused tensors keep ``qkv``.

    Parameters
    ----------
    key : str
        In Meta's layout.
    """
    for pattern, new in PARTS:
        changed = re.sub(f"^{pattern}", new, key)
        if changed != key:
            key = changed
            break
    for part, rules in RENAMES.items():
        if key.startswith(f"{part}."):
            for pattern, new in rules:
                key = re.sub(pattern, new, key)
    if key.startswith(ALIKE):
        for pattern, new in LAYERS:
            key = re.sub(pattern, new, key)
    key = COUNTED.sub(lambda m: f"{m[1]}.layer{int(m[2]) + 1}.", key)
    if not key.startswith(TEXT):
        key = key.replace(".out_proj.", ".o_proj.")
    return key.replace("text_encoder.@", "text_encoder.text_projection")


def _split(key: str, tensor: torch.Tensor) -> State:
    """Return a tensor under its names."""
    fused = re.search(r"\.(?:qkv\.|in_proj_)(weight|bias)$", key)
    if fused:
        stem = key[: fused.start()]
        parts = zip("qkv", tensor.chunk(3), strict=True)
        return {f"{stem}.{n}_proj.{fused[1]}": t.contiguous() for n, t in parts}
    if key == "text_encoder.text_projection.weight":
        return {key: tensor.T.contiguous()}
    if key.endswith(".position_embeddings"):
        # Squares have no room for a class token's place, so an odd one is it.
        places = int(tensor.shape[1])
        extra = places - int(places**0.5) ** 2
        return {key: tensor[:, extra:] if extra == 1 else tensor}
    return {key: tensor}
