"""Tables of ``benchmark clicks``: rows, their mean, and every step as CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.evaluation import bootstrap_means, interval, normalised_area

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray
    from napari_fewshot.evaluation import Curve

TARGET_DICE = 0.8
FIELDS = ("dice", "iou", "nsd", "hd95", "seconds", "user_seconds", "pixels")


@dataclass(frozen=True, eq=False)
class Scored:
    """One object that a robot has worked on.

    Attributes
    ----------
    dataset, class_name, image, number : str
        Which object.
    supports, seed : int
        With how many accepted images, and in which draw.
    curve : Curve
    embed_seconds : float or None
        To embed its image, where that is a step of its own.
    """

    dataset: str
    class_name: str
    image: str
    number: str
    supports: int
    seed: int
    curve: Curve
    embed_seconds: float | None = None


@dataclass(frozen=True)
class Scale:
    """What the steps of a protocol are called and which of them are reported.

    Attributes
    ----------
    label : str
        Of the axis.
    names : tuple of str
        Of all steps.
    shown : tuple of int
        Steps in the tables.
    is_effort : bool
        Whether later steps are more work, so that it counts how soon a mask is good.
    """

    label: str
    names: tuple[str, ...]
    shown: tuple[int, ...]
    is_effort: bool = True


@dataclass(frozen=True)
class Targets:
    """From which values on an object counts as done.

    Attributes
    ----------
    iou, dice : tuple of float
    """

    iou: tuple[float, ...]
    dice: tuple[float, ...]

    def named(self) -> list[tuple[str, str, float]]:
        """Return key, figure and threshold of each."""
        every = [("iou", t) for t in self.iou] + [("dice", t) for t in self.dice]
        return [(f"{name}@{t:g}", name, t) for name, t in every]


def summarise(
    scored: Sequence[Scored], scale: Scale, targets: Targets
) -> dict[str, Any]:
    """Return the row of objects of one class with one number of supports.

    Parameters
    ----------
    scored : sequence of Scored
        At least one.
    scale : Scale
        Of the protocol.
    targets : Targets
        Thresholds.
    """
    curves = [s.curve for s in scored]
    every = {n: np.stack([c.values(n) for c in curves]) for n in ("dice", "iou", "nsd")}
    seconds = [
        t for c in curves for t in (c.seconds[1:] if scale.is_effort else c.seconds)
    ]
    embedded = {s.image: s.embed_seconds for s in scored if s.embed_seconds is not None}
    row: dict[str, Any] = {
        "supports": scored[0].supports,
        "start": float(every["dice"][:, 0].mean()),
        "dice": _at(every["dice"].mean(0), scale),
        "iou": _at(every["iou"].mean(0), scale),
        "nsd": _at(every["nsd"].mean(0), scale),
        "dice_interval": _interval(bootstrap(scored), scale),
    }
    if scale.is_effort:
        row |= _effort(curves, every["dice"], targets)
    return row | {
        "seconds_to_embed": float(np.mean(list(embedded.values())))
        if embedded
        else None,
        "seconds_per_click": float(np.median(seconds)) if seconds else None,
        "n_objects": len(scored),
        "n_images": len({s.image for s in scored}),
    }


def _effort(
    curves: Sequence[Curve], dices: AnyArray, targets: Targets
) -> dict[str, Any]:
    """Return how soon objects were good."""
    late = [c.reached("dice", TARGET_DICE) for c in curves]
    named = targets.named()
    return {
        # One more than there are if none do: an older figure, kept for comparison.
        "clicks_to_0.8": float(
            np.mean([curves[0].count + 1 if n is None else n for n in late])
        ),
        "noc": {
            k: float(np.mean([c.interactions(n, t) for c in curves]))
            for k, n, t in named
        },
        "failures": {
            k: float(np.mean([c.reached(n, t) is None for c in curves]))
            for k, n, t in named
        },
        "auc": float(np.mean([normalised_area(d[1:]) for d in dices])),
    }


def _at(values: AnyArray, scale: Scale) -> dict[str, float]:
    return {scale.names[i]: float(values[i]) for i in scale.shown}


def _interval(means: AnyArray, scale: Scale) -> dict[str, list[float]] | None:
    if np.isnan(means).any():
        return None
    low, high = interval(means)
    return {scale.names[i]: [float(low[i]), float(high[i])] for i in scale.shown}


def bootstrap(scored: Sequence[Scored]) -> AnyArray:
    """Return resampled mean Dice (1000, steps) of objects of one data set."""
    return bootstrap_means(
        np.stack([s.curve.values() for s in scored]),
        [s.image for s in scored],
        [s.class_name for s in scored],
    )


def macro(
    rows: Sequence[dict[str, Any]], scored: Sequence[Scored], scale: Scale
) -> dict[str, dict[str, Any]]:
    """Return means over data sets of means over classes, per number of supports.

    Parameters
    ----------
    rows : sequence of dict
        From `summarise`, with their ``dataset``.
    scored : sequence of Scored
        The objects behind them, for the interval.
    scale : Scale
        Of the protocol.
    """
    found: dict[str, dict[str, Any]] = {}
    for count in sorted({r["supports"] for r in rows}):
        mine = [r for r in rows if r["supports"] == count]
        names = sorted({r["dataset"] for r in mine})
        parts = [_mean([r for r in mine if r["dataset"] == n]) for n in names]
        draws = [
            bootstrap([s for s in scored if s.supports == count and s.dataset == n])
            for n in names
        ]
        found[str(count)] = _mean(parts) | {
            "dice_interval": _interval(np.mean(draws, axis=0), scale),
            "datasets": len(names),
        }
    return found


def _mean(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Average tables of numbers key by key; what is unknown stays out."""
    mean: dict[str, Any] = {}
    for key, first in rows[0].items():
        if key in ("supports", "dice_interval", "n_objects", "n_images"):
            continue
        values = [r[key] for r in rows if r[key] is not None]
        if isinstance(first, dict):
            mean[key] = _mean(values)
        elif not isinstance(first, str):
            mean[key] = float(np.mean(values)) if values else None
    return mean


