"""Episodes of ``benchmark few-shot``: three protocols, one shape.

*planes*: masks of images at longest side 256. *instances*: single objects of images as
they are, for data sets that number them. *chaos*: volumes in folds.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.cli._benchmark import open_datasets, plane_query, plane_support
from napari_fewshot.cli._click_tasks import Item, read_items
from napari_fewshot.cli._fewshot_engines import Answers, Engine
from napari_fewshot.data import Image, SupportSet
from napari_fewshot.errors import DataError
from napari_fewshot.evaluation import (
    EpisodeScore,
    Volume,
    VolumeEpisode,
    binary_dice,
    episode,
    object_precision,
    score_volume,
    volume_episodes,
)
from napari_fewshot.io import open_image, open_labels
from napari_fewshot.ops import split_instances

if TYPE_CHECKING:
    from pathlib import Path

    from napari_fewshot._types import BoolArray
    from napari_fewshot.cli._fewshot_options import FewShotOptions

Judge = Callable[[Answers, Item], dict[str, float]]


@dataclass(frozen=True, eq=False)
class Task:
    """One episode.

    Attributes
    ----------
    group : str
        Draw or fold.
    queries : tuple of str
        Names of the queries.
    score : callable
        Lets an engine work and scores it.
    """

    group: str
    queries: tuple[str, ...]
    score: Callable[[Engine], EpisodeScore]


@dataclass(frozen=True, eq=False)
class Cell:
    """The episodes of one row; none if there are too few images."""

    dataset: str
    class_name: str
    shots: int
    tasks: Sequence[Task]


def cells(root: Path, options: FewShotOptions) -> Iterator[Cell]:
    """Yield the rows of a benchmark with their episodes.

    Parameters
    ----------
    root : path
        Folder of data sets; for volumes, one data set.
    options : FewShotOptions
        What to run.

    Raises
    ------
    DataError
        If the folder holds nothing that the protocol can use.
    """
    if options.protocol == "chaos":
        return _volume_cells(root, options)
    return _plane_cells(root, options)


def _plane_cells(root: Path, options: FewShotOptions) -> Iterator[Cell]:
    by_object = options.protocol == "instances"
    judge = _judge_objects if by_object else _judge_mask
    is_empty = True
    for folder, facts in open_datasets(root, options.datasets):
        if by_object and not any("instances" in item for item in facts["items"]):
            continue
        is_empty = False
        for value, name in facts["classes"].items():
            items = read_items(folder, facts, int(value), original=by_object)
            if by_object:
                items = [item for item in items if item.instances is not None]
            for shots in options.shots:
                tasks = _draws(items, facts, (folder.name, name, shots), options, judge)
                yield Cell(folder.name, name, shots, tasks)
    if is_empty:
        raise DataError(
            f"No data set in {root} numbers its objects (instances in dataset.json); "
            "use --protocol planes."
        )


def _draws(
    items: Sequence[Item],
    facts: dict[str, Any],
    names: tuple[str, str, int],
    options: FewShotOptions,
    judge: Judge,
) -> list[Task]:
    """Draw supports and queries of one row."""
    groups = [item.pair.group for item in items]
    is_ordered = bool(facts.get("ordered_slices"))
    tasks = []
    for seed in range(options.seeds):
        drawn = episode(groups, names[2], seed, is_ordered=is_ordered)
        if drawn is None:
            continue
        supports = [
            plane_support(items[i].pair.image, items[i].pair.mask, str(i))
            for i in drawn[0]
        ]
        queries = [items[i] for i in drawn[1]]
        score = functools.partial(
            _score_draw, SupportSet(supports), queries, names, seed, judge
        )
        tasks.append(Task(str(seed), tuple(q.name for q in queries), score))
    return tasks


def _score_draw(
    support: SupportSet,
    queries: Sequence[Item],
    names: tuple[str, str, int],
    seed: int,
    judge: Judge,
    engine: Engine,
) -> EpisodeScore:
    """Segment every query of a draw; images may differ in size."""
    figures: dict[str, list[float]] = {}
    expected: list[float] = []
    fit, total = 0.0, 0.0
    for query in queries:
        start = time.perf_counter()
        answers = engine.segment(support, plane_query(query.pair.image))
        total += time.perf_counter() - start
        fit += answers.fit_seconds
        expected += answers.expected
        for figure, number in judge(answers, query).items():
            figures.setdefault(figure, []).append(number)
    return EpisodeScore(
        *names,
        str(seed),
        tuple(q.name for q in queries),
        {figure: tuple(numbers) for figure, numbers in figures.items()},
        tuple(expected),
        fit,
        total - fit,
        len(queries),
    )


def _judge_mask(answers: Answers, query: Item) -> dict[str, float]:
    return {"dice": binary_dice(answers.masks[0], query.pair.mask)}


def _judge_objects(answers: Answers, query: Item) -> dict[str, float]:
    """Score single objects; masks without numbers are split at waists."""
    mask = answers.masks[0]
    if answers.instances is None:
        found = split_instances(mask.astype(np.int32), "watershed")
    else:
        found = answers.instances[0]
    objects: Any = query.instances
    wanted = np.where(query.pair.mask, objects, 0)
    precision = object_precision(found, wanted)
    return {
        **_judge_mask(answers, query),
        "ap50": float(precision[0]),
        "ap": float(precision.mean()),
    }


def _volume_cells(root: Path, options: FewShotOptions) -> Iterator[Cell]:
    path = root / "dataset.json"
    if not path.exists():
        raise DataError(
            f"{root} holds no dataset.json; name the folder of the volumes."
        )
    facts = json.loads(path.read_text(encoding="utf-8"))
    volumes = read_volumes(root, facts)
    spacing = tuple(facts.get("spacing") or (1.0, 1.0, 1.0)) if options.hd95 else None
    for value, name in facts["classes"].items():
        names = facts["name"], name
        known: dict[tuple[int, int], SupportSet] = {}
        tasks = [
            Task(
                str(found.fold),
                (volumes[found.query].name,),
                functools.partial(_score_volume, volumes, found, names, known, spacing),
            )
            for found in volume_episodes(volumes, [int(value)], options.rules)
        ]
        yield Cell(*names, 1, tasks)


def read_volumes(root: Path, facts: dict[str, Any]) -> list[Volume]:
    """Return the volumes of a data set, windowed to [0, 1], sorted by number.

    Parameters
    ----------
    root : path
        Folder of the data set.
    facts : dict
        Its ``dataset.json``.
    """
    volumes = []
    for item in sorted(facts["items"], key=lambda i: int(i["group"])):
        image = open_image(root / item["image"], axes="zyx")
        low, high = image.window
        pixels = np.clip((np.asarray(image.array) - low) / (high - low), 0, 1)
        labels = np.asarray(open_labels(root / item["mask"]))
        volumes.append(Volume(str(item["group"]), pixels.astype(np.float32), labels))
    return volumes


def _score_volume(
    volumes: Sequence[Volume],
    found: VolumeEpisode,
    names: tuple[str, str],
    known: dict[tuple[int, int], SupportSet],
    spacing: tuple[float, ...] | None,
    engine: Engine,
) -> EpisodeScore:
    """Segment a query volume, chunk by chunk, each with its own support slice."""
    query = volumes[found.query]
    masks: list[BoolArray] = []
    expected: list[float] = []
    fit = 0.0
    start = time.perf_counter()
    for plane, chunk in zip(found.support_planes, found.chunks, strict=True):
        if not chunk:
            continue
        key = found.support, plane
        if key not in known:
            support = volumes[found.support]
            mask = support.labels[plane] == found.value
            known[key] = SupportSet(
                [plane_support(support.image[plane], mask, "support")]
            )
        asked = Image.from_array(query.image[list(chunk)], axes="zyx", name="query")
        answers = engine.segment(known[key], asked)
        masks.append(answers.masks)
        expected += answers.expected
        fit += answers.fit_seconds
    seconds = time.perf_counter() - start
    truth = query.labels[found.planes] == found.value
    score = score_volume(np.concatenate(masks), truth, spacing)
    figures = {k: (v,) for k, v in asdict(score).items() if v is not None}
    return EpisodeScore(
        *names,
        1,
        str(found.fold),
        (query.name,),
        figures,
        (float(np.mean(expected)),) if expected else (),
        fit,
        seconds - fit,
        len(found.planes),
    )
