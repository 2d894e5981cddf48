"""Objects chosen by what a phrase says of them: position, size, number, part.

Rules over objects on one plane, in the order: frame, border, position, size, order and
number, part. A training-free counterpart of models that learn such phrases (FLanS, KDD
2025). Nothing is guessed: what cannot be satisfied is told.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.errors import DataError
from napari_fewshot.ops.parts import part_of, two_groups

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, BoolArray, LabelArray
    from napari_fewshot.data import Referring

# "Near" the border is so much of the shorter side of the frame.
NEAR = 0.05
# Sizes are two groups only if the mean of the large is so many times that of the small.
APART = 1.5
OTHER_SIDE = {"left": "right", "right": "left"}


@dataclass(frozen=True, eq=False)
class Selection:
    """What is left of the objects of a plane.

    Attributes
    ----------
    objects : array (H, W) int32
        Numbers as given; 0 elsewhere.
    kept : tuple of int
        Numbers that are left, in the order that was asked for.
    done : str
        One sentence of what was done; "" if nothing had to be.
    notes : tuple of str
        What could not be satisfied, or had to be interpreted.
    """

    objects: LabelArray = field(repr=False)
    kept: tuple[int, ...] = ()
    done: str = ""
    notes: tuple[str, ...] = ()

    @property
    def mask(self) -> BoolArray:
        """All of them as one mask (H, W)."""
        found: BoolArray = self.objects > 0
        return found


def select(
    objects: AnyArray,
    referring: Referring,
    within: BoolArray | None = None,
    radiological: bool = False,
) -> Selection:
    """Keep the objects that a phrase means.

    Parameters
    ----------
    objects : array (H, W)
        Numbers of objects, 0 elsewhere; or a mask, whose connected parts (8
        neighbours) are the objects.
    referring : Referring
        From `parse`.
    within : array (H, W) bool, optional
        The frame that position and border refer to, such as an organ; objects that lie
        mostly outside do not count. Default the plane.
    radiological : bool
        Whether the left of the patient is on the right of the plane; only for sides of
        a body ("left kidney"), never for "on the left" or "leftmost".

    Raises
    ------
    DataError
        If arrays are not one plane of numbers, or differ in shape.
    """
    from scipy import ndimage

    numbered = _numbered(objects)
    if within is not None and np.shape(within) != numbered.shape:
        raise DataError(
            f"The frame has the shape {np.shape(within)}, the objects "
            f"{numbered.shape}. Give both for the same plane."
        )
    choice = _Choice(numbered, referring, within) if numbered.any() else None
    if choice is None or not choice.left:
        said = () if referring.plain else (f"There is no {referring.noun} to choose.",)
        return Selection(np.zeros(numbered.shape, np.int32), notes=said)
    choice.by_border()
    choice.by_position(radiological)
    choice.by_size()
    choice.by_order()
    kept = tuple(int(choice.numbers[i]) for i in choice.left)
    found = choice.only(numbered)
    if referring.part:
        dense = np.searchsorted([0, *sorted(kept)], found)
        for number, box in enumerate(ndimage.find_objects(dense), 1):
            if box is not None:
                here = dense[box] == number
                gone = here & ~part_of(here, referring.part, referring.share)
                found[box][gone] = 0
        where = " ".join(referring.part)
        choice.did(f"cut to the {where} {referring.share:.0%} of each")
    return Selection(found, kept, choice.sentence(), tuple(choice.notes))


def _numbered(objects: AnyArray) -> LabelArray:
    from scipy import ndimage

    given = np.asarray(objects)
    if given.ndim != 2 or given.dtype.kind not in "bui":
        raise DataError(
            "Objects are one plane of whole numbers or a mask, not an array of shape "
            f"{given.shape} and type {given.dtype}. Select plane by plane."
        )
    if given.dtype.kind == "b":
        parts: LabelArray = ndimage.label(
            given, np.ones((3, 3), bool), output=np.int32
        )[0]
        return parts
    if given.size and (int(given.min()) < 0 or int(given.max()) >= 2**31):
        raise DataError(
            "Numbers of objects are from 0 (no object) to 2147483647; number them anew."
        )
    found: LabelArray = given.astype(np.int32)
    return found


class _Choice:
    """Objects of one plane that are still in question."""

    def __init__(
        self, objects: LabelArray, said: Referring, within: BoolArray | None
    ) -> None:
        """Measure all objects."""
        self.said = said
        self.notes: list[str] = []
        self.deeds: list[str] = []
        # All is measured on the pixels of objects only: planes are large.
        self.rows, self.columns = np.nonzero(objects)
        values = objects[self.rows, self.columns]
        self.numbers, self.which = np.unique(values, return_inverse=True)
        count = len(self.numbers)
        self.areas = np.bincount(self.which, minlength=count)
        sums = [
            np.bincount(self.which, axis, count) for axis in (self.rows, self.columns)
        ]
        self.centres = np.stack(sums, 1) / np.maximum(self.areas, 1)[:, None]
        self.low, self.high = np.zeros(2), np.array(objects.shape, np.float64)
        self.inside: Any = None
        self.left = list(range(count))
        if within is not None:
            self._enter(np.asarray(within) > 0)
        self.total = len(self.left)

    def _enter(self, inside: BoolArray) -> None:
        """Take a frame: only objects that lie at least half inside are in question."""
        self.inside = inside
        shares = np.bincount(self.which, inside[self.rows, self.columns])
        self.left = [i for i in self.left if shares[i] >= self.areas[i] / 2]
        rows, columns = np.nonzero(inside)
        if len(rows):
            self.low = np.array([rows.min(), columns.min()], np.float64)
            self.high = np.array([rows.max(), columns.max()], np.float64) + 1

    def depths(self) -> AnyArray:
        """Return how many steps each object is from outside the frame, at least 1."""
        if self.inside is None:
            height, width = (int(h) for h in self.high)
            sides = (self.rows, self.columns, height - 1 - self.rows)
            deep = np.minimum.reduce([*sides, width - 1 - self.columns]) + 1
        else:
            from scipy import ndimage

            # Outside the plane is outside the frame.
            room = np.pad(self.inside, 1)
            whole = ndimage.distance_transform_cdt(room, "taxicab")[1:-1, 1:-1]
            deep = whole[self.rows, self.columns]
        least: AnyArray = np.full(len(self.numbers), np.iinfo(np.int64).max)
        np.minimum.at(least, self.which, deep)
        return least

    def only(self, objects: LabelArray) -> LabelArray:
        """Return the objects that are left, as an array of their own."""
        stays = np.zeros(len(self.numbers), bool)
        stays[self.left] = True
        here = stays[self.which]
        found: LabelArray = np.zeros(objects.shape, np.int32)
        rows, columns = self.rows[here], self.columns[here]
        found[rows, columns] = objects[rows, columns]
        return found

    def did(self, deed: str) -> None:
        """Remember what was done."""
        self.deeds.append(deed)

    def sentence(self) -> str:
        """Return what was done, in one sentence."""
        if not self.deeds:
            return ""
        total = self.total
        return (
            f"Of {total} object{'s' * (total != 1)} of {self.said.noun!r}, "
            f"{len(self.left)} kept: {', then '.join(self.deeds)}."
        )

    def keep(self, those: list[int], deed: str) -> None:
        """Go on with some of the objects; say so if none is left."""
        if self.left and not those:
            self.notes.append(f"No {self.said.noun} is {deed}; nothing is kept.")
        self.left = those
        self.did(deed)

    def by_border(self) -> None:
        """Keep what touches the border, is near it, or does not touch it."""
        border = self.said.border
        if border is None:
            return
        least = self.depths()
        near = max(1.0, NEAR * float((self.high - self.low).min()))
        fits = {
            "touching": least <= 1,
            "near": least <= near,
            "apart": least > 1,
        }[border]
        words = {
            "touching": "touching the border",
            "near": "near the border",
            "apart": "away from the border",
        }
        self.keep([i for i in self.left if fits[i]], words[border])

    def by_position(self, radiological: bool) -> None:
        """Keep what lies where it was said; see `Referring.position`."""
        side = self.said.side
        if side is not None:
            turned = OTHER_SIDE[side] if radiological else side
            whose = f" (the patient's {side})" if radiological else ""
            self._where((turned,), 0.5, f"in the {turned} half{whose}")
        if self.said.position:
            where = " ".join(self.said.position)
            share = {1 / 2: "half", 1 / 3: "third"}.get(self.said.reach, "quarter")
            if len(self.said.position) > 1:
                share = "part"
            deed = {"central": "in the centre", "corner": "in a corner"}.get(
                where, f"in the {where} {share}"
            )
            self._where(self.said.position, self.said.reach, deed)

    def _where(self, position: tuple[str, ...], reach: float, deed: str) -> None:
        """Keep centres in a share of the frame, or of the range of all centres."""
        size = np.maximum(self.high - self.low, 1)
        # Pixel (0, 0) covers 0 to 1: its centre lies at one half.
        places = (self.centres + 0.5 - self.low) / size
        those = [i for i in self.left if _fits(places[i], position, reach)]
        if not those and len(self.left) > 1 and "corner" not in position:
            centres = self.centres[self.left]
            spread = np.ptp(centres, axis=0)
            if np.any(spread > 0):
                near = (self.centres - centres.min(0)) / np.maximum(spread, 1e-9)
                those = [i for i in self.left if _fits(near[i], position, reach)]
            if those:
                self.notes.append(
                    f"No {self.said.noun} lies {deed} in the frame; the positions of "
                    "the objects to each other were compared instead."
                )
        self.keep(those, deed)

    def by_size(self) -> None:
        """Keep the large or small ones, if sizes fall into two groups."""
        size = self.said.size
        if size is None or len(self.left) < 2:
            return
        areas = np.log(self.areas[self.left].astype(np.float64))
        level = two_groups(areas)
        small, large = areas[areas <= level], areas[areas > level]
        if not len(large) or large.mean() - small.mean() < np.log(APART):
            self.notes.append(
                f"All {self.said.noun} are of about the same size; {size!r} keeps all."
            )
            return
        fits = areas > level if size == "large" else areas <= level
        those = [i for i, fit in zip(self.left, fits, strict=True) if fit]
        self.keep(those, f"of the {size} ones")

    def by_order(self) -> None:
        """Keep as many as were said, from the end of the order that was said."""
        said = self.said
        if said.order is None and said.count is None:
            return
        order = said.order or "largest"
        if not self.left:
            return
        ranked = sorted(self.left, key=lambda i: (self._rank(i, order), i))
        asked = said.count or 1
        first = said.ordinal - 1
        those = ranked[first : first + asked]
        have = len(ranked)
        if first >= have:
            self.notes.append(
                f"Asked for number {said.ordinal} of {said.noun}, but there "
                f"{'is' if have == 1 else 'are'} only {have}; nothing is kept."
            )
        elif len(those) < asked:
            self.notes.append(
                f"Asked for {asked} {said.noun}, but found only {len(those)}."
            )
        elif said.order is None and have > asked:
            self.notes.append(
                f"{have} {said.noun} were found, {asked} asked for; the largest "
                "are kept."
            )
        self.left = those
        which = f"number {said.ordinal} of the {order}" if first else f"the {order}"
        if said.order or have > asked:
            self.did(f"{which} {asked}" if asked > 1 else which)

    def _rank(self, i: int, order: str) -> float:
        """Return a number that is least for the first in an order."""
        row, column = self.centres[i]
        if order == "innermost":
            middle = (self.low + self.high - 1) / 2
            return float(np.hypot(*(self.centres[i] - middle)))
        ranks = {
            "largest": -self.areas[i],
            "smallest": self.areas[i],
            "leftmost": column,
            "rightmost": -column,
            "uppermost": row,
            "lowermost": -row,
        }
        return float(ranks[order])


def _fits(place: AnyArray, position: tuple[str, ...], reach: float) -> bool:
    """Return whether a place, as shares of the frame, is where it should be."""
    row, column = (float(p) for p in place)
    if "corner" in position:
        return min(row, 1 - row) <= reach and min(column, 1 - column) <= reach
    tests = {
        "upper": row <= reach,
        "lower": row >= 1 - reach,
        "left": column <= reach,
        "right": column >= 1 - reach,
    }
    named = [p for p in position if p in tests]
    middle = [abs(row - 0.5) <= reach / 2, abs(column - 0.5) <= reach / 2]
    if "central" in position and named:
        # "Upper central": only the other axis is in the middle.
        across = named[0] in ("left", "right")
        middle = middle[:1] if across else middle[1:]
    return all(tests[p] for p in named) and ("central" not in position or all(middle))
