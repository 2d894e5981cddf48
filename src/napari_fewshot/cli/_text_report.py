"""Tables of ``benchmark text``: rows, means, bounds, comparisons, conditions."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.cli._text_data import digest_of
from napari_fewshot.evaluation import Row, compare_pairs, macro, spread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from napari_fewshot.cli._text_data import TextSet
    from napari_fewshot.cli._text_options import TextContender, TextOptions
    from napari_fewshot.cli._text_runs import TextResult

FIGURES = (
    "dice",
    "iou",
    "nsd_2d",
    "nsd_slab",
    "hd95",
    "precision",
    "recall",
    "f1_parts",
    "coarse_dice",
    "coarse_nsd_2d",
    "coarse_nsd_slab",
    "auc",
    "pointing",
    "best_dice",
)
MEANS = (
    "nsd_2d",
    "nsd_slab",
    "coarse_dice",
    "auc",
    "pointing",
    "best_dice",
    "random_dice",
)
SENSE = ("nonsense_r", "empty_r", "other_r", "gap")
NOTE = (
    "nsd_2d is the surface Dice of outlines at 2 pixels; nsd_slab is what papers on "
    "MedCLIP-SAM call NSD, in which all of the foreground counts as surface."
)


@dataclass
class TextReport:
    """Gathers results while a benchmark runs.

    Attributes
    ----------
    contenders : sequence of TextContender
    options : TextOptions
    results, bounds : list of TextResult
        Of methods and of boxes.
    sensitivity, failed : list of dict
    missing : int
        Classes that are in no image.
    """

    contenders: Sequence[TextContender]
    options: TextOptions
    results: list[TextResult] = field(default_factory=list)
    bounds: list[TextResult] = field(default_factory=list)
    sensitivity: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)
    missing: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all was scored."""
        return not self.results

    @property
    def reasons(self) -> list[str]:
        """Why contenders failed, each reason once."""
        return list(dict.fromkeys(f["reason"] for f in self.failed))

    def fail(self, contender: TextContender, found: TextSet, error: Exception) -> None:
        """Note that a contender could not be run on a class."""
        self.failed.append(
            {
                "dataset": found.dataset,
                "class": found.class_name,
                "method": contender.method,
                "model": contender.model,
                "reason": str(error),
            }
        )

    def add(self, result: TextResult) -> str:
        """Take a result in and return its line.

        Parameters
        ----------
        result : TextResult
            Of a contender or a bound.
        """
        (self.bounds if result.bound else self.results).append(result)
        row = self.row(result)
        shown = ("dice", "nsd_2d", "nsd_slab", "coarse_dice", "auc", "random_dice")
        words = [f"{n} {row[n]:.3f}" for n in shown if row.get(n) is not None]
        who = result.bound or result.name
        return (
            f"{row['dataset']:18s} {row['class']:22s} {who:24s} {' '.join(words)} "
            f"{row['seconds_per_image']:.2f} s/image"
        )

    def add_sensitivity(
        self, result: TextResult, rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Take in how phrases compare with nonsense, as means over images.

        Parameters
        ----------
        result : TextResult
            Who looked for what.
        rows : sequence of dict
            Per image and phrase, see `session.check_text`.
        """
        for phrase in dict.fromkeys(row["phrase"] for row in rows):
            mine = [row for row in rows if row["phrase"] == phrase]
            verdicts = Counter(str(row["verdict"]) for row in mine)
            self.sensitivity.append(
                {
                    "dataset": result.found.dataset,
                    "class": result.found.class_name,
                    "method": result.method,
                    "model": result.model,
                    "phrase": phrase,
                    **{n: _mean(row[n] for row in mine) for n in SENSE},
                    "verdict": verdicts.most_common(1)[0][0],
                    "images": len(mine),
                }
            )

    def row(self, result: TextResult) -> dict[str, Any]:
        """Return a result as a row of the table.

        Parameters
        ----------
        result : TextResult
            Figures are means over images; ``_std`` is their standard deviation,
            ``_low`` and ``_high`` the 95 % interval of the mean.
        """
        is_bound, leak = bool(result.bound), self.options.leak
        row: dict[str, Any] = {
            "dataset": result.found.dataset,
            "class": result.found.class_name,
            "phrase": "; ".join(result.phrases) or ("" if is_bound else "per image"),
            "method": result.method,
            "model": result.model,
            "prompt_mode": "boxes" if is_bound else self.options.prompt_mode,
            "hparams": "" if is_bound else self.options.hparams,
            "mode": "bound" if is_bound else leak.mode,
        }
        groups = [case.group for case in result.cases]
        for figure in FIGURES:
            if figure not in result.scores[0].figures:
                continue
            values = [s.figures[figure][0] for s in result.scores]
            told = spread(values, groups)
            row[figure], row[f"{figure}_std"] = told["mean"], told["std"]
            if figure == "dice":
                row["dice_low"], row["dice_high"] = told["low"], told["high"]
        if result.nonsense:
            # Where there is nothing to find, an empty mask is right whatever is asked.
            row["random_dice"] = _mean(
                s.mean()
                for s in result.nonsense
                if math.isfinite(s.figures["recall"][0])
            )
        seconds = [s.query_seconds for s in result.scores]
        # The first image loads the weights, too.
        row["seconds_per_image"] = float(np.median(seconds))
        row["n_queries"] = len(result.scores)
        if result.params:
            row["params"] = {k: _plain(v) for k, v in result.params.items()}
        if result.chosen:
            row["chosen"] = {k: _plain(v) for k, v in result.chosen.items()}
        return row

    def table(self) -> dict[str, Any]:
        """Return rows, means, bounds, comparisons and conditions."""
        rows = [self.row(r) for r in self.results]
        means = [self._macro(c) for c in self.contenders]
        table: dict[str, Any] = {
            "rows": rows,
            "macro": means[0],
            "bounds": [self.row(r) for r in self.bounds],
            "sensitivity": self.sensitivity,
            "conditions": self.conditions,
            "manifest": self._manifest(),
        }
        if len(self.contenders) > 1:
            table["compared"] = [
                {"method": c.method, "model": c.model, **mean}
                for c, mean in zip(self.contenders, means, strict=True)
            ]
            table["significance"] = [asdict(c) for c in self._comparisons()]
            table["failed"] = self.failed
        return table

    @property
    def conditions(self) -> dict[str, Any]:
        """What figures have to be read with."""
        leak = self.options.leak
        return {
            "mode": leak.mode,
            "labels_used": list(leak.reasons),
            "prompt_mode": self.options.prompt_mode,
            "hparams": self.options.hparams,
            "images": "as they are"
            if self.options.original
            else "longest side 256, tasks as they are",
            "nsd": NOTE,
        }

    def conditions_lines(self) -> Iterator[str]:
        """Yield in words what a run knows of the truth."""
        leak = self.options.leak
        yield f"{leak.mode}: phrases {leak.prompts}, settings {leak.hparams}"
        for reason in leak.reasons:
            yield f"labels are used: {reason}"

    def _mine(self, contender: TextContender) -> list[TextResult]:
        return [r for r in self.results if r.name == contender.name]

    def _macro(self, contender: TextContender) -> dict[str, Any]:
        told = [self.row(r) for r in self._mine(contender)]
        rows = [
            Row(
                r["dataset"],
                r["class"],
                0,
                dice=r["dice"],
                iou=r["iou"],
                seconds_per_image=r["seconds_per_image"],
                n_queries=r["n_queries"],
            )
            for r in told
        ]
        found = macro(rows)
        lost = sum(f["method"] == contender.method for f in self.failed)
        found["rows_without_queries"] += self.missing + lost
        for figure in MEANS:
            values = [
                replace(row, dice=r[figure])
                for row, r in zip(rows, told, strict=True)
                if r.get(figure) is not None
            ]
            if values:
                found[figure] = macro(values)["dice"]
        return found

    def _comparisons(self) -> list[Any]:
        scores = {
            c.name: {s.name: s.mean() for r in self._mine(c) for s in r.scores}
            for c in self.contenders
        }
        return compare_pairs(scores)

    def _manifest(self) -> dict[str, dict[str, dict[str, str]]]:
        """Return the digests of image and mask by data set and image."""
        found: dict[str, dict[str, dict[str, str]]] = {}
        for result in (*self.results, *self.bounds):
            here = found.setdefault(result.found.dataset, {})
            for case in result.cases:
                if case.name not in here:
                    image, mask = case.files
                    digests = {"image": digest_of(image), "mask": digest_of(mask)}
                    here[case.name] = digests
        return found

    def described(self) -> dict[str, Any]:
        """Return what was asked for, and by whom it was answered."""
        options = self.options
        prompts, own = options.prompts_path, options.checkpoint
        return {
            "method": [c.method for c in self.contenders],
            "model": [c.model for c in self.contenders],
            "checkpoint": None if own is None else str(own),
            "prompts_sha256": None if prompts is None else digest_of(prompts),
            "box_model": self.bounds[0].model if self.bounds else None,
            "weights_sha256": {
                r.name: r.used["weights_sha256"]
                for r in self.results
                if r.used.get("weights_sha256")
            },
            "notes": list(
                dict.fromkeys(n for r in self.results for n in r.used.get("notes", ()))
            ),
            "seeds": options.seeds,
        }

    def lines(self, table: Mapping[str, Any]) -> Iterator[str]:
        """Yield means, comparisons and warnings as text.

        Parameters
        ----------
        table : dict
            From `table`.
        """
        import pandas as pd

        if self.sensitivity:
            yield "Do the phrases change the map? (correlation with that of nonsense)"
            columns = ["dataset", "phrase", "method", *SENSE, "verdict"]
            frame = pd.DataFrame(self.sensitivity)[columns]
            yield frame.to_string(index=False, float_format="%.3f", na_rep="-")
        if table.get("significance"):
            frame = pd.DataFrame(table["significance"])
            frame = frame.rename(columns={"p_holm": "p (Holm)", "n": "images"})
            yield "Wilcoxon signed-rank over images:"
            yield frame.to_string(index=False, float_format="%.4g")
        for reason in self.reasons:
            yield f"failed: {reason}"
        means = table.get("compared", [table["macro"]])
        for contender, found in zip(self.contenders, means, strict=True):
            names = ("dice", *MEANS)
            shown = [f"{n} {found[n]:.3f}" for n in names if found.get(n) is not None]
            yield f"macro {contender.name}: {' '.join(shown) or 'n/a'}"


def _mean(values: Any) -> float | None:
    kept = [float(v) for v in values if v is not None and math.isfinite(v)]
    return float(np.mean(kept)) if kept else None


def _plain(value: Any) -> Any:
    """Return a parameter as JSON has it."""
    if isinstance(value, (np.integer, np.floating)):
        return value.item()
    return list(value) if isinstance(value, tuple) else value
