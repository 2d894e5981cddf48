"""``benchmark clicks``: masks click by click, with and without accepted images.

Requests go to `inference.run` as they do for users. The reference is what scikit-image
makes of the same clicks: a random walker whose background seeds are the image border.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.cli._benchmark import (
    environment,
    open_datasets,
    plane_query,
    plane_support,
    read_item,
)
from napari_fewshot.data import Hooks, PromptSet, SupportSet
from napari_fewshot.evaluation import (
    Pair,
    binary_dice,
    click_curve,
    clicks_needed,
    make_pair,
    spread_objects,
)
from napari_fewshot.inference import FitCache, PlaneResult, SegmentRequest, run
from napari_fewshot.io import open_labels, write_text

if TYPE_CHECKING:
    import os

    from napari_fewshot._types import AnyArray, BoolArray

Echo = Callable[[str], None]
Click = tuple[int, int, bool]
N_IMAGES = 8
OBJECTS_PER_IMAGE = 3
MAX_CLICKS = 10
TARGET_DICE = 0.8
REFERENCE = "random-walker"


@dataclass(frozen=True, eq=False)
class _Task:
    """One object to be clicked."""

    pair: Pair
    truth: BoolArray
    number: int


def run_click_benchmark(
    root: str | os.PathLike[str],
    *,
    datasets: Sequence[str] = (),
    clicks: Sequence[int] = (1, 3, 5),
    supports: Sequence[int] = (0,),
    whole: bool = False,
    seeds: int = 1,
    method: str = "incontext",
    model: str = "auto",
    jitter: bool = False,
    json_path: str | os.PathLike[str] | None = None,
    echo: Echo = print,
) -> dict[str, Any]:
    """Run the click protocol and return its table.

    Parameters
    ----------
    root : path
        Folder of data sets.
    datasets : sequence of str
        Only these; default all.
    clicks : sequence of int
        After how many clicks Dice is reported.
    supports : sequence of int
        With how many accepted images; 0 is clicks alone.
    whole : bool
        Without supports, too, click on everything of a class instead of one object.
    seeds : int
        Draws of images.
    method, model : str
        What to score; ``"random-walker"`` is the reference.
    jitter : bool
        Click like a person instead of a robot.
    json_path : path, optional
        Write the table there too.
    echo : callable
        Receives each line as it is ready.

    Raises
    ------
    DataError
        If the folder holds no data set.
    """
    rows: list[dict[str, Any]] = []
    options: dict[str, Any] = {"method": method, "model": model}
    for folder, facts in open_datasets(Path(root), datasets):
        for value, name in facts["classes"].items():
            pairs, instances = _pairs(folder, facts, int(value))
            for count in supports:
                everything = whole or count > 0
                row = _row(
                    pairs, instances, count, seeds, options, jitter, clicks, everything
                )
                if row is not None:
                    rows.append({"dataset": folder.name, "class": name, **row})
                    echo(_line(rows[-1]))
    table: dict[str, Any] = {"rows": rows, "macro": _macro(rows, clicks)}
    for count, found in table["macro"].items():
        echo(f"macro supports={count} " + _words(found))
    table["environment"] = {**environment(), "seeds": seeds, **options}
    if json_path is not None:
        write_text(json_path, json.dumps(table, indent=1))
    return table


def _pairs(
    folder: Path, facts: dict[str, Any], value: int
) -> tuple[list[Pair], list[AnyArray | None]]:
    """Return images with masks, and their single objects where they are known."""
    pairs, instances = [], []
    for item in facts["items"]:
        image, labels, group = read_item(folder, item)
        pair = make_pair(image, labels, value, group)
        if pair is None:
            continue
        single = None
        path = folder / str(item.get("instances", ""))
        if "instances" in item and path.is_file():
            single = _fit(np.asarray(open_labels(path)), pair.mask.shape)
        pairs.append(pair)
        instances.append(single)
    return pairs, instances


def _fit(labels: AnyArray, shape: tuple[int, ...]) -> AnyArray:
    rows, columns = (
        np.minimum((np.arange(n) + 0.5) * m / n, m - 1).astype(int)
        for n, m in zip(shape, labels.shape, strict=True)
    )
    fitted: AnyArray = labels[rows][:, columns]
    return fitted


def _row(
    pairs: Sequence[Pair],
    instances: Sequence[AnyArray | None],
    count: int,
    seeds: int,
    options: dict[str, Any],
    jitter: bool,
    clicks: Sequence[int],
    whole: bool,
) -> dict[str, Any] | None:
    """Score one class with one number of supports."""
    most = max(*clicks, MAX_CLICKS) if whole else max(clicks)
    dices, needed, starts, seconds = [], [], [], []
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(pairs))
        queries = [int(i) for i in order[:N_IMAGES]]
        others = [int(i) for i in order[N_IMAGES:]]
        groups = {pairs[i].group for i in queries}
        chosen = [i for i in others if pairs[i].group not in groups][:count]
        if len(chosen) < count or not queries:
            continue
        support = SupportSet(
            [plane_support(pairs[i].image, pairs[i].mask, str(i)) for i in chosen]
        )
        cache = FitCache()
        for task in _tasks(pairs, instances, queries, whole=whole):
            robot = _Robot(task.pair, support, options, cache)
            start = robot.segment([]) if count else np.zeros_like(task.truth)
            rng = np.random.default_rng([seed, task.number]) if jitter else None
            curve = click_curve(task.truth, robot.segment, most, start, rng)
            before = binary_dice(start, task.truth)
            dices.append(curve.dices)
            starts.append(before)
            needed.append(clicks_needed(curve, before, TARGET_DICE))
            seconds += robot.seconds[1:]
    if not dices:
        return None
    mean = np.mean(dices, axis=0)
    return {
        "supports": count,
        "start": float(np.mean(starts)),
        "dice": {str(n): float(mean[n - 1]) for n in clicks if 0 < n <= len(mean)},
        "clicks_to_0.8": float(np.mean(needed)),
        "seconds_per_click": float(np.median(seconds)) if seconds else None,
        "n_objects": len(dices),
    }


def _tasks(
    pairs: Sequence[Pair],
    instances: Sequence[AnyArray | None],
    queries: Sequence[int],
    *,
    whole: bool,
) -> list[_Task]:
    """Return what to click: single objects, or with supports the whole class."""
    from skimage.measure import label

    tasks = []
    for i in queries:
        if whole:
            tasks.append(_Task(pairs[i], pairs[i].mask, i))
            continue
        objects = instances[i]
        if objects is None:
            # Without known objects, every connected part is one.
            objects = label(pairs[i].mask, connectivity=2)
        tasks += [
            _Task(pairs[i], objects == value, i)
            for value in spread_objects(objects, OBJECTS_PER_IMAGE)
        ]
    return tasks


class _Robot:
    """Segments one image from clicks, as a user's session would."""

    def __init__(
        self,
        pair: Pair,
        support: SupportSet,
        options: dict[str, Any],
        cache: FitCache,
    ) -> None:
        self._query = plane_query(pair.image)
        self._support, self._options = support, options
        self._cache = cache
        self._pixels = pair.image
        self.seconds: list[float] = []

    def segment(self, clicks: Sequence[Click]) -> BoolArray:
        """Return the mask for the clicks so far."""
        start = time.perf_counter()
        if self._options["method"] == REFERENCE:
            found = _random_walker(self._pixels, clicks)
        else:
            found = self._run(clicks)
        self.seconds.append(time.perf_counter() - start)
        return found

    def _run(self, clicks: Sequence[Click]) -> BoolArray:
        prompts = {}
        if clicks:
            points = [c[:2] for c in clicks]
            signs = [int(c[2]) for c in clicks]
            prompts[1] = PromptSet(points=points, point_labels=signs)
        results: list[PlaneResult] = []
        request = SegmentRequest(
            self._query,
            self._support,
            prompts=prompts,
            keep_probabilities=False,
            **self._options,
        )
        run(request, Hooks(), results.append, self._cache)
        mask: BoolArray = results[0].labels == 1
        return mask


