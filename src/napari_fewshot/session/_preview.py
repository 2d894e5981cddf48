"""Live previews while the user clicks: the latest one wins, nobody waits.

A preview that is being computed is never stopped: it takes a tenth of a second, and
stopping costs more. What was asked for meanwhile is computed next; older requests are
forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_fewshot.data import Image, SupportSet
from napari_fewshot.inference import SegmentRequest, Summary
from napari_fewshot.session._edits import expect_query

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_fewshot._types import BoolArray
    from napari_fewshot.data import PromptSet
    from napari_fewshot.inference import PlaneResult
    from napari_fewshot.session._jobs import Executor
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
        How sure the network is of itself, in [0, 1].
    """

    plane: int
    value: int
    prompts: PromptSet
    mask: BoolArray = field(repr=False)
    score: float = 0.0


@dataclass(frozen=True, eq=False)
class _Wish:
    plane: int
    value: int
    prompts: PromptSet
    request: SegmentRequest


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
    """

    def __init__(
        self,
        executor: Executor,
        dispatch: Callable[[Callable[[], None]], None],
        on_preview: Callable[[Preview], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._executor = executor
        self._dispatch = dispatch
        self._on_preview = on_preview
        self._on_error = on_error
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
        self._next = _Wish(plane, value, given, request)
        if self._running is None:
            self._start()

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
        self._executor.submit(
            wish.request,
            on_plane=results.append,
            on_progress=lambda _: None,
            on_done=lambda outcome: self._dispatch(
                lambda: self._done(generation, wish, outcome, results)
            ),
        )

    def _done(
        self, generation: int, wish: _Wish, outcome: Any, results: list[PlaneResult]
    ) -> None:
        if generation != self._generation:
            return
        self._running = None
        if isinstance(outcome, Summary):
            found = results[0]
            score = float(found.scores.get(wish.value, 0.0))
            mask = found.labels == wish.value
            self._on_preview(Preview(wish.plane, wish.value, wish.prompts, mask, score))
        else:
            self._on_error(outcome)
        self._start()


def preview_request(
    document: Document, plane: int, value: int, given: PromptSet
) -> SegmentRequest:
    """Return a request for one class on one plane, with the supports that fit it.

    Raises
    ------
    DataError
        If there is no query.
    """
    query = expect_query(document)
    pixels = query.raw_plane(plane)
    single = Image.from_array(
        pixels,
        axes="yxc" if pixels.ndim == 3 else "yx",
        scale=query.pixel_size,
        name=query.name,
        channels=tuple(range(pixels.shape[-1])) if pixels.ndim == 3 else None,
    )
    # The plane is seen as it is within its stack.
    single.__dict__["window"] = query.window_of(plane)
    return SegmentRequest(
        query=single,
        support=fitting_supports(document, value),
        prompts={value: given},
        method="incontext",
        params={**QUICK, "fill_holes": True},
        keep_probabilities=False,
        device=document.device,
    )


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
