"""What a scene consists of before it is painted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray

Target = tuple[int, ...]
MAX_REGIONS = 40


@dataclass
class Layout:
    """Label maps of several images of one kind of thing.

    Attributes
    ----------
    labels : array (N, S, S) uint8
        Region number of every pixel.
    targets : list of tuple of int
        Sets of regions that a user might want.
    looks_like : dict of int to int
        Regions painted nearly like another one.
    free : bool
        Whether position and orientation mean nothing.
    outside : tuple of int
        Regions that are nothing: dark and plain.
    rims : tuple of int
        Regions that are outlines, usually brighter or darker than all else.
    """

    labels: AnyArray
    targets: list[Target]
    looks_like: dict[int, int] = field(default_factory=dict)
    free: bool = False
    outside: tuple[int, ...] = ()
    rims: tuple[int, ...] = ()


class Regions:
    """Hands out region numbers."""

    def __init__(self) -> None:
        self.used = 0

    def new(self) -> int:
        """Return the next free number."""
        self.used = min(self.used + 1, MAX_REGIONS - 1)
        return self.used


@dataclass
class Blob:
    """A wobbly ellipse in coordinates [-1, 1].

    Attributes
    ----------
    centre : array (2,)
        Row and column.
    radii : array (2,)
        Half axes.
    angle : float
        Radians.
    waves : array (n, 2)
        Amplitude and phase of the outline's harmonics 2, 3, ...
    """

    centre: AnyArray
    radii: AnyArray
    angle: float
    waves: AnyArray

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        centre: AnyArray,
        size: float,
        rough: float = 0.25,
        stretch: float = 0.35,
    ) -> Blob:
        """Draw a random blob of about this radius."""
        ratio = np.exp(rng.normal(0, stretch))
        orders = np.arange(2, 7)
        waves = np.stack(
            [rng.normal(0, rough / orders), rng.uniform(0, 2 * np.pi, 5)], -1
        )
        radii = np.array([size * np.sqrt(ratio), size / np.sqrt(ratio)])
        return cls(np.asarray(centre), radii, rng.uniform(0, np.pi), waves)

    def mirrored(self) -> Blob:
        """Return the twin on the other side of the vertical axis."""
        # Angle a becomes -a in the twin's own axes.
        waves = self.waves * [1, -1]
        return Blob(self.centre * [1, -1], self.radii, -self.angle, waves)

    def varied(self, rng: np.random.Generator, amount: float) -> Blob:
        """Return the same organ in another individual."""
        return Blob(
            self.centre + rng.normal(0, 0.25 * amount, 2),
            self.radii * np.exp(rng.normal(0, amount) + rng.normal(0, amount / 3, 2)),
            self.angle + rng.normal(0, amount),
            self.waves * np.exp(rng.normal(0, amount, (len(self.waves), 1))),
        )

    def distance(self, grid: AnyArray) -> AnyArray:
        """Return the relative distance from the centre: 1 on the outline."""
        offset = grid - self.centre.astype(np.float32)
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        down = (offset[..., 0] * cos + offset[..., 1] * sin) / self.radii[0]
        across = (-offset[..., 0] * sin + offset[..., 1] * cos) / self.radii[1]
        angle = np.arctan2(across, down)
        outline = np.ones_like(angle)
        for n, (weight, phase) in enumerate(self.waves, 2):
            outline += np.float32(weight) * np.cos(n * angle + np.float32(phase))
        found: AnyArray = np.hypot(down, across) / np.clip(outline, 0.3, 2.0)
        return found
