"""What follows the parts of a volume: fused, smoothed, judged in space, linked.

Every step passes over the planes, one or a few at a time; what lies between the steps
is on disk.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.inference.tiles._plan import wanted_pixels
from napari_fewshot.inference.volumes._consistency import SpaceObjects, smooth_along
from napari_fewshot.inference.volumes._cuts import times_of, uncut
from napari_fewshot.inference.volumes._fuse import fuse, rows_of_cuts, view_weights
from napari_fewshot.inference.volumes._plan import link_axes
from napari_fewshot.inference.volumes._scratch import PlaneFile
from napari_fewshot.inference.volumes._summary import summarise
from napari_fewshot.methods import log_odds, sigmoid
from napari_fewshot.ops import probabilities_to_labels, soft_dice, split_instances
from napari_fewshot.ops.linked_planes import link_planes

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from napari_fewshot._types import FloatArray, LabelArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.inference._request import OnPlane, PlaneResult, Summary
    from napari_fewshot.inference.volumes._consistency import Odds
    from napari_fewshot.inference.volumes._plan import VolumePlan
    from napari_fewshot.ops.linking import Tracks

BLOCK_BYTES = 16 * 1024**2
# Components of planes that share any pixel are one object of the volume.
TOUCHING = 1e-9
NO_LABELS = np.zeros((0, 0), np.int32)


@dataclass
class _Known:
    """What is kept in memory of a plane: a few numbers."""

    result: PlaneResult
    confidence: dict[int, float] = field(default_factory=dict)
    has_objects: bool = False


class VolumeFinisher:
    """Takes the planes of all parts, then gives those of the volume.

    Parameters
    ----------
    plan : VolumePlan
    folder : path
        For files of a few bytes per pixel, class and view; see `close`.
    """

    def __init__(self, plan: VolumePlan, folder: str | os.PathLike[str]) -> None:
        self._plan, self._folder = plan, Path(folder)
        self._query = plan.request.query
        self._files: dict[tuple[str, int], PlaneFile] = {}
        self._known: dict[int, _Known] = {}
        self._tracks: Tracks | None = None
        # A block of planes per view from the side and class.
        self._blocks: dict[tuple[str, int], tuple[tuple[int, int], FloatArray]] = {}

    def add(self, part: int, result: PlaneResult) -> None:
        """Take a plane of a part.

        Parameters
        ----------
        part : int
            Number of the part.
        result : PlaneResult
            Of the whole plane, or of a region of it.

        Raises
        ------
        StorageError
            If it can't be written.
        """
        cutting = self._plan.parts[part].cutting
        if cutting is None:
            self._add_plane(result)
            return
        count = times_of(self._query) * len(cutting.positions)
        for value, probability in result.probabilities.items():
            name = self._plan.parts[part].name
            file = self._file(name, value, count, cutting.stored, np.float16)
            if result.region is not None:
                raw = self._file(f"{name}-raw", value, count, cutting.shape, np.float16)
                raw.write(result.plane, probability, result.region)
                probability = raw.read(result.plane)
            odds = log_odds(np.asarray(probability, np.float32))
            file.write(result.plane, uncut(odds, cutting))

    def finish(
        self, summaries: Sequence[Summary], hooks: Hooks, on_plane: OnPlane
    ) -> Summary:
        """Draw the labels of the volume and send its planes.

        Parameters
        ----------
        summaries : sequence of Summary
            Of the parts.
        hooks : Hooks
            For progress and cancelling.
        on_plane : callable
            Receives the planes, in the order that they were asked for.

        Returns
        -------
        Summary
        """
        plan = self._plan
        if plan.draws:
            self._draw(summaries, hooks)
        if plan.filters:
            self._filter(hooks)
        if plan.draws or plan.filters:
            self._number_again(hooks)
        if plan.links:
            self._link(hooks)
        self._send(hooks, on_plane)
        drawn = plan.draws or plan.filters
        return summarise(plan, summaries, self._tracks, self._seen() if drawn else None)

    def close(self) -> None:
        """Delete all files."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    # -- taking planes -----------------------------------------------------------------

    def _add_plane(self, result: PlaneResult) -> None:
        number, region = result.plane, result.region
        self._plane_file("labels", np.int32).write(number, result.labels, region)
        known = self._known.setdefault(number, _Known(result))
        if result.instances is not None:
            objects = self._plane_file("objects", np.int32)
            objects.write(number, result.instances, region)
            known.has_objects = True
        if self._plan.draws:
            for value, probability in result.probabilities.items():
                odds = log_odds(np.asarray(probability, np.float32))
                self._plane_file("odds", np.float16, value).write(number, odds, region)
                known.confidence[value] = float(soft_dice(probability))
        known.result = replace(
            result, labels=NO_LABELS, instances=None, probabilities={}, evidence={}
        )

    def _plane_file(self, name: str, dtype: Any, value: int = 0) -> PlaneFile:
        query = self._query
        return self._file(name, value, query.n_planes, query.plane_shape, dtype)

    def _file(
        self, name: str, value: int, count: int, shape: tuple[int, int], dtype: Any
    ) -> PlaneFile:
        key = (name, value)
        if key not in self._files:
            path = self._folder / f"{name}-{value}"
            self._files[key] = PlaneFile(path, count, shape, dtype)
        return self._files[key]

    # -- the passes --------------------------------------------------------------------

    def _volumes(self) -> list[list[tuple[int, int]]]:
        """Return ``[(depth, plane number)]`` of the planes that came, per time."""
        axes = [a for a in self._query.axes if a in "tz"]
        volumes: dict[int, list[tuple[int, int]]] = {}
        for number in sorted(self._known):
            index = dict(zip(axes, self._query.plane_index(number), strict=True))
            volumes.setdefault(index.get("t", 0), []).append(
                (index.get("z", 0), number)
            )
        return [sorted(volumes[t]) for t in sorted(volumes)]

    def _draw(self, summaries: Sequence[Summary], hooks: Hooks) -> None:
        """Fuse the views and smooth along depth; then labels as for planes."""
        weights = view_weights(summaries)
        fillable, shape = dict(summaries[0].fillable), self._query.plane_shape
        for planes in self._volumes():
            numbers = dict(planes)
            looks = smooth_along(self._fused(planes, weights, hooks), self._plan.sigma)
            for z, odds in looks:
                number = numbers[z]
                maps = {v: sigmoid(o) for v, o in odds.items()}
                maps.update(self._prompted(number))
                shown = wanted_pixels(self._plan.request, number, (0, 0, *shape))
                if shown is not None:
                    maps = {v: np.where(shown, p, 0) for v, p in maps.items()}
                labels = self._labels(maps, fillable)
                self._plane_file("labels", np.int32).write(
                    number, labels if shown is None else np.where(shown, labels, 0)
                )
                if self._keeps:
                    for value, probability in maps.items():
                        kept = self._plane_file("maps", np.float16, value)
                        kept.write(number, probability)
                self._score_again(self._known[number], maps)

    def _fused(
        self,
        planes: list[tuple[int, int]],
        weights: dict[int, list[float]],
        hooks: Hooks,
    ) -> Iterator[tuple[int, Odds]]:
        """Yield the log-odds of all views together, plane by plane."""
        rows, columns = self._query.plane_shape
        room = max(1, BLOCK_BYTES // (rows * columns * 4))
        for first in range(0, len(planes), room):
            block = planes[first : first + room]
            start, stop = block[0][0], block[-1][0] + 1
            for z, number in block:
                hooks.report("Fusing what was seen", first, len(planes))
                views = {
                    value: self._views(value, number, z, start, stop)
                    for value in weights
                }
                yield z, fuse(views, weights)
        self._blocks.clear()

    def _views(
        self, value: int, number: int, z: int, start: int, stop: int
    ) -> list[FloatArray | None]:
        """Return what every view says of a class on a plane."""
        rows, columns = self._query.plane_shape
        own = self._files.get(("odds", value))
        views: list[FloatArray | None] = [None if own is None else own.read(number)]
        for part in self._plan.parts[1:]:
            file, cutting = self._files.get((part.name, value)), part.cutting
            if file is None or cutting is None:
                views.append(None)
                continue
            t = self._time_of(number)
            held = self._blocks.get((part.name, value))
            if held is None or held[0] != (t, start):
                along = rows if part.name == "y" else columns
                block = rows_of_cuts(file, cutting, t, start, stop, along)
                self._blocks[part.name, value] = held = (t, start), block
            views.append(held[1][z - start])
        return views

    def _time_of(self, number: int) -> int:
        axes = [a for a in self._query.axes if a in "tz"]
        index = dict(zip(axes, self._query.plane_index(number), strict=True))
        return index.get("t", 0)

    def _prompted(self, number: int) -> dict[int, FloatArray]:
        """Return maps of classes that have prompts on a plane: these decide alone."""
        found = {}
        for value, prompts in self._plan.request.prompts.items():
            here = prompts.on_plane(number, self._query.n_planes)
            own = self._files.get(("odds", value))
            if own is not None and not here.is_empty:
                found[value] = sigmoid(np.asarray(own.read(number), np.float32))
        return found

    def _labels(
        self, maps: dict[int, FloatArray], fillable: dict[int, bool]
    ) -> LabelArray:
        params = self._plan.params
        return probabilities_to_labels(
            maps,
            threshold=params.threshold,
            min_area=params.min_area,
            max_area=params.max_area,
            fill_holes=fillable if params.fill_holes else False,
            largest_only=params.largest_only,
        )

    def _score_again(self, known: _Known, maps: dict[int, FloatArray]) -> None:
        """Lower the score of a plane where all together are less sure than it was."""
        scores = dict(known.result.scores)
        for value, probability in maps.items():
            before = max(known.confidence.get(value, 1.0), 1e-6)
            surer = min(1.0, float(soft_dice(probability)) / before)
            scores[value] = scores.get(value, 0.0) * surer
        known.result = replace(known.result, scores=scores)

    def _filter(self, hooks: Hooks) -> None:
        """Remove objects of the volume that are too thin, too small or not largest."""
        params, file = self._plan.params, self._plane_file("labels", np.int32)
        for planes in self._volumes():
            objects = SpaceObjects()
            for z, number in planes:
                hooks.report("Looking at objects in space")
                objects.add(z, file.read(number))
            objects.keep(
                min_planes=params.min_planes,
                min_volume=params.min_volume,
                largest=params.largest_volume,
            )
            for z, number in planes:
                hooks.check()
                labels = file.read(number)
                file.write(number, np.where(objects.mask(z, labels), labels, 0))

    def _number_again(self, hooks: Hooks) -> None:
        """Number the objects of labels that have changed."""
        mode = self._plan.parts[0].request.params.get("instances", "none")
        file = self._plane_file("labels", np.int32)
        mode = self._plan.params.instances if mode == "none" else mode
        if mode == "none" and not any(k.has_objects for k in self._known.values()):
            return
        objects = self._plane_file("objects", np.int32)
        for number, known in self._known.items():
            hooks.check()
            labels = file.read(number)
            if mode in ("components", "watershed"):
                objects.write(number, split_instances(labels, mode))
                known.has_objects = True
            elif known.has_objects:
                objects.write(number, np.where(labels > 0, objects.read(number), 0))

    def _link(self, hooks: Hooks) -> None:
        params = self._plan.params
        axes = link_axes(self._query.axes, params.link)
        objects, mode = self._plane_file("objects", np.int32), params.instances
        hooks.report("Linking objects")
        self._tracks = link_planes(
            objects.read,
            objects.write,
            [[number for _, number in planes] for planes in self._volumes()],
            axes,
            depth_overlap=TOUCHING if mode in ("none", "components") else None,
            check=hooks.check,
        )

    def _seen(self) -> tuple[dict[int, bool], dict[int, float]]:
        """Return which classes are there, and their mean score on planes with them."""
        file = self._plane_file("labels", np.int32)
        shown: dict[int, list[float]] = {}
        absent: dict[int, list[float]] = {}
        for number, known in self._known.items():
            values = set(np.unique(file.read(number)).tolist())
            for value, score in known.result.scores.items():
                target = shown if value in values else absent
                target.setdefault(value, []).append(score)
        every = {*shown, *absent}
        scores = {v: float(np.mean(shown.get(v) or absent[v])) for v in every}
        return {v: v in shown for v in every}, scores

    # -- giving planes -----------------------------------------------------------------

    @property
    def _keeps(self) -> bool:
        keep = self._plan.request.keep_probabilities
        return bool(keep) and self._plan.draws

    def _send(self, hooks: Hooks, on_plane: OnPlane) -> None:
        request, labels = self._plan.request, self._plane_file("labels", np.int32)
        order: Any = request.planes if request.planes is not None else self._known
        total = len(self._known)
        for done, number in enumerate(n for n in order if n in self._known):
            known = self._known[number]
            hooks.report("Drawing labels", done, total)
            objects = None
            if known.has_objects:
                objects = self._plane_file("objects", np.int32).read(number)
            maps = {
                v: file.read(number)
                for (name, v), file in self._files.items()
                if name == "maps"
            }
            on_plane(
                replace(
                    known.result,
                    labels=labels.read(number),
                    instances=objects,
                    probabilities=maps,
                    region=None,
                    linked=self._plan.links,
                )
            )
