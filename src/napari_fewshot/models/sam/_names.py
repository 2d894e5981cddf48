"""Names of parameters: whatever wrapped or renamed them, back to Meta's."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

State = dict[str, Tensor]
WRAPPERS = ("model", "model_state_dict", "model_state", "state_dict", "network")
PREFIXES = ("module.", "sam.", "model.", "_orig_mod.")
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
    (r"^mask_decoder\.hq_token\.", "mask_decoder.hf_token."),
    (r"^mask_decoder\.hq_mask_mlp\.", "mask_decoder.hf_mlp."),
    (r"^mask_decoder\.compress_vit_", "mask_decoder.compress_vit_feat."),
    (r"^mask_decoder\.encoder_(?=conv|norm)", "mask_decoder.embedding_encoder."),
    (r"^mask_decoder\.mask_(?=conv|norm)", "mask_decoder.embedding_maskfeature."),
    (r"(vit_feat|embedding_\w+)\.conv1\.", r"\1.0."),
    (r"(vit_feat|embedding_\w+)\.norm\.", r"\1.1."),
    (r"(vit_feat|embedding_\w+)\.conv2\.", r"\1.3."),
    # The middle layer first: later rules make other names of the same form.
    (r"(_mlps\.\d|iou_prediction_head|hf_mlp)\.layers\.0\.", r"\1.layers.1."),
    (r"(_mlps\.\d|iou_prediction_head|hf_mlp)\.proj_in\.", r"\1.layers.0."),
    (r"(_mlps\.\d|iou_prediction_head|hf_mlp)\.proj_out\.", r"\1.layers.2."),
)
MATRIX = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"


def unwrap(found: Any) -> State:
    """Return the tensors of what a file held, whatever training script wrapped them.

    Parameters
    ----------
    found : object
        A dictionary of tensors, or one that holds it under a usual name.

    Returns
    -------
    dict of str to tensor
        Empty if there are none.
    """
    if not isinstance(found, dict):
        return {}
    inside = [k for k in WRAPPERS if isinstance(found.get(k), dict)]
    if len(inside) == 1:
        found = found[inside[0]]
    tensors = {str(k): v for k, v in found.items() if isinstance(v, Tensor)}
    changed = True
    while changed and tensors:
        changed = False
        for prefix in PREFIXES:
            if all(key.startswith(prefix) for key in tensors):
                tensors = {k.removeprefix(prefix): v for k, v in tensors.items()}
                changed = True
    return tensors


def plain_names(state: State) -> State:
    """Rename Hugging Face's layout to Meta's.

    Parameters
    ----------
    state : dict of str to tensor
        Under either's names.
    """
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
