"""Scenes in which position means nothing: cells, membranes, vessels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.adapt.synthesis._fields import smooth_noise, warped_grid
from napari_fewshot.adapt.synthesis._layout import Blob, Layout, Regions, Target

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray


@dataclass
class _CellType:
    """One type of cell and its region numbers (0: it has no such part)."""

    body: int
    rim: int
    nucleus: int
    radius: float
    stretch: float
    rough: float
    number: float
    rim_width: float
    nucleus_size: float

    @classmethod
    def draw(
        cls, rng: np.random.Generator, regions: Regions, usual: float, size: int
    ) -> _CellType:
        radius = usual * float(np.exp(rng.normal(0, 0.35)))
        room = (size / (2.2 * radius)) ** 2
        return cls(
            body=regions.new(),
            rim=regions.new() if rng.random() < 0.3 else 0,
            nucleus=regions.new() if rng.random() < 0.3 and radius > 4 else 0,
            radius=radius,
            stretch=rng.uniform(0.02, 0.45),
            rough=rng.uniform(0, 0.35),
            number=max(1.0, room * rng.uniform(0.05, 0.6)),
            rim_width=rng.uniform(0.12, 0.3),
            nucleus_size=rng.uniform(0.3, 0.65),
        )

    @property
    def whole(self) -> tuple[int, ...]:
        return tuple(n for n in (self.body, self.rim, self.nucleus) if n)


def cells_scene(rng: np.random.Generator, count: int, size: int) -> Layout:
    """Cells or nuclei of one to three types, sparse or crowded."""
    regions = Regions()
    ground = regions.new()
    labels = np.full((count, size, size), ground, np.uint8)
    if rng.random() < 0.3:
        patch = regions.new()
        fields = smooth_noise(rng, count, rng.uniform(2, 6), size)
        labels[fields > 0.6] = patch
    usual = float(np.exp(rng.uniform(np.log(2.5), np.log(size / 6))))
    types = [
        _CellType.draw(rng, regions, usual, size) for _ in range(rng.integers(1, 4))
    ]
    limit = 110
    for here in labels:
        for kind in types:
            if len(types) > 1 and rng.random() < 0.1:
                continue
            many = rng.poisson(min(kind.number * np.exp(rng.normal(0, 0.3)), limit))
            for _ in range(max(int(many), 1)):
                _paint_cell(rng, here, kind)
    targets: list[Target] = [t.whole for t in types] * 2
    everything = tuple(n for t in types for n in t.whole)
    targets += [everything, everything]
    targets += [(t.nucleus,) for t in types if t.nucleus]
    targets += [(t.rim,) for t in types if t.rim]
    alike = {}
    if len(types) > 1 and rng.random() < 0.4:
        # Told apart by size, shape or inner parts alone.
        alike[types[0].body] = types[1].body
    rims = tuple(t.rim for t in types if t.rim)
    outside = (ground,) if rng.random() < 0.4 else ()
    return Layout(labels, targets, alike, True, outside, rims)


def _paint_cell(rng: np.random.Generator, here: AnyArray, kind: _CellType) -> None:
    size = here.shape[0]
    centre = rng.uniform(-0.05, 1.05, 2) * size
    radius = kind.radius * float(np.exp(rng.normal(0, 0.15)))
    blob = Blob.draw(rng, centre, radius, kind.rough, kind.stretch)
    reach = int(2 * blob.radii.max()) + 2
    low = np.clip(centre.astype(int) - reach, 0, size)
    high = np.clip(centre.astype(int) + reach + 1, 0, size)
    if (high <= low).any():
        return
    grid = _pixels(low, high)
    distance = blob.distance(grid)
    window = here[low[0] : high[0], low[1] : high[1]]
    window[distance < 1] = kind.body
    if kind.rim:
        width = max(kind.rim_width, 1.2 / radius)
        window[(distance < 1) & (distance > 1 - width)] = kind.rim
    if kind.nucleus:
        window[distance < kind.nucleus_size] = kind.nucleus


def _pixels(low: AnyArray, high: AnyArray) -> AnyArray:
    """Return the coordinates of the pixels of a window, (h, w, 2)."""
    rows, columns = np.mgrid[low[0] : high[0], low[1] : high[1]]
    return np.stack([rows, columns], -1).astype(np.float32)


def mesh_scene(rng: np.random.Generator, count: int, size: int) -> Layout:
    """Crowded cells parted by membranes, with organelles and contacts in them."""
    from scipy.spatial import cKDTree

    regions = Regions()
    membrane, inner, organelle, crest, contact = (regions.new() for _ in range(5))
    kinds = [inner] + [regions.new() for _ in range(rng.integers(0, 3))]
    labels = np.empty((count, size, size), np.uint8)
    # Cell side and membrane width in pixels.
    side = float(np.exp(rng.uniform(np.log(9), np.log(size / 2.5))))
    width = rng.uniform(0.8, 1.5) + rng.uniform(0, 0.08) * side
    grids = warped_grid(rng, count, size, rng.uniform(0.02, 0.08), 3.0, 0.05, 0.5)
    shares = rng.dirichlet(np.full(len(kinds), 1.0)) if len(kinds) > 1 else [1.0]
    many = rng.uniform(0, 1.0)
    organ_size = side * rng.uniform(0.12, 0.3)
    has_contacts = rng.random() < 0.4
    for number in range(count):
        total = int((2.6 * size / side) ** 2) + 4
        seeds = rng.uniform(-1.6, 1.6, (total, 2)).astype(np.float32)
        near, which = cKDTree(seeds).query(grids[number].reshape(-1, 2), k=2)
        gap = ((near[:, 1] - near[:, 0]) * size / 2).reshape(size, size)
        owner = which[:, 0].reshape(size, size)
        kind = np.array(kinds, np.uint8)[rng.choice(len(kinds), total, p=shares)]
        here = kind[owner]
        labels[number] = here
        here = labels[number]
        for _ in range(rng.poisson(many * (size / side) ** 2)):
            _paint_organelle(rng, here, organ_size, organelle, crest)
        here[gap < width] = membrane
        if has_contacts:
            thick = smooth_noise(rng, 1, 2.2 * size / side, size)[0] > 1.3
            here[(gap < width * 2.5) & thick] = contact
    targets: list[Target] = [(membrane, contact), (membrane, contact)]
    targets.append((organelle, crest))
    targets += [(k,) for k in kinds[1:]]
    if len(kinds) > 1 or rng.random() < 0.3:
        targets.append((inner,))
    if has_contacts:
        targets.append((contact,))
    alike = {crest: organelle} if rng.random() < 0.4 else {}
    if rng.random() < 0.2:
        alike[contact] = membrane
    return Layout(labels, targets, alike, True, (), (membrane,))


def _paint_organelle(
    rng: np.random.Generator, here: AnyArray, radius: float, body: int, crest: int
) -> None:
    size = here.shape[0]
    centre = rng.uniform(0, size, 2)
    blob = Blob.draw(rng, centre, max(radius * np.exp(rng.normal(0, 0.3)), 1.5), 0.2)
    reach = int(2 * blob.radii.max()) + 2
    low = np.clip(centre.astype(int) - reach, 0, size)
    high = np.clip(centre.astype(int) + reach + 1, 0, size)
    grid = _pixels(low, high)
    distance = blob.distance(grid)
    window = here[low[0] : high[0], low[1] : high[1]]
    window[distance < 1] = body
    offset = grid - centre.astype(np.float32)
    along = offset[..., 0] * np.cos(blob.angle) + offset[..., 1] * np.sin(blob.angle)
    window[(distance < 0.8) & (np.sin(along * 6 / max(radius, 3)) > 0.3)] = crest


def vessels_scene(rng: np.random.Generator, count: int, size: int) -> Layout:
    """Branching tubes, distracting lines and a bright or dark disc."""
    regions = Regions()
    ground, vessel, thin, line, disc = (regions.new() for _ in range(5))
    grid = warped_grid(rng, count, size, 0.03, 0.2, 0.05, 0.05)
    labels = np.full((count, size, size), ground, np.uint8)
    if rng.random() < 0.3:
        patch = regions.new()
        labels[smooth_noise(rng, count, rng.uniform(2, 6), size) > 0.5] = patch
    caliber = float(np.exp(rng.uniform(np.log(0.8), np.log(4.5))))
    roots, wiggle = int(rng.integers(1, 6)), rng.uniform(0.01, 0.12)
    disc_at = rng.uniform(-0.5, 0.5, 2)
    has_disc, has_lines = rng.random() < 0.4, rng.random() < 0.25
    disc_size = rng.uniform(0.08, 0.3)
    branching = rng.uniform(0.015, 0.06)
    for number, here in enumerate(labels):
        start = disc_at + rng.normal(0, 0.05, 2)
        if has_disc:
            blob = Blob.draw(rng, start, disc_size, 0.1, 0.1)
            here[blob.distance(grid[number]) < 1] = disc
        if has_lines:
            for _ in range(int(rng.integers(2, 7))):
                at, angle = rng.uniform(0, size, 2), rng.uniform(0, 2 * np.pi)
                _grow(rng, here, (line, line), at, angle, caliber, 0.02, 0.0)
        for _ in range(roots):
            if has_disc and rng.random() < 0.8:
                at = (start + 1) / 2 * size
            else:
                at = rng.uniform(0, size, 2)
            angle = rng.uniform(0, 2 * np.pi)
            _grow(rng, here, (vessel, thin), at, angle, caliber, wiggle, branching)
    targets: list[Target] = [(vessel, thin)] * 3
    if has_disc:
        targets.append((disc,))
    alike = {thin: vessel} if rng.random() < 0.8 else {}
    return Layout(labels, targets, alike, True, (), (vessel,))


def _grow(
    rng: np.random.Generator,
    here: AnyArray,
    values: tuple[int, int],
    at: AnyArray,
    angle: float,
    caliber: float,
    wiggle: float,
    branching: float,
) -> None:
    """Grow a tube and its branches until they leave the image or get too thin."""
    size = here.shape[0]
    tips = [(np.array(at, float), angle, caliber, 0)]
    budget = 450
    while tips and budget > 0:
        where, heading, radius, depth = tips.pop()
        curve = 0.0
        for _ in range(2 * size):
            budget -= 1
            _stamp(here, where, radius, values[0] if radius > 0.9 else values[1])
            curve = 0.8 * curve + rng.normal(0, wiggle)
            heading += curve * 0.5
            where = where + np.array([np.cos(heading), np.sin(heading)])
            radius *= 0.997
            outside = (where < -2).any() or (where > size + 1).any()
            if outside or radius < 0.35 or budget < 0:
                break
            if depth < 4 and rng.random() < branching:
                side = rng.choice([-1, 1]) * rng.uniform(0.4, 1.1)
                share = rng.uniform(0.5, 0.9)
                tips.append((where, heading + side, radius * share, depth + 1))
                radius *= rng.uniform(0.8, 1.0)


def _stamp(here: AnyArray, where: AnyArray, radius: float, value: int) -> None:
    size = here.shape[0]
    reach = int(radius + 1)
    r0, c0 = int(where[0]), int(where[1])
    top, bottom = max(r0 - reach, 0), min(r0 + reach + 1, size)
    left, right = max(c0 - reach, 0), min(c0 + reach + 1, size)
    if top >= bottom or left >= right:
        return
    rows = np.arange(top, bottom)[:, None] - where[0]
    columns = np.arange(left, right)[None] - where[1]
    limit = max(radius, 0.55) ** 2
    here[top:bottom, left:right][rows * rows + columns * columns <= limit] = value
