"""Plots of ``benchmark few-shot``: figures by data set, and estimates against truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.evaluation import bootstrap_means, interval
from napari_fewshot.io import atomic_write

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from napari_fewshot.cli._fewshot_report import Result
    from napari_fewshot.evaluation import EpisodeScore

AXIS_LABELS = {"dice": "Dice", "ap50": "AP at IoU 0.5, TP / (TP + FP + FN)"}
INCHES_PER_ROW, LEAST_INCHES = 0.22, 4.0


def draw_plot(
    path: str | os.PathLike[str], results: Sequence[Result], figure: str
) -> None:
    """Draw the figure of every data set and method with its 95 % interval by image.

    A second panel has the Dice that methods expected of an episode against the true
    one, if any method says so.

    Parameters
    ----------
    path : path
        PNG or SVG.
    results : sequence of Result
        All rows.
    figure : str
        Name of the figure.

    Raises
    ------
    StorageError
        If the file can't be written.
    """
    from matplotlib.figure import Figure

    told = any(s.expected for r in results for s in r.scores)
    series = list(dict.fromkeys((r.contender.name, r.cell.shots) for r in results))
    places = list(dict.fromkeys(_place(r, results) for r in results))
    height = INCHES_PER_ROW * len(places) * (len(series) + 1) + 1
    drawing = Figure(
        figsize=(11 if told else 6, max(LEAST_INCHES, height)), layout="constrained"
    )
    panels: Any = drawing.subplots(1, 2 if told else 1, squeeze=False)[0]
    _draw_figures(panels[0], results, series, places, figure)
    if told:
        _draw_estimates(panels[1], results, series)
    drawing.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=max(1, min(4, len(series))),
        fontsize="small",
    )
    with atomic_write(path) as temporary:
        drawing.savefig(temporary, dpi=150)


def _place(result: Result, results: Sequence[Result]) -> str:
    """Return the data set, or the class where there is only one data set."""
    if len({r.cell.dataset for r in results}) > 1:
        return result.cell.dataset
    return result.cell.class_name


def _draw_figures(
    axes: Any,
    results: Sequence[Result],
    series: Sequence[tuple[str, int]],
    places: Sequence[str],
    figure: str,
) -> None:
    for number, (name, shots) in enumerate(series):
        offset = (number - (len(series) - 1) / 2) * 0.8 / len(series)
        points = []
        for at, place in enumerate(places):
            scores = [
                s
                for r in results
                if (r.contender.name, r.cell.shots) == (name, shots)
                and _place(r, results) == place
                for s in r.scores
            ]
            if scores:
                points.append((at + offset, *_centre(scores, figure)))
        y, x, low, high = np.array(points).reshape(-1, 4).T
        axes.errorbar(
            x,
            y,
            xerr=(x - low, high - x),
            fmt="o",
            color=f"C{number}",
            markersize=4,
            label=f"{name}, k={shots}",
        )
    axes.set_yticks(range(len(places)), places)
    axes.invert_yaxis()
    label = AXIS_LABELS.get(figure, figure)
    axes.set(xlabel=f"{label}, 95 % interval by image", xlim=(0, 1))
    axes.grid(axis="x", alpha=0.3)


def _centre(scores: Sequence[EpisodeScore], figure: str) -> tuple[float, float, float]:
    """Return the mean over classes of the mean over queries, and its interval."""
    values = np.array([[v] for s in scores for v in s.figures[figure]])
    images = [query for s in scores for query in s.queries]
    classes = [s.class_name for s in scores for _ in s.queries]
    means = bootstrap_means(values, images, classes)
    names = np.array(classes)
    mean = float(np.mean([values[names == n].mean() for n in set(classes)]))
    if np.isnan(means).any():
        return mean, mean, mean
    low, high = interval(means)
    return mean, min(mean, float(low[0])), max(mean, float(high[0]))


def _draw_estimates(
    axes: Any, results: Sequence[Result], series: Sequence[tuple[str, int]]
) -> None:
    for number, key in enumerate(series):
        told = [
            s
            for r in results
            if (r.contender.name, r.cell.shots) == key
            for s in r.scores
            if s.expected
        ]
        axes.scatter(
            [np.mean(s.expected) for s in told],
            [s.mean() for s in told],
            s=14,
            alpha=0.7,
            color=f"C{number}",
        )
    axes.plot((0, 1), (0, 1), color="black", linewidth=1)
    axes.set(xlabel="expected Dice of an episode", ylabel="true Dice")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.grid(alpha=0.3)
