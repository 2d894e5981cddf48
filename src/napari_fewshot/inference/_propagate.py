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
from napari_fewshot.methods.projection import (
    MODES,
    ending,
    is_thin,
    overlap,
    project,
)
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


@dataclass(frozen=True, eq=False)
class PropagationRequest:
    """What to carry over which planes.

    Attributes
    ----------
    query : Image
        The stack; one leading axis.
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
        todo = {v: route for v, route in here.items() if route.kind in kinds}
        asked = any(self._asks(v, plane, route) for v, route in todo.items())
        seen = self._look(plane) if asked else None
        begun = time.perf_counter()
        for value, route in todo.items():
            if route.kind == "absent":
                found = self._ended("no annotated plane shows it on this side")
            elif route.kind == "between":
                found = self._between(value, plane, route, seen)
            else:
                found = self._projected(value, plane, route, seen)
            self._keep(value, plane, found)
        self.seconds["follow"] += time.perf_counter() - begun

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
        seen = expect_follower(self.request).look(image, self.hooks)
        self.seconds["encode"] += time.perf_counter() - begun
        return seen

    def _ask(
        self, value: int, route: Route, seen: Any, prompts: PlanePrompts
    ) -> tuple[BoolArray, float]:
        """Return the answer of the model, which knows the annotated neighbours."""
        follower = expect_follower(self.request)
        known, lesson = self.lessons.get(value, (None, None))
        if known is None or (known.before, known.after) != (route.before, route.after):
            planes = [p for p in (route.before, route.after) if p is not None]
            lesson = follower.learn(
                [self.request.query.plane(p) for p in planes],
                [self.state.mask(value, p) for p in planes],
            )
            self.lessons[value] = route, lesson
        logits, score = follower.follow(seen, lesson, prompts, self.hooks)
        return logits > 0, score

    # -- between two annotated planes --------------------------------------------------

    def _between(self, value: int, plane: int, route: Route, seen: Any) -> ObjectPlane:
        """Interpolate, and let the model correct it."""
        shape = next(self._shapes(value, plane, route)) > 0
        if seen is not None and shape.any():
            prompts = project(shape, expect_follower(self.request).corrects)
            found, score = self._ask(value, route, seen, prompts)
            if overlap(found, shape) >= LEAST_AGREEMENT:
                return ObjectPlane.of(found, CORRECTED, score)
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
        step = -1 if route.kind == "forward" else 1
        source = plane + step
        while source not in self.state.objects[value]:
            source += step
        return source

    def _projected(
        self, value: int, plane: int, route: Route, seen: Any
    ) -> ObjectPlane:
        """Ask for the object where it was on the plane before."""
        source = self._source(value, plane, route)
        if not self.state.is_present(value, source):
            return self._ended(self.state.objects[value][source].why)
        if seen is None:
            return self._ended("the plane is blank")
        before = self.state.mask(value, source)
        prompts = project(before, projection_mode(self.request, before))
        found, score = self._ask(value, route, seen, prompts)
        why = ending(before, found, self.request.stop_iou)
        if why:
            return self._ended(why)
        return ObjectPlane.of(found, PROJECTED, score)

    # -- by the memory of the model ----------------------------------------------------

    def _remember(self) -> None:
        """Let the model carry objects over each stretch between annotated planes."""
        stretches: dict[tuple[int | None, int | None], set[int]] = {}
        for here in self.missing.values():
            for value, route in here.items():
                if route.kind != "absent":
                    ends = route.before, route.after
                    stretches.setdefault(ends, set()).add(value)
        for (before, after), values in stretches.items():
            self._carry(before, after, sorted(values))

    def _carry(self, before: int | None, after: int | None, values: list[int]) -> None:
        """Show the model one stretch with its annotated ends, plane by plane."""
        ends = [p for p in (before, after) if p is not None]
        low = -1 if before is None else before
        high = self.state.n_planes if after is None else after
        inside = [p for p in self.missing if low < p < high]
        first = min(inside) if before is None else before
        last = max(inside) if after is None else after
        prompts = {
            value: {
                p - first: {"mask": self.state.mask(value, p)}
                for p in ends
                if self.state.is_present(value, p)
            }
            for value in values
        }
        planes = Planes(self.request.query, first, last + 1)
        begun = time.perf_counter()
        model = expect_follower(self.request).model
        steps = model.propagate(planes, prompts, check=lambda *_: self.hooks.check())
        for index, found in steps:
            plane = first + int(index)
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


def projection_mode(request: PropagationRequest, mask: BoolArray) -> str:
    """Return how to go on from a mask: as asked, or as the model does it best.

    Parameters
    ----------
    request : PropagationRequest
        With a follower.
    mask : array (H, W) bool
        The object on the plane before.
    """
    follower = expect_follower(request)
    if request.mode in MODES:
        return request.mode
    if follower.takes_mask and is_thin(mask):
        return "mask"
    return follower.projects


def expect_follower(request: PropagationRequest) -> Follower:
    """Return the follower of a request.

    Raises
    ------
    ModelError
        If there is none.
    """
    if request.follower is None:
        raise ModelError("This way of propagating needs a model; choose one.")
    return request.follower
