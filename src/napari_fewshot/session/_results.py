"""`Results`: the verbs for what came out: accept, reject, refine.

A part of `Session` of its own: nothing here runs anything.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_fewshot.data import Image, Prediction, PromptSet
from napari_fewshot.errors import DataError
from napari_fewshot.session._collect import Collector
from napari_fewshot.session._editor import Editor
from napari_fewshot.session._edits import accept_plane, reject_planes
from napari_fewshot.session._sizing import with_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot.session._state import Document


class Results(Editor):
    """Holds the result that belongs to the document; `Session` builds on it."""

    # Labels of the result that were drawn anew while a slider moves.
    resized = Signal(object)
    # The version that a slider is still changing.
    _sized: Document | None = None

    @property
    def prediction(self) -> Prediction | None:
        """The result that holds; undo brings the one before back."""
        return self._history.current.result

    def accept(
        self, planes: Sequence[int] | None = None, labels: Any = None
    ) -> list[int]:
        """Accept planes of the result: they become supports and are not redone.

        Parameters
        ----------
        planes : sequence of int, optional
            Flat plane numbers; default every plane of the last prediction.
        labels : array, optional
            The labels as they are now, if they were edited since.

        Returns
        -------
        list of int
            Keys of the new support rows.
        """
        prediction, query = self._result()
        source = prediction.labels if labels is None else labels
        chosen = (
            self._predicted_planes() if planes is None else [int(p) for p in planes]
        )
        document = self._history.current
        keys = []
        for plane in chosen:
            found = np.asarray(source[query.label_key(plane)]).astype(np.int32)
            keys.append(next(self._keys))
            document = accept_plane(document, plane, found, keys[-1])
        self._push(document)
        return keys

    def reject(self, planes: Sequence[int] | int) -> None:
        """Reject planes: they are cleared and no longer supports."""
        prediction, query = self._result()
        chosen = [int(p) for p in np.atleast_1d(planes)]
        cleared = Collector(query)
        for plane in range(query.n_planes):
            if plane not in chosen:
                key = query.label_key(plane)
                cleared.labels[key] = prediction.labels[key]
        cleared_result = replace(prediction, labels=cleared.labels)
        document = reject_planes(self._history.current, chosen)
        self._push(replace(document, result=cleared_result))

    def set_target_area(self, percent: float, *, live: bool = False) -> None:
        """Say how much of the plane each class should cover.

        The masks of a result are drawn anew at once from its maps, which are kept of
        single planes; nothing is fitted or run. The next run uses the size, too.

        Parameters
        ----------
        percent : float
            Of the plane; 0 is as found.
        live : bool
            More is to come, as while a slider moves: all of it is one step of undo.

        Raises
        ------
        DataError
            If the method takes no size.
        ValueError
            If it is outside the limits.
        """
        before = self._history.current
        document = with_size(before, percent)
        if before is self._sized:
            self._history.amend(document)
        else:
            self._history.push(document)
        self._sized = self._history.current if live else None
        if not live:
            self._changed()
        elif document.result is not None and document.result is not before.result:
            # Views of all else follow when it comes to rest: that takes longer.
            self.resized.emit(document.result.labels)

    def refine(self, plane: int, value: int = 1) -> PromptSet:
        """Return the result of a plane as a mask prompt for tools that take one."""
        prediction, query = self._result()
        mask = np.asarray(prediction.labels[query.label_key(plane)]) == value
        return PromptSet(mask=mask)

    def worst_first(self) -> list[tuple[int, float]]:
        """Return ``(plane, expected Dice)`` of the result, worst first.

        Planes with nothing but committed objects come last, with NaN: nothing was
        predicted there.
        """
        document = self._history.current
        prediction = document.result
        if prediction is None:
            return []
        found = []
        if prediction.plane_scores:
            scores = np.stack(list(prediction.plane_scores.values()))
            found = [
                (plane, float(np.nanmin(scores[:, plane])))
                for plane in range(scores.shape[1])
                if not np.isnan(scores[:, plane]).all()
            ]
        by_hand = {row.plane for row in document.objects} - {p for p, _ in found}
        found.sort(key=lambda item: item[1])
        return found + [(plane, float("nan")) for plane in sorted(by_hand)]

    def _predicted_planes(self) -> list[int]:
        return sorted(plane for plane, _ in self.worst_first())

    def _result(self) -> tuple[Prediction, Image]:
        query = self._history.current.query
        prediction = self.prediction
        if prediction is None or query is None:
            raise DataError("There is no result yet. Run a segmentation first.")
        return prediction, query
