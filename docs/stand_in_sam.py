"""A stand-in for the weights of Segment Anything, for pictures of the documentation.

A file in the layout of ``sam/vit_b`` with a tiny network, taught in a minute or two
what a click on the lungs of the sample may mean: one lung, both, or the chest between
them. It knows these seven pictures and nothing else. Real weights were not at hand when
the pictures were made; the windows look the same with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage
from segment_anything.build_sam import _build_sam
from segment_anything.modeling import ImageEncoderViT
from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from pathlib import Path

SIDE, STEPS, LEARNING_RATE = 128, 300, 1e-3
SCORES = torch.tensor([0.5, 0.95, 0.9, 0.7])


def build() -> nn.Module:
    """Return a SAM with an encoder of two blocks."""
    torch.manual_seed(0)
    sam = _build_sam(64, 2, 2, [1])
    sam.image_encoder = ImageEncoderViT(
        depth=2,
        embed_dim=64,
        img_size=SIDE,
        mlp_ratio=4,
        norm_layer=lambda n: nn.LayerNorm(n, eps=1e-6),
        num_heads=2,
        patch_size=16,
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=[1],
        window_size=7,
        out_chans=256,
    )
    cells = SIDE // 16
    sam.prompt_encoder.image_embedding_size = (cells, cells)
    sam.prompt_encoder.input_image_size = (SIDE, SIDE)
    sam.prompt_encoder.mask_input_size = (4 * cells, 4 * cells)
    sam.mask_decoder.transformer.train()
    return sam


def meanings(labels: np.ndarray, row: int, column: int) -> np.ndarray:
    """Return what a click may mean, (4, H, W): all, one lung, both, the chest."""
    parts, _ = ndimage.label(labels)
    one = parts == parts[row, column]
    both = labels > 0
    chest = ndimage.binary_closing(np.pad(both, 30), iterations=20)[30:-30, 30:-30]
    return np.stack([one, one, both, chest | both]).astype(np.float32)


def teach(sam: nn.Module, images: np.ndarray, labels: np.ndarray) -> None:
    """Fit images (N, H, W) and labels by clicks on the labels."""
    frames = F.interpolate(
        torch.as_tensor(images, dtype=torch.float32)[:, None], (SIDE, SIDE)
    ).expand(-1, 3, -1, -1)
    frames = (frames - sam.pixel_mean) / sam.pixel_std
    small = F.interpolate(
        torch.as_tensor(labels, dtype=torch.float32)[:, None], (SIDE, SIDE)
    )[:, 0].numpy()
    rng = np.random.default_rng(0)
    optimiser = torch.optim.AdamW(sam.parameters(), LEARNING_RATE)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, STEPS)
    for _ in range(STEPS):
        number = int(rng.integers(len(frames)))
        inside = np.argwhere(ndimage.binary_erosion(small[number] > 0, iterations=2))
        clicks = inside[rng.integers(len(inside), size=4)]
        wanted = torch.as_tensor(
            np.stack([meanings(small[number], *click) for click in clicks])
        )
        points = torch.as_tensor(clicks[:, None, ::-1].copy(), dtype=torch.float32)
        sparse, dense = sam.prompt_encoder((points, torch.ones(4, 1)), None, None)
        logits, scores = sam.mask_decoder.predict_masks(
            sam.image_encoder(frames[number : number + 1]),
            sam.prompt_encoder.get_dense_pe(),
            sparse,
            dense,
        )
        wanted = F.interpolate(wanted, logits.shape[-2:], mode="area")
        loss = F.binary_cross_entropy_with_logits(logits, wanted)
        loss = loss + 0.1 * F.mse_loss(scores, SCORES.expand_as(scores))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        plan.step()


def written(folder: Path) -> Path:
    """Teach a stand-in the sample *lungs* and write it; returns the file."""
    from napari_fewshot.sample_data import load_sample

    sample = load_sample("lungs")
    sam = build()
    teach(sam, sample.image, sample.truth)
    path = folder / "sam_vit_b_01ec64.pth"
    torch.save(sam.state_dict(), path)
    return path
