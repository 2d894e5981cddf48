"""Live previews while the user clicks: the latest one wins, nobody waits.

A preview that is being computed is never stopped: it takes a tenth of a second, and
stopping costs more. What was asked for meanwhile is computed next; older requests are
forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from napari_fewshot.data import Image, Progress, PromptSet, SupportSet
from napari_fewshot.errors import Cancelled
from napari_fewshot.inference import SegmentRequest, Summary
from napari_fewshot.models import PROMPTABLE, best_for_prompts, get_model_spec
from napari_fewshot.session._edits import expect_query

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_fewshot._types import BoolArray, LabelArray
    from napari_fewshot.inference import PlaneResult
    from napari_fewshot.session._jobs import Executor, Job
    from napari_fewshot.session._state import Document

# One look, no leave-one-out, no practice: a preview is about speed.
QUICK = {
    "look": "close",
    "mirror": "no",
    "leave_one_out": False,
    "practise": False,
}


@dataclass(frozen=True, eq=False)
class Preview:
    """What the prompts of the moment select.

    Attributes
    ----------
    plane, value : int
        Where, and which class.
    prompts : PromptSet
        In pixels of the plane.
    mask : array (H, W) bool
        The object.
    score : float
        How sure the model is of itself, in [0, 1].
    candidates : array (M, H, W) bool
        Masks that the prompts may mean, the best first; empty if they are clear.
    candidate_scores : tuple of float
        What the model expects of each.
    instances : array (H, W), optional
        Number of the object of every pixel, where there are several.
    """

    plane: int
    value: int
    prompts: PromptSet
    mask: BoolArray = field(repr=False)
    score: float = 0.0
    candidates: BoolArray | None = field(default=None, repr=False)
    candidate_scores: tuple[float, ...] = ()
    instances: LabelArray | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class _Wish:
    plane: int
    value: int
    prompts: PromptSet
    request: SegmentRequest
    job: list[Job] = field(default_factory=list)


class Previewer:
    """Computes previews one at a time, the latest wish next.

    Parameters
    ----------
    executor : Executor
        Who computes.
    dispatch : callable
        Runs a function on the thread of the owner.
    on_preview : callable
        Receives every `Preview` that is still wanted.
    on_error : callable
        Receives what went wrong.
    on_progress : callable
        Receives the progress of what takes long: encoding a plane.
    """

    def __init__(
        self,
        executor: Executor,
        dispatch: Callable[[Callable[[], None]], None],
        on_preview: Callable[[Preview], None],
        on_error: Callable[[Exception], None],
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._executor = executor
        self._dispatch = dispatch
        self._on_preview = on_preview
        self._on_error = on_error
        self._on_progress = on_progress
        self._running: _Wish | None = None
        self._next: _Wish | None = None
        self._generation = 0

    @property
    def is_busy(self) -> bool:
        """Whether a preview is being computed."""
        return self._running is not None

    def ask(self, document: Document, plane: int, value: int, given: PromptSet) -> None:
        """Ask for a preview; it takes the place of one that has not begun.

        Parameters
        ----------
        document : Document
            For query and supports.
        plane, value : int
            Where, and which class.
        given : PromptSet
            In pixels of the plane, without z.
        """
        request = preview_request(document, plane, value, given)
        self._put(_Wish(plane, value, given, request))

    def warm(self, document: Document, plane: int) -> None:
        """Encode a plane before anything is asked there, if the model needs long.

        Parameters
        ----------
        document : Document
            For query and model.
        plane : int
            Where the next prompts will be.
        """
        if not model_is_promptable(document):
            return
        if self._next is None and (self._running is None or self._is_elsewhere(plane)):
            request = preview_request(document, plane, 0, PromptSet())
            request = replace(request, task="encode", support=SupportSet([]))
            self._put(_Wish(plane, 0, PromptSet(), request))

    def _put(self, wish: _Wish) -> None:
        self._next = wish
        if self._running is None:
            self._start()
        elif self._is_elsewhere(wish.plane):
            # Encoding a plane that was left takes seconds that nobody needs.
            for job in self._running.job:
                job.cancel(urgent=False)

    def _is_elsewhere(self, plane: int) -> bool:
        return self._running is not None and self._running.plane != plane

    def forget(self) -> None:
        """Drop what was asked for; a preview on its way is not delivered."""
        self._next, self._running = None, None
        self._generation += 1

    def _start(self) -> None:
        wish, self._next = self._next, None
        if wish is None:
            return
        self._running = wish
        generation = self._generation
        results: list[PlaneResult] = []
        job = self._executor.submit(
            wish.request,
            on_plane=results.append,
            on_progress=lambda p: self._dispatch(lambda: self._report(generation, p)),
            on_done=lambda outcome: self._dispatch(
                lambda: self._done(generation, wish, outcome, results)
            ),
        )
        wish.job.append(job)

    def _report(self, generation: int, progress: Progress) -> None:
        if generation == self._generation and self._running is not None:
            self._on_progress(progress)

    def _done(
        self, generation: int, wish: _Wish, outcome: Any, results: list[PlaneResult]
    ) -> None:
        if generation != self._generation:
            return
        self._running = None
        if isinstance(outcome, Summary) and results:
            self._on_preview(_preview_of(wish, results[0]))
        elif isinstance(outcome, Summary):
            self._on_progress(Progress("Encoded", 1, 1))
        elif not isinstance(outcome, (Summary, Cancelled)):
            self._on_error(outcome)
        self._start()


def _preview_of(wish: _Wish, found: PlaneResult) -> Preview:
    return Preview(
        wish.plane,
        wish.value,
        wish.prompts,
        found.labels == wish.value,
        float(found.scores.get(wish.value, 0.0)),
        found.candidates.get(wish.value),
        tuple(found.candidate_scores.get(wish.value, ())),
        found.instances,
    )


def preview_request(
    document: Document, plane: int, value: int, given: PromptSet
) -> SegmentRequest:
    """Return a request for one class on one plane, with the supports that fit it.

    Raises
    ------
    DataError
        If there is no query.
    """
    return SegmentRequest(
        query=single_plane(expect_query(document), plane),
        support=fitting_supports(document, value),
        prompts={} if given.is_empty else {value: given},
        method="incontext",
        model=document.model if model_is_promptable(document) else "auto",
        params={**QUICK, "fill_holes": True},
        keep_probabilities=False,
        device=document.device,
        checkpoint=document.checkpoint if model_is_promptable(document) else None,
    )


def single_plane(query: Image, plane: int) -> Image:
    """Return one plane of an image, seen as it is within its stack."""
    pixels = query.raw_plane(plane)
    single = Image.from_array(
        pixels,
        axes="yxc" if pixels.ndim == 3 else "yx",
        scale=query.pixel_size,
        name=query.name,
        channels=tuple(range(pixels.shape[-1])) if pixels.ndim == 3 else None,
    )
    single.__dict__["window"] = query.window_of(plane)
    return single


def model_is_promptable(document: Document) -> bool:
    """Whether the chosen model answers to prompts by itself."""
    name = document.model
    if name == "auto" and document.checkpoint is None:
        name = best_for_prompts()
    return get_model_spec(name).task == PROMPTABLE


def fitting_supports(document: Document, value: int) -> SupportSet:
    """Return the supports that say something of a class and have the query's channels.

    Other classes are left out, so that a preview costs one class.
    """
    query = expect_query(document)
    found = []
    for row in document.rows:
        support = row.support
        if row.muted or support.source.n_channels != query.n_channels:
            continue
        if value in support.label_values or support.is_negative:
            found.append(support)
    chosen = SupportSet(found)
    return chosen if value in chosen.label_values else SupportSet([])