def _random_walker(image: AnyArray, clicks: Sequence[Click]) -> BoolArray:
    """Grow the clicks by a random walker; the border is background (Grady 2006)."""
    from skimage.segmentation import random_walker

    seeds = np.zeros(image.shape[:2], np.int32)
    seeds[[0, -1]] = 2
    seeds[:, [0, -1]] = 2
    for row, column, positive in clicks:
        window = slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2)
        seeds[window] = 1 if positive else 2
    with warnings.catch_warnings():
        # The solver's tolerance lets probabilities stick out of [0, 1] a little.
        warnings.simplefilter("ignore", UserWarning)
        found: AnyArray = random_walker(
            image, seeds, beta=130, mode="cg_j", channel_axis=-1, tol=1e-3
        )
    grown: BoolArray = found == 1
    return grown


def _macro(
    rows: Sequence[dict[str, Any]], clicks: Sequence[int]
) -> dict[str, dict[str, Any]]:
    """Mean over data sets of the mean over classes, per number of supports."""
    found: dict[str, dict[str, Any]] = {}
    for count in sorted({r["supports"] for r in rows}):
        mine = [r for r in rows if r["supports"] == count]
        names = sorted({r["dataset"] for r in mine})

        def mean(pick: Callable[[dict[str, Any]], float], mine: Any = mine) -> float:
            per = [
                np.mean([pick(r) for r in mine if r["dataset"] == n])
                for n in names  # noqa: B023
            ]
            return float(np.mean(per))

        found[str(count)] = {
            "start": mean(lambda r: r["start"]),
            "dice": {
                str(n): mean(lambda r, n=n: r["dice"][str(n)])  # type: ignore[misc]
                for n in clicks
                if n > 0
            },
            "clicks_to_0.8": mean(lambda r: r["clicks_to_0.8"]),
            "datasets": len(names),
        }
    return found


def _line(row: dict[str, Any]) -> str:
    head = f"{row['dataset']:18s} {row['class']:22s} supports={row['supports']}"
    seconds = row["seconds_per_click"]
    return f"{head} {_words(row)}" + (f" {seconds:.2f} s/click" if seconds else "")


def _words(row: dict[str, Any]) -> str:
    dices = " ".join(f"{n}:{d:.3f}" for n, d in row["dice"].items())
    return (
        f"start {row['start']:.3f} dice {dices} "
        f"clicks to 0.8: {row['clicks_to_0.8']:.2f}"
    )
