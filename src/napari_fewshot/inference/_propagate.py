"""`run_propagation`: from annotated planes to the others, one plane in memory.

Planes are visited from the first to the last and then, for what comes before an
annotated plane, from the last to the first; a plane is encoded at most once each way.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.errors import ModelError
from napari_fewshot.inference._propagation import (
    AUTO,
    CORRECTED,
    ENDED,
    INTERPOLATE,
    INTERPOLATED,
    MEMORY,
    PROJECTED,
    REMEMBERED,
    ObjectPlane,
    Planes,
    Propagation,
    Route,
    route_of,
)
from napari_fewshot.methods import sigmoid
from napari_fewshot.methods.following import projection_mode
from napari_fewshot.methods.projection import ending, overlap, project
from napari_fewshot.ops import soft_dice
from napari_fewshot.ops.interpolate import interpolate_mask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.data import Hooks, Image, PlanePrompts
    from napari_fewshot.methods.following import Follower

STOP_IOU = 0.5
# A correction that has less than this in common with the interpolated shape is none:
# the shape stays. Asking for more was seen to cost the network good corrections.
LEAST_AGREEMENT = 0.3
# Objects that are asked for together; each holds a mask of the size of the plane.
TOGETHER = 32


@dataclass(frozen=True, eq=False)
class PropagationRequest:
    """What to carry over which planes.

    Attributes
    ----------
    query : Image
        The stack, or several: one per time point.
    state : Propagation
        Annotated planes, and what is already known; the rest is filled in.
    follower : Follower, optional
        Asks the model; None for ``"interpolate"``.
    mode : str
        One of `PROPAGATION_MODES`, but not ``"auto"`` with a model that has a memory.
    planes : sequence of int, optional
        Planes to fill in, in order; None is all.
    stop_iou : float
        An object ends where it has less than this intersection over union with itself
        on the plane before.
    """

    query: Image
    state: Propagation
    follower: Follower | None
    mode: str = AUTO
    planes: Sequence[int] | None = None
    stop_iou: float = STOP_IOU


def resolve_mode(mode: str, follower: Follower | None) -> str:
    """Return the mode for a model: ``"auto"`` takes its memory if it has one.

    Raises
    ------
    ModelError
        If the model can't do what was asked.
    """
    if follower is None:
        return INTERPOLATE
    name = follower.model.spec.name
    has_memory = hasattr(follower.model, "propagate")
    if mode == AUTO and has_memory:
        return MEMORY
    if mode == MEMORY and not has_memory:
        raise ModelError(
            f"{name} has no memory of planes. Choose mode 'auto', or a SAM 2 model."
        )
    if "mask" in mode.split("+") and not follower.takes_mask:
        raise ModelError(f"{name} takes no mask as a prompt. Choose the mode 'box'.")
    return mode


def run_propagation(
    request: PropagationRequest,
    hooks: Hooks,
    on_plane: Callable[[int], None] = lambda plane: None,
) -> dict[str, float]:
    """Fill in the planes of all objects that are not known yet.

    Parameters
    ----------
    request : PropagationRequest
        Its state is filled in; annotated planes are left as they are.
    hooks : Hooks
        Progress and cancelling; what was done before stays in the state.
    on_plane : callable
        Called with every plane on which something was missing, when it is complete.

    Returns
    -------
    dict of str to float
        Seconds per stage: ``"encode"``, ``"follow"``.

    Raises
    ------
    DataError
        If a plane can't be read.
    Cancelled
        If the hooks say so.
    """
    return _Run(request, hooks, on_plane).go()


@dataclass(frozen=True, eq=False)
class _Ask:
    """What the model is asked about an object, and the shape that is expected."""

    value: int
    route: Route
    shape: BoolArray
    prompts: PlanePrompts


@dataclass
class _Run:
    """One run: what is to be done, and what is kept from plane to plane."""

    request: PropagationRequest
    hooks: Hooks
    on_plane: Callable[[int], None]
    # Per object: interpolated shapes in order of the planes, and what neighbours teach.
    shapes: dict[int, tuple[Route, Iterator[FloatArray]]] = field(default_factory=dict)
    lessons: dict[int, tuple[Route, Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(
        default_factory=lambda: {"encode": 0.0, "follow": 0.0}
    )

    def __post_init__(self) -> None:
        """List what is missing, and where it comes from."""
        self.state, self.mode = self.request.state, self.request.mode
        wanted = self.request.planes
        every = range(self.request.query.n_planes) if wanted is None else wanted
        self.missing: dict[int, dict[int, Route]] = {}
        for plane in sorted(every):
            routes = {
                value: route_of(self.state, value, plane, self.mode)
                for value, known in self.state.objects.items()
                if plane not in known
            }
            if routes:
                self.missing[plane] = routes
        self.total, self.start = len(self.missing), time.perf_counter()

    def go(self) -> dict[str, float]:
        """Visit the planes from the first to the last and back."""
        if self.mode == MEMORY:
            self._remember()
        for plane in sorted(self.missing):
            self._visit(plane, "absent", "between", "forward")
        for plane in sorted(self.missing, reverse=True):
            self._visit(plane, "backward")
        self.hooks.report("Done", self.total, self.total, 0.0)
        return self.seconds

    def _visit(self, plane: int, *kinds: str) -> None:
        """Do the objects on a plane that come from one side."""
        self._tell(plane)
        here = self.missing[plane]
        todo = [(v, route) for v, route in here.items() if route.kind in kinds]
        asked = any(self._asks(v, plane, route) for v, route in todo)
        seen = self._look(plane) if asked else None
        begun = time.perf_counter()
        for first in range(0, len(todo), TOGETHER):
            asks = []
            for value, route in todo[first : first + TOGETHER]:
                found = self._prepared(value, plane, route, seen)
                if isinstance(found, _Ask):
                    asks.append(found)
                else:
                    self._keep(value, plane, found)
            self._ask(plane, seen, asks)
        self.seconds["follow"] += time.perf_counter() - begun

    def _prepared(
        self, value: int, plane: int, route: Route, seen: Any
    ) -> ObjectPlane | _Ask:
        """Return an object on a plane, or what the model must be asked for it."""
        if route.kind == "absent":
            return self._ended("no annotated plane shows it on this side")
        if route.kind == "between":
            return self._between(value, plane, route, seen)
        return self._projected(value, plane, route, seen)

    def _tell(self, plane: int) -> None:
        spent, done = time.perf_counter() - self.start, self.total - len(self.missing)
        left = spent / done * len(self.missing) if done else None
        self.hooks.report(f"Plane {plane + 1}", done, self.total, left)

    def _keep(self, value: int, plane: int, found: ObjectPlane) -> None:
        """Store an object; the last one completes its plane."""
        self.state.put(value, plane, found)
        del self.missing[plane][value]
        if not self.missing[plane]:
            del self.missing[plane]
            self.on_plane(plane)

    def _ended(self, why: str) -> ObjectPlane:
        return ObjectPlane.of(np.zeros(self.state.shape, bool), ENDED, np.nan, why)

    # -- asking the model --------------------------------------------------------------

    @property
    def follower(self) -> Follower:
        """Who is asked; where nobody is, nobody gets here."""
        if self.request.follower is None:
            raise ModelError("This way of propagating needs a model; choose one.")
        return self.request.follower

    def _asks(self, value: int, plane: int, route: Route) -> bool:
        """Whether the model will be asked: not for objects that have ended."""
        if self.request.follower is None or route.kind == "absent":
            return False
        if route.kind == "between":
            return self.mode != INTERPOLATE
        return self.state.is_present(value, self._source(value, plane, route))

    def _look(self, plane: int) -> Any:
        """Show a plane to the model; None for a blank one."""
        begun = time.perf_counter()
        image = self.request.query.plane(plane)
        if (image == image[:1, :1]).all():
            return None
        seen = self.follower.look(image, self.hooks)
        self.seconds["encode"] += time.perf_counter() - begun
        return seen

    def _ask(self, plane: int, seen: Any, asks: list[_Ask]) -> None:
        """Let the model answer for several objects, and keep what it finds."""
        if not asks:
            return
        told = [(self._lesson(a.value, a.route), a.prompts) for a in asks]
        answers = self.follower.follow(seen, told, self.hooks)
        for ask, (logits, score) in zip(asks, answers, strict=True):
            self._keep(ask.value, plane, self._judged(ask, plane, logits > 0, score))

    def _lesson(self, value: int, route: Route) -> Any:
        """Return what the annotated neighbours teach about an object."""
        known, lesson = self.lessons.get(value, (None, None))
        if known is None or (known.before, known.after) != (route.before, route.after):
            planes = [p for p in (route.before, route.after) if p is not None]
            lesson = self.follower.learn(
                [self.request.query.plane(p) for p in planes],
                [self.state.mask(value, p) for p in planes],
            )
            self.lessons[value] = route, lesson
        return lesson

    def _judged(
        self, ask: _Ask, plane: int, found: BoolArray, score: float
    ) -> ObjectPlane:
        """Take an answer or not, by the shape that was expected."""
        if ask.route.kind == "between":
            if overlap(found, ask.shape) >= LEAST_AGREEMENT:
                return ObjectPlane.of(found, CORRECTED, score)
            return self._interpolated(ask.value, plane, ask.route, ask.shape)
        why = ending(ask.shape, found, self.request.stop_iou)
        return self._ended(why) if why else ObjectPlane.of(found, PROJECTED, score)

    # -- between two annotated planes --------------------------------------------------

    def _between(
        self, value: int, plane: int, route: Route, seen: Any
    ) -> ObjectPlane | _Ask:
        """Interpolate, and let the model correct it."""
        shape = next(self._shapes(value, plane, route)) > 0
        if seen is not None and shape.any():
            prompts = project(shape, self.follower.corrects)
            return _Ask(value, route, shape, prompts)
        return self._interpolated(value, plane, route, shape)

    def _interpolated(
        self, value: int, plane: int, route: Route, shape: BoolArray
    ) -> ObjectPlane:
        """Keep the shape; it is as good as the nearest annotated one is like it."""
        ends = [p for p in (route.before, route.after) if p is not None]
        nearest = min(ends, key=lambda p: abs(p - plane))
        iou = overlap(shape, self.state.mask(value, nearest))
        return ObjectPlane.of(shape, INTERPOLATED, 2 * iou / (1 + iou))

    def _shapes(self, value: int, plane: int, route: Route) -> Iterator[FloatArray]:
        """Return the interpolated shapes of an object, from this plane on."""
        known, shapes = self.shapes.get(value, (None, iter(())))
        if known == route or route.before is None or route.after is None:
            return shapes
        rest = [p for p, here in self.missing.items() if here.get(value) == route]
        length = route.after - route.before
        shapes = interpolate_mask(
            self.state.mask(value, route.before),
            self.state.mask(value, route.after),
            [(p - route.before) / length for p in rest],
            self.request.query.pixel_size or (1.0, 1.0),
        )
        self.shapes[value] = route, shapes
        return shapes

    # -- plane by plane ----------------------------------------------------------------

    def _source(self, value: int, plane: int, route: Route) -> int:
        """Return the nearest plane on the way that is already known."""
        step = self.state.stack(plane).step * (-1 if route.kind == "forward" else 1)
        source = plane + step
        while source not in self.state.objects[value]:
            source += step
        return source

    def _projected(
        self, value: int, plane: int, route: Route, seen: Any
    ) -> ObjectPlane | _Ask:
        """Ask for the object where it was on the plane before."""
        source = self._source(value, plane, route)
        if not self.state.is_present(value, source):
            return self._ended(self.state.objects[value][source].why)
        if seen is None:
            return self._ended("the plane is blank")
        before = self.state.mask(value, source)
        prompts = project(before, projection_mode(self.mode, self.follower, before))
        return _Ask(value, route, before, prompts)

    # -- by the memory of the model ----------------------------------------------------

    def _remember(self) -> None:
        """Let the model carry objects over each stretch between annotated planes."""
        stretches: dict[tuple[int | None, int | None], dict[int, set[int]]] = {}
        for plane, here in self.missing.items():
            for value, route in here.items():
                if route.kind != "absent":
                    ends = route.before, route.after
                    stretches.setdefault(ends, {}).setdefault(value, set()).add(plane)
        for ends, values in stretches.items():
            annotated = [p for p in ends if p is not None]
            self._carry(annotated, sorted(values), set().union(*values.values()))

    def _carry(self, ends: list[int], values: list[int], inside: set[int]) -> None:
        """Show the model one stretch with its annotated ends, plane by plane."""
        stack = self.state.stack(ends[0])
        first, last = min(*inside, *ends), max(*inside, *ends)
        numbers = range(first, last + 1, stack.step)
        prompts = {
            value: {
                numbers.index(p): {"mask": self.state.mask(value, p)}
                for p in ends
                if self.state.is_present(value, p)
            }
            for value in values
        }
        planes = Planes(self.request.query, numbers)
        begun = time.perf_counter()
        model = self.follower.model
        steps = model.propagate(planes, prompts, check=lambda *_: self.hooks.check())
        for index, found in steps:
            plane = numbers[int(index)]
            self._tell(plane)
            for value, logits in found.items():
                if value in self.missing.get(plane, {}):
                    self._keep(value, plane, self._remembered(logits))
        self.seconds["follow"] += time.perf_counter() - begun

    def _remembered(self, logits: FloatArray) -> ObjectPlane:
        mask = logits > 0
        if not mask.any():
            return self._ended("nothing found")
        return ObjectPlane.of(mask, REMEMBERED, soft_dice(sigmoid(logits)))
