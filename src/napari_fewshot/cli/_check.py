"""``check``: what to expect of annotated examples, before anything is segmented."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd


def check_command(
    support: Annotated[
        list[str] | None,
        typer.Option("--support", metavar="IMAGE MASK", help="An example; repeatable."),
    ] = None,
    concept: Annotated[
        Path | None, typer.Option(help="Supports, method and model of a .fewshot file.")
    ] = None,
    query: Annotated[
        Path | None, typer.Option(help="What is to be segmented, for its pixel size.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="See: methods; or auto.")] = None,
    model: Annotated[
        str | None, typer.Option(help="See: models list; or auto.")
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option("--param", help="Parameter, name=value.")
    ] = None,
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Name of a class, 1=nucleus.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights of your own.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    csv: Annotated[Path | None, typer.Option(help="Write the table there.")] = None,
) -> None:
    """Say what Dice to expect of annotated examples, and which of them are odd."""
    from napari_fewshot.cli._given import parse_words
    from napari_fewshot.io import write_text
    from napari_fewshot.session import check_supports

    table = check_supports(
        given_supports(support or [], concept, classes or []),
        method,
        model,
        query,
        checkpoint=checkpoint,
        device=device,
        **parse_words(method or "auto", param or []),
    )
    _show(table)
    if csv is not None:
        write_text(csv, table.to_csv(index=False, float_format="%.4f"))


def given_supports(pairs: list[str], concept: Path | None, classes: list[str]) -> Any:
    """Return the supports of a command: pairs of files, or a concept file.

    Raises
    ------
    DataError
        If both are given.
    """
    from napari_fewshot.cli._given import parse_pairs
    from napari_fewshot.cli._pairs import support_from
    from napari_fewshot.errors import DataError

    if concept is not None:
        if pairs:
            raise DataError("Give --support or --concept, not both.")
        return concept
    names = {int(k): v[0] for k, v in parse_pairs(classes, "--class").items()}
    # typer's lists know one value per flag: `main` has joined the two.
    files = [item.split("\0", 1) for item in pairs]
    return [support_from(a, b, classes=names or None) for a, b in files]


def _show(table: pd.DataFrame) -> None:
    """Print the scores of the supports, what to expect, and notes."""
    from napari_fewshot.session._state import DISAGREES_BELOW

    is_all = table["support"] == "all"
    for _, row in table[~is_all].iterrows():
        mark = "  ! disagrees with the others" if row["dice"] < DISAGREES_BELOW else ""
        mark = "  = teaches nothing new" if row["redundant"] else mark
        print(f"{row['support']:30s} {row['name']:16s} {row['dice']:.2f}{mark}")
    for _, row in table[is_all].iterrows():
        print(
            f"{'expected Dice':30s} {row['name']:16s} {row['dice']:.2f} "
            f"(80 % between {row['low']:.2f} and {row['high']:.2f})"
        )
    if is_all.all():
        print(
            "One support: a rough guess, from bent and re-lit copies of it. Add a "
            "second one."
        )
    for line in (table.attrs["choice"], *table.attrs["notes"]):
        if line:
            print(line)
