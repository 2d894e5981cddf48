"""`Comparison`: several methods and models on one query, and where they differ."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Concept
from napari_fewshot.errors import DataError
from napari_fewshot.inference._compare import (
    Overlap,
    areas,
    disagreement,
    pair_dice,
    rank_places,
)
from napari_fewshot.methods import get_method, make_params
from napari_fewshot.models import get_model_spec
from napari_fewshot.session._collect import MAX_IN_MEMORY
from napari_fewshot.session._concepts import mean_scores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from napari_fewshot._types import FloatArray, LabelArray
    from napari_fewshot.data import Image, Prediction, SupportSet

FLOAT_BYTES = 4
Pair = tuple[str, str]


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to segment the query.

    Attributes
    ----------
    name : str
        What it is called, unique among its rivals.
    method, model : str
    params : dict
        Parameters of the method.
    support : SupportSet, optional
        Its own, of a concept; None are those of the comparison.
    classes : dict of int to str
        Names of the classes of its own supports.
    """

    name: str
    method: str
    model: str = "auto"
    params: Mapping[str, Any] = field(default_factory=dict)
    support: SupportSet | None = field(default=None, repr=False)
    classes: Mapping[int, str] = field(default_factory=dict)


def make_candidates(
    methods: Sequence[Any],
    models: Sequence[str] | None = None,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    least: int = 2,
) -> tuple[Candidate, ...]:
    """Return the candidates that are meant, each once.

    Parameters
    ----------
    methods : sequence of str or (str, str)
        Methods, or pairs of method and model.
    models : sequence of str, optional
        Every method that uses a model is tried with each of these; default ``"auto"``.
    params : dict of str to dict, optional
        Parameters by method.
    least : int
        How many there have to be.

    Raises
    ------
    ModelError
        For an unknown method or model.
    DataError
        If fewer are left.
    TypeError, ValueError
        For unknown parameters or values outside their limits.
    """
    for method in params or {}:
        get_method(method)
    wanted: dict[Pair, None] = {}
    for item in methods:
        if isinstance(item, str):
            uses = get_method(item).spec.uses_model
            names = (models or ("auto",)) if uses else ("auto",)
            wanted.update(dict.fromkeys((item, name) for name in names))
        else:
            method, model = item
            uses = get_method(method).spec.uses_model
            wanted[(method, model if uses else "auto")] = None
    for method, model in wanted:
        get_model_spec(model)
        make_params(
            get_method(method).spec.params, dict((params or {}).get(method, {}))
        )
    if len(wanted) < least:
        raise DataError(
            "Choose two methods, models or concept files, or more, to compare them."
        )
    return tuple(
        Candidate(
            method if model == "auto" else f"{method} ({model})",
            method,
            model,
            dict((params or {}).get(method, {})),
        )
        for method, model in wanted
    )


@dataclass
class Tallies:
    """Pixels that are counted when a candidate is done.

    Attributes
    ----------
    areas : dict of str to Counter
        Pixels per class of every candidate.
    overlaps : dict of (str, str) to Overlap
        Of every pair, in the order of the candidates.
    """

    areas: dict[str, Counter[int]] = field(default_factory=dict)
    overlaps: dict[Pair, Overlap] = field(default_factory=dict)

    def add(
        self,
        name: str,
        plane: int,
        labels: LabelArray,
        others: Mapping[str, LabelArray],
    ) -> None:
        """Count a plane of a candidate.

        Parameters
        ----------
        name : str
            The candidate.
        plane : int
            Its number.
        labels : array (H, W)
            What the candidate found.
        others : dict of str to array (H, W)
            The same plane of the candidates before it.
        """
        self.areas.setdefault(name, Counter()).update(areas(labels))
        for other, theirs in others.items():
            pair = self.overlaps.setdefault((other, name), Overlap())
            pair.add(plane, theirs, labels)


