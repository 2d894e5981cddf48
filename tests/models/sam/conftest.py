"""SAM checkpoints in the real format with random weights, and Meta's own package."""

import pytest
import torch
from segment_anything.build_sam import _build_sam
from segment_anything.modeling import ImageEncoderViT

VIT_B = (768, 12, 12, [2, 5, 8, 11])


def reference(side: int = 256, seed: int = 0):
    """Return Meta's ViT-B for another frame, every parameter random."""
    sam = _build_sam(*VIT_B)
    if side != 1024:
        sam.image_encoder = ImageEncoderViT(
            depth=12,
            embed_dim=768,
            img_size=side,
            mlp_ratio=4,
            norm_layer=lambda n: torch.nn.LayerNorm(n, eps=1e-6),
            num_heads=12,
            patch_size=16,
            qkv_bias=True,
            use_rel_pos=True,
            global_attn_indexes=VIT_B[3],
            window_size=14,
            out_chans=256,
        )
        sam.prompt_encoder.input_image_size = (side, side)
        sam.prompt_encoder.image_embedding_size = (side // 16, side // 16)
        sam.prompt_encoder.mask_input_size = (side // 4, side // 4)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in sam.state_dict().items():
            if tensor.dtype.is_floating_point and "pixel_" not in name:
                noise = torch.randn(tensor.shape, generator=generator)
                is_scale = name.endswith("weight") and tensor.ndim == 1
                tensor.copy_(1 + 0.1 * noise if is_scale else 0.04 * noise)
        # What spreads answers over the image: positions must count.
        matrix = sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
        matrix.mul_(25)
    return sam.eval()


@pytest.fixture(scope="session")
def meta():
    return reference()


@pytest.fixture
def real_size():
    return reference(1024, seed=1)


@pytest.fixture(scope="session")
def weights(meta, tmp_path_factory):
    path = tmp_path_factory.mktemp("sam") / "sam_vit_b.pth"
    torch.save(meta.state_dict(), path)
    return path
