"""Synthetic scenes and simulated prompts that the tiny models are trained with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

import napari_fewshot as nf
from napari_fewshot.adapt.synthesis import draw_scene

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

SIDE, SEED = 128, 5_000_000
# Cells along a side of the features that are foretold.
TEACHER = 32


def draw_pool(pool: Path, first: int, count: int, chunk: int) -> None:
    """Write images with regions and what the bundled network sees, in several files."""
    pool.mkdir(parents=True, exist_ok=True)
    teacher = nf.load_model("incontext/small")
    for start in range(first, first + count, chunk):
        drawn = [draw_scene(SEED + n, SIDE, 1) for n in range(start, start + chunk)]
        seen = [teacher.encode(s.images[0]).cells for s in drawn]
        part = pool / f"{start}.part"
        with part.open("wb") as file:
            np.savez(
                file,
                images=np.stack([s.images[0] for s in drawn]),
                labels=np.stack([s.labels[0] for s in drawn]),
                targets=json.dumps([s.targets for s in drawn]),
                features=np.stack([pooled(c) for c in seen]).astype(np.float16),
            )
        part.replace(pool / f"{start:06d}.npz")


def pooled(cells: np.ndarray) -> np.ndarray:
    """Average features (C, n, n) to (C, 32, 32)."""
    times = cells.shape[1] // TEACHER
    return cells.reshape(len(cells), TEACHER, times, TEACHER, times).mean((2, 4))


@dataclass
class Pool:
    """Images and labels (N, S, S), targets of each, standardised features."""

    folder: Path
    names: tuple[str, ...] = ()

    def refresh(self) -> None:
        """Read what has been drawn meanwhile."""
        files = sorted(self.folder.glob("*.npz"))
        names = tuple(f.name for f in files)
        if names == self.names:
            return
        self.names = names
        parts = [np.load(f) for f in files]
        self.images = np.concatenate([p["images"] for p in parts])
        self.labels = np.concatenate([p["labels"] for p in parts])
        self.targets = [t for p in parts for t in json.loads(str(p["targets"]))]
        features = np.concatenate([p["features"] for p in parts])
        mean = features.mean((0, 2, 3), dtype=np.float32, keepdims=True)
        spread = features.std((0, 2, 3), dtype=np.float32, keepdims=True)
        self.features = ((features - mean) / (spread + 1e-6)).astype(np.float16)

    def draw(self, rng: np.random.Generator) -> tuple[int, np.ndarray, np.ndarray, Any]:
        """Return a number, an image (S, S, 3), labels and features, turned alike."""
        number = int(rng.integers(len(self.images)))
        turns, flips = int(rng.integers(4)), bool(rng.random() < 0.5)
        image, labels = self.images[number], self.labels[number]
        features = self.features[number].astype(np.float32).transpose(1, 2, 0)
        found = [np.rot90(a, turns) for a in (image, labels, features)]
        if flips:
            found = [a[:, ::-1] for a in found]
        shade = found[0].astype(np.float32)[..., rng.permutation(3)]
        shade = shade * np.exp(rng.normal(0, 0.15)) + rng.normal(0, 10)
        shade = shade + rng.normal(0, 3, shade.shape)
        image = np.clip(shade, 0, 255).astype(np.float32)
        return number, image, found[1], np.ascontiguousarray(found[2])


def objects(
    rng: np.random.Generator, labels: np.ndarray, targets: Any, count: int
) -> np.ndarray:
    """Return masks (count, S, S): single objects, or all of a kind."""
    found: list[np.ndarray] = []
    for _ in range(4 * count):
        if len(found) == count:
            break
        mask = np.isin(labels, targets[rng.integers(len(targets))])
        if not 0.002 < mask.mean() < 0.9:
            continue
        if rng.random() < 0.7:
            parts, _ = ndimage.label(mask)
            sizes = np.bincount(parts.ravel())
            sizes[0] = 0
            good = np.flatnonzero(sizes >= max(20, 0.1 * sizes.max()))
            if not len(good):
                continue
            mask = parts == rng.choice(good)
        found.append(mask)
    while len(found) < count:
        centre = rng.integers(20, SIDE - 20, 2)
        at = np.mgrid[:SIDE, :SIDE] - centre[:, None, None]
        found.append(found[0] if found else (at**2).sum(0) < 15**2)
    return np.stack(found)


def inside(rng: np.random.Generator, mask: np.ndarray, count: int) -> np.ndarray:
    """Return points (count, 2) of a mask, away from its rim if there is room."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    deep = depth >= rng.uniform(0.2, 0.9) * depth.max()
    at = rng.choice(np.flatnonzero(deep & mask), count)
    return np.stack(np.unravel_index(at, mask.shape), 1)