@dataclass(frozen=True, eq=False)
class Comparison:
    """What came of several candidates on the same query.

    Attributes
    ----------
    query : Image
        What was segmented.
    planes : tuple of int
        The planes that were compared; accepted ones are not.
    candidates : tuple of Candidate
        All that were asked for, in that order.
    predictions : dict of str to Prediction
        Of those that are done, by name.
    errors : dict of str to Exception
        Of those that failed, by name.
    is_over : bool
        Whether nothing more will come.
    supports : dict of str to SupportSet
        What each learnt from, by name.
    """

    query: Image
    planes: tuple[int, ...]
    candidates: tuple[Candidate, ...]
    predictions: Mapping[str, Prediction]
    errors: Mapping[str, Exception]
    tallies: Tallies = field(default_factory=Tallies, repr=False)
    is_over: bool = True
    supports: Mapping[str, SupportSet] = field(default_factory=dict, repr=False)

    @property
    def classes(self) -> dict[int, str]:
        """Names of all classes."""
        names: dict[int, str] = {}
        for prediction in self.predictions.values():
            names.update(prediction.classes)
        return dict(sorted(names.items()))

    @property
    def best_first(self) -> list[str]:
        """Names of those that are done, highest expected Dice first."""
        return sorted(self.predictions, key=lambda name: -self.expected_dice(name))

    def candidate(self, name: str) -> Candidate:
        """Return a candidate by name.

        Raises
        ------
        DataError
            If there is none; the message names all.
        """
        for found in self.candidates:
            if found.name == name:
                return found
        names = ", ".join(c.name for c in self.candidates)
        raise DataError(f"{name!r} was not compared. Compared were: {names}.")

    def concept(self, name: str) -> Concept:
        """Return a candidate as a concept: its supports, method and scores.

        Parameters
        ----------
        name : str
            Of one that is done. Write it with ``nf.save_concept(path, concept)``.

        Raises
        ------
        DataError
            If there is none of this name, or it gave nothing.
        """
        candidate = self.candidate(name)
        if name not in self.predictions:
            raise DataError(f"{name!r} has no labels: it failed, or was not run.")
        found = self.predictions[name]
        return Concept(
            support=self.supports[name],
            classes=dict(found.classes),
            method=candidate.method,
            model=candidate.model,
            params=dict(candidate.params),
            weights_sha256=found.provenance.get("weights_sha256") or "",
            scores=mean_scores(found.support_scores),
            support_scores=found.support_scores,
            provenance=found.provenance,
        )

    def expected_dice(self, name: str) -> float:
        """Return the expected Dice of a candidate, mean over classes."""
        scores = list(self.predictions[name].scores.values())
        return float(np.mean(scores)) if scores else float("nan")

    def pair_dice(self, first: str, second: str) -> float:
        """Return the Dice of two candidates that are done, mean over classes.

        Parameters
        ----------
        first, second : str
            Their names. Where both are empty it is 1.
        """
        if first == second:
            return 1.0
        overlaps, sizes = self.tallies.overlaps, self.tallies.areas
        found = overlaps.get((first, second)) or overlaps.get((second, first))
        common = found.common if found is not None else Counter()
        mine, theirs = sizes.get(first, Counter()), sizes.get(second, Counter())
        return pair_dice(common, mine, theirs, self.classes)

    def agreement(self, name: str) -> float:
        """Return the mean Dice of a candidate with the others; NaN without any."""
        found = [self.pair_dice(name, o) for o in self.predictions if o != name]
        return float(np.mean(found)) if found else float("nan")

    @cached_property
    def disagreement(self) -> Any:
        """Share of pairs of candidates that differ, per pixel.

        float32 in [0, 1], the shape of the labels; a lazy dask array above 256 MB.
        Planes that were not compared are 0.
        """
        shape = self.query.label_shape
        if int(np.prod(shape)) * FLOAT_BYTES > MAX_IN_MEMORY:
            return self._lazy_disagreement()
        found = np.zeros(shape, np.float32)
        for plane in self.planes:
            found[self.query.label_key(plane)] = self.disagreement_plane(plane)
        return found

    def disagreement_plane(self, plane: int) -> FloatArray:
        """Return the disagreement on a plane, ``(H, W)`` float32."""
        key, done = self.query.label_key(plane), list(self.predictions.values())
        if plane not in self.planes or not done:
            return np.zeros(self.query.plane_shape, np.float32)
        return disagreement([np.asarray(p.labels[key]) for p in done])

    def places(self) -> list[tuple[int, int, int]]:
        """Return (plane, row, column) where candidates differ, most first."""
        done = combinations([c.name for c in self.candidates if self._is_done(c)], 2)
        overlaps = self.tallies.overlaps
        tiles = [overlaps[pair].tiles for pair in done if pair in overlaps]
        return rank_places(tiles, self.query.plane_shape)

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per candidate, highest expected Dice first, failed ones last.

        Columns: name, method, model, status (done, failed, waiting or not run),
        expected dice (mean over classes), score
        kind, seconds to learn, seconds to segment; per class expected dice, low and
        high (its 80 % interval) and area (pixels); dice with every other candidate;
        message. Expected Dice of another score kind than leave-one-out is a guess of
        the method about itself: compare it with its like only.
        """
        import pandas as pd

        rows = [self._row(name) for name in self.best_first]
        left = "not run" if self.is_over else "waiting"
        for candidate in self.candidates:
            if not self._is_done(candidate):
                error = self.errors.get(candidate.name)
                rows.append(
                    {
                        "name": candidate.name,
                        "method": candidate.method,
                        "model": candidate.model,
                        "status": left if error is None else "failed",
                        "message": "" if error is None else str(error),
                    }
                )
        return pd.DataFrame(rows)

    def _is_done(self, candidate: Candidate) -> bool:
        return candidate.name in self.predictions

    def _row(self, name: str) -> dict[str, Any]:
        prediction, candidate = self.predictions[name], self.candidate(name)
        record = prediction.provenance
        seconds = record.get("seconds", {})
        row: dict[str, Any] = {
            "name": name,
            "method": candidate.method,
            "model": record.get("model") or "",
            "status": "done",
            "expected dice": self.expected_dice(name),
            "score kind": record.get("score_kind", ""),
            "seconds to learn": seconds.get("fit", 0.0) + seconds.get("assess", 0.0),
            "seconds to segment": seconds.get("predict", 0.0),
        }
        for value, label in self.classes.items():
            low, high = prediction.score_intervals.get(value, (np.nan, np.nan))
            row[f"expected dice {label}"] = prediction.scores.get(value, np.nan)
            row[f"low {label}"], row[f"high {label}"] = low, high
            row[f"area {label}"] = self.tallies.areas.get(name, Counter())[value]
        for other in self.predictions:
            row[f"dice with {other}"] = self.pair_dice(name, other)
        row["message"] = prediction.choice
        return row

    def _lazy_disagreement(self) -> Any:
        import dask.array as da
        from dask import delayed

        shape = self.query.plane_shape
        planes = [
            da.from_delayed(delayed(self.disagreement_plane)(i), shape, np.float32)
            for i in range(self.query.n_planes)
        ]
        return da.stack(planes).reshape(self.query.label_shape)
