"""A tiny CLIP with random weights, scenes of coloured discs, and lessons of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import open_clip
import torch
import torch.nn.functional as F

from napari_fewshot.data import Sample
from napari_fewshot.models.clip import NativeTower
from napari_fewshot.models.text_heads import Lesson, Phrases, look

COLOURS = {1: (1.0, 0.2, 0.2), 2: (0.2, 0.2, 1.0)}


class Reader:
    """open_clip's own classes, read as `TextModel` says."""

    def __init__(self, seed: int = 0, width: int = 64) -> None:
        torch.manual_seed(seed)
        network = open_clip.model.CLIP(
            embed_dim=24,
            vision_cfg={
                "image_size": 64,
                "layers": 6,
                "width": width,
                "patch_size": 8,
                "head_width": 16,
            },
            text_cfg={
                "context_length": 77,
                "vocab_size": 49408,
                "width": 32,
                "heads": 2,
                "layers": 2,
            },
        )
        self.network = network.eval().requires_grad_(False)
        self.tower = NativeTower(self.network.visual)
        self.size, self.context_length, self.device = 64, 77, torch.device("cpu")
        self.spec = SimpleNamespace(name="tiny", text="clip", needs_download=True)
        self.sha256 = f"random {seed} {width}"
        self.asked: list[str] = []

    def prepared(self, image):
        x = torch.from_numpy(np.ascontiguousarray(image)).float()
        return (
            F.interpolate(x.permute(2, 0, 1)[None], (64, 64), mode="bilinear") * 2 - 1
        )

    def encode_text(self, phrases):
        self.asked += phrases
        with torch.no_grad():
            tokens = open_clip.tokenize(list(phrases))
            found = F.normalize(self.network.encode_text(tokens), dim=-1)
        return found.numpy()

    def too_long(self, phrases):
        return ()


def scene(seed: int, shape=(96, 112)):
    """Return an image (H, W, 3) with a red and a blue disc, and its labels."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    image = 0.4 + 0.1 * rng.random((*shape, 3))
    labels = np.zeros(shape, np.int32)
    for value, colour in COLOURS.items():
        y, x = rng.uniform(18, shape[0] - 18), rng.uniform(18, shape[1] - 18)
        disc = (rows - y) ** 2 + (columns - x) ** 2 < 13**2
        image[disc], labels[disc] = colour, value
    return image.astype(np.float32), labels


def picture(seed: int):
    """Return the image of a scene as bytes, and its labels."""
    image, labels = scene(seed)
    return (255 * image).astype(np.uint8), labels


def sample(seed: int, **facts) -> Sample:
    image, labels = scene(seed)
    return Sample(image, labels=labels, group=seed, **facts)


def lesson(model, seed: int, modality: str = "") -> Lesson:
    image, labels = scene(seed)
    covers = {
        v: F.interpolate(
            torch.tensor(labels == v)[None, None].float(), (32, 32), mode="area"
        )[0, 0]
        for v in COLOURS
    }
    return Lesson(look(model, image), covers, modality)


def phrases(modalities=("",)) -> Phrases:
    """Return random vectors: two classes and two phrases that are nowhere."""
    generator = torch.Generator().manual_seed(5)
    rows = F.normalize(torch.randn(8, 24, generator=generator), dim=-1)
    classes = {
        (value, modality): rows[2 * n + value - 1][None]
        for n, modality in enumerate(modalities)
        for value in (1, 2)
    }
    return Phrases(classes, rows[6:8])


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    return float(2 * (found & truth).sum() / max(found.sum() + truth.sum(), 1))
