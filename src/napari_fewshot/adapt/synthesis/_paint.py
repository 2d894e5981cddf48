"""Turn label maps into images: looks, textures, and what instruments do to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.adapt.synthesis._fields import smooth_noise
from napari_fewshot.adapt.synthesis._layout import MAX_REGIONS

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray
    from napari_fewshot.adapt.synthesis._layout import Layout

TEXTURES = 4


@dataclass
class Looks:
    """What the regions of a task look like.

    Attributes
    ----------
    colour : array (R, 3)
        Mean of each region.
    texture : array (R, 4)
        Strength of white, fine, coarse and striped texture.
    jitter : float
        How much the means differ between images.
    """

    colour: AnyArray
    texture: AnyArray
    jitter: float


def paint(rng: np.random.Generator, layout: Layout) -> AnyArray:
    """Paint all images of a layout.

    Parameters
    ----------
    rng : Generator
        Source of randomness.
    layout : Layout
        What is where.

    Returns
    -------
    array (N, S, S, 3) uint8
        Grey images have three equal channels.
    """
    labels = layout.labels
    count, size = labels.shape[:2]
    coloured = rng.random() < 0.4
    looks = _draw_looks(rng, layout, coloured)
    means = looks.colour[None] + rng.normal(
        0, looks.jitter, (count, *looks.colour.shape)
    )
    if not coloured:
        means = means.mean(-1, keepdims=True)
    image = np.stack([m[here] for m, here in zip(means, labels, strict=True)])
    image = image.astype(np.float32)
    fields = _textures(rng, count, size)
    strength = looks.texture.astype(np.float32)[labels]
    image += (strength * fields).sum(-1, keepdims=True)
    if coloured and rng.random() < 0.3:
        image += 0.04 * np.moveaxis(
            smooth_noise(rng, 3 * count, 20, size).reshape(count, 3, size, size), 1, -1
        )
    image = _instrument(rng, image)
    if not coloured:
        image = np.repeat(image[..., :1], 3, -1)
    return _quantise(rng, image)


def _draw_looks(rng: np.random.Generator, layout: Layout, coloured: bool) -> Looks:
    number = MAX_REGIONS
    if coloured:
        colour = _colours(rng, number)
    else:
        colour = np.repeat(_greys(rng, number)[:, None], 3, 1)
    often = np.array([0.4, 0.4, 0.4, 0.12])
    texture = rng.exponential(0.045, (number, TEXTURES)) * (
        rng.random((number, TEXTURES)) < often
    )
    if rng.random() < 0.4:
        texture[:] = texture[0]
    for rim in layout.rims:
        if rng.random() < 0.7:
            colour[rim] = rng.choice([-0.15, 1.15]) + rng.normal(0, 0.1)
    for number_, other in layout.looks_like.items():
        colour[number_] = colour[other] + rng.normal(0, 0.03, 3)
        texture[number_] = texture[other]
    for region in layout.outside:
        colour[region] = rng.choice([0.0, 0.0, 0.0, 1.0, 0.5])
        texture[region] = texture[region] * (rng.random() < 0.3)
    return Looks(colour, texture, rng.choice([0.01, 0.03, 0.07]))


def _greys(rng: np.random.Generator, number: int) -> AnyArray:
    """Grey levels: free, or few that many regions share."""
    if rng.random() < 0.5:
        return rng.uniform(0, 1, number)
    palette = rng.uniform(0, 1, rng.integers(3, 7))
    return rng.choice(palette, number) + rng.normal(0, 0.04, number)


def _colours(rng: np.random.Generator, number: int) -> AnyArray:
    """Region colours: two stains on white, tints of one colour, or free."""
    kind = rng.random()
    if kind < 0.35:
        stains = rng.uniform(0.1, 1.2, (2, 3))
        amounts = rng.uniform(0, 1.2, (number, 2)) ** 1.5
        return np.exp(-amounts @ stains)
    if kind < 0.75:
        base = rng.uniform(0.2, 1.0, 3)
        light = _greys(rng, number)[:, None]
        return base * (0.35 + 0.65 * light) + rng.normal(0, 0.06, (number, 3))
    return rng.uniform(0, 1, (number, 3))


def _textures(rng: np.random.Generator, count: int, size: int) -> AnyArray:
    """Return white, fine, coarse and striped fields (N, S, S, 4)."""
    white = rng.standard_normal((count, size, size)).astype(np.float32)
    fine = smooth_noise(rng, count, size / rng.uniform(2, 5), size)
    coarse = smooth_noise(rng, count, size / rng.uniform(6, 20), size)
    bend = smooth_noise(rng, count, 4, size) * rng.uniform(0, 4)
    line = np.arange(size, dtype=np.float32)
    angles = rng.uniform(0, np.pi, count) if rng.random() < 0.7 else np.zeros(count)
    turned = (angles + rng.uniform(0, np.pi)).astype(np.float32)[:, None, None]
    along = line[:, None] * np.cos(turned) + line[None] * np.sin(turned)
    stripes = np.sin(along * (2 * np.pi / rng.uniform(3, 16)) + bend)
    found: AnyArray = np.stack([white, fine, coarse, stripes], -1)
    return found.astype(np.float32)


def _instrument(rng: np.random.Generator, image: AnyArray) -> AnyArray:
    """Bias, shadows, blur, speckle, noise, ringing: as scanners and lenses do."""
    count, size = image.shape[:2]
    if rng.random() < 0.2:
        image = _overlay_bands(rng, image)
    if rng.random() < 0.4:
        field = smooth_noise(rng, count, rng.uniform(1, 3), size)
        image = image * np.exp(0.25 * rng.random() * field)[..., None]
        image = image + (0.1 * rng.random() * field[::-1])[..., None]
    if rng.random() < 0.1:
        image = _shadows(rng, image)
    if rng.random() < 0.6:
        image = _blur(image, rng.uniform(0.3, 1.3))
    if rng.random() < 0.12:
        image = _k_space(rng, image)
    if rng.random() < 0.15:
        grain = smooth_noise(rng, count, size / rng.uniform(1.5, 4), size)
        image = image * np.exp(rng.uniform(0.1, 0.6) * grain)[..., None]
    if rng.random() < 0.7:
        level = np.exp(rng.uniform(np.log(0.008), np.log(0.13)))
        image = image + rng.standard_normal(image.shape).astype(np.float32) * level
    if rng.random() < 0.25:
        image = _coarsen(image, int(rng.integers(2, 4)))
    return image


def _overlay_bands(rng: np.random.Generator, image: AnyArray) -> AnyArray:
    """Add what lies above or below: ribs, folds, out-of-focus fibres."""
    count, size = image.shape[:2]
    bend = smooth_noise(rng, count, 3, size) * rng.uniform(1, 5)
    line = np.arange(size, dtype=np.float32)
    angle = rng.uniform(0, np.pi)
    along = line[:, None] * np.cos(angle) + line[None] * np.sin(angle)
    period = rng.uniform(8, 40)
    bands = np.clip(np.sin(along * 2 * np.pi / period + bend) * 2 - 0.5, 0, 1)
    if rng.random() < 0.5:
        bands *= smooth_noise(rng, count, 3, size) > 0
    found: AnyArray = image + (bands * rng.normal(0, 0.15))[..., None]
    return found.astype(np.float32)


def _shadows(rng: np.random.Generator, image: AnyArray) -> AnyArray:
    """Darken sectors seen from a point above the image, as in ultrasound."""
    size = image.shape[1]
    apex = np.array([-rng.uniform(0.1, 0.8) * size, rng.uniform(0.3, 0.7) * size])
    rows, columns = np.mgrid[:size, :size]
    angle = np.arctan2(columns - apex[1], rows - apex[0])
    for here in image:
        for _ in range(int(rng.integers(1, 4))):
            middle, width = rng.uniform(-0.6, 0.6), rng.uniform(0.03, 0.2)
            dark = np.exp(-(((angle - middle) / width) ** 2)) * rng.uniform(0.3, 0.9)
            here *= (1 - dark[..., None]).astype(np.float32)
    return image


def _blur(image: AnyArray, sigma: float) -> AnyArray:
    from scipy import ndimage

    found: AnyArray = ndimage.gaussian_filter(image, (0, sigma, sigma, 0))
    return found


def _k_space(rng: np.random.Generator, image: AnyArray) -> AnyArray:
    """Ringing, ghosts or a spike, made in the frequency plane."""
    size = image.shape[1]
    spectrum = np.fft.fftshift(np.fft.fft2(image, axes=(1, 2)), axes=(1, 2))
    kind = rng.random()
    if kind < 0.5:
        keep = int(size * rng.uniform(0.25, 0.45))
        middle = size // 2
        mask = np.zeros(size, bool)
        mask[middle - keep : middle + keep] = True
        spectrum *= mask[None, :, None, None]
        if rng.random() < 0.5:
            spectrum *= mask[None, None, :, None]
    elif kind < 0.8:
        spectrum[:, :: int(rng.integers(2, 5))] *= rng.uniform(0.7, 0.95)
    else:
        at = rng.integers(size // 4, 3 * size // 4, 2)
        spectrum[:, at[0], at[1]] += np.abs(spectrum).max() * rng.uniform(0.02, 0.1)
    back = np.fft.ifft2(np.fft.ifftshift(spectrum, axes=(1, 2)), axes=(1, 2))
    return back.real.astype(np.float32)


def _coarsen(image: AnyArray, factor: int) -> AnyArray:
    """Lower the resolution, then enlarge again, as small images are."""
    from scipy import ndimage

    small = _blur(image, 0.35 * factor)[:, ::factor, ::factor]
    zoom = image.shape[1] / small.shape[1]
    found: AnyArray = ndimage.zoom(
        small, (1, zoom, zoom, 1), order=1, mode="nearest", grid_mode=True
    )
    return found


def _quantise(rng: np.random.Generator, image: AnyArray) -> AnyArray:
    """Window every image on its own, with its own gamma and contrast, to 8 bit."""
    gamma = rng.uniform(0.6, 1.6) if rng.random() < 0.5 else 1.0
    own = rng.choice([0.0, 0.08, 0.2])
    found = np.empty(image.shape, np.uint8)
    for number, here in enumerate(image):
        low, high = np.percentile(here[::3, ::3], [0.5, 99.5])
        here = np.clip((here - low) / max(high - low, 1e-3), 0, 1)
        here = here ** (gamma * np.exp(rng.normal(0, own)))
        here = here * np.exp(-abs(rng.normal(0, own))) + rng.normal(0, own / 4)
        found[number] = np.clip(here * 255, 0, 255).astype(np.uint8)
    return found
