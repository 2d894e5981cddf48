"""Dense random field of two labels: a soft mask follows the colours of the image.

Every pixel is tied to every other one that is near (a Gaussian of the distance) or near
and alike (times a Gaussian of the difference of colours). One step of mean field gives
each pixel the label that its own probability and its neighbours speak for (Krahenbuhl
and Koltun, Efficient inference in fully connected CRFs, NeurIPS 2011).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, FloatArray

# Neighbours further away than this many standard deviations do not count.
REACH = 3.0
# Neighbours of a wider Gaussian are looked at in blocks, so that it spans so many.
BLOCKS = 5.0
TEMPERATURE = 1.05
EPSILON = 1e-8


@dataclass(frozen=True)
class Field:
    """How pixels are tied.

    Attributes
    ----------
    near : float
        Standard deviation in pixels of the Gaussian of distance alone.
    far : float
        The same of the Gaussian of distance and colour.
    colour : float
        Standard deviation of the difference of colours, where white is 255.
    near_weight, far_weight : float
        Of the two.
    """

    near: float = 5.0
    far: float = 5.0
    colour: float = 3.0
    near_weight: float = 3.0
    far_weight: float = 5.0

    def scaled(self, factor: float) -> Field:
        """Return the field for a copy of the image of another size."""
        return Field(
            self.near * factor,
            self.far * factor,
            self.colour,
            self.near_weight,
            self.far_weight,
        )


# What MedCLIP-SAM and MedCLIP-SAMv2 use.
WIDE_FIELD = Field(near=3.0, far=60.0, colour=5.0)
NARROW_FIELD = Field(near=5.0, far=5.0, colour=3.0)


def mean_field(
    probability: FloatArray, image: FloatArray, field: Field, steps: int = 1
) -> FloatArray:
    """Return the probability of the inside after steps of mean field.

    The energy of a label of probability p is ``-log(p) / (t * sigmoid(p))`` with t
    1.05 (MedCLIP-SAM); kernels are normalised symmetrically, so that weights do not
    depend on how many neighbours there are.

    Parameters
    ----------
    probability : array (H, W)
        Of the inside, in [0, 1].
    image : array (H, W, C)
        In [0, 1]; grey counts as three equal colours.
    field : Field
        How pixels are tied, in pixels of these arrays.
    steps : int
        Of mean field.

    Returns
    -------
    array (H, W) float32

    Notes
    -----
    Gaussians end after three standard deviations. The wide one sums over blocks of
    pixels with their mean colour and probability, while each pixel keeps its own.
    """
    inside = np.clip(np.asarray(probability, np.float64), 0, 1)
    unary = _energy(1 - inside) - _energy(inside)
    belief = np.tanh(unary / 2)
    near = _Near(inside.shape, field.near)
    far = _Far(np.asarray(image, np.float32), field.far, field.colour)
    odds = unary
    for _ in range(steps):
        # What the neighbours say of the inside, less what they say of the outside.
        odds = unary + field.near_weight * near(belief) + field.far_weight * far(belief)
        belief = np.tanh(odds / 2)
    found: FloatArray = (0.5 + 0.5 * belief).astype(np.float32)
    return found


def _energy(p: AnyArray) -> AnyArray:
    """Return the energy of a label by its probability."""
    energy: AnyArray = -np.log(p + EPSILON) * (1 + np.exp(-p)) / TEMPERATURE
    return energy


class _Near:
    """Sums over neighbours by distance alone."""

    def __init__(self, shape: tuple[int, ...], sigma: float) -> None:
        self.sigma = sigma
        self.root: AnyArray = np.sqrt(self._sum(np.ones(shape)))

    def __call__(self, values: AnyArray) -> AnyArray:
        found: AnyArray = self._sum(values / self.root) / self.root
        return found

    def _sum(self, values: AnyArray) -> AnyArray:
        from scipy.ndimage import gaussian_filter

        found: AnyArray = gaussian_filter(
            values, self.sigma, mode="constant", truncate=REACH
        )
        return found


class _Far:
    """Sums over neighbours by distance and colour."""

    def __init__(self, image: FloatArray, sigma: float, colour: float) -> None:
        self.shape = image.shape[:2]
        self.step = max(1, math.ceil(sigma / BLOCKS))
        self.sigma = sigma
        # Differences are summed over three colours, whatever the channels are.
        scale = 255 / colour * math.sqrt(3 / image.shape[2])
        self.image = image * np.float32(scale)
        self.area = self._blocks(np.ones(self.shape, np.float32), mean=False)
        self.colours = [self._blocks(self.image[..., c]) for c in range(image.shape[2])]
        # A pixel is its own neighbour, even if its block is of another colour.
        alike = self._sum(np.ones(self.shape, np.float32))
        self.root = np.sqrt(np.maximum(alike, 1))

    def __call__(self, values: AnyArray) -> AnyArray:
        given = (values / self.root).astype(np.float32)
        found: AnyArray = self._sum(given) / self.root
        return found

    def _sum(self, values: FloatArray) -> AnyArray:
        height, width = self.shape
        blocks = self._blocks(values) * self.area
        weight = self.area > 0
        total = np.zeros(self.shape, np.float32)
        for down in range(-self._reach, self._reach + 1):
            rows = self._fall(height, down)
            for right in range(-self._reach, self._reach + 1):
                columns = self._fall(width, right)
                there = self._window(down, right)
                if not weight[there].any():
                    continue
                gap = np.zeros(self.shape, np.float32)
                for c, block in enumerate(self.colours):
                    gap += (self.image[..., c] - block[there]) ** 2
                total += (
                    np.exp(-gap / 2) * rows[:, None] * columns[None] * blocks[there]
                )
        return total

    @property
    def _reach(self) -> int:
        """How many blocks away."""
        return math.ceil(REACH * self.sigma / self.step)

    def _fall(self, length: int, away: int) -> FloatArray:
        """Return the Gaussian of the distance to the block so far away, (length,)."""
        at = np.arange(length)
        middle = (at // self.step + away + 0.5) * self.step - 0.5
        found: FloatArray = np.exp(-(((at - middle) / self.sigma) ** 2) / 2)
        return found.astype(np.float32)

    def _window(self, down: int, right: int) -> tuple[slice, slice]:
        """Return where in the padded blocks the neighbours of all pixels are."""
        first = [(self._reach + d) * self.step for d in (down, right)]
        rows, columns = (
            slice(f, f + n) for f, n in zip(first, self.shape, strict=True)
        )
        return rows, columns

    def _blocks(self, values: FloatArray, *, mean: bool = True) -> FloatArray:
        """Return for every pixel the mean, or sum, over its block; 0 outside the plane.

        Blocks at the rim may be partly outside. A frame of as many blocks as neighbours
        reach is put round, so that a neighbour is a slice.
        """
        pad = self._reach * self.step
        sides = [-(-n // self.step) * self.step for n in self.shape]
        frame = np.zeros(sides, np.float32)
        frame[: self.shape[0], : self.shape[1]] = values
        cells = frame.reshape(
            sides[0] // self.step, self.step, sides[1] // self.step, self.step
        )
        found = cells.sum((1, 3))
        if mean:
            there = np.zeros(sides, np.float32)
            there[: self.shape[0], : self.shape[1]] = 1
            found = found / there.reshape(cells.shape).sum((1, 3))
        wide = np.repeat(np.repeat(found, self.step, 0), self.step, 1)
        return np.pad(wide, pad)
