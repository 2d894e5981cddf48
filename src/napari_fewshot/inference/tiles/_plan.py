"""Which planes are tiled, in which windows, and which of them are wanted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Lattice, WindowedImage, WindowedPrompts
from napari_fewshot.errors import DataError, FewShotError
from napari_fewshot.inference._checks import check_prompts
from napari_fewshot.inference._reading import leading_method
from napari_fewshot.inference._scale import MOST, is_known

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fewshot._types import BoolArray
    from napari_fewshot.data import Image, Region
    from napari_fewshot.inference._request import PlaneResult, SegmentRequest
    from napari_fewshot.methods import CommonParams

# Sides of automatic windows; and planes up to this side are never cut by themselves.
LEAST, DEFAULT, LARGEST, WHOLE = 256, 1024, 2048, 2048
# A plane that is only this much longer than a window is one window along that axis.
STRETCH = 1.5
# Windows that a user asks for are at least this wide.
LEAST_ASKED = 64


@dataclass(frozen=True, eq=False)
class TilePlan:
    """How a request is carried out in tiles.

    Attributes
    ----------
    request : SegmentRequest
        As it was made.
    lattice : Lattice
        Windows of a plane.
    params : CommonParams
        Those that rule the run.
    windows, cells : dict of int to tuple of int
        Per plane: windows that are looked at, in this order, and cells that are wanted.
    """

    request: SegmentRequest
    lattice: Lattice
    params: CommonParams
    windows: Mapping[int, tuple[int, ...]]
    cells: Mapping[int, tuple[int, ...]]

    @cached_property
    def image(self) -> WindowedImage:
        """The query in windows; made when it is asked for, as pixels are read for it.

        Raises
        ------
        DataError
            If the image can't be read.
        """
        return WindowedImage.over(self.request.query, self.lattice)

    def tiled(self, planes: tuple[int, ...]) -> SegmentRequest:
        """Return the request that executors carry, for some windows."""
        lattice, n_base = self.lattice, self.request.query.n_planes
        prompts = {
            value: WindowedPrompts(given=p, lattice=lattice, n_base=n_base)
            for value, p in self.request.prompts.items()
        }
        return replace(
            self.request,
            query=self.image,
            prompts=prompts,
            planes=planes,
            keep_probabilities=True,
            region=None,
            inside=None,
            first=None,
        )

    @property
    def numbers(self) -> tuple[int, ...]:
        """Plane numbers of all windows, in the order in which they are wanted."""
        count = self.lattice.count
        return tuple(p * count + w for p, ws in self.windows.items() for w in ws)

    def shown(self, plane: int, region: Region) -> BoolArray | None:
        """Return which pixels of a region are asked for; None: all of them."""
        return wanted_pixels(self.request, plane, region)


def plan_tiles(request: SegmentRequest) -> TilePlan | None:
    """Return how to carry a request out in tiles; None where planes are taken whole.

    Parameters
    ----------
    request : SegmentRequest
        What to do.

    Raises
    ------
    DataError
        If the region or the mask does not fit the image, or nothing is left of it.
    """
    if request.task != "segment" or isinstance(request.query, WindowedImage):
        return None
    check_where(request)
    try:
        _, params = leading_method(request)
    except (FewShotError, TypeError, ValueError):
        # Whoever runs it says what is wrong.
        return None
    size = window_size(request, params)
    query = request.query
    if size is None:
        return None
    if request.prompts:
        check_prompts(request)
    lattice = Lattice.of(query.plane_shape, size)
    windows, cells = {}, {}
    for plane in range(query.n_planes) if request.planes is None else request.planes:
        if not 0 <= plane < query.n_planes:
            return None
        looked = _chosen(request, lattice, plane, ramps=True)
        if looked:
            windows[plane] = _ordered(looked, lattice, request.first)
            cells[plane] = _chosen(request, lattice, plane, ramps=False)
    if not windows:
        raise DataError("Nothing is chosen: the mask is empty. Mark where to segment.")
    return TilePlan(request, lattice, params, windows, cells)


def window_size(
    request: SegmentRequest, params: CommonParams
) -> tuple[int, int] | None:
    """Return rows and columns of a window, or None if planes are taken whole.

    It follows from what the supports show, at the pixel size of the query: methods
    then see in a window what they saw when they learnt.
    """
    shape = request.query.plane_shape
    if params.tile:
        side = max(params.tile, LEAST_ASKED)
        return (
            None if max(shape) <= side else (min(side, shape[0]), min(side, shape[1]))
        )
    usual = [DEFAULT, DEFAULT]
    if len(request.support):
        seen = [_seen(s.source, request.query, params) for s in request.support]
        usual = [int(np.clip(n, LEAST, LARGEST)) for n in np.median(seen, axis=0)]
    if max(shape) <= max(WHOLE, 2 * max(usual)):
        return None
    sides = [n if n <= STRETCH * u else u for n, u in zip(shape, usual, strict=True)]
    return sides[0], sides[1]


def check_where(request: SegmentRequest) -> None:
    """Refuse a region or a mask that does not fit the image.

    Raises
    ------
    DataError
    """
    query = request.query
    rows, columns = query.plane_shape
    if request.region is not None:
        top, left, bottom, right = request.region
        if not (0 <= top < bottom <= rows and 0 <= left < right <= columns):
            raise DataError(
                f"The region {tuple(request.region)} is not on the image: give first "
                f"row, first column, last row, last column within {rows} x {columns} "
                "pixels."
            )
    if request.inside is not None:
        found = tuple(int(n) for n in request.inside.shape)
        if found not in (query.plane_shape, query.label_shape):
            raise DataError(
                f"The mask of where to segment has the shape {found}, but the image "
                f"has {query.label_shape}. Draw it on a layer of the image's size."
            )


def wanted_pixels(
    request: SegmentRequest, plane: int, region: Region
) -> BoolArray | None:
    """Return which pixels of a part of a plane are asked for; None: all of them."""
    found: BoolArray | None = None
    if request.inside is not None:
        found = _inside(request, plane, region)
    if request.region is not None:
        limits = request.region
        rows, columns = np.ogrid[region[0] : region[2], region[1] : region[3]]
        within = (rows >= limits[0]) & (rows < limits[2])
        within = within & (columns >= limits[1]) & (columns < limits[3])
        if not within.all():
            found = within if found is None else found & within
    return None if found is None or found.all() else found


def limited(request: SegmentRequest, result: PlaneResult) -> PlaneResult:
    """Return the result of a plane taken whole, with nothing outside of what is asked.

    Parameters
    ----------
    request : SegmentRequest
        With a region or a mask.
    result : PlaneResult
        Of the whole plane.
    """
    shown = wanted_pixels(request, result.plane, (0, 0, *request.query.plane_shape))
    if shown is None:
        return result
    instances = result.instances
    return replace(
        result,
        labels=np.where(shown, result.labels, 0).astype(np.int32),
        instances=None if instances is None else np.where(shown, instances, 0),
        probabilities={
            v: np.where(shown, p, 0).astype(p.dtype)
            for v, p in result.probabilities.items()
        },
    )


def _seen(source: Image, query: Image, params: CommonParams) -> list[float]:
    """Return rows and columns of a support's plane, in pixels of the query."""
    shape = np.array(source.plane_shape, float)
    known = is_known(source.pixel_size) and is_known(query.pixel_size)
    if params.match_scale and known:
        factor = np.array(source.pixel_size) / np.array(query.pixel_size)
        if (np.maximum(factor, 1 / factor) <= MOST).all():
            shape *= factor
    return [float(n) for n in shape]


