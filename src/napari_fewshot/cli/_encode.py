"""``encode``: arguments of the command."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations
from typing import Annotated

import typer


def encode(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", show_default=False)],
    model: Annotated[str, typer.Option(help="See: models list")] = "auto",
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights of your own.")
    ] = None,
    axes: Annotated[str | None, typer.Option(help="E.g. zyx, tyxc.")] = None,
    channels: Annotated[str | None, typer.Option(help="E.g. 0,2.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Encode images ahead of time, so that clicks and runs need not wait."""
    from napari_fewshot.cli._precompute import EncodeOptions, precompute

    options = EncodeOptions(model, checkpoint, axes, channels, device, yes)
    raise typer.Exit(precompute(paths, options))
