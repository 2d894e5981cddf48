"""Meta's files of SAM 2: their names and sizes as `transformers` has them.

Facts from the published configurations and code of SAM 2 (Ravi et al., 2024).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from napari_fewshot.errors import WeightsError

if TYPE_CHECKING:
    State = dict[str, torch.Tensor]

TRUNK = "vision_encoder.backbone"
MATRIX = "shared_image_embedding.positional_embedding"
KINDS = "prompt_encoder.point_embed"


@dataclass(frozen=True)
class Hiera:
    """Make-up of a Hiera trunk.

    Attributes
    ----------
    dim, heads : int
        Width and attention heads of the first stage; both double with every stage.
    blocks : tuple of int
        Blocks of the four stages.
    everywhere : tuple of int
        Blocks that attend to the whole image.
    windows : tuple of int
        Side of the windows of every stage, in tokens.
    background : int
        Side of the coarse table of positions.
    """

    dim: int
    heads: int
    blocks: tuple[int, ...]
    everywhere: tuple[int, ...]
    windows: tuple[int, ...] = (8, 4, 14, 7)
    background: int = 7


HIERAS = {
    "hiera_tiny": Hiera(96, 1, (1, 2, 7, 2), (5, 7, 9)),
    "hiera_small": Hiera(96, 1, (1, 2, 11, 2), (7, 10, 13)),
    "hiera_base_plus": Hiera(112, 2, (2, 3, 16, 3), (12, 16, 20), background=14),
    "hiera_large": Hiera(144, 2, (2, 6, 36, 4), (23, 33, 43), (8, 4, 16, 8)),
}

# Meta's names to those of transformers, in this order.
RENAMES = (
    (r"^image_encoder\.trunk\.", f"{TRUNK}."),
    (r"^image_encoder\.neck\.(convs\.\d+)\.conv\.", r"vision_encoder.neck.\1."),
    (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
    (r"^sam_prompt_encoder\.", "prompt_encoder."),
    (r"^sam_mask_decoder\.", "mask_decoder."),
    (r"\.pe_layer\.positional_encoding_gaussian_matrix$", f".{MATRIX}"),
    (r"\.shared_image_embedding\.", ".shared_embedding."),
    (r"\.point_embeddings\.", ".point_embed."),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
    # Layers of memory's own names, before all norms and outputs are renamed.
    (r"^memory_encoder\.out_proj\.", "memory_encoder.projection."),
    (r"^memory_encoder\.pix_feat_proj\.", "memory_encoder.feature_projection."),
    (r"^memory_encoder\.fuser\.", "memory_encoder.memory_fuser."),
    (r"\.dwconv\.", ".depthwise_conv."),
    (r"\.pwconv([12])\.", r".pointwise_conv\1."),
    (r"\.gamma$", ".scale"),
    (r"(\.mask_downsampler)\.encoder\.12\.", r"\1.final_conv."),
    # Blocks of feed-forward layers: two deep, then three deep.
    (r"(\.\d+\.mlp)\.layers\.0\.", r"\1.proj_in."),
    (r"(\.\d+\.mlp)\.layers\.1\.", r"\1.proj_out."),
    (r"^obj_ptr_proj\.", "object_pointer_proj."),
    (r"(_mlps\.\d|_head|_pointer_proj)\.layers\.0\.", r"\1.proj_in."),
    (r"(_mlps\.\d|_head|_pointer_proj)\.layers\.1\.", r"\1.layers.0."),
    (r"(_mlps\.\d|_head|_pointer_proj)\.layers\.2\.", r"\1.proj_out."),
    (r"\.norm([1-4]?)\.", r".layer_norm\1."),
    (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
    (r"\.out_proj\.", ".o_proj."),
    (r"^obj_ptr_tpos_proj\.", "temporal_positional_encoding_projection_layer."),
    (r"^maskmem_tpos_enc$", "memory_temporal_positional_encoding"),
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"^no_mem_pos_enc$", "no_memory_positional_encoding"),
    (r"^no_obj_ptr$", "no_object_pointer"),
    (r"^no_obj_embed_spatial$", "occlusion_spatial_embedding_parameter"),
)
# Convolution, norm and activation are three steps of Meta's list.
DOWN = re.compile(r"(\.mask_downsampler)\.encoder\.(\d+)\.")


def to_transformers(state: State) -> State:
    """Rename the tensors of Meta's layout; those of transformers' stay.

    Parameters
    ----------
    state : dict of str to tensor
        Of a file.

    Returns
    -------
    dict of str to tensor
    """
    found = {_renamed(key): tensor for key, tensor in state.items()}
    parts = [f"{KINDS}.{i}.weight" for i in range(4)]
    if all(part in found for part in parts):
        found[f"{KINDS}.weight"] = torch.cat([found.pop(part) for part in parts])
    # One table under two names.
    matrix = found.get("prompt_encoder.shared_embedding.positional_embedding")
    if matrix is not None:
        found.setdefault(MATRIX, matrix)
    return found


def _renamed(key: str) -> str:
    for pattern, new in RENAMES:
        key = re.sub(pattern, new, key)
    step = DOWN.search(key)
    if step:
        number, kind = divmod(int(step[2]), 3)
        what = "layer_norm" if kind else "conv"
        key = DOWN.sub(rf"\1.layers.{number}.{what}.", key)
    return key


def trunk_name(dim: int, blocks: int) -> str:
    """Return the name of a Hiera trunk by its width and depth; "" if unknown."""
    for name, hiera in HIERAS.items():
        if (hiera.dim, sum(hiera.blocks)) == (dim, blocks):
            return name
    return ""


def state_trunk(state: State, name: str) -> str:
    """Return which trunk a file holds.

    Parameters
    ----------
    state : dict of str to tensor
        Under transformers' names.
    name : str
        Of the file, for messages.

    Raises
    ------
    WeightsError
        If it holds no SAM 2, or one of unknown size.
    """
    places = state.get(f"{TRUNK}.pos_embed")
    numbers = {key.split(".")[3] for key in state if key.startswith(f"{TRUNK}.blocks.")}
    found = "" if places is None else trunk_name(int(places.shape[1]), len(numbers))
    if not found:
        raise WeightsError(
            f"{name} holds no weights of SAM 2 or MedSAM2: the Hiera trunk is missing "
            "or has an unknown size. Choose a file such as sam2.1_hiera_tiny.pt, or a "
            "folder with config.json."
        )
    return found


def sam2_config(transformers: Any, state: State, trunk: str, side: int) -> Any:
    """Return the ``Sam2VideoConfig`` of a file.

    Parameters
    ----------
    transformers : module
        The package.
    state : dict of str to tensor
        Under transformers' names; tells SAM 2 from SAM 2.1.
    trunk : str
        A name in `HIERAS`.
    side : int
        Side of the square frame in pixels.
    """
    hiera = HIERAS[trunk]
    widths = [hiera.dim * 2**i for i in range(4)]
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=hiera.dim,
        num_attention_heads=hiera.heads,
        image_size=[side, side],
        blocks_per_stage=list(hiera.blocks),
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[hiera.heads * 2**i for i in range(4)],
        window_size_per_stage=list(hiera.windows),
        global_attention_blocks=list(hiera.everywhere),
        window_positional_embedding_background_size=[hiera.background] * 2,
    )
    vision = transformers.Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=widths[::-1],
        backbone_feature_sizes=[[side // n, side // n] for n in (4, 8, 16)],
    )
    timed = "temporal_positional_encoding_projection_layer.weight" in state
    return transformers.Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config={"image_size": side},
        image_size=side,
        memory_attention_rope_feat_sizes=[side // 16, side // 16],
        enable_temporal_pos_encoding_for_object_pointers=timed,
        enable_occlusion_spatial_embedding="occlusion_spatial_embedding_parameter"
        in state,
    )