def _chosen(
    request: SegmentRequest, lattice: Lattice, plane: int, *, ramps: bool
) -> tuple[int, ...]:
    """Return the windows whose cell, or zone, shows anything that is asked for."""
    region = request.region or (0, 0, *lattice.shape)
    found = lattice.touching(region, ramps=ramps)
    if request.inside is None:
        return found
    part = lattice.zone if ramps else lattice.cell
    return tuple(w for w in found if _inside(request, plane, part(w)).any())


def _inside(request: SegmentRequest, plane: int, region: Region) -> BoolArray:
    mask: Any = request.inside
    if tuple(mask.shape) == request.query.label_shape:
        key = request.query.label_key(plane, region)
    else:
        key = np.s_[region[0] : region[2], region[1] : region[3]]
    found: BoolArray = np.asarray(mask[key]) != 0
    return found


def _ordered(
    windows: tuple[int, ...], lattice: Lattice, first: tuple[float, float] | None
) -> tuple[int, ...]:
    """Return windows in the order in which they are looked at: nearest first."""
    if first is None:
        return windows

    def away(window: int) -> float:
        top, left, bottom, right = lattice.cell(window)
        middle = (top + bottom) / 2, (left + right) / 2
        return (middle[0] - first[0]) ** 2 + (middle[1] - first[1]) ** 2

    return tuple(sorted(windows, key=away))
