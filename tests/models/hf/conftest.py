"""Small networks of transformers with random weights, in folders of the real layout."""

import re

import pytest
import torch

# The width of the memory is fixed at 64 in transformers; pointers are cut to it.
SIDE, DIM = 64, 128


def hiera(side):
    transformers = pytest.importorskip("transformers")
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=16,
        image_size=[side, side],
        blocks_per_stage=[1, 2, 2, 1],
        embed_dim_per_stage=[16, 32, 64, 128],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[4, 2, 3, 2],
        global_attention_blocks=[4],
    )
    return transformers.Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[128, 64, 32, 16],
        backbone_feature_sizes=[[side // n] * 2 for n in (4, 8, 16)],
        fpn_hidden_size=DIM,
    )


def video_config(kind="Sam2Video", side=SIDE, patch=16, vision=None):
    grid = side // patch
    transformers = pytest.importorskip("transformers")
    heads = {"hidden_size": DIM, "mlp_dim": 64, "iou_head_hidden_dim": 32}
    return getattr(transformers, f"{kind}Config")(
        vision_config=vision or hiera(side),
        prompt_encoder_config={
            "hidden_size": DIM,
            "image_size": side,
            "patch_size": patch,
        },
        mask_decoder_config={**heads, "num_attention_heads": 4},
        image_size=side,
        memory_attention_hidden_size=DIM,
        memory_attention_num_layers=2,
        memory_attention_feed_forward_hidden_size=64,
        memory_attention_rope_feat_sizes=[grid, grid],
        memory_encoder_hidden_size=DIM,
        mask_downsampler_embed_dim=DIM,
        memory_fuser_embed_dim=DIM,
        memory_fuser_intermediate_dim=64,
    )


def randomise(network, seed=0):
    """Every parameter random, so that none can go unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            noise = torch.randn(tensor.shape, generator=generator)
            is_scale = name.endswith("weight") and tensor.ndim == 1
            tensor.copy_(1 + 0.1 * noise if is_scale else 0.1 * noise)
        # One table under two names; large, so that places count.
        table = network.shared_image_embedding.positional_embedding
        table.copy_(torch.randn(table.shape, generator=generator))
        network.prompt_encoder.shared_embedding.positional_embedding.copy_(table)
    return network.eval()


@pytest.fixture(scope="session")
def sam2():
    transformers = pytest.importorskip("transformers")
    return randomise(transformers.Sam2VideoModel(video_config()))


@pytest.fixture(scope="session")
def folder(sam2, tmp_path_factory):
    path = tmp_path_factory.mktemp("sam2-tiny")
    sam2.save_pretrained(path)
    return path


# Names of transformers and of Meta's files, written down apart from the loader's table.
METAS = (
    ("vision_encoder.backbone.", "image_encoder.trunk."),
    ("vision_encoder.neck.", "image_encoder.neck."),
    ("patch_embed.projection", "patch_embed.proj"),
    ("memory_encoder.projection", "memory_encoder.out_proj"),
    ("feature_projection", "pix_feat_proj"),
    ("memory_fuser", "fuser"),
    ("depthwise_conv", "dwconv"),
    ("pointwise_conv", "pwconv"),
    ("mask_embed.conv1", "mask_downscaling.0"),
    ("mask_embed.layer_norm1", "mask_downscaling.1"),
    ("mask_embed.conv2", "mask_downscaling.3"),
    ("mask_embed.layer_norm2", "mask_downscaling.4"),
    ("mask_embed.conv3", "mask_downscaling.6"),
    ("upscale_conv1", "output_upscaling.0"),
    ("upscale_layer_norm", "output_upscaling.1"),
    ("upscale_conv2", "output_upscaling.3"),
    ("shared_embedding.positional", "pe_layer.positional"),
    ("positional_embedding", "positional_encoding_gaussian_matrix"),
    ("object_pointer_proj", "obj_ptr_proj"),
    ("temporal_positional_encoding_projection_layer", "obj_ptr_tpos_proj"),
    ("memory_temporal_positional_encoding", "maskmem_tpos_enc"),
    ("no_memory_embedding", "no_mem_embed"),
    ("no_memory_positional_encoding", "no_mem_pos_enc"),
    ("no_object_pointer", "no_obj_ptr"),
    ("occlusion_spatial_embedding_parameter", "no_obj_embed_spatial"),
    ("o_proj.", "out_proj."),
    ("layer_norm", "norm"),
)


def meta_name(key):
    """Return what a tensor of SAM 2 is called in Meta's files."""
    for ours, theirs in METAS:
        key = key.replace(ours, theirs)
    key = re.sub(r"(neck\.convs\.\d)", r"\1.conv", key)
    key = re.sub(r"^(prompt_encoder|mask_decoder)", r"sam_\1", key)
    key = re.sub(r"(fuser\.layers\.\d)\.scale", r"\1.gamma", key)
    if ".mlp." in key:
        return key.replace("proj_in", "layers.0").replace("proj_out", "layers.1")
    if "mask_downsampler" in key:
        key = key.replace("final_conv", "encoder.12")
        step = re.search(r"layers\.(\d)\.(conv|norm)", key)
        if step:
            number = 3 * int(step[1]) + (step[2] == "norm")
            key = key.replace(step[0], f"encoder.{number}")
        return key
    if re.search(r"_mlps\.|_head\.|obj_ptr_proj\.", key):
        key = key.replace(".layers.0.", ".layers.1.").replace("proj_in", "layers.0")
    return key.replace("proj_out", "layers.2")


def meta_state(network):
    """Return the tensors as Meta saves them."""
    state = {
        meta_name(key): tensor
        for key, tensor in network.state_dict().items()
        if not key.startswith("shared_image_embedding")
    }
    kinds = state.pop("sam_prompt_encoder.point_embed.weight")
    for number, kind in enumerate(kinds):
        name = f"sam_prompt_encoder.point_embeddings.{number}.weight"
        state[name] = kind[None].clone()
    return state


@pytest.fixture(scope="session")
def sam3_folder(tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    vit = transformers.Sam3ViTConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=56,
        window_size=2,
        global_attn_indexes=[1],
        pretrain_image_size=28,
    )
    vision = transformers.Sam3VisionConfig(
        backbone_config=vit,
        fpn_hidden_size=DIM,
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
    )
    config = video_config("Sam3TrackerVideo", 56, 14, vision)
    path = tmp_path_factory.mktemp("sam3-tiny")
    randomise(transformers.Sam3TrackerVideoModel(config)).save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def medsam2_file(tmp_path_factory):
    """MedSAM2 as published: Hiera-T at 512 pixels, in Meta's layout."""
    transformers = pytest.importorskip("transformers")
    from napari_fewshot.models.hf._names import sam2_config

    names = (
        "temporal_positional_encoding_projection_layer.weight",
        "occlusion_spatial_embedding_parameter",
    )
    config = sam2_config(transformers, dict.fromkeys(names), "hiera_tiny", 512)
    network = randomise(transformers.Sam2VideoModel(config))
    path = tmp_path_factory.mktemp("medsam2") / "MedSAM2_2411.pt"
    torch.save({"model": meta_state(network)}, path)
    return path, network
