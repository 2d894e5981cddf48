"""Tables of ``benchmark few-shot``: rows, means, comparisons, and queries as CSV."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from napari_fewshot.evaluation import (
    EpisodeScore,
    Row,
    compare_pairs,
    estimate_quality,
    macro,
    mean_of,
    row_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_fewshot.cli._fewshot_options import Contender, FewShotOptions
    from napari_fewshot.cli._fewshot_tasks import Cell

HEADLINES = {"planes": "dice", "instances": "ap50", "chaos": "dice"}
# Figures beside Dice and IoU, by protocol, in the order of the tables.
EXTRAS = {"planes": (), "instances": ("ap50", "ap"), "chaos": ("slice_dice", "hd95")}

# With more pairs than this only those with the first method are printed.
MAX_PAIRS = 30


@dataclass(frozen=True, eq=False)
class Result:
    """What a contender gave on one row.

    Attributes
    ----------
    contender : Contender
    cell : Cell
    scores : list of EpisodeScore
        Empty if there was nothing to score or it failed.
    """

    contender: Contender
    cell: Cell
    scores: Sequence[EpisodeScore]


@dataclass
class Report:
    """Gathers results while a benchmark runs.

    Attributes
    ----------
    contenders : sequence of Contender
    options : FewShotOptions
    results : list of Result
    failed : list of dict
    """

    contenders: Sequence[Contender]
    options: FewShotOptions
    results: list[Result] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)

    @property
    def headline(self) -> str:
        """The figure that methods are compared by."""
        return HEADLINES[self.options.protocol]

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all was scored."""
        return not any(r.scores for r in self.results)

    @property
    def reasons(self) -> list[str]:
        """Why contenders failed, each reason once."""
        return list(dict.fromkeys(f["reason"] for f in self.failed))

    def fail(self, contender: Contender, cell: Cell, error: Exception) -> None:
        """Note that a contender could not be run on a row."""
        self.failed.append(
            {
                "method": contender.method,
                "model": contender.model,
                "dataset": cell.dataset,
                "class": cell.class_name,
                "shots": cell.shots,
                "reason": str(error),
            }
        )

    def add(self, result: Result) -> str:
        """Take a result in and return its line.

        Parameters
        ----------
        result : Result
            Of the next row.
        """
        self.results.append(result)
        cell, row = result.cell, self._row(result)
        head = f"{cell.dataset:18s} {cell.class_name:22s} k={cell.shots}"
        if len(self.contenders) > 1:
            head += f" {result.contender.name:24s}"
        if row["dice"] is None:
            return f"{head} n/a"
        words = [f"{n} {row[n]:.3f}" for n in ("dice", "iou") if row[n] is not None]
        words += [f"{n} {row[n]:.3f}" for n in self._extras if row.get(n) is not None]
        return (
            f"{head} {' '.join(words)} {row['seconds_per_image']:.2f} s/image "
            f"(fit {row['fit_seconds']:.2f} s, query {row['query_seconds']:.2f} s)"
        )

    @property
    def _extras(self) -> tuple[str, ...]:
        return EXTRAS[self.options.protocol]

    def _figure_row(self, result: Result) -> Row:
        cell = result.cell
        if not result.scores:
            return Row(cell.dataset, cell.class_name, cell.shots)
        return row_of(result.scores, by_group=self.options.protocol == "chaos")

    def _row(self, result: Result) -> dict[str, Any]:
        row = self._figure_row(result).as_dict()
        if len(self.contenders) > 1:
            names = {n: getattr(result.contender, n) for n in ("method", "model")}
            row = {**names, **row}
        for figure in self._extras:
            if result.scores and figure in result.scores[0].figures:
                row[figure] = self._mean(result, figure)
        return row

    def _mean(self, result: Result, figure: str) -> float | None:
        return mean_of(result.scores, figure, by_group=self.options.protocol == "chaos")

    def table(self) -> dict[str, Any]:
        """Return rows, means and comparisons."""
        means = [self._macro(c) for c in self.contenders]
        rows = [self._row(r) for r in self.results]
        table: dict[str, Any] = {"rows": rows, "macro": means[0]}
        if len(self.contenders) > 1:
            table["compared"] = [
                {"method": c.method, "model": c.model, **mean}
                for c, mean in zip(self.contenders, means, strict=True)
            ]
            table["significance"] = [asdict(c) for c in self._comparisons()]
            table["failed"] = self.failed
        return table

    def _macro(self, contender: Contender) -> dict[str, Any]:
        mine = [r for r in self.results if r.contender is contender]
        rows = [self._figure_row(r) for r in mine]
        found = macro(rows)
        for figure in self._extras:
            scored = [r for r in mine if r.scores and figure in r.scores[0].figures]
            if scored:
                values = [
                    replace(self._figure_row(r), dice=self._mean(r, figure))
                    for r in scored
                ]
                found[figure] = macro(values)["dice"]
        found["estimate"] = _estimate([s for r in mine for s in r.scores])
        if self.options.flags:
            found["flags"] = self.options.flags
        return found

    def _comparisons(self) -> list[Any]:
        scores = {
            c.name: {
                s.name: s.mean(self.headline)
                for r in self.results
                if r.contender is c
                for s in r.scores
                if math.isfinite(s.mean(self.headline))
            }
            for c in self.contenders
        }
        return compare_pairs(scores)

    def described(self) -> dict[str, Any]:
        """Return what was asked for, for the table."""
        options = self.options
        first = self.contenders[0]
        several = len(self.contenders) > 1
        return {
            "seeds": options.seeds,
            "protocol": options.protocol,
            "method": [c.method for c in self.contenders] if several else first.method,
            "model": [c.model for c in self.contenders]
            if several
            else ",".join(options.models),
            "params": {c.name: dict(c.params) for c in self.contenders}
            if several
            else dict(first.params),
        }

    def lines(self, table: dict[str, Any]) -> Iterator[str]:
        """Yield the means and comparisons as text.

        Parameters
        ----------
        table : dict
            From `table`.
        """
        if len(self.contenders) > 1:
            yield from _compared_lines(table, self.contenders, self._extras)
        for reason in self.reasons:
            yield f"failed: {reason}"
        yield _macro_line(table["macro"], self._extras)


