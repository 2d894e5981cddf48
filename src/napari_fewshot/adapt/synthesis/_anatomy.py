"""Scenes in which position means something: organs, layers, rings, lesions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.adapt.synthesis._fields import (
    sample_fields,
    smooth_noise,
    warped_grid,
)
from napari_fewshot.adapt.synthesis._layout import Blob, Layout, Regions, Target

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray


def regions_scene(rng: np.random.Generator, count: int, size: int) -> Layout:
    """Soft organs that fill a body: the largest of several smooth random fields."""
    number = int(rng.integers(3, 13))
    fields = smooth_noise(rng, number, rng.uniform(2, 7), size)
    grid = _individuals(rng, count, size)
    found = sample_fields(fields, grid)
    own = rng.uniform(0, 0.45)
    for image in found:
        image += own * smooth_noise(rng, number, rng.uniform(2, 6), size)
    labels = (found.argmax(1) + 1).astype(np.uint8)
    outside = _cut_body(rng, labels, grid, 0)
    targets: list[Target] = [(i,) for i in range(1, number + 1)]
    for _ in range(2):
        pair = rng.choice(number, 2, replace=False) + 1
        targets.append(tuple(int(i) for i in pair))
    alike = {}
    if number > 4 and rng.random() < 0.5:
        a, b = rng.choice(number, 2, replace=False) + 1
        alike[int(a)] = int(b)
    return Layout(labels, targets, alike, outside=outside)


def organs_scene(rng: np.random.Generator, count: int, size: int) -> Layout:
    """Separate organs in a body: single, paired, nested, with walls."""
    regions = Regions()
    grid = _individuals(rng, count, size)
    background = regions.new()
    labels = np.full(grid.shape[:3], background, np.uint8)
    if rng.random() < 0.4:
        # The background itself is patchy: fat, muscle, other organs.
        _patch_background(rng, labels, grid, regions, size)
    outside = _cut_body(rng, labels, grid, 0)
    targets: list[Target] = []
    alike: dict[int, int] = {}
    rims: list[int] = []
    vary = rng.uniform(0.03, 0.22)
    has_large = rng.random() < 0.35
    for number in range(int(rng.integers(2, 9))):
        if regions.used > 30:
            break
        reach = 0.55 if rng.random() < 0.8 else 0.8
        radius = float(np.exp(rng.uniform(np.log(0.05), np.log(0.5))))
        if number == 0 and has_large:
            # Heads, lungs, lesions that fill the picture.
            reach, radius = 0.35, float(rng.uniform(0.35, 0.85))
        blob = Blob.draw(
            rng, rng.uniform(-reach, reach, 2), radius, rng.uniform(0, 0.5)
        )
        parts = _Organ.draw(rng, regions)
        parts.paint(rng, blob, grid, labels, vary)
        targets += parts.targets
        rims += parts.rims
        if rng.random() < 0.3 and abs(blob.centre[1]) > radius * 0.6:
            twin = _Organ.like(parts, regions, alike)
            twin.paint(rng, blob.mirrored(), grid, labels, vary)
            targets += twin.targets
            targets.append(parts.whole + twin.whole)
            rims += twin.rims
        elif targets and rng.random() < 0.25:
            alike[parts.whole[0]] = int(rng.integers(1, regions.used))
    return Layout(labels, targets, alike, outside=outside, rims=tuple(rims))


def lesion_scene(rng: np.random.Generator, count: int, size: int) -> Layout:
    """One irregular lesion somewhere, distractors, and a field of view."""
    regions = Regions()
    grid = warped_grid(rng, count, size, 0.05, 3.0, 0.1, 0.1)
    skin, lesion, core, other, hair = (regions.new() for _ in range(5))
    labels = np.full(grid.shape[:3], skin, np.uint8)
    if rng.random() < 0.3:
        _patch_background(rng, labels, grid, regions, size)
    rough, spread = rng.uniform(0.1, 0.6), rng.uniform(0, 0.35)
    typical = np.exp(rng.uniform(np.log(0.1), np.log(0.7)))
    core_size = rng.uniform(0.2, 0.8)
    several = rng.random() < 0.25
    hairy = rng.random() < 0.3
    for number in range(count):
        here = labels[number]
        if rng.random() < 0.5:
            for _ in range(int(rng.integers(1, 4))):
                spot = Blob.draw(
                    rng, rng.uniform(-0.9, 0.9, 2), rng.uniform(0.03, 0.2), 0.3
                )
                here[spot.distance(grid[number]) < 1] = other
        for _ in range(int(rng.integers(1, 4)) if several else 1):
            if rng.random() < 0.06:
                continue
            radius = typical * np.exp(rng.normal(0, 0.4))
            blob = Blob.draw(rng, rng.normal(0, spread, 2), radius, rough)
            wobble = smooth_noise(rng, 1, rng.uniform(6, 14), size)[0]
            distance = blob.distance(grid[number]) + 0.08 * wobble
            here[distance < 1] = lesion
            here[distance < core_size + 0.1 * wobble] = core
        if hairy:
            for _ in range(int(rng.integers(1, 8))):
                _stroke(rng, here, hair, 1 + int(rng.random() < 0.3))
    targets: list[Target] = [(lesion, core)] * 3
    if rng.random() < 0.3:
        targets.append((core,))
    outside = _cut_body(rng, labels, grid, 0, 0.25)
    alike = {core: lesion} if rng.random() < 0.4 else {}
    return Layout(labels, targets, alike, True, outside)


class _Organ:
    """Region numbers of an organ: body, perhaps an inner part and a wall."""

    def __init__(self, body: int, inner: int, wall: int) -> None:
        self.body, self.inner, self.wall = body, inner, wall
        self.depth, self.thick, self.gaps = 0.6, 0.1, 0.0

    @classmethod
    def draw(cls, rng: np.random.Generator, regions: Regions) -> _Organ:
        body = regions.new()
        inner = regions.new() if rng.random() < 0.3 else 0
        wall = regions.new() if rng.random() < 0.3 else 0
        organ = cls(body, inner, wall)
        organ.depth = rng.uniform(0.35, 0.8)
        organ.thick = rng.uniform(0.05, 0.25)
        organ.gaps = rng.uniform(0, 1.2) if rng.random() < 0.5 else 0.0
        return organ

    @classmethod
    def like(cls, other: _Organ, regions: Regions, alike: dict[int, int]) -> _Organ:
        """Return a twin that is painted the same."""
        numbers = [regions.new() if n else 0 for n in (other.body, other.inner)]
        twin = cls(numbers[0], numbers[1], regions.new() if other.wall else 0)
        twin.depth, twin.thick, twin.gaps = other.depth, other.thick, other.gaps
        pairs = zip(twin.numbers, other.numbers, strict=True)
        alike.update({a: b for a, b in pairs if a})
        return twin

    @property
    def numbers(self) -> tuple[int, int, int]:
        return (self.body, self.inner, self.wall)

    @property
    def whole(self) -> tuple[int, ...]:
        return tuple(n for n in self.numbers if n)

    @property
    def rims(self) -> list[int]:
        return [self.wall] if self.wall else []

    @property
    def targets(self) -> list[tuple[int, ...]]:
        found = [self.whole, self.whole]
        if self.inner:
            found += [(self.inner,), tuple(n for n in self.whole if n != self.inner)]
        if self.wall and self.gaps == 0:
            found.append((self.wall,))
        return found

    def paint(
        self,
        rng: np.random.Generator,
        blob: Blob,
        grid: AnyArray,
        labels: AnyArray,
        vary: float,
    ) -> None:
        """Paint the organ into all images; now and then it is missing from one."""
        for number, here in enumerate(labels):
            if rng.random() < 0.07:
                continue
            distance = blob.varied(rng, vary).distance(grid[number])
            inside = distance < 1
            here[inside] = self.body
            if self.wall:
                wall = inside & (distance > 1 - self.thick)
                if self.gaps:
                    wall &= smooth_noise(rng, 1, 5, here.shape[0])[0] > self.gaps - 1.5
                here[wall] = self.wall
            if self.inner:
                here[distance < self.depth * np.exp(rng.normal(0, 0.1))] = self.inner


def _individuals(rng: np.random.Generator, count: int, size: int) -> AnyArray:
    """Several individuals of one kind in about the same pose."""
    loose = rng.choice([0.5, 1.0, 1.8], p=[0.35, 0.45, 0.2])
    return warped_grid(
        rng, count, size, 0.05 * loose, 0.1 * loose, 0.09 * loose, 0.08 * loose
    )


def _patch_background(
    rng: np.random.Generator,
    labels: AnyArray,
    grid: AnyArray,
    regions: Regions,
    size: int,
) -> None:
    number = int(rng.integers(2, 5))
    fields = smooth_noise(rng, number, rng.uniform(3, 8), size)
    found = sample_fields(fields, grid)
    ids = np.array([regions.new() for _ in range(number)], np.uint8)
    labels[:] = ids[found.argmax(1)]


def _cut_body(
    rng: np.random.Generator,
    labels: AnyArray,
    grid: AnyArray,
    outside: int,
    chance: float = 0.6,
) -> tuple[int, ...]:
    """Put nothing outside a body or a field of view."""
    if rng.random() > chance:
        return ()
    power = rng.choice([2.0, 2.0, 4.0, 8.0])
    radii = rng.uniform(0.65, 1.1, 2)
    inside = (np.abs(grid / radii.astype(np.float32)) ** power).sum(-1) < 1
    labels[~inside] = outside
    return (outside,)


def _stroke(rng: np.random.Generator, here: AnyArray, value: int, width: int) -> None:
    """Draw a curved thin line across the image."""
    size = here.shape[0]
    t = np.linspace(0, 1, 2 * size)[:, None]
    a, b, c = rng.uniform(0, size, (3, 2))
    points = (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c
    rows, columns = np.clip(points.astype(int), 0, size - width).T
    for i in range(width):
        for j in range(width):
            here[rows + i, columns + j] = value
