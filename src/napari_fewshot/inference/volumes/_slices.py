"""2.5-D: a plane together with its neighbours above and below, as channels.

Grey planes become three channels in the order z - 1, z, z + 1, which networks take for
the three of a colour image; further neighbours, and those of images that have channels
already, come after the plane's own, where methods on pixels find them. Neighbours are
taken at the same physical distance in every image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Image, Support, SupportSet
from napari_fewshot.data._ignored import without_ignored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray


class SliceArray:
    """A lazy array of planes with neighbours, ``(lead..., y, x, channels)``.

    Parameters
    ----------
    image : Image
        The volume, or a plane whose neighbours are itself.
    offsets : sequence of int
        How many planes away each neighbour is, the plane's own 0 among them.
    """

    def __init__(self, image: Image, offsets: Sequence[int]) -> None:
        self._image, self._offsets = image, tuple(offsets)
        count = image.n_channels * len(self._offsets)
        self.shape = (*image.leading_shape, *image.plane_shape, count)
        self.ndim, self.dtype = len(self.shape), np.dtype(image.array.dtype)
        self._kept: dict[str, AnyArray] = {}

    def __getitem__(self, key: Any) -> AnyArray:
        """Read one plane with its neighbours."""
        n_lead = len(self._image.leading_shape)
        key = key if isinstance(key, tuple) else (key,)
        lead, rest = key[:n_lead], key[n_lead:]
        if len(lead) < n_lead or any(isinstance(k, slice) for k in lead):
            raise TypeError("planes are read one at a time")
        index = [int(k) for k in lead]
        rows, columns, channels = (*rest, *(slice(None),) * 3)[:3]
        planes = [self._part(index, o, rows, columns) for o in self._offsets]
        found: AnyArray = np.concatenate(planes, axis=-1)
        return found[..., channels]

    def __getstate__(self) -> dict[str, Any]:
        """Leave kept planes behind."""
        return {**self.__dict__, "_kept": {}}

    def _part(
        self, index: list[int], offset: int, rows: slice, columns: slice
    ) -> AnyArray:
        image = self._image
        axes = [a for a in image.axes if a in "tz"]
        at = list(index)
        if "z" in axes:
            which = axes.index("z")
            at[which] = int(np.clip(at[which] + offset, 0, self.shape[which] - 1))
        number = int(np.ravel_multi_index(tuple(at), image.leading_shape)) if at else 0
        # One after the other: the neighbours of the next plane are mostly known.
        kept, key = self._kept, f"{number} {rows} {columns}"
        if key not in kept:
            pixels = image.raw_window(number, rows, columns)
            pixels = pixels if pixels.ndim == 3 else pixels[..., None]
            last = dict(list(kept.items())[1 - len(self._offsets) :])
            self._kept = kept = {**last, key: pixels}
        return kept[key]


def offsets_of(image: Image, reach: int, distance: float | None) -> list[int]:
    """Return the neighbours of planes of an image, in channel order.

    Parameters
    ----------
    image : Image
        A volume, or a plane.
    reach : int
        Neighbours on either side.
    distance : float, optional
        How far apart they are in all images, in units of the scale; None is one plane.
    """
    step = 1
    if distance is not None and image.scale is not None and len(image.scale) == 3:
        step = max(1, round(distance / image.scale[0]))
    if "z" not in image.axes:
        step = 0
    near = [-step, 0, step]
    if image.n_channels > 1:
        near = [0, -step, step]
    return near + [s * n * step for n in range(2, reach + 1) for s in (-1, 1)]


def common_distance(images: Sequence[Image]) -> float | None:
    """Return the largest plane distance of volumes; None if one is not known."""
    found = []
    for image in images:
        if "z" not in image.axes:
            continue
        if image.scale is None:
            return None
        found.append(image.scale[0])
    return max(found, default=None)


def with_neighbours(image: Image, offsets: Sequence[int]) -> Image:
    """Return a volume whose planes have their neighbours as channels, lazily.

    Parameters
    ----------
    image : Image
        A volume, or a plane whose neighbours are itself.
    offsets : sequence of int
        From `offsets_of`.
    """
    array = SliceArray(image, offsets)
    channels = tuple(range(array.shape[-1]))
    # Leading axes come in the order of the image, rows and columns after them.
    axes = "".join(a for a in image.axes if a in "tz") + "yxc"
    found = Image(array, axes, channels, image.scale, image.name, unit=image.unit)
    found.__dict__["window"] = image.window
    return found


def stack_supports(
    supports: SupportSet, reach: int, distance: float | None
) -> tuple[SupportSet, list[str]]:
    """Return supports with neighbours from their own volumes, and who has none.

    Parameters
    ----------
    supports : SupportSet
        Volumes, or single planes.
    reach, distance
        As for `offsets_of`.

    Returns
    -------
    supports : SupportSet
        Single planes are repeated.
    flat : list of str
        Names of those.
    """
    found, flat = [], []
    for number, support in enumerate(supports):
        source = support.source
        if not is_volume(source):
            flat.append(support.name or f"support {number + 1}")
        image = with_neighbours(source, offsets_of(source, reach, distance))
        stacked = Support(
            image.array,
            _OwnLabels(support, ignored=False),
            classes=support.classes,
            scale=image.scale,
            axes=image.axes,
            channels=image.channels,
            name=support.name,
            planes=support.planes,
            unit=source.unit,
            ignore=None
            if support.ignore is None
            else _OwnLabels(support, ignored=True),
        )
        stacked.source.__dict__["window"] = source.window
        found.append(stacked)
    return SupportSet(found), flat


def is_volume(image: Image) -> bool:
    """Whether planes of an image have neighbours along z."""
    return "z" in image.axes and image.shape[image.axes.index("z")] > 1


class _OwnLabels:
    """Labels of a support as an array that is read plane by plane."""

    def __init__(self, support: Support, *, ignored: bool) -> None:
        self._support, self._ignored = support, ignored
        source = support.source
        self.shape = (*source.leading_shape, *source.plane_shape)
        self.ndim, self.dtype = len(self.shape), np.dtype(np.int32)

    def __getitem__(self, key: Any) -> AnyArray:
        source = self._support.source
        n_lead = len(source.leading_shape)
        key = key if isinstance(key, tuple) else (key,)
        index = tuple(int(k) for k in key[:n_lead])
        number = int(np.ravel_multi_index(index, source.leading_shape)) if index else 0
        known, off = without_ignored(self._support.label_plane(number))
        found: AnyArray = (off if self._ignored else known)[key[n_lead:]]
        return found