def _estimate(scores: Sequence[EpisodeScore]) -> dict[str, Any]:
    """Compare expected with true Dice: means of episodes, and single queries."""
    told = [s for s in scores if s.expected]
    pairs = [
        pair for s in told for pair in zip(s.expected, s.figures["dice"], strict=True)
    ]
    means = [(sum(s.expected) / len(s.expected), s.mean()) for s in told]
    return {
        **estimate_quality([m[0] for m in means], [m[1] for m in means]),
        "queries": estimate_quality([p[0] for p in pairs], [p[1] for p in pairs]),
    }


def _macro_line(found: dict[str, Any], extras: Sequence[str]) -> str:
    by_shots = ", ".join(f"k={k} {d:.3f}" for k, d in found["by_shots"].items())
    words = [f"macro dice {by_shots}"]
    words += [f"{n} {found[n]:.3f}" for n in extras if found.get(n) is not None]
    estimate = found["estimate"]
    if estimate["n"]:
        correlation = estimate["correlation"]
        shown = "unknown" if correlation is None else f"{correlation:.2f}"
        words.append(
            f"estimate: correlation {shown}, mean error {estimate['mae']:.3f} over "
            f"{estimate['n']} episodes"
        )
    words.append(f"{found['rows_without_queries']} rows n/a")
    if "flags" in found:
        words.append(", ".join(f"{k} {v}" for k, v in found["flags"].items()))
    return "; ".join(words)


def _compared_lines(
    table: dict[str, Any], contenders: Sequence[Contender], extras: Sequence[str]
) -> Iterator[str]:
    import pandas as pd

    rows = []
    for contender, mean in zip(contenders, table["compared"], strict=True):
        shots = {f"k={k}": d for k, d in mean["by_shots"].items()}
        row = {"": contender.name, **shots}
        row |= {n: mean[n] for n in extras if n in mean}
        row |= {"s/image": mean["seconds_per_image"]}
        row |= {"estimate r": mean["estimate"]["correlation"]}
        row |= {"estimate mae": mean["estimate"]["mae"]}
        row |= {"rows n/a": mean["rows_without_queries"]}
        rows.append({k: math.nan if v is None else v for k, v in row.items()})
    yield pd.DataFrame(rows).to_string(index=False, float_format="%.3f", na_rep="-")
    if table["significance"]:
        frame = pd.DataFrame(table["significance"])
        if len(frame) > MAX_PAIRS:
            frame = frame[frame["first"] == contenders[0].name]
        frame = frame.rename(columns={"p_holm": "p (Holm)", "n": "episodes"})
        yield "Wilcoxon signed-rank over episodes:"
        yield frame.to_string(index=False, float_format="%.4g")


def csv_text(results: Sequence[Result]) -> str:
    """Return one line per query.

    Parameters
    ----------
    results : sequence of Result
        All rows.
    """
    import pandas as pd

    rows = []
    for result in results:
        for s in result.scores:
            expected = s.expected or (None,) * len(s.queries)
            for at, query in enumerate(s.queries):
                rows.append(
                    {
                        "dataset": s.dataset,
                        "class": s.class_name,
                        "shots": s.shots,
                        "group": s.group,
                        "method": result.contender.method,
                        "model": result.contender.model,
                        "query": query,
                        "expected": expected[at],
                        **{n: v[at] for n, v in s.figures.items()},
                    }
                )
    text: str = pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")
    return text
