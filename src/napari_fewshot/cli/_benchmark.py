"""``benchmark few-shot``: the protocols, run through the path that users take.

Requests go to `inference.run` as they do for users; one fit serves all queries of an
episode, and both times are reported apart.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Hooks, Image, Support, SupportSet
from napari_fewshot.errors import DataError
from napari_fewshot.evaluation import (
    FLAGS,
    Pair,
    Row,
    Volume,
    binary_dice,
    copy_support,
    episode,
    macro,
    make_pair,
    score_volumes,
)
from napari_fewshot.inference import FitCache, PlaneResult, SegmentRequest, run
from napari_fewshot.io import open_image, open_labels, write_text

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, BoolArray

Echo = Callable[[str], None]


def run_benchmark(
    root: str | os.PathLike[str],
    *,
    datasets: Sequence[str] = (),
    shots: Sequence[int] = (1, 5),
    seeds: int = 3,
    method: str = "auto",
    model: str = "auto",
    params: dict[str, Any] | None = None,
    protocol: str = "planes",
    json_path: str | os.PathLike[str] | None = None,
    echo: Echo = print,
) -> dict[str, Any]:
    """Run a benchmark and return its table.

    Parameters
    ----------
    root : path
        Folder of data sets (``planes``) or one data set of volumes (``chaos``).
    datasets : sequence of str
        Only these; default all.
    shots, seeds
        Numbers of supports; draws per number.
    method, model, params
        What to score; ``"copy"`` is the floor of the volume protocol.
    protocol : str
        ``"planes"`` or ``"chaos"``.
    json_path : path, optional
        Write the table there too.
    echo : callable
        Receives each line as it is ready.

    Raises
    ------
    DataError
        If the folder holds no data set or the protocol is unknown.
    """
    options = {"method": method, "model": model, "params": dict(params or {})}
    if protocol == "planes":
        table = _planes(Path(root), datasets, shots, seeds, options, echo)
    elif protocol == "chaos":
        table = _chaos(Path(root), options, echo)
    else:
        raise DataError(f"There is no protocol {protocol!r}; use planes or chaos.")
    table["environment"] = {**environment(), "seeds": seeds, **options}
    if json_path is not None:
        write_text(json_path, json.dumps(table, indent=1))
    return table


def environment() -> dict[str, Any]:
    """Return what a figure depends on besides the method."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "processors": os.cpu_count(),
    }


def _planes(
    root: Path,
    datasets: Sequence[str],
    shots: Sequence[int],
    seeds: int,
    options: dict[str, Any],
    echo: Echo,
) -> dict[str, Any]:
    rows: list[Row] = []
    for folder, facts in open_datasets(root, datasets):
        items = [read_item(folder, item) for item in facts["items"]]
        for value, name in facts["classes"].items():
            pairs = [make_pair(im, la, int(value), g) for im, la, g in items]
            found = [p for p in pairs if p is not None]
            is_ordered = bool(facts.get("ordered_slices"))
            for k in shots:
                row = _score(folder.name, name, found, k, seeds, is_ordered, options)
                rows.append(row)
                echo(_line(row))
    summary = macro(rows)
    by_shots = ", ".join(f"k={k} {d:.3f}" for k, d in summary["by_shots"].items())
    echo(f"macro dice {by_shots}; {summary['rows_without_queries']} rows n/a")
    return {"rows": [r.as_dict() for r in rows], "macro": summary}


def open_datasets(
    root: Path, datasets: Sequence[str] = ()
) -> list[tuple[Path, dict[str, Any]]]:
    """Return the data sets in a folder with what their ``dataset.json`` says.

    Raises
    ------
    DataError
        If there is none.
    """
    folders = [p.parent for p in sorted(root.glob("*/dataset.json"))]
    folders = [f for f in folders if not datasets or f.name in datasets]
    if not folders:
        raise DataError(f"{root} holds no data set (a folder with dataset.json).")
    return [
        (f, json.loads((f / "dataset.json").read_text(encoding="utf-8")))
        for f in folders
    ]


def read_item(folder: Path, item: dict[str, Any]) -> tuple[AnyArray, AnyArray, str]:
    """Return image, labels and group of an item of ``dataset.json``."""
    image = np.asarray(open_image(folder / item["image"]).array)
    labels = np.asarray(open_labels(folder / item["mask"]))
    return image, labels, str(item.get("group", item["image"]))


