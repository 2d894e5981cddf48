"""Synthetic few-shot tasks: several images of one imaginary kind of specimen.

A scene is a set of images with label maps of its regions, and the sets of regions that
somebody might want. The same scene yields different tasks: only the supports say what
is wanted. Everything follows from the seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.adapt.synthesis._anatomy import (
    lesion_scene,
    organs_scene,
    regions_scene,
)
from napari_fewshot.adapt.synthesis._paint import paint
from napari_fewshot.adapt.synthesis._tissue import (
    cells_scene,
    mesh_scene,
    vessels_scene,
)

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray
    from napari_fewshot.adapt.synthesis._layout import Target

__all__ = ["FAMILIES", "Scene", "draw_scene"]

# name -> (share of the tasks, maker of the layout)
FAMILIES = {
    "regions": (0.16, regions_scene),
    "organs": (0.30, organs_scene),
    "lesion": (0.14, lesion_scene),
    "cells": (0.18, cells_scene),
    "mesh": (0.12, mesh_scene),
    "vessels": (0.10, vessels_scene),
}


@dataclass(frozen=True)
class Scene:
    """Images of one imaginary kind of specimen.

    Attributes
    ----------
    family : str
        Name of its maker, see `FAMILIES`.
    images : array (N, S, S, 3) uint8
        Grey scenes have equal channels.
    labels : array (N, S, S) uint8
        Region numbers.
    targets : tuple of tuple of int
        Sets of regions that somebody might want.
    free : bool
        Whether position and orientation mean nothing.
    """

    family: str
    images: AnyArray
    labels: AnyArray
    targets: tuple[Target, ...]
    free: bool

    def mask(self, target: Target) -> AnyArray:
        """Return where the target is, (N, S, S) bool."""
        wanted = np.zeros(256, bool)
        wanted[list(target)] = True
        found: AnyArray = wanted[self.labels]
        return found


def draw_scene(seed: int, size: int = 128, count: int = 6) -> Scene:
    """Draw a scene.

    Parameters
    ----------
    seed : int
        The same seed gives the same scene.
    size : int
        Side of the images in pixels.
    count : int
        Number of images.
    """
    rng = np.random.default_rng([seed, size, count])
    names = list(FAMILIES)
    shares = np.array([FAMILIES[n][0] for n in names])
    family = str(rng.choice(names, p=shares / shares.sum()))
    layout = FAMILIES[family][1](rng, count, size)
    images = paint(rng, layout)
    return Scene(family, images, layout.labels, tuple(layout.targets), layout.free)