def row_line(row: dict[str, Any]) -> str:
    """Return a row as one line of text."""
    head = f"{row['dataset']:18s} {row['class']:22s} supports={row['supports']}"
    return f"{head} {row_words(row)}"


def row_words(row: dict[str, Any]) -> str:
    """Return the figures of a row or of the macro row as text."""
    words = [f"start {row['start']:.3f} dice"]
    words += [f"{n}:{d:.3f}" for n, d in row["dice"].items()]
    if "clicks_to_0.8" in row:
        words.append(f"clicks to 0.8: {row['clicks_to_0.8']:.2f}")
    if row["seconds_per_click"]:
        words.append(f"{row['seconds_per_click']:.2f} s/click")
    if row["seconds_to_embed"]:
        words.append(f"embed {row['seconds_to_embed']:.2f} s")
    if "noc" in row:
        words.append(f"auc {row['auc']:.3f} noc (failed)")
        words += [
            f"{key}:{noc:.2f} ({100 * row['failures'][key]:.0f} %)"
            for key, noc in row["noc"].items()
        ]
    return " ".join(words)


def csv_text(scored: Sequence[Scored], scale: Scale) -> str:
    """Return one line per object and step.

    Steps after the robot stopped repeat the last one, without ``seconds``.

    Parameters
    ----------
    scored : sequence of Scored
        All objects.
    scale : Scale
        Names the steps.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    names = ("dataset", "class", "supports", "seed", "image", "object", "step")
    writer.writerow((*names, *FIELDS))
    for s in scored:
        head = (s.dataset, s.class_name, s.supports, s.seed, s.image, s.number)
        for number, (name, step) in enumerate(
            zip(scale.names, s.curve.padded, strict=True)
        ):
            figures = [getattr(step, f) for f in FIELDS]
            if number >= len(s.curve.steps):
                figures[FIELDS.index("seconds")] = None
            writer.writerow((*head, name, *figures))
    return out.getvalue()
