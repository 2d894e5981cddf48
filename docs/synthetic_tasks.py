"""Draw a page of synthetic training tasks for the documentation.

Every row is one task: four images of an imaginary specimen, what is wanted outlined.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from napari_fewshot.adapt.synthesis import FAMILIES, draw_scene

OUT = Path(__file__).parent / "images" / "synthetic-tasks.png"
SIZE, IMAGES, PER_FAMILY = 96, 4, 2
ORANGE = (255, 120, 0)


def row(seed: int) -> np.ndarray:
    scene = draw_scene(seed, SIZE, IMAGES)
    target = scene.targets[np.random.default_rng(seed).integers(len(scene.targets))]
    pictures = scene.images.copy()
    for picture, mask in zip(pictures, scene.mask(target), strict=True):
        edge = (mask ^ np.roll(mask, 1, 0)) | (mask ^ np.roll(mask, 1, 1))
        picture[edge] = ORANGE
    return np.concatenate(list(pictures), 1)


def main() -> None:
    wanted = dict.fromkeys(FAMILIES, PER_FAMILY)
    rows = []
    seed = 100
    while any(wanted.values()):
        family = draw_scene(seed, SIZE, IMAGES).family
        if wanted[family] > 0:
            wanted[family] -= 1
            rows.append(row(seed))
        seed += 1
    left, right = rows[::2], rows[1::2]
    page = np.concatenate([np.concatenate(left), np.concatenate(right)], 1)
    Image.fromarray(page).save(OUT, optimize=True)
    print(OUT, page.shape)


if __name__ == "__main__":
    main()
