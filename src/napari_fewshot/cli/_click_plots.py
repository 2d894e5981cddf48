"""Curves of ``benchmark clicks`` as PNG or SVG."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.cli._click_report import Scale, Scored, bootstrap
from napari_fewshot.errors import DataError
from napari_fewshot.evaluation import interval
from napari_fewshot.io import atomic_write

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray

ENDINGS = (".png", ".svg")
USER_LABEL = (
    "assumed seconds of the user\n(click 1.5, box 3.5, scribble 2 + pixels / 200)"
)


def check_plot(path: str | os.PathLike[str]) -> None:
    """Make sure that a plot can be drawn, before hours of work.

    Raises
    ------
    DataError
        If the ending is none of PNG and SVG, or matplotlib is missing.
    """
    if Path(path).suffix.lower() not in ENDINGS:
        raise DataError(
            f"{Path(path).name} can't be drawn: end the name of a plot in .png or .svg."
        )
    if importlib.util.find_spec("matplotlib") is None:
        raise DataError(
            "Plots need matplotlib, which is not installed: pip install matplotlib, or "
            "leave --plot out."
        )


def draw_plot(
    path: str | os.PathLike[str], scored: Sequence[Scored], scale: Scale, title: str
) -> None:
    """Draw mean Dice against effort, with its 95 % interval by image.

    Parameters
    ----------
    path : path
        PNG or SVG.
    scored : sequence of Scored
        All objects.
    scale : Scale
        Of the protocol. With effort, a second panel has the time of the user.
    title : str
        Above the panels.

    Raises
    ------
    StorageError
        If the file can't be written.
    """
    from matplotlib.figure import Figure

    panels = [(scale.label, "")]
    if scale.is_effort:
        panels += [(USER_LABEL, "user_seconds"), ("pixels clicked or drawn", "pixels")]
    figure = Figure(figsize=(4.5 * len(panels), 4), layout="constrained")
    figure.suptitle(title)
    every = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    for axes, (label, measure) in zip(every, panels, strict=True):
        _draw_panel(axes, scored, measure, scale)
        axes.set(xlabel=label, ylim=(0, 1))
        axes.grid(alpha=0.3)
    if not scale.is_effort:
        every[0].set_xticks(_steps(scale))
    every[0].set_ylabel("mean Dice, 95 % interval by image")
    every[0].legend(fontsize="small", loc="lower right")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _draw_panel(
    axes: Any, scored: Sequence[Scored], measure: str, scale: Scale
) -> None:
    """Draw the data sets thin and their mean, with its interval, bold."""
    counts = sorted({s.supports for s in scored})
    for count in counts:
        mine = [s for s in scored if s.supports == count]
        names = sorted({s.dataset for s in mine})
        parts = [[s for s in mine if s.dataset == n] for n in names]
        places = [_mean(p, measure) if measure else _steps(scale) for p in parts]
        curves = [_mean(p, "dice") for p in parts]
        if len(counts) == 1 and len(names) > 1:
            for name, x, y in zip(names, places, curves, strict=True):
                axes.plot(x, y, linewidth=1, alpha=0.7, label=name)
        label = names[0] if len(names) == 1 else f"mean of {len(names)} data sets"
        if len(counts) > 1:
            label += f", {count} accepted images"
        x, y = np.mean(places, axis=0), np.mean(curves, axis=0)
        colour = "black" if len(counts) == 1 else f"C{counts.index(count)}"
        axes.plot(x, y, color=colour, marker=".", linewidth=2, label=label)
        means = np.mean([bootstrap(p) for p in parts], axis=0)
        if not np.isnan(means).any():
            axes.fill_between(x, *interval(means), color=colour, alpha=0.15)


def _steps(scale: Scale) -> AnyArray:
    return np.array([float(name) for name in scale.names])


def _mean(scored: Sequence[Scored], name: str) -> AnyArray:
    """Mean over classes of the mean over objects, per step."""
    classes = sorted({s.class_name for s in scored})
    means: AnyArray = np.mean(
        [
            np.mean([s.curve.values(name) for s in scored if s.class_name == c], axis=0)
            for c in classes
        ],
        axis=0,
    )
    return means
