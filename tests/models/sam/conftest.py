"""SAM checkpoints in the real layout with random weights, and Meta's own package.

Widths and depths are smaller than published ones: the loader reads them off the file.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from segment_anything.build_sam import _build_sam
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, TwoWayTransformer

from napari_fewshot.models._spec import ModelSpec
from napari_fewshot.models.sam import load

# Width, depth, heads and blocks that see the whole image.
SMALL = (64, 3, 2, [1])


def reference(side=256, seed=0, form=SMALL, masks=4):
    """Return Meta's SAM for a frame, every parameter random."""
    dim, depth, heads, everywhere = form
    sam = _build_sam(*form)
    sam.image_encoder = ImageEncoderViT(
        depth=depth,
        embed_dim=dim,
        img_size=side,
        mlp_ratio=4,
        norm_layer=lambda n: torch.nn.LayerNorm(n, eps=1e-6),
        num_heads=heads,
        patch_size=16,
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=everywhere,
        window_size=14,
        out_chans=256,
    )
    sam.prompt_encoder.input_image_size = (side, side)
    sam.prompt_encoder.image_embedding_size = (side // 16, side // 16)
    sam.prompt_encoder.mask_input_size = (side // 4, side // 4)
    if masks != 4:
        transformer = TwoWayTransformer(
            depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8
        )
        sam.mask_decoder = MaskDecoder(
            transformer_dim=256,
            transformer=transformer,
            num_multimask_outputs=masks - 1,
        )
    randomise(sam.state_dict(), seed)
    return sam.eval()


def randomise(state, seed=0):
    """Fill tensors in place so that every one of them counts."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in state.items():
            if tensor.dtype.is_floating_point and "pixel_" not in name:
                noise = torch.randn(tensor.shape, generator=generator)
                positive = name.endswith("running_var")
                is_scale = name.endswith("weight") and tensor.ndim == 1
                if positive:
                    noise = noise.abs()
                tensor.copy_(1 + 0.1 * noise if is_scale or positive else 0.04 * noise)
            # What spreads answers over the image: positions must count.
            if name.endswith("gaussian_matrix"):
                tensor.mul_(25)
    return state


def spec(name):
    return ModelSpec(name, "prompted segmentation", "", "")


@pytest.fixture(scope="session")
def tools():
    """Return what tests of several files share."""

    def loaded(name, path, side=0, precision="fp32"):
        return load(spec(name), path, "cpu", precision, side)

    return SimpleNamespace(reference=reference, randomise=randomise, load=loaded)


@pytest.fixture(scope="session")
def meta():
    return reference()


@pytest.fixture(scope="session")
def weights(meta, tmp_path_factory):
    path = tmp_path_factory.mktemp("sam") / "sam_small.pth"
    torch.save(meta.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def real_size():
    """The frame of the published files."""
    return reference(1024, seed=1, form=(128, 2, 2, [1]))


@pytest.fixture(scope="session")
def wide(tmp_path_factory):
    """A file as wide as ViT-B."""
    path = tmp_path_factory.mktemp("wide") / "sam_vit_b_01ec64.pth"
    torch.save(reference(64, form=(768, 2, 12, [1])).state_dict(), path)
    return path


@pytest.fixture(scope="session")
def picture():
    rng = np.random.default_rng(0)
    return rng.integers(0, 255, (90, 130, 3), dtype=np.uint8)
