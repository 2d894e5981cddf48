"""Sample data: small real images with masks, ready to try; nothing is downloaded.

Each sample is a stack. Some planes come with their masks as supports; the masks of the
others are kept apart as truth. Licences lie beside the files in ``samples/``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.errors import DataError

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, LabelArray

FOLDER = Path(__file__).parent / "samples"
NAMES = ("nuclei_fluo", "nuclei_he", "lungs", "hippocampus")


@dataclass(frozen=True, eq=False)
class SampleData:
    """A sample.

    Attributes
    ----------
    name, title : str
    image : array (N, Y, X[, 3])
        Stack of images, or a volume.
    truth : array (N, Y, X)
        int32 masks of all planes.
    supports : tuple of int
        Planes whose masks are given to the user.
    axes : str
        Axes of ``image``.
    scale : tuple of float, optional
        Pixel size (z, y, x).
    unit : str, optional
        Unit of ``scale``.
    classes : dict of int to str
    """

    name: str
    title: str
    image: AnyArray = field(repr=False)
    truth: LabelArray = field(repr=False)
    supports: tuple[int, ...]
    axes: str
    scale: tuple[float, ...] | None
    unit: str | None
    classes: dict[int, str]

    @property
    def support_labels(self) -> LabelArray:
        """Masks of the support planes; all other planes are empty."""
        labels = np.zeros_like(self.truth)
        labels[list(self.supports)] = self.truth[list(self.supports)]
        return labels

    @property
    def queries(self) -> tuple[int, ...]:
        """Planes that are no supports and hold some class."""
        return tuple(
            i
            for i in range(len(self.truth))
            if i not in self.supports and self.truth[i].any()
        )


def load_sample(name: str) -> SampleData:
    """Load a sample by name.

    Raises
    ------
    DataError
        If there is no such sample.
    """
    if name not in NAMES:
        raise DataError(f"There is no sample {name!r}. Samples: {', '.join(NAMES)}.")
    import tifffile

    folder = FOLDER / name
    facts = json.loads((folder / "sample.json").read_text(encoding="utf-8"))
    scale = facts["scale"]
    return SampleData(
        name=name,
        title=facts["title"],
        image=tifffile.imread(folder / "image.tif"),
        truth=tifffile.imread(folder / "labels.tif").astype(np.int32),
        supports=tuple(facts["supports"]),
        axes=facts["axes"],
        scale=None if scale is None else tuple(scale),
        unit=facts["unit"],
        classes={int(v): n for v, n in facts["classes"].items()},
    )


def nuclei_fluo() -> list[Any]:
    """Return fluorescence nuclei as napari layers."""
    return _layers("nuclei_fluo")


def nuclei_he() -> list[Any]:
    """Return stained-tissue nuclei as napari layers."""
    return _layers("nuclei_he")


def lungs() -> list[Any]:
    """Return chest X-ray lungs as napari layers."""
    return _layers("lungs")


def hippocampus() -> list[Any]:
    """Return a hippocampus MRI volume as napari layers."""
    return _layers("hippocampus")


def _layers(name: str) -> list[Any]:
    """Layer tuples: the images, and the masks of the support planes."""
    import pandas as pd

    sample = load_sample(name)
    letters = sample.axes.replace("c", "")
    common: dict[str, Any] = {"axis_labels": tuple(letters)}
    if sample.scale is not None and sample.unit is not None:
        common["scale"] = sample.scale
        common["units"] = (sample.unit,) * len(letters)
    features = pd.DataFrame(
        {
            "index": [0, *sample.classes],
            "class": ["background", *sample.classes.values()],
        }
    )
    image = {**common, "name": sample.title, "rgb": "c" in sample.axes}
    labels = {**common, "name": f"{sample.title} labels", "features": features}
    return [
        (sample.image, image, "image"),
        (sample.support_labels, labels, "labels"),
    ]
