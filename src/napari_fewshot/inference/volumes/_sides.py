"""Supports seen from the side: which can be cut, and through which planes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.data import Support, SupportSet
from napari_fewshot.data._ignored import without_ignored
from napari_fewshot.errors import DataError
from napari_fewshot.inference.volumes._cuts import CutArray, cut_image, cutting_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray

# Fewer neighbouring planes show nothing from the side.
MIN_RUN = 4
# Objects that end within the annotated planes get smaller towards both ends.
TAPER = 0.7


@dataclass(frozen=True)
class _Labels:
    """Reads labels of a support; a class, so that it can be sent elsewhere."""

    support: Support = field(repr=False)
    ignored: bool = False

    def __call__(self, number: int, rows: slice, columns: slice) -> AnyArray:
        known, off = without_ignored(self.support.label_plane(number)[rows, columns])
        return off.astype(np.int32) if self.ignored else known


def cut_supports(supports: SupportSet, side: str) -> tuple[SupportSet, list[str]]:
    """Return the supports cut along y or x, and why some can't be.

    Parameters
    ----------
    supports : SupportSet
        Volumes teach, where enough neighbouring planes are annotated.
    side : {"y", "x"}
        The axis to cut along.

    Returns
    -------
    supports : SupportSet
        Perhaps empty.
    reasons : list of str
        One sentence per support that was left out.
    """
    found, reasons = [], []
    for number, support in enumerate(supports):
        name = support.name or f"support {number + 1}"
        try:
            depth = annotated_depth(support)
            if isinstance(depth, str):
                reasons.append(f"{name} {depth}")
                continue
            cut = _cut_support(support, side, depth)
        except DataError as error:
            reasons.append(f"{name}: {error}")
            continue
        if support.is_negative or not cut.is_negative:
            found.append(cut)
    return SupportSet(found), reasons


def annotated_depth(support: Support) -> tuple[int, int] | str:
    """Return which planes of a support were annotated, or why it can't be told.

    Planes without paint may be background or just not annotated. They count as
    background if the painted planes follow each other without a gap and objects get
    smaller towards both ends, as in a volume that was annotated throughout. Else the
    longest run of painted planes counts.

    Parameters
    ----------
    support : Support
        Perhaps a volume.

    Returns
    -------
    (int, int) or str
        First plane and the one after the last; or a reason, to follow a name.
    """
    source = support.source
    if "z" not in source.axes or source.n_planes < 2:
        return "is a single plane"
    if "t" in source.axes:
        return "is a time series"
    if support.is_negative:
        return (0, source.n_planes)
    used = sorted(support.used_planes)
    run = _longest_run(used)
    if len(run) < MIN_RUN:
        return (
            f"has {len(run)} annotated planes next to each other; {MIN_RUN} are needed"
            if len(run) > 1
            else f"has no annotated planes next to each other; {MIN_RUN} are needed"
        )
    whole = support.planes is None and len(run) == len(used)
    if whole and _tapers(support, run):
        return (0, source.n_planes)
    return (run[0], run[-1] + 1)


def _longest_run(planes: Sequence[int]) -> list[int]:
    runs: list[list[int]] = [[]]
    for plane in planes:
        if runs[-1] and plane != runs[-1][-1] + 1:
            runs.append([])
        runs[-1].append(plane)
    return max(runs, key=len)


def _tapers(support: Support, run: Sequence[int]) -> bool:
    areas = [int(np.count_nonzero(support.label_plane(z) > 0)) for z in run]
    limit = TAPER * max(areas)
    starts = run[0] == 0 or areas[0] <= limit
    ends = run[-1] == support.source.n_planes - 1 or areas[-1] <= limit
    return starts and ends


def _cut_support(support: Support, side: str, depth: tuple[int, int]) -> Support:
    source = support.source
    cutting = cutting_of(source, side, depth)
    image = cut_image(source, cutting)
    numbers = [list(range(*depth))]
    labels, ignore = (
        CutArray(_Labels(support, off), numbers, cutting, np.int32, is_labels=True)
        for off in (False, True)
    )
    cut = Support(
        image.array,
        labels,
        classes=support.classes,
        scale=image.scale,
        axes=image.axes,
        channels=image.channels or None,
        name=f"{support.name or 'support'}, cut along {side}",
        unit=source.unit,
        ignore=None if support.ignore is None else ignore,
    )
    cut.source.__dict__["window"] = source.window
    return cut
