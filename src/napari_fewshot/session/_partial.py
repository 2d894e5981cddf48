"""What a run had found when it stopped: a result like any other, as far as it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.inference import Summary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fewshot.data import Prediction
    from napari_fewshot.inference import SegmentRequest
    from napari_fewshot.session._collect import Collector

# Rows of a large plane that are read at once.
STRIP = 1024


def prediction_of(
    outcome: object,
    request: SegmentRequest | None,
    collector: Collector,
    executor: str,
) -> Prediction | None:
    """Return what a run found, however it ended; None if that is nothing.

    Parameters
    ----------
    outcome : Summary or Exception
        How it ended.
    request : SegmentRequest, optional
        What was asked.
    collector : Collector
        What has arrived.
    executor : str
        Name of who computed.
    """
    if isinstance(outcome, Summary):
        return collector.prediction(outcome, executor)
    if request is None:
        return None
    return partial_prediction(request, collector, str(outcome), executor)


def partial_prediction(
    request: SegmentRequest, collector: Collector, why: str, executor: str
) -> Prediction | None:
    """Return the planes that were finished before a run stopped.

    Scores are means over those planes, intervals hold 80 % of them; planes without one
    have NaN in ``plane_scores``. The provenance says ``"stopped"`` and how many planes
    were done.

    Parameters
    ----------
    request : SegmentRequest
        What was asked.
    collector : Collector
        What has arrived.
    why : str
        Why it stopped, in words for the user.
    executor : str
        Name of who computed.

    Returns
    -------
    Prediction or None
        None if nothing was finished.
    """
    done = finished_planes(collector.plane_scores)
    if not done:
        return None
    scores = {v: float(np.nanmean(s)) for v, s in collector.plane_scores.items()}
    query = request.query
    found = {v: _is_in(collector, v, done) for v in scores}
    record: dict[str, Any] = {
        "stopped": why,
        "planes_done": len(done),
        "method": request.method,
        "model": request.model,
        "score_kind": "uncalibrated",
        "notes": [f"{_done(request, collector, len(done))} {why}"],
        "inputs": {"query": {"name": query.name, "shape": list(query.shape)}},
        "seconds": {},
    }
    summary = Summary(
        classes={v: _name(request, v) for v in scores},
        scores=scores,
        score_intervals={
            v: (float(low), float(high))
            for v, s in collector.plane_scores.items()
            for low, high in [np.nanquantile(s, (0.1, 0.9))]
        },
        present=found,
        provenance=record,
    )
    return collector.prediction(summary, executor)


def finished_planes(plane_scores: Mapping[int, Any]) -> list[int]:
    """Return the planes that have a score of any class."""
    if not plane_scores:
        return []
    known = ~np.isnan(np.stack(list(plane_scores.values()))).all(0)
    return [int(p) for p in np.flatnonzero(known)]


def _done(request: SegmentRequest, collector: Collector, count: int) -> str:
    wanted = request.query.n_planes
    if request.planes is not None:
        wanted = len(request.planes)
    if collector.in_parts:
        return f"A part was done, of {count} of {wanted} planes."
    return f"{count} of {wanted} planes were done."


def _is_in(collector: Collector, value: int, planes: list[int]) -> bool:
    """Whether a class is on planes; large ones are read in strips."""
    query, labels = collector.query, collector.labels
    rows, columns = query.plane_shape
    tops = range(0, rows, STRIP)
    strips = [(top, 0, min(top + STRIP, rows), columns) for top in tops]
    return any(
        (np.asarray(labels[query.label_key(plane, strip)]) == value).any()
        for plane in planes
        for strip in strips
    )


def _name(request: SegmentRequest, value: int) -> str:
    names = {**request.support.class_names, **dict(request.classes)}
    return names.get(value, f"class {value}")
