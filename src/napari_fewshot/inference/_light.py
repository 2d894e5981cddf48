"""The same light: an object as bright in the support as on the planes to segment.

Images are stretched between percentiles. Something large and very bright (a cyst, a
contrast agent) makes all else dark, so that an organ no longer looks like itself on
another scan: methods that go by looks then find something else, or nothing. Where it
lies can still be told, since correlation does not ask how bright things are. So the
support's object is registered to a few planes; if it is much darker on one side, and
what the method finds is not there, that side is brightened, what is brighter still is
clipped, and the planes are looked at again. The new answer counts only if it agrees
better with the place. Nyul & Udupa (Magn. Reson. Med. 42, 1999) match contrasts by
landmarks of whole histograms; here the object itself is the landmark.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_fewshot.methods import get_method, make_params
from napari_fewshot.methods._validation import dice

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.data import Hooks, Plane, Sample
    from napari_fewshot.inference._learn import Fit
    from napari_fewshot.inference._planes import Looked
    from napari_fewshot.methods import FittedMethod

# Brightness differs by less than this factor: nothing is done. Steps of the same size,
# so that blocks of planes share what was learnt; and the most steps.
STEP, MOST_STEPS = 1.5, 4
# What is found agrees with the place by this much (Dice): it is taken to be right. In
# another light it has to agree better by so much, and by so much at all.
AGREED, BETTER, LEAST = 0.85, 0.05, 0.5
# Where the two disagree and what was found teaches this much (Dice) about the support,
# the place is doubted, not the light.
TAUGHT = 0.75
# So many planes of a block are registered.
MOST_PLANES = 5
# Less than this much brightness says nothing.
DARK = 1e-3


class Light(NamedTuple):
    """How much brighter the supports and the query are looked at."""

    support: float = 1.0
    query: float = 1.0

    def on(self, plane: Plane) -> Plane:
        """Return a plane of the query in this light."""
        return replace(plane, image=brightened(plane.image, self.query))

    def told(self) -> str:
        """Say it in words for the user."""
        lit, other = ("support was", "images") if self.support > 1 else _QUERY
        gain = max(self)
        return (
            f"The {lit} brightened {gain:.2g} times: something very bright made the "
            f"object dark there, unlike on the {other} (parameter match_light)."
        )


_QUERY = ("images to segment were", "support")
AS_IS = Light()


@dataclass
class Place:
    """Where the support's objects lie on planes, and how bright they are there.

    Attributes
    ----------
    sample : Sample
        The only support.
    classes : sequence of int
        Those that it shows.
    """

    sample: Sample
    classes: Sequence[int]
    _template: FittedMethod
    _grey: FloatArray = field(repr=False)

    @classmethod
    def of(cls, sample: Sample, classes: Sequence[int], hooks: Hooks) -> Place:
        """Make the support's objects ready to be registered.

        Parameters
        ----------
        sample : Sample
            The only support.
        classes : sequence of int
            Those that it shows.
        hooks : Hooks
            For cancelling.
        """
        method = get_method("template")
        params = make_params(
            method.spec.params, {"edges": "none", "leave_one_out": False}
        )
        fitted = method.fit([sample], classes, params, None, hooks)
        return cls(sample, classes, fitted, sample.image.mean(axis=-1))

    def lit(self, light: Light, hooks: Hooks) -> Place:
        """Return the same in another light, in which objects are registered better."""
        if light.support == 1:
            return self
        image = brightened(self.sample.image, light.support)
        return Place.of(replace(self.sample, image=image), self.classes, hooks)

    def on(self, plane: Plane, hooks: Hooks) -> dict[int, BoolArray]:
        """Return a mask (H, W) per class that was found for sure."""
        maps = self._template.predict(plane, hooks)
        sure = {v: m for v, m in maps.items() if m.max(initial=0.0) >= 0.5}
        return {v: m >= 0.5 * m.max() for v, m in sure.items()}

    def gains(self, plane: Plane, places: Mapping[int, BoolArray]) -> list[float]:
        """Return by how much every object is brighter in the support than here."""
        grey = plane.image.mean(axis=-1)
        found = []
        for value, mask in places.items():
            there = float(np.median(self._grey[self.sample.labels == value]))
            here = float(np.median(grey[mask]))
            if min(there, here) > DARK:
                found.append(there / here)
        return found


def brightened(image: FloatArray, gain: float) -> FloatArray:
    """Return an image in [0, 1] times a gain; what is brighter then is clipped."""
    if gain == 1:
        return image
    lit: FloatArray = np.minimum(image * np.float32(gain), 1).astype(np.float32)
    return lit


def steps_of(gains: Sequence[float]) -> int:
    """Return by how many steps the query is to be brightened; negative: the support.

    Parameters
    ----------
    gains : sequence of float
        From `Place.gains`, of all planes and classes of a block.
    """
    if not gains:
        return 0
    steps = float(np.median(np.log(gains))) / np.log(STEP)
    if abs(steps) < 1:
        return 0
    return int(np.clip(round(steps), -MOST_STEPS, MOST_STEPS))


def light_of(steps: int) -> Light:
    """Return the light of so many steps; see `steps_of`."""
    gain = float(STEP ** abs(steps))
    return Light(query=gain) if steps > 0 else Light(support=gain)


def agreement(
    maps: Sequence[Mapping[int, FloatArray]], places: Sequence[Mapping[int, BoolArray]]
) -> float:
    """Return the mean Dice of what was found and where it should be; 0 if unknown.

    Parameters
    ----------
    maps : sequence of dict of int to array (H, W)
        Probabilities per class, of some planes.
    places : sequence of dict of int to array (H, W) bool
        From `Place.on`, of the same planes.
    """
    pairs = [
        dice(found[value] >= 0.5, mask)
        for found, there in zip(maps, places, strict=True)
        for value, mask in there.items()
    ]
    return float(np.mean(pairs)) if pairs else 0.0


def some(count: int) -> list[int]:
    """Return numbers of at most a few of so many planes, evenly spread."""
    if count <= MOST_PLANES:
        return list(range(count))
    return [int(i) for i in np.linspace(0, count - 1, MOST_PLANES).round()]


def better_light(
    place: Place,
    planes: Sequence[Plane],
    maps: Sequence[Mapping[int, FloatArray]],
    look: Callable[[Light, Plane], Mapping[int, FloatArray]],
    teaches: Callable[[Plane, int, BoolArray], float],
    hooks: Hooks,
) -> Light:
    """Decide in which light a block of planes is looked at.

    Parameters
    ----------
    place : Place
        Of the only support.
    planes : sequence of Plane
        The block, as it is.
    maps : sequence of dict of int to array (H, W)
        What was found on it.
    look : callable
        Segments a plane of the query in another light.
    teaches : callable
        Tells how much a mask of a class teaches about the support.
    hooks : Hooks
        For cancelling.
    """
    chosen, gains, where = [], [], []
    for i in some(len(planes)):
        hooks.check()
        if there := place.on(planes[i], hooks):
            chosen.append(i)
            where.append(there)
            gains += place.gains(planes[i], there)
    steps = steps_of(gains)
    as_is = [maps[i] for i in chosen]
    agrees = agreement(as_is, where)
    if not steps or agrees >= AGREED:
        return AS_IS
    lessons = [
        teaches(planes[i], value, maps[i][value] >= 0.5)
        for i, there in zip(chosen, where, strict=True)
        for value in there
    ]
    if agrees < LEAST and max(lessons) >= TAUGHT:
        return AS_IS
    before: dict[Light, float] = {}

    def agreed(light: Light) -> float:
        lit = [light.on(planes[i]) for i in chosen]
        known = place.lit(light, hooks)
        there = [known.on(plane, hooks) for plane in lit]
        before[light] = agreement(as_is, there)
        return agreement([look(light, planes[i]) for i in chosen], there)

    light, after = _climb(steps, agreed)
    return light if after > max(before[light] + BETTER, LEAST) else AS_IS


def _climb(steps: int, agreed: Callable[[Light], float]) -> tuple[Light, float]:
    """Return the light near a first guess in which most is agreed, and how much."""
    sign = 1 if steps > 0 else -1
    known: dict[int, float] = {}

    def height(step: int) -> float:
        if not 1 <= step <= MOST_STEPS:
            return -1.0
        if step not in known:
            known[step] = agreed(light_of(sign * step))
        return known[step]

    at = abs(steps)
    # The brighter one first: what is registered in part seems less dark than it is.
    way = 1 if height(at + 1) > height(at) else -1
    while height(at + way) > height(at):
        at += way
    return light_of(sign * at), height(at)


@dataclass
class Lights:
    """The lights in which blocks of planes are looked at.

    Attributes
    ----------
    fit : Fit
        What the support taught as it is.
    place : callable
        Returns that of the support, asked only where the light is not known yet; None
        if there is none.
    relearn : callable
        Learns from the brightened support.
    hooks : Hooks
        For cancelling.
    """

    fit: Fit
    place: Callable[[], Place | None]
    relearn: Callable[[float], Fit]
    hooks: Hooks
    _fits: dict[float, Fit] = field(default_factory=dict)

    def choose(self, looked: Sequence[Looked]) -> Light:
        """Return the light for a block of planes that was looked at as it is."""
        shown = [(w.seen, w.maps) for w in looked if w.seen is not None]
        if not shown:
            return AS_IS
        planes, maps = [seen for seen, _ in shown], [found for _, found in shown]
        digest = " ".join(f"{w.number} {w.digest}" for w in looked)

        def decide() -> Light:
            place = self.place()
            if place is None:
                return AS_IS
            return better_light(
                place, planes, maps, self._look, self._teaches, self.hooks
            )

        light = self.fit.learnt.light_of(digest, decide)
        if light != AS_IS and light.told() not in self.fit.notes:
            self.fit.notes.append(light.told())
        return light

    def fit_in(self, light: Light) -> Fit:
        """Return what the support taught in a light."""
        if light.support == 1:
            return self.fit
        if light.support not in self._fits:
            self._fits[light.support] = self.relearn(light.support)
        return self._fits[light.support]

    def _look(self, light: Light, plane: Plane) -> Mapping[int, FloatArray]:
        return self.fit_in(light).learnt.fitted.predict(light.on(plane), self.hooks)

    def _teaches(self, plane: Plane, value: int, mask: BoolArray) -> float:
        judge = self.fit.learnt.judge
        return 0.0 if judge is None else judge.score(plane.image, value, mask)
