"""What a run says of its planes, told anew when they came from several runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_fewshot.inference._tally import Tally
from napari_fewshot.methods import Reliability

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from napari_fewshot.inference import SegmentRequest, Summary
    from napari_fewshot.session._dask_wire import PlaneNote


def retold(
    found: Summary,
    request: SegmentRequest,
    planes: Iterable[int],
    notes: Mapping[int, PlaneNote],
) -> Summary:
    """Return the summary of all planes, as an undivided run would tell it.

    Parameters
    ----------
    found : Summary
        Of some of them.
    request : SegmentRequest
        The undivided one.
    planes : iterable of int
        In its order.
    notes : dict of int to PlaneNote
        Of every plane that is there.
    """
    tally = Tally(found.reliability or Reliability())
    for plane in planes:
        note = notes.get(plane)
        if note is None:
            continue
        tally.digest.update(note.digest.encode())
        for value, score in note.scores.items():
            tally.add(value, score, note.present[value])
        tally.note(plane, note.scores, note.novelty)
    record = dict(found.provenance)
    query = dict(record["inputs"]["query"])
    asked = request.planes
    query["planes"] = None if asked is None else [int(p) for p in asked]
    query["fingerprint"] = tally.digest.hexdigest()
    record["inputs"] = {**record["inputs"], "query": query}
    return replace(
        found,
        scores=tally.scores(),
        score_intervals=tally.intervals(),
        present=tally.present,
        suggested=tally.suggested,
        provenance=record,
    )
