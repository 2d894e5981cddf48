"""``everything``: the arguments of the command; what it does is loaded when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def everything(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...")],
    model: Annotated[
        str, typer.Option(help="A promptable one, see: models list")
    ] = "auto",
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights of your own.")
    ] = None,
    points_per_side: Annotated[
        int, typer.Option(help="Points along each side.", min=1)
    ] = 32,
    region: Annotated[
        Path | None, typer.Option(help="Mask of where objects are wanted.")
    ] = None,
    axes: Annotated[str | None, typer.Option(help="E.g. zyx, tyxc.")] = None,
    channels: Annotated[str | None, typer.Option(help="E.g. 0,2.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    param: Annotated[
        list[str] | None, typer.Option("--param", help="Setting, name=value.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path(
        "results"
    ),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Do finished images again.")
    ] = False,
) -> None:
    """Find all objects of images with a model that answers to points."""
    from napari_fewshot.cli._everything_batch import BatchOptions, run_batch

    options = BatchOptions(
        out=out,
        model=model,
        checkpoint=checkpoint,
        region=region,
        axes=axes,
        channels=channels,
        device=device,
        params=[f"points_per_side={points_per_side}", *(param or [])],
        overwrite=overwrite,
    )
    raise typer.Exit(run_batch(images, options))