def _score(
    dataset: str,
    name: str,
    pairs: Sequence[Pair],
    shots: int,
    seeds: int,
    is_ordered: bool,
    options: dict[str, Any],
) -> Row:
    """Mean over queries and seeds of one class with one number of supports."""
    dices: list[float] = []
    fits: list[float] = []
    queries_seconds: list[float] = []
    totals: list[float] = []
    for seed in range(seeds):
        drawn = episode([p.group for p in pairs], shots, seed, is_ordered=is_ordered)
        if drawn is None:
            continue
        supports = SupportSet(
            [plane_support(pairs[i].image, pairs[i].mask, str(i)) for i in drawn[0]]
        )
        start = time.perf_counter()
        masks, fit_seconds = _segment_all(
            [pairs[i].image for i in drawn[1]], supports, options
        )
        total = time.perf_counter() - start
        dices += [
            binary_dice(m, pairs[i].mask) for m, i in zip(masks, drawn[1], strict=True)
        ]
        fits.append(fit_seconds)
        queries_seconds.append((total - fit_seconds) / len(masks))
        totals.append(total / len(masks))
    if not dices:
        return Row(dataset, name, shots)
    return Row(
        dataset,
        name,
        shots,
        dice=float(np.mean(dices)),
        iou=float(np.mean([d / (2 - d) for d in dices])),
        seconds_per_image=float(np.mean(totals)),
        fit_seconds=float(np.mean(fits)),
        query_seconds=float(np.mean(queries_seconds)),
        n_queries=len(dices),
    )


def plane_support(image: AnyArray, mask: BoolArray, name: str) -> Support:
    """Return a plane (H, W) or (H, W, C) with its mask as a support."""
    axes = "yxc" if image.ndim == 3 else "yx"
    return Support(image, mask, classes={1: "object"}, axes=axes, name=name)


def plane_query(image: AnyArray) -> Image:
    """Return a plane (H, W) or (H, W, C) as a query."""
    axes = "yxc" if image.ndim == 3 else "yx"
    return Image.from_array(image, axes=axes, name="query")


def _segment_all(
    images: Sequence[AnyArray], supports: SupportSet, options: dict[str, Any]
) -> tuple[list[BoolArray], float]:
    """Segment images of any size with one fit; returns masks and its seconds."""
    cache, masks, fit_seconds = FitCache(), [], 0.0
    for image in images:
        query = plane_query(image)
        results: list[PlaneResult] = []
        request = SegmentRequest(query, supports, keep_probabilities=False, **options)
        summary = run(request, Hooks(), results.append, cache)
        seconds = summary.provenance["seconds"]
        fit_seconds += seconds["fit"] + seconds["assess"]
        masks.append(results[0].labels == 1)
    return masks, fit_seconds


def _line(row: Row) -> str:
    head = f"{row.dataset:18s} {row.class_name:22s} k={row.shots}"
    if row.dice is None:
        return f"{head} n/a"
    return (
        f"{head} dice {row.dice:.3f} iou {row.iou:.3f} {row.seconds_per_image:.2f} "
        f"s/image (fit {row.fit_seconds:.2f} s, query {row.query_seconds:.2f} s)"
    )


def _chaos(root: Path, options: dict[str, Any], echo: Echo) -> dict[str, Any]:
    path = root / "dataset.json"
    if not path.exists():
        raise DataError(
            f"{root} holds no dataset.json; name the folder of the volumes."
        )
    facts = json.loads(path.read_text(encoding="utf-8"))
    items = sorted(facts["items"], key=lambda i: int(i["group"]))
    volumes = []
    for item in items:
        image = open_image(root / item["image"], axes="zyx")
        low, high = image.window
        pixels = np.clip((np.asarray(image.array) - low) / (high - low), 0, 1)
        labels = np.asarray(open_labels(root / item["mask"]))
        volumes.append(Volume(item["group"], pixels.astype(np.float32), labels))
    values = [int(v) for v in facts["classes"]]
    start = time.perf_counter()
    count, cache = 0, FitCache()

    def segment(plane: AnyArray, mask: BoolArray, queries: AnyArray) -> BoolArray:
        nonlocal count
        count += len(queries)
        if options["method"] == "copy":
            return copy_support(plane, mask, queries)
        support = SupportSet([plane_support(plane, mask, "support")])
        request = SegmentRequest(
            Image.from_array(queries, axes="tyx", name="query"), support, **options
        )
        results: list[PlaneResult] = []
        run(request, Hooks(), results.append, cache)
        return np.stack([r.labels == 1 for r in results])

    scores = score_volumes(volumes, values, segment)
    seconds = (time.perf_counter() - start) / max(count, 1)
    rows = []
    for value, dice in scores.items():
        name = facts["classes"][str(value)]
        rows.append(
            Row(
                facts["name"],
                name,
                1,
                dice=dice,
                seconds_per_image=seconds,
                n_queries=len(volumes),
            )
        )
        echo(f"{facts['name']:18s} {name:22s} volume dice {100 * dice:.1f}")
    mean = float(np.mean(list(scores.values())))
    echo(f"macro volume dice {100 * mean:.1f}, {seconds:.2f} s/slice, {FLAGS}")
    summary = {
        "dice": mean,
        "seconds_per_image": seconds,
        "by_shots": {"1": mean},
        "flags": FLAGS,
    }
    return {"rows": [r.as_dict() for r in rows], "macro": summary}
