"""`link_instances`: one number per object over depth and time, for any labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import label_axes, resolve_axes
from napari_fewshot.errors import DataError
from napari_fewshot.inference.volumes import link_axes
from napari_fewshot.ops.linked_planes import link_planes
from napari_fewshot.ops.linking import MIN_OVERLAP

if TYPE_CHECKING:
    from napari_fewshot._types import LabelArray
    from napari_fewshot.ops.linking import Tracks

LINKS = ("z", "t", "auto")


@dataclass(frozen=True, eq=False)
class LinkedInstances:
    """What `link_instances` returns.

    Attributes
    ----------
    instances : array
        Object numbers that hold over the linked axes; numpy, or ``out``.
    tracks : Tracks
        Every object with its first and last frame, its parent and what it merged into
        (``.table``), and its centres as a napari Tracks layer takes them (``.points``,
        ``.graph``).
    """

    instances: Any = field(repr=False)
    tracks: Tracks


def link_instances(
    instances: Any,
    axes: str | None = None,
    link: str = "auto",
    *,
    min_overlap: float = MIN_OVERLAP,
    gap: int = 0,
    divisions: bool = False,
    out: Any = None,
) -> LinkedInstances:
    """Give objects of single planes one number over depth, time, or both.

    Objects of consecutive planes or times are the same where enough of the smaller one
    lies on the other; of several candidates the assignment with the largest total
    intersection over union is taken. Along depth, pieces that split and merge stay one
    object. Over time the objects of a volume are linked in depth first.

    Parameters
    ----------
    instances : array
        Whole numbers, 0 is background; read plane by plane (numpy, zarr, dask).
    axes : str, optional
        One letter of ``tzyx`` per axis; three axes are taken as ``zyx``.
    link : {"auto", "z", "t"}
        Which axes; auto is all there are.
    min_overlap : float
        Share of the smaller object that must be in common, in (0, 1].
    gap : int
        Frames in which an object may be missing.
    divisions : bool
        Over time, all pieces of an object that splits become new tracks with a parent;
        else the piece that is most like it keeps its number.
    out : array, optional
        Receives the numbers, for results that do not fit in memory (zarr).

    Returns
    -------
    LinkedInstances

    Raises
    ------
    DataError
        If these are no object numbers, or the axis to link along is not there.
    """
    instances = instances if hasattr(instances, "dtype") else np.asarray(instances)
    shape = tuple(int(n) for n in instances.shape)
    if link not in LINKS:
        raise DataError(f"link={link!r} is not one of {', '.join(LINKS)}.")
    if not 0 < min_overlap <= 1 or gap < 0:
        raise DataError("min_overlap must lie in (0, 1] and gap must be 0 or more.")
    axes = _checked_axes(instances, shape, axes)
    order = link_axes(axes, link)
    if out is None:
        out = np.zeros(shape, np.int32)
    elif tuple(out.shape) != shape:
        raise DataError(f"out has the shape {tuple(out.shape)}, not {shape}.")
    lead = [a for a in axes if a in "tz"]
    sizes = dict(zip(axes, shape, strict=True))

    def key(number: int) -> tuple[Any, ...]:
        index = iter(np.unravel_index(number, tuple(sizes[a] for a in lead)))
        return tuple(int(next(index)) if a in lead else slice(None) for a in axes)

    def read(number: int) -> LabelArray:
        found: LabelArray = np.asarray(out[key(number)])
        return found

    def write(number: int, plane: LabelArray) -> None:
        out[key(number)] = plane

    grid = np.arange(int(np.prod([sizes[a] for a in lead])))
    grid = grid.reshape([sizes[a] for a in lead])
    if lead == ["z", "t"]:
        grid = grid.T
    numbers = grid.reshape(sizes.get("t", 1), sizes.get("z", 1)).tolist()
    for number in grid.ravel().tolist():
        write(number, _checked(np.asarray(instances[key(number)])))
    tracks = link_planes(
        read,
        write,
        numbers,
        order,
        min_overlap=min_overlap,
        gap=gap,
        divisions=divisions,
    )
    return LinkedInstances(out, tracks)


def _checked_axes(instances: Any, shape: tuple[int, ...], axes: str | None) -> str:
    if np.dtype(instances.dtype).kind not in "uib":
        raise DataError(
            f"Object numbers must be whole numbers, not {instances.dtype}. Convert "
            "them first, for example with instances.astype('int32')."
        )
    axes = resolve_axes(shape, np.int32, axes)
    if label_axes(axes) != axes:
        raise DataError(f"axes={axes!r} has a channel axis; object numbers have none.")
    return axes


def _checked(plane: Any) -> LabelArray:
    if plane.size and plane.min() < 0:
        raise DataError("Object numbers must not be negative; 0 is background.")
    found: LabelArray = plane.astype(np.int32)
    return found
