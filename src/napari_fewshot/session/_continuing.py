"""Runs over a part of an image: what was found elsewhere before stays.

Labels outside of the part are never written to. Objects of the part get new numbers,
but one that goes on in an object outside takes over the number of that one, so that
objects are not cut where the part ends.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Continued, strips
from napari_fewshot.session._collect import Collector, allocate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_fewshot._types import AnyArray
    from napari_fewshot.data import Prediction, Region
    from napari_fewshot.inference import PlaneResult, SegmentRequest, Summary
    from napari_fewshot.session._state import Document

# Rows that are read at once.
STRIP = 1024


def collector_of(document: Document, request: SegmentRequest) -> Collector:
    """Return what gathers a run: beside what was found before, if it is over a part.

    Parameters
    ----------
    document : Document
        The version before the run. Its result is gone on from where it is of the same
        image, and its classes are still there.
    request : SegmentRequest
        The run.
    """
    earlier = document.result
    if (
        request.region is None
        or earlier is None
        or tuple(earlier.labels.shape) != request.query.label_shape
        or not set(earlier.classes) <= set(document.classes.names)
    ):
        return Collector(request.query, kept=document.accepted)
    return Continuing(document, request, earlier)


class Continuing(Collector):
    """Gathers a run over a part of an image; elsewhere the earlier result holds.

    Parameters
    ----------
    document : Document
        Its accepted planes are kept; objects that were clicked are taken out, because
        they are painted again at the end.
    request : SegmentRequest
        With a region.
    earlier : Prediction
        Of the same image. Its arrays are not written to.
    """

    def __init__(
        self, document: Document, request: SegmentRequest, earlier: Prediction
    ) -> None:
        super().__init__(request.query)
        self._request, self._earlier = request, earlier
        self.labels = _going_on(earlier.labels, self.labels)
        self._base: int | None = None
        self._planes: set[int] = set()
        for row in reversed(document.objects):
            box = [n for side in row.window for n in (side.start, side.stop)]
            key = self._key(row.plane, (box[0], box[2], box[1], box[3]))
            part = np.array(self.labels[key])
            mine = row.mask & (part == row.value)
            part[mine] = row.before[mine]
            self.labels[key] = part
        for plane, labels in document.accepted.items():
            key = request.query.label_key(plane)
            if not np.array_equal(np.asarray(self.labels[key]), labels):
                self.labels[key] = labels

    def add(self, result: PlaneResult) -> None:
        """Store a plane or a part of it, as far as it lies in the part that is asked.

        Parameters
        ----------
        result : PlaneResult
            Of the run.
        """
        whole = (0, 0, *self.query.plane_shape)
        given, wanted = result.region or whole, self._request.region or whole
        region = (
            max(given[0], wanted[0]),
            max(given[1], wanted[1]),
            min(given[2], wanted[2]),
            min(given[3], wanted[3]),
        )
        self._planes.add(result.plane)
        if region[0] >= region[2] or region[1] >= region[3]:
            # Nothing of it is shown, but its score counts.
            region = (wanted[0], wanted[1], wanted[0], wanted[1])
        self._prepare(result)
        maps = {
            v: m for v, m in result.probabilities.items() if v in self.probabilities
        }
        place = self._key(result.plane, region)

        def shown(new: AnyArray, old: Any) -> AnyArray:
            top, left = given[0], given[1]
            new = new[
                region[0] - top : region[2] - top, region[1] - left : region[3] - left
            ]
            kept = self._outside(result.plane, region)
            return new if kept is None else np.where(kept, np.asarray(old[place]), new)

        if result.instances is not None:
            self.instances[place] = shown(self._unique(result), self.instances)
        elif self.instances is not None:
            nothing = np.zeros(result.labels.shape, np.int32)
            self.instances[place] = shown(nothing, self.instances)
        super().add(
            replace(
                result,
                region=region,
                labels=shown(result.labels, self.labels),
                instances=None,
                probabilities={
                    v: shown(m, self.probabilities[v]) for v, m in maps.items()
                },
            )
        )

    def _prepare(self, result: PlaneResult) -> None:
        """Let maps and object numbers go on from the earlier ones, the first time."""
        earlier, shape = self._earlier, self.query.label_shape
        for value in result.probabilities:
            # A map of the part alone would be empty elsewhere: better none.
            if value not in self.probabilities and value in earlier.probabilities:
                own = allocate(shape, None, "float16")
                self.probabilities[value] = _going_on(earlier.probabilities[value], own)
        has_numbers = result.instances is not None or earlier.instances is not None
        if self.instances is None and has_numbers:
            own = allocate(shape, None)
            before = earlier.instances
            self.instances = own if before is None else _going_on(before, own)

    def _unique(self, result: PlaneResult) -> Any:
        """Return object numbers above all that there were."""
        if self._base is None:
            before = self._earlier.instances
            self._base = 0 if before is None else _top(before)
            self._top = self._base
        if result.linked:
            found: Any = result.instances
            return np.where(found > 0, found + self._base, 0)
        return super()._unique(result)

    def prediction(self, summary: Summary, executor: str) -> Prediction:
        """Return the earlier result with the part exchanged.

        Parameters
        ----------
        summary : Summary
            Of the run.
        executor : str
            Who computed.
        """
        earlier, request = self._earlier, self._request
        if self.instances is not None:
            for plane in sorted(self._planes):
                self._join(plane)
        found = super().prediction(summary, executor)
        top, left, bottom, right = request.region or (0, 0, 0, 0)
        note = (
            f"Only rows {top} to {bottom - 1} and columns {left} to {right - 1} were "
            "segmented; elsewhere the earlier result was kept."
        )
        before = {
            k: earlier.provenance[k]
            for k in ("method", "model", "region", "before")
            if k in earlier.provenance
        }
        plane_scores = {
            value: _filled(scores, earlier.plane_scores.get(value))
            for value, scores in {**earlier.plane_scores, **self.plane_scores}.items()
        }
        novelty: Any = found.plane_novelty
        if earlier.plane_novelty is not None:
            novelty = _filled(
                earlier.plane_novelty if novelty is None else novelty,
                earlier.plane_novelty,
            )
        return replace(
            found,
            classes={**earlier.classes, **found.classes},
            scores=self._scores(found, plane_scores),
            score_intervals={**earlier.score_intervals, **found.score_intervals},
            plane_scores=plane_scores,
            plane_novelty=novelty,
            present=self._present(found),
            # Tracks of the part do not know those outside.
            tracks=None,
            provenance={
                **found.provenance,
                "region": list(request.region or ()),
                "before": before,
                "notes": [*found.provenance.get("notes", ()), note],
            },
        )

    def _scores(
        self, found: Prediction, plane_scores: dict[int, Any]
    ) -> dict[int, float]:
        """Return the mean over planes where other planes were kept, too."""
        scores = {**self._earlier.scores, **found.scores}
        for value, planes in plane_scores.items():
            known = np.flatnonzero(~np.isnan(planes))
            if set(known.tolist()) - self._planes:
                scores[value] = float(np.mean(planes[known]))
        return scores

    def _present(self, found: Prediction) -> dict[int, bool]:
        present = {**self._earlier.present, **found.present}
        if isinstance(self.labels, np.ndarray):
            return {v: bool((self.labels == v).any()) for v in present}
        # Huge results are not read for it: what was there may be elsewhere, still.
        return {v: p or self._earlier.present.get(v, False) for v, p in present.items()}

    def _outside(self, plane: int, region: Region) -> Any:
        """Return which pixels of a region a mask leaves out; None: none."""
        mask: Any = self._request.inside
        if mask is None:
            return None
        is_whole = tuple(mask.shape) == self.query.label_shape
        key = self._key(plane, region) if is_whole else _window(region)
        return np.asarray(mask[key]) == 0

    def _key(self, plane: int, region: Region) -> tuple[Any, ...]:
        return self.query.label_key(plane, region)

    # -- objects over the border -----------------------------------------------------

    def _join(self, plane: int) -> None:
        """Give objects of the part the number of what they go on in outside.

        Of several, the one counts that shares the longest stretch of the border; an
        object outside gives its number away once.
        """
        lengths: dict[tuple[int, int], int] = {}
        for inner, outer in self._borders():
            ids = [
                np.asarray(self.instances[self._key(plane, r)]) for r in (inner, outer)
            ]
            kinds = [
                np.asarray(self.labels[self._key(plane, r)]) for r in (inner, outer)
            ]
            alike = (kinds[0] == kinds[1]) & (ids[0] > 0) & (ids[1] > 0)
            pairs = np.stack([ids[0][alike], ids[1][alike]], 1)
            for pair, count in zip(
                *np.unique(pairs, axis=0, return_counts=True), strict=True
            ):
                at = int(pair[0]), int(pair[1])
                lengths[at] = lengths.get(at, 0) + int(count)
        named, given_away, base = dict[int, int](), set[int](), self._base or 0
        for new, old in sorted(lengths, key=lambda p: (-lengths[p], p)):
            if new > base >= old and new not in named and old not in given_away:
                named[new] = old
                given_away.add(old)
        if named:
            self._rename(plane, named)

    def _rename(self, plane: int, named: dict[int, int]) -> None:
        top, left, bottom, right = self._request.region or (0, 0, 0, 0)
        new = np.array(sorted(named))
        old = np.array([named[n] for n in new.tolist()])
        for row in range(top, bottom, STRIP):
            key = self._key(plane, (row, left, min(row + STRIP, bottom), right))
            ids = np.array(self.instances[key])
            at = np.minimum(np.searchsorted(new, ids), len(new) - 1)
            hit = new[at] == ids
            if hit.any():
                ids[hit] = old[at[hit]]
                self.instances[key] = ids

    def _borders(self) -> Iterator[tuple[Region, Region]]:
        """Yield the last pixels of the part and their neighbours outside, per side."""
        rows, columns = self.query.plane_shape
        top, left, bottom, right = self._request.region or (0, 0, 0, 0)
        if top > 0:
            yield (top, left, top + 1, right), (top - 1, left, top, right)
        if bottom < rows:
            yield (bottom - 1, left, bottom, right), (bottom, left, bottom + 1, right)
        if left > 0:
            yield (top, left, bottom, left + 1), (top, left - 1, bottom, left)
        if right < columns:
            yield (top, right - 1, bottom, right), (top, right, bottom, right + 1)


def _going_on(before: Any, own: Any) -> Any:
    """Return an array that begins as another one and may be written to."""
    if isinstance(own, np.ndarray):
        own[...] = np.asarray(before)
        return own
    return Continued(before, own)


def _window(region: Region) -> tuple[slice, slice]:
    return slice(region[0], region[2]), slice(region[1], region[3])


def _filled(scores: Any, before: Any) -> Any:
    if before is None:
        return scores
    return np.where(np.isnan(scores), before, scores).astype(np.float32)


def _top(numbers: Any) -> int:
    """Return the highest object number; large arrays are read in strips."""
    read = strips(numbers, STRIP * numbers.shape[-1])
    return max((int(part.max(initial=0)) for _, part in read), default=0)
