"""The summary of a volume: that of its planes, with what the volume changed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_fewshot.inference.volumes._fuse import view_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot.inference._request import Summary
    from napari_fewshot.inference.volumes._plan import VolumePlan
    from napari_fewshot.ops.linking import Tracks


def summarise(
    plan: VolumePlan,
    summaries: Sequence[Summary],
    tracks: Tracks | None,
    seen: tuple[dict[int, bool], dict[int, float]] | None,
) -> Summary:
    """Return the summary of a volume.

    Parameters
    ----------
    plan : VolumePlan
        How it was segmented.
    summaries : sequence of Summary
        Of the parts, the planes themselves first.
    tracks : Tracks, optional
        Of linked objects.
    seen : (dict of int to bool, dict of int to float), optional
        Where labels were drawn anew: which classes are there, and their scores.
    """
    first = summaries[0]
    provenance = dict(first.provenance)
    if len(summaries) > 1:
        provenance |= _of_views(plan, summaries)
    present, scores = seen or (dict(first.present), dict(first.scores))
    intervals = {}
    for value, (low, high) in first.score_intervals.items():
        # The interval keeps its width around the new score.
        shift = scores.get(value, 0.0) - first.scores.get(value, 0.0)
        intervals[value] = (
            max(0.0, min(1.0, low + shift)),
            max(0.0, min(1.0, high + shift)),
        )
    return replace(
        first,
        present=present,
        scores=scores,
        score_intervals=intervals,
        classes={v: n for s in reversed(summaries) for v, n in s.classes.items()},
        provenance=provenance,
        tracks=tracks,
    )


def _of_views(plan: VolumePlan, summaries: Sequence[Summary]) -> dict[str, Any]:
    names = [part.name for part in plan.parts]
    seconds = [dict(s.provenance.get("seconds", {})) for s in summaries]
    weights = {
        str(value): dict(zip(names, (round(w, 4) for w in views), strict=True))
        for value, views in view_weights(summaries).items()
    }
    total: dict[str, float] = {}
    for part in seconds:
        for stage, spent in part.items():
            total[stage] = round(total.get(stage, 0.0) + spent, 4)
    views = {"seconds": dict(zip(names, seconds, strict=True)), "weights": weights}
    return {"views": views, "seconds": total}
