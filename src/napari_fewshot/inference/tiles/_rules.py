"""Rules about objects, on planes that are never seen as a whole.

They do exactly what `ops.probabilities_to_labels` does on a plane that fits: holes are
filled and objects are measured as a whole, however many cells they cross.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.inference.tiles._components import Components

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari_fewshot._types import AnyArray, BoolArray, LabelArray
    from napari_fewshot.data import Lattice
    from napari_fewshot.methods import CommonParams

Limit = float | Mapping[int, float]


@dataclass(frozen=True)
class Rules:
    """What may be an object; see `methods.CommonParams`.

    Attributes
    ----------
    min_area, max_area : float or mapping of int to float
        In pixels; 0 is no limit.
    largest_only : bool
    fill : mapping of int to bool
        Whether holes of a class are filled.
    """

    min_area: Limit = 0.0
    max_area: Limit = 0.0
    largest_only: bool = False
    fill: Mapping[int, bool] = field(default_factory=dict)

    @classmethod
    def of(cls, params: CommonParams, fillable: Mapping[int, bool]) -> Rules:
        """Return the rules of a run; fillable is what supports say of holes."""
        fill = {v: may for v, may in fillable.items() if params.fill_holes}
        return cls(params.min_area, params.max_area, params.largest_only, fill)

    def limits(self, value: int) -> tuple[float, float]:
        """Return the least and the largest area of a class."""
        return _limit(self.min_area, value), _limit(self.max_area, value)

    def keeps(self, value: int, sizes: AnyArray) -> BoolArray:
        """Return which objects of these sizes may stay."""
        least, most = self.limits(value)
        keep: BoolArray = sizes >= least
        if most:
            keep &= sizes <= most
        if self.largest_only and keep.any():
            keep &= np.arange(len(sizes)) == np.where(keep, sizes, -1).argmax()
        return keep


def settle(
    lattice: Lattice,
    cells: Sequence[int],
    read: Callable[[int], LabelArray],
    values: Sequence[int],
    rules: Rules,
) -> Iterator[tuple[int, LabelArray, bool]]:
    """Apply the rules to the labels of a plane, cell by cell.

    Parameters
    ----------
    lattice : Lattice
        Of the plane.
    cells : sequence of int
        Those there are, in order.
    read : callable
        Number of a cell to its labels by the most probable class alone.
    values : sequence of int
        Classes.
    rules : Rules
        What may stay.

    Yields
    ------
    (int, array, bool)
        Every cell, its labels (int32), and whether the rules changed them.
    """
    clean = _Cleaning(lattice, cells, read, sorted(values), rules)
    for cell in cells:
        yield cell, *clean.labels(cell)


class _Cleaning:
    """Holes and objects of a plane, measured as a whole."""

    def __init__(
        self,
        lattice: Lattice,
        cells: Sequence[int],
        read: Callable[[int], LabelArray],
        values: Sequence[int],
        rules: Rules,
    ) -> None:
        self._lattice, self._cells = lattice, cells
        self._read, self._values = read, values
        fills = [v for v in values if rules.fill.get(v, False)]
        # What the border cannot be reached from, outside of a class, is a hole of it.
        self._holes = self._measured(fills, lambda _, raw, v: raw != v, corners=False)
        limited = [v for v in values if rules.largest_only or any(rules.limits(v))]
        self._objects = self._measured(limited, self._filled, corners=True)
        self._keeps = {v: rules.keeps(v, o.sizes) for v, o in self._objects.items()}

    def labels(self, cell: int) -> tuple[LabelArray, bool]:
        """Return the final labels of a cell, and whether they changed."""
        raw = self._read(cell).astype(np.int32)
        labels = raw.copy()
        for value in self._values:
            clean = self._filled(cell, raw, value)
            if value in self._objects:
                keep = self._keeps[value]
                clean = self._objects[value].chosen(cell, clean, keep)
            labels[(raw == value) & ~clean] = 0
            labels[clean & (labels == 0)] = value
        return labels, bool((labels != raw).any())

    def _measured(
        self,
        values: Sequence[int],
        mask: Callable[[int, LabelArray, int], BoolArray],
        *,
        corners: bool,
    ) -> dict[int, Components]:
        """Return the connected parts of a mask per class."""
        found = {
            v: Components(self._lattice, self._cells, corners=corners) for v in values
        }
        for cell in self._cells if found else ():
            raw = self._read(cell)
            for value, parts in found.items():
                parts.add(cell, mask(cell, raw, value))
        for parts in found.values():
            parts.close()
        return found

    def _filled(self, cell: int, raw: LabelArray, value: int) -> BoolArray:
        mask: BoolArray = raw == value
        if value in self._holes and not self._holes[value].outer.all():
            inner = ~self._holes[value].outer
            mask = mask | self._holes[value].chosen(cell, ~mask, inner)
        return mask


def _limit(limit: Limit, value: int) -> float:
    return float(limit.get(value, 0.0)) if isinstance(limit, Mapping) else float(limit)
