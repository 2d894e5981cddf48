"""The views of a volume, fused: a mean of log-odds, weighted by what each is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.inference.volumes._cuts import between_cuts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.inference._request import Summary
    from napari_fewshot.inference.volumes._cuts import Cutting
    from napari_fewshot.inference.volumes._scratch import PlaneFile

# A view that was right nowhere still counts a little: the supports are few.
LEAST = 0.02


def view_weights(summaries: Sequence[Summary]) -> dict[int, list[float]]:
    """Return what every view counts, per class.

    A view counts as much as its leave-one-out Dice on the supports, cut as it sees
    them; where one of them has none (``leave_one_out=False``), all count the same. A
    view that does not know a class does not count for it.

    Parameters
    ----------
    summaries : sequence of Summary
        One per view.

    Returns
    -------
    dict of int to list of float
        One weight per view, with the sum 1.
    """
    found = {}
    for value in sorted({v for s in summaries for v in s.classes}):
        takes = [value in s.classes for s in summaries]
        worth = [_worth(s, value) for s in summaries]
        if any(w is None for w, take in zip(worth, takes, strict=True) if take):
            worth = [1.0] * len(summaries)
        weights = [
            max(w or 0.0, LEAST) if take else 0.0
            for w, take in zip(worth, takes, strict=True)
        ]
        found[value] = [w / sum(weights) for w in weights]
    return found


def _worth(summary: Summary, value: int) -> float | None:
    reliability = summary.reliability
    return None if reliability is None else reliability.scores.get(value)


def rows_of_cuts(
    file: PlaneFile, cutting: Cutting, t: int, start: int, stop: int, along: int
) -> FloatArray:
    """Return log-odds of some planes, as a view from the side knows them.

    Parameters
    ----------
    file : PlaneFile
        A plane per time and cut: (planes of the volume, across).
    cutting : Cutting
        How the volume was cut.
    t, start, stop : int
        Time, first plane, and the one after the last.
    along : int
        Length of the axis that was cut.

    Returns
    -------
    array (stop - start, H, W)
    """
    count = len(cutting.positions)
    cuts = file.rows(start, stop, range(t * count, (t + 1) * count))
    filled = between_cuts(cuts, cutting, along)
    order = (1, 0, 2) if cutting.side == "y" else (1, 2, 0)
    return np.transpose(filled, order)


def fuse(
    odds: Mapping[int, Sequence[FloatArray | None]],
    weights: Mapping[int, Sequence[float]],
) -> dict[int, FloatArray]:
    """Return the weighted mean of log-odds.

    Parameters
    ----------
    odds : dict of int to sequence of array (H, W), or None
        Per class, one per view; None where a view says nothing.
    weights : dict of int to sequence of float
        From `view_weights`.

    Notes
    -----
    The logarithmic opinion pool of Genest and Zidek (Statistical Science 1, 1986).
    """
    found = {}
    for value, views in odds.items():
        pairs = [
            (w, o)
            for w, o in zip(weights[value], views, strict=True)
            if o is not None and w > 0
        ]
        total = sum(w for w, _ in pairs)
        if total:
            mean = sum(np.asarray(o, np.float32) * (w / total) for w, o in pairs)
            found[value] = np.asarray(mean, np.float32)
    return found