@dataclass
class Asked:
    """Prompts of one look at all objects, in pixels of the frame."""

    points: Tensor | None = None
    labels: Tensor | None = None
    boxes: Tensor | None = None
    mask: Tensor | None = None
    clear: bool = False

    @property
    def given(self) -> tuple[Any, ...]:
        return self.points, self.labels, self.boxes, self.mask


def first_look(rng: np.random.Generator, masks: np.ndarray) -> Asked:
    """Draw one form of prompts for all objects."""
    form = rng.choice(["points", "box", "mask"], p=[0.6, 0.2, 0.2])
    asked = Asked(clear=form != "points")
    if form == "box":
        asked.boxes = boxes_of(rng, masks)
    if form == "mask":
        asked.mask = rough(rng, masks)
    if form == "points" or rng.random() < 0.5:
        count = int(rng.integers(1, 4))
        ats = np.stack([inside(rng, m, count) for m in masks])
        labels = np.ones(ats.shape[:2], int)
        if rng.random() < 0.35:
            out = np.stack([outside(rng, m) for m in masks])
            ats = np.concatenate([ats, out], 1)
            labels = np.concatenate([labels, np.zeros(out.shape[:2], int)], 1)
        asked.points, asked.labels = in_frame(ats), torch.from_numpy(labels)
        asked.clear |= ats.shape[1] > 1
    return asked


def outside(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """Return one point (1, 2) outside, mostly near."""
    away = ndimage.distance_transform_edt(~mask)
    near = (away > 2) & (away < rng.uniform(4, 40))
    choice = np.flatnonzero(near if near.any() else ~mask)
    return np.stack(np.unravel_index(rng.choice(choice, 1), mask.shape), 1)


def in_frame(ats: np.ndarray) -> Tensor:
    """Turn (row, column) of the image into x, y of the frame of twice its side."""
    return torch.from_numpy((2.0 * ats[..., ::-1] + 0.5).astype(np.float32))


def boxes_of(rng: np.random.Generator, masks: np.ndarray) -> Tensor:
    """Return boxes (N, 4) as x0, y0, x1, y1 of the frame, a little off."""
    found = []
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)
        size = np.tile(box[2:] - box[:2], 2)
        found.append(2 * (box + rng.normal(0, 0.05, 4) * size))
    return torch.from_numpy(np.stack(found).astype(np.float32)).clamp(0, 2 * SIDE)


def rough(rng: np.random.Generator, masks: np.ndarray) -> Tensor:
    """Return masks as blurred and noisy log-odds (N, 1, S / 2, S / 2)."""
    cover = torch.from_numpy(masks.astype(np.float32))[:, None]
    times = int(rng.choice([4, 8]))
    cover = F.avg_pool2d(cover, times)
    noise = torch.from_numpy(rng.normal(0, 1, cover.shape).astype(np.float32))
    odds = rng.uniform(3, 10) * (2 * cover - 1) + rng.uniform(0, 3) * noise
    return F.interpolate(odds, (SIDE // 2, SIDE // 2), mode="bilinear")


def next_look(
    rng: np.random.Generator, asked: Asked, logits: Tensor, masks: np.ndarray
) -> Asked:
    """Give the mask back, with a click on an error or with the box of the object."""
    boxes = asked.boxes
    if rng.random() < 0.4:
        boxes = boxes_of(rng, masks)
    found = F.interpolate(logits[:, None], (SIDE, SIDE), mode="bilinear")[:, 0] > 0
    points, labels = asked.points, asked.labels
    if rng.random() < 0.6:
        ats, kinds = [], []
        for mine, mask in zip(found.numpy(), masks, strict=True):
            wrong = mine ^ mask
            at = inside(rng, wrong if wrong.any() else mask, 1)
            ats.append(at)
            kinds.append([int(mask[tuple(at[0])])])
        more, kind = in_frame(np.stack(ats)), torch.tensor(kinds)
        points = more if points is None else torch.cat([points, more], 1)
        labels = kind if labels is None else torch.cat([labels, kind], 1)
    return Asked(points, labels, boxes, logits[:, None], clear=True)
