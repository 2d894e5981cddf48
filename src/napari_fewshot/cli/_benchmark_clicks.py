"""``benchmark clicks``: simulated users on folders of data sets.

One harness for all protocols and engines: a robot looks at the mask and acts, an engine
answers (`_click_engines`), tables and curves come out (`_click_report`,
`_click_plots`). Protocols: A clicks on the thickest error, B on the largest, D pairs of
clicks, F scribbles, G boxes with noise; each robot says where it comes from.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.cli._benchmark import environment, open_datasets, plane_support
from napari_fewshot.cli._click_engines import (
    Engine,
    MethodEngine,
    PromptedEngine,
    Segment,
    WalkerEngine,
)
from napari_fewshot.cli._click_options import NOISES, ClickOptions
from napari_fewshot.cli._click_plots import draw_plot
from napari_fewshot.cli._click_report import (
    Scored,
    Targets,
    csv_text,
    macro,
    row_line,
    row_words,
    summarise,
)
from napari_fewshot.cli._click_tasks import (
    Item,
    choose_tasks,
    read_items,
    split_limit,
)
from napari_fewshot.data import SupportSet
from napari_fewshot.errors import DataError
from napari_fewshot.evaluation import (
    Curve,
    Interaction,
    Robot,
    Step,
    click_largest_error,
    click_pairs,
    click_thickest_error,
    draw_scribbles,
    noisy_boxes,
    object_rng,
    random_click,
    simulate,
    tight_box,
)
from napari_fewshot.io import write_text
from napari_fewshot.models import load_model

if TYPE_CHECKING:
    import os

    from napari_fewshot._types import BoolArray

Echo = Callable[[str], None]
N_IMAGES = 8
REFERENCE = "random-walker"


def run_click_benchmark(
    root: str | os.PathLike[str],
    options: ClickOptions | None = None,
    echo: Echo = print,
) -> dict[str, Any]:
    """Run simulated users and return the table.

    Parameters
    ----------
    root : path
        Folder of data sets.
    options : ClickOptions, optional
        What to run.
    echo : callable
        Receives each line as it is ready.

    Returns
    -------
    dict
        ``rows`` per data set, class and number of supports; ``macro`` per number of
        supports; ``environment``.

    Raises
    ------
    DataError
        If the folder holds no data set, nothing can be scored, or an option has no
        meaning.
    """
    options = options or ClickOptions()
    options.check()
    make_engine = _engines(options)
    rows: list[dict[str, Any]] = []
    every: list[Scored] = []
    targets = Targets(tuple(options.iou), tuple(options.dice))
    for folder, facts in open_datasets(Path(root), options.datasets):
        shares = split_limit(options.limit, len(facts["classes"]))
        for (value, name), most in zip(facts["classes"].items(), shares, strict=True):
            items = read_items(folder, facts, int(value), original=options.original)
            for count in options.supports:
                scored = _score(
                    items, (folder.name, name), count, most, options, make_engine
                )
                if scored:
                    row = summarise(scored, options.scale, targets)
                    rows.append({"dataset": folder.name, "class": name, **row})
                    every += scored
                    echo(row_line(rows[-1]))
    if not rows:
        raise DataError(
            "No object could be scored: the images are too few for so many supports, "
            "or their classes are empty."
        )
    table: dict[str, Any] = {"rows": rows, "macro": macro(rows, every, options.scale)}
    for support_count, found in table["macro"].items():
        echo(f"macro supports={support_count} " + row_words(found))
    table["environment"] = {**environment(), **_described(options)}
    _write(table, every, options)
    return table


def _described(options: ClickOptions) -> dict[str, Any]:
    names = ("seeds", "method", "model", "protocol", "box", "jitter", "original")
    found: dict[str, Any] = {n: getattr(options, n) for n in names}
    if options.protocol == "F":
        found["scribble"] = options.scribble
    return found | {"max_clicks": options.turns, "limit": options.limit}


def _write(
    table: dict[str, Any], scored: Sequence[Scored], options: ClickOptions
) -> None:
    if options.json_path is not None:
        write_text(options.json_path, json.dumps(table, indent=1))
    if options.csv_path is not None:
        write_text(options.csv_path, csv_text(scored, options.scale))
    if options.plot_path is not None:
        named = options.method if options.model == "auto" else options.model
        title = f"Protocol {options.protocol}: {named}"
        draw_plot(options.plot_path, scored, options.scale, title)


def _engines(options: ClickOptions) -> Callable[[SupportSet], Engine]:
    """Return what makes an engine of accepted images."""
    if options.method == REFERENCE:
        return lambda support: WalkerEngine()
    if options.model != "auto" or options.checkpoint is not None:
        model = load_model(options.model, options.checkpoint, options.device)
        if hasattr(model, "predict"):
            return _prompted(model, options)
    asked = {
        "method": options.method,
        "model": options.model,
        "checkpoint": options.checkpoint,
        "device": options.device,
    }
    return lambda support: MethodEngine(asked, support)


def _prompted(model: Any, options: ClickOptions) -> Callable[[SupportSet], Engine]:
    """Return what makes the engine of a promptable model: always the same one."""
    if any(options.supports):
        raise DataError(
            f"{model.spec.name} knows prompts only; leave --supports at 0 or use a "
            "method."
        )
    if getattr(model, "classes", 0):
        raise DataError(
            f"{model.spec.name} finds its classes without prompts, so there is nothing "
            "to click for; use benchmark few-shot."
        )
    engine = PromptedEngine(model, candidates_first=options.protocol == "D")
    return lambda support: engine


def _score(
    items: Sequence[Item],
    names: tuple[str, str],
    count: int,
    most: int | None,
    options: ClickOptions,
    make_engine: Callable[[SupportSet], Engine],
) -> list[Scored]:
    """Work on the objects of one class with one number of supports."""
    scored = []
    for seed in range(options.seeds):
        order = np.random.default_rng(seed).permutation(len(items))
        queries = [items[i] for i in order[:N_IMAGES]]
        groups = {item.pair.group for item in queries}
        others = [items[i] for i in order[N_IMAGES:]]
        chosen = [o for o in others if o.pair.group not in groups][:count]
        if len(chosen) < count or not queries:
            continue
        support = SupportSet(
            [plane_support(o.pair.image, o.pair.mask, o.name) for o in chosen]
        )
        engine = make_engine(support)
        for task in choose_tasks(queries, most, whole=options.whole or count > 0):
            open_object, embed_seconds = engine.open(task.item.pair.image)
            rng = object_rng(
                seed, f"{names[0]}/{task.item.name}", f"{names[1]} {task.number}"
            )
            curve = _curve(task.truth, open_object, options, rng, known=count > 0)
            scored.append(
                Scored(
                    *names,
                    task.item.name,
                    task.number,
                    count,
                    seed,
                    curve,
                    embed_seconds,
                )
            )
    return scored


def _curve(
    truth: BoolArray,
    open_object: Callable[[], Segment],
    options: ClickOptions,
    rng: np.random.Generator,
    *,
    known: bool,
) -> Curve:
    """Let the robot of the protocol work on one object."""
    if options.protocol == "G":
        return noisy_boxes(truth, open_object, NOISES, rng)
    begin: list[Interaction] | None = [] if known else None
    if options.box:
        begin = [tight_box(truth)]
    elif options.protocol == "D" and not known:
        begin = [random_click(truth, rng)]
    enough = None
    if options.protocol == "A":
        enough = functools.partial(_is_solved, options=options)
    robot = _robot(options)
    return simulate(truth, open_object(), robot, options.turns, rng, begin, enough)


def _is_solved(step: Step, options: ClickOptions) -> bool:
    """Whether every threshold is reached: protocol A stops there, as RITM does."""
    iou, dice = max(options.iou, default=0), max(options.dice, default=0)
    return bool(options.iou or options.dice) and step.iou >= iou and step.dice >= dice


def _robot(options: ClickOptions) -> Robot:
    robots: dict[str, Robot] = {
        "A": functools.partial(click_thickest_error, jitter=options.jitter),
        "B": functools.partial(click_largest_error, jitter=options.jitter),
        "D": click_pairs,
        "F": functools.partial(draw_scribbles, first=options.scribble),
    }
    return robots[options.protocol]
