"""`Trials`: a comparison on its way, one candidate after the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.errors import Cancelled
from napari_fewshot.inference import SegmentRequest, Summary
from napari_fewshot.session._collect import Collector
from napari_fewshot.session._comparison import Candidate, Comparison, Tallies

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fewshot._types import LabelArray
    from napari_fewshot.data import Prediction
    from napari_fewshot.inference import PlaneResult
    from napari_fewshot.session._jobs import Job


@dataclass
class Trial:
    """The planes of one candidate as they come.

    Attributes
    ----------
    trials : Trials
        The comparison it belongs to.
    candidate : Candidate
    collector : Collector
        Its planes.
    labels : None
        They are no result yet: nothing is to be shown of them.
    """

    trials: Trials
    candidate: Candidate
    collector: Collector
    labels: None = None

    def add(self, result: PlaneResult) -> None:
        """Keep a plane, or a part of one."""
        self.collector.add(result)


@dataclass
class Trials:
    """A comparison on its way.

    Attributes
    ----------
    candidates : tuple of Candidate
    requests : list of SegmentRequest
        One each; they differ in method, model and parameters, and those of concepts
        in their supports.
    kept : dict of int to array (H, W)
        Accepted planes; they are the same in every candidate.
    executor : str
        For provenance.
    predictions, errors : dict
        What came so far, by name.
    jobs : dict of int to Job
        By number of the candidate.
    """

    candidates: tuple[Candidate, ...]
    requests: list[SegmentRequest]
    kept: Mapping[int, LabelArray]
    executor: str
    predictions: dict[str, Prediction] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)
    jobs: dict[int, Job] = field(default_factory=dict)
    tallies: Tallies = field(default_factory=Tallies)
    is_stopped: bool = False

    @property
    def done(self) -> int:
        """How many are over, with or without success."""
        return len(self.predictions) + len(self.errors)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.is_stopped or self.done == len(self.candidates)

    def next(self) -> tuple[SegmentRequest, Trial]:
        """Return the next request, and what gathers its planes."""
        request, candidate = self.requests[self.done], self.candidates[self.done]
        return request, Trial(self, candidate, Collector(request.query, kept=self.kept))

    def take(self, outcome: Any, trial: Trial) -> None:
        """Take what came of a candidate; one that failed does not stop the others."""
        if isinstance(outcome, Summary):
            found = trial.collector.prediction(outcome, self.executor)
            self._count(trial.candidate.name, found)
            self.predictions[trial.candidate.name] = found
        elif isinstance(outcome, Cancelled):
            self.is_stopped = True
        else:
            self.errors[trial.candidate.name] = outcome

    @property
    def planes(self) -> tuple[int, ...]:
        """The planes that are compared."""
        request = self.requests[0]
        every = range(request.query.n_planes)
        return tuple(every if request.planes is None else request.planes)

    def _count(self, name: str, found: Prediction) -> None:
        """Compare a candidate with those before it, when all of its parts are there.

        Planes come in parts if they are large, and twice where views are fused.
        """
        query = self.requests[0].query
        for plane in self.planes:
            key = query.label_key(plane)
            others = {n: np.asarray(p.labels[key]) for n, p in self.predictions.items()}
            self.tallies.add(name, plane, np.asarray(found.labels[key]), others)

    def comparison(self) -> Comparison:
        """Return what is known so far."""
        return Comparison(
            self.requests[0].query,
            self.planes,
            self.candidates,
            dict(self.predictions),
            dict(self.errors),
            self.tallies,
            self.is_over,
            {
                c.name: r.support
                for c, r in zip(self.candidates, self.requests, strict=True)
            },
        )

    def expect_any(self) -> Comparison:
        """Return what came, or raise why nothing did."""
        if self.is_stopped:
            raise Cancelled("Stopped as asked. What was finished before is kept.")
        if not self.predictions:
            raise next(iter(self.errors.values()))
        return self.comparison()
