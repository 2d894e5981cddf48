"""`TiledRun`: windows in, finished parts of planes out."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.inference._request import PlaneResult, Summary
from napari_fewshot.inference.tiles._blend import Blend
from napari_fewshot.inference.tiles._components import Components
from napari_fewshot.inference.tiles._key import run_key
from napari_fewshot.inference.tiles._parts import Parts
from napari_fewshot.inference.tiles._rules import Rules, settle
from napari_fewshot.inference.tiles._stitch import stitch
from napari_fewshot.inference.tiles._tally import WindowTally, fact_of
from napari_fewshot.ops import probabilities_to_labels

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from napari_fewshot._types import AnyArray, FloatArray, LabelArray
    from napari_fewshot.data import Hooks, Region
    from napari_fewshot.inference.tiles._plan import TilePlan

# Kinds of parts: maps of a window, its objects, labels of a cell, its final labels.
MAPS, OBJECTS, LABELS, FINAL = "w", "o", "c", "f"
# Maps of all classes that are kept of a plane without being asked for, in bytes.
KEPT_BYTES = 256 * 2**20


class TiledRun:
    """One run of a request in tiles.

    Give `take` what comes of the windows, in any order, and `finish` the summary.

    Parameters
    ----------
    plan : TilePlan
        What to do.
    folder : path, optional
        Where unfinished work is kept, so that a run that was killed goes on.

    Raises
    ------
    StorageError
        If the folder can't be written.
    """

    def __init__(self, plan: TilePlan, folder: Path | None = None) -> None:
        self.plan = plan
        self.parts = Parts(folder, run_key(plan) if folder is not None else "")
        self.tally = WindowTally()
        lattice = plan.lattice
        self._blends = {
            plane: Blend(lattice, windows, plan.cells[plane])
            for plane, windows in plan.windows.items()
        }
        self._seen: set[tuple[int, int]] = set()
        self._values: set[int] = set()
        self._has_objects = False
        self._keep = self._keeps_maps()

    def resume(self) -> Iterator[PlaneResult]:
        """Return what an earlier run had finished."""
        for name, fact in self.parts.facts.items():
            plane, window = (int(n) for n in name.split("-"))
            if window in self.plan.cells.get(plane, ()):
                self.tally.add(plane, window, fact)
        for plane, cell in self.parts.numbers(LABELS):
            blend = self._blends.get(plane)
            found = self.parts.get(LABELS, plane, cell)
            if found is None or blend is None or not blend.is_pending(cell):
                continue
            blend.take(cell)
            self._values.update(np.unique(found["labels"]).tolist())
            yield self._result(plane, cell, found["labels"], _maps_of(found))
        for plane, window in self.parts.numbers(MAPS):
            blend = self._blends.get(plane)
            known = f"{plane}-{window}" in self.parts.facts
            if blend is None or not blend.needs(window) or not known:
                self.parts.drop(MAPS, plane, window)
                continue
            found = self.parts.get(MAPS, plane, window)
            if found is not None:
                maps = _maps_of(found)
                yield from self._blended(plane, window, maps, self._labels(maps))
        for plane, window in self._windows():
            if not self._blends[plane].needs(window):
                self._seen.add((plane, window))
        self._has_objects = bool(self.parts.numbers(OBJECTS))

    @property
    def missing(self) -> tuple[int, ...]:
        """Plane numbers of the windows that are still to be looked at."""
        count = self.plan.lattice.count
        return tuple(
            plane * count + window
            for plane, window in self._windows()
            if (plane, window) not in self._seen
        )

    def take(self, result: PlaneResult) -> Iterator[PlaneResult]:
        """Take the result of a window; yields what can be shown because of it."""
        plane, window = self.plan.image.split(result.plane)
        if (plane, window) in self._seen or plane not in self._blends:
            return
        lattice = self.plan.lattice
        top, left, _, _ = lattice.window(window)
        if window in self.plan.cells[plane]:
            fact = fact_of(result, _slices(lattice.cell(window), top, left))
            self.tally.add(plane, window, fact)
            if result.instances is not None:
                self._has_objects = True
                part = _slices(lattice.zone(window), top, left)
                numbers, kinds = _objects(result.instances[part], result.labels[part])
                self.parts.put(OBJECTS, plane, window, numbers=numbers, kinds=kinds)
        else:
            fact = {}
        self.parts.note(f"{plane}-{window}", fact)
        if self.parts.folder is not None:
            maps = {str(v): p for v, p in result.probabilities.items()}
            self.parts.put(MAPS, plane, window, **maps)
        yield from self._blended(plane, window, result.probabilities, result.labels)

    def finish(self, summary: Summary, hooks: Hooks) -> Iterator[PlaneResult]:
        """Apply what needs whole objects, and yield every cell that changes by it.

        Parameters
        ----------
        summary : Summary
            Of the windows.
        hooks : Hooks
            For cancelling.
        """
        rules = Rules.of(self.plan.params, summary.fillable)
        values = sorted({*summary.classes, *self._values} - {0})
        for plane, blend in self._blends.items():
            for cell in blend.pending:
                # Some windows were not looked at: those that no prompt is in.
                yield from self._done(plane, cell)
            cells = [
                c for c in self.plan.cells[plane] if self.parts.has(LABELS, plane, c)
            ]
            yield from self._settled(plane, cells, values, rules, hooks)

    def summary(self, found: Summary) -> Summary:
        """Return a summary of planes for one of windows."""
        lattice = self.plan.lattice
        record = json.loads(json.dumps(found.provenance))
        planes = self.plan.request.planes
        record.setdefault("inputs", {}).setdefault("query", {}).update(
            planes=None if planes is None else [int(p) for p in planes],
            fingerprint=self.tally.fingerprint(),
        )
        record["tiles"] = {
            "size": list(lattice.size),
            "grid": list(lattice.grid),
            "ramp": list(lattice.ramp),
            "region": _listed(self.plan.request.region),
        }
        return replace(found, provenance=record, **self.tally.summary(found))

    def _windows(self) -> Iterator[tuple[int, int]]:
        for plane, windows in self.plan.windows.items():
            for window in windows:
                yield plane, window

    def _blended(
        self,
        plane: int,
        window: int,
        maps: Mapping[int, FloatArray],
        labels: LabelArray,
    ) -> Iterator[PlaneResult]:
        self._seen.add((plane, window))
        blend = self._blends[plane]
        ready = blend.add(window, maps)
        if window not in ready and blend.is_pending(window):
            # A first look at the cell, before its neighbours are there.
            top, left, _, _ = self.plan.lattice.window(window)
            part = _slices(self.plan.lattice.cell(window), top, left)
            own = {v: p[part] for v, p in maps.items()} if self._keep else {}
            yield self._result(plane, window, labels[part], own)
        for cell in ready:
            yield from self._done(plane, cell)

    def _done(self, plane: int, cell: int) -> Iterator[PlaneResult]:
        """Blend a cell, keep it, and let go of what nobody needs any more."""
        blend = self._blends[plane]
        maps = blend.maps(cell)
        if maps:
            labels = self._labels(maps)
            shown = self.plan.shown(plane, self.plan.lattice.cell(cell))
            if shown is not None:
                labels = np.where(shown, labels, 0).astype(np.int32)
            self._values.update(maps)
            # Maps were handed out; they are kept only for a run that goes on with them.
            kept = self._halves(maps) if self.parts.folder is not None else {}
            arrays = {"labels": _small(labels), **{str(v): p for v, p in kept.items()}}
            self.parts.put(LABELS, plane, cell, **arrays)
            yield self._result(plane, cell, labels, maps)
        for window in blend.take(cell):
            self.parts.drop(MAPS, plane, window)

    def _labels(self, maps: Mapping[int, FloatArray]) -> LabelArray:
        threshold = self.plan.params.threshold
        return probabilities_to_labels(maps, threshold=threshold, fill_holes=False)

    def _result(
        self,
        plane: int,
        cell: int,
        labels: LabelArray,
        maps: Mapping[int, FloatArray],
        instances: LabelArray | None = None,
    ) -> PlaneResult:
        region = self.plan.lattice.cell(cell)
        shown = self.plan.shown(plane, region)
        kept = self._halves(maps)
        if shown is not None:
            labels = np.where(shown, labels, 0)
            kept = {
                v: np.where(shown, p, 0).astype(np.float16) for v, p in kept.items()
            }
        return PlaneResult(
            plane,
            labels.astype(np.int32, copy=False),
            self.tally.scores(plane),
            instances,
            kept,
            novelty=self.tally.novelty(plane),
            region=region,
        )

    def _settled(
        self,
        plane: int,
        cells: list[int],
        values: list[int],
        rules: Rules,
        hooks: Hooks,
    ) -> Iterator[PlaneResult]:
        """Yield the cells of a plane after the rules, with numbers of objects."""
        lattice, parts = self.plan.lattice, self.parts

        def raw(cell: int) -> LabelArray:
            return _array(parts.get(LABELS, plane, cell))

        mode = self.plan.params.instances
        wants = mode != "none" or self._has_objects
        for cell, found, changed in settle(lattice, cells, raw, values, rules):
            hooks.check()
            shown = self.plan.shown(plane, lattice.cell(cell))
            labels = found if shown is None else np.where(shown, found, 0)
            if wants:
                parts.put(FINAL, plane, cell, labels=_small(labels))
            elif changed:
                yield self._result(plane, cell, labels, {})
        if not wants:
            return

        def final(cell: int) -> LabelArray:
            return _array(parts.get(FINAL, plane, cell))

        def objects(cell: int) -> tuple[LabelArray, AnyArray] | None:
            known = parts.get(OBJECTS, plane, cell)
            return None if known is None else (known["numbers"], known["kinds"])

        if mode == "components":
            numbered = connected_objects(lattice, cells, final, values)
        else:
            numbered = stitch(lattice, cells, final, objects)
        for cell, instances in numbered:
            hooks.check()
            yield self._result(plane, cell, final(cell), {}, instances)

    def _keeps_maps(self) -> bool:
        """Whether maps are kept: if asked for, or of a plane that is not too large."""
        asked = self.plan.request.keep_probabilities
        if asked is not None:
            return asked
        query = self.plan.request.query
        values = {*self.plan.request.support.label_values, *self.plan.request.text}
        size = 2 * int(np.prod(query.plane_shape)) * max(len(values), 1)
        return query.n_planes == 1 and size <= KEPT_BYTES

    def _halves(self, maps: Mapping[int, FloatArray]) -> dict[int, FloatArray]:
        return {v: p.astype(np.float16) for v, p in maps.items()} if self._keep else {}


def connected_objects(
    lattice: Any, cells: list[int], labels: Any, values: list[int]
) -> Iterator[tuple[int, LabelArray]]:
    """Number connected pixels of a class 1..N, cell by cell; see `split_instances`.

    Parameters
    ----------
    lattice : Lattice
        Of the plane.
    cells : list of int
        Those there are, in order.
    labels : callable
        Number of a cell to its labels.
    values : list of int
        Classes.
    """
    found = {v: Components(lattice, cells, corners=True, firsts=True) for v in values}
    for cell in cells:
        here = labels(cell)
        for value, parts in found.items():
            parts.add(cell, here == value)
    numbers, top = {}, 0
    for value, parts in found.items():
        parts.close()
        order = np.empty(len(parts.first), np.int64)
        order[np.argsort(parts.first, kind="stable")] = np.arange(len(order))
        numbers[value] = np.concatenate([order + 1 + top, [0]])
        top += len(order)
    for cell in cells:
        here = labels(cell)
        result = np.zeros(here.shape, np.int32)
        for value, parts in found.items():
            mask = here == value
            if mask.any():
                result += numbers[value][parts.roots(cell, mask)].astype(np.int32)
        yield cell, result


def _slices(region: Region, top: int, left: int) -> tuple[slice, slice]:
    """Return a region in the pixels of something that begins at a corner."""
    return (
        slice(region[0] - top, region[2] - top),
        slice(region[1] - left, region[3] - left),
    )


def _objects(
    instances: LabelArray, labels: LabelArray
) -> tuple[LabelArray, LabelArray]:
    """Return objects numbered 1..N, and their classes by number (0 for none)."""
    old, flat = np.unique(instances, return_inverse=True)
    numbers: LabelArray = np.reshape(flat, instances.shape).astype(np.int32)
    if old[0] != 0:
        numbers += 1
    kinds: LabelArray = np.zeros(int(numbers.max(initial=0)) + 1, np.int32)
    kinds[numbers] = labels
    kinds[0] = 0
    return numbers, kinds


def _small(labels: LabelArray) -> LabelArray:
    """Return labels in the smallest dtype that holds them: they pack faster."""
    top = int(labels.max(initial=0))
    return labels.astype(np.uint8 if top < 256 else np.int32)


def _maps_of(arrays: Mapping[str, AnyArray]) -> dict[int, FloatArray]:
    return {int(v): p for v, p in arrays.items() if v.isdigit()}


def _array(found: Mapping[str, AnyArray] | None) -> LabelArray:
    if found is None:
        raise OSError("a part that was written is not there any more")
    return found["labels"]


def _listed(region: Region | None) -> list[int] | None:
    return None if region is None else [int(n) for n in region]
