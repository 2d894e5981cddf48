"""A tower of open_clip with random weights, and words that are put where tests want."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.model import _build_vision_tower
from open_clip.timm_model import TimmModel

from napari_fewshot.data import TextPrompt
from napari_fewshot.methods.text import ClassWords, TextBank
from napari_fewshot.methods.text._seen import KEPT
from napari_fewshot.models.clip import tower_of

WIDTH = 24
SIDE = 64
PATCH = 8


class CountingTower:
    """Passes everything on to a tower, and counts images and blocks that are run."""

    def __init__(self, tower: Any) -> None:
        self.tower = tower
        self.images = self.blocks = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tower, name)

    def begin(self, x):
        self.images += len(x)
        return self.tower.begin(x)

    def qkv(self, tokens, block):
        self.blocks += len(tokens)
        return self.tower.qkv(tokens, block)

    def run(self, tokens, first, last):
        self.blocks += len(tokens) * (last - first)
        return self.tower.run(tokens, first, last)


class Reader:
    """A text model whose images go through a real tower."""

    device = torch.device("cpu")
    precision = "fp32"
    context_length = 77
    logit_scale = 20.0
    notes = ()

    def __init__(self, visual: Any, size: int = SIDE) -> None:
        self.spec = SimpleNamespace(name="reader", text="clip")
        self.visual = visual.eval().requires_grad_(False)
        self.tower = CountingTower(tower_of(self.visual))
        self.size, self.sha256 = size, ""

    def prepared(self, image):
        plane = np.asarray(image, np.float32)
        plane = plane[..., None] if plane.ndim == 2 else plane
        three = plane[..., :3] if plane.shape[2] >= 3 else plane[..., :1].repeat(3, 2)
        x = torch.from_numpy(np.ascontiguousarray(three)).permute(2, 0, 1)[None]
        x = F.interpolate(
            x, (self.size, self.size), mode="bicubic", antialias=True
        ).clamp(0, 1)
        return (x - 0.45) / 0.27


def native(layers: int = 3, seed: int = 0, patch: int = PATCH, **more: Any) -> Reader:
    """Return a reader of open_clip's own make."""
    torch.manual_seed(seed)
    config = {
        "image_size": SIDE,
        "layers": layers,
        "width": 32,
        "patch_size": patch,
        "head_width": 8,
        **more,
    }
    return Reader(stirred(_build_vision_tower(WIDTH, config)))


def biomed(depth: int = 3, seed: int = 0, **more: Any) -> Reader:
    """Return a reader with a network of timm, as BiomedCLIP."""
    import timm

    torch.manual_seed(seed)
    visual = TimmModel(
        "vit_tiny_patch16_224",
        embed_dim=WIDTH,
        pool="",
        proj="linear",
        pretrained=False,
    )
    visual.trunk = timm.models.vision_transformer.VisionTransformer(
        img_size=SIDE,
        patch_size=PATCH,
        embed_dim=32,
        depth=depth,
        num_heads=4,
        num_classes=0,
        **more,
    )
    visual.head.proj = torch.nn.Linear(32, WIDTH, bias=False)
    return Reader(stirred(visual))


def stirred(visual: Any) -> Any:
    """Give numbers that networks start with as 0 or 1 some weight."""
    with torch.no_grad():
        for tensor in visual.parameters():
            if tensor.ndim < 2:
                tensor.add_(0.1 * torch.randn_like(tensor))
            else:
                tensor.mul_(2)
    return visual


def rows(count: int, seed: int = 0) -> np.ndarray:
    """Return random rows of length one."""
    found = np.random.default_rng(seed).standard_normal((count, WIDTH))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found.astype(np.float32)


def bank_of(positive, negative=(), background=None, nonsense=None) -> TextBank:
    """Return a bank; one entry of each list per class."""
    nothing = np.zeros((0, WIDTH), np.float32)
    classes = []
    for number, words in enumerate(positive):
        apart = negative[number] if number < len(negative) else None
        classes.append(
            ClassWords(
                number + 1,
                TextPrompt(f"thing {number}"),
                words,
                nothing if apart is None else apart,
            )
        )
    return TextBank(
        tuple(classes),
        rows(3, 100) if background is None else background,
        rows(5, 101) if nonsense is None else nonsense,
        rows(1, 102)[0],
    )


def picture(seed: int = 0, shape: tuple[int, ...] = (50, 70, 1)) -> np.ndarray:
    """Return a plane with a bright blob on a dark, noisy ground."""
    rng = np.random.default_rng(seed)
    found = rng.normal(0.2, 0.03, shape).astype(np.float32)
    top, left = (int(rng.integers(0, n // 2 + 1)) for n in shape[:2])
    found[top : top + shape[0] // 3 + 1, left : left + shape[1] // 3 + 1] += 0.6
    return np.clip(found, 0, 1)


def forget() -> None:
    """Empty what is kept of planes."""
    KEPT._items.clear()
    KEPT._bytes = 0
