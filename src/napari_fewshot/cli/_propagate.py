"""``propagate``: arguments of the command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def propagate_command(
    stack: Annotated[Path, typer.Argument(metavar="STACK", help="Volume or series.")],
    masks: Annotated[
        Path | None, typer.Option(help="Labels of its shape; some planes painted.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="JSON of prompts per object, plane first.")
    ] = None,
    model: Annotated[str, typer.Option(help="See: models list")] = "auto",
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights of your own.")
    ] = None,
    mode: Annotated[
        str, typer.Option(help="auto, interpolate, memory, box, mask, points, ...")
    ] = "auto",
    planes: Annotated[
        str | None, typer.Option(help="Only these: first-last, both counted.")
    ] = None,
    stop_iou: Annotated[
        float, typer.Option(help="An object ends below this overlap with itself.")
    ] = 0.5,
    axes: Annotated[str | None, typer.Option(help="E.g. zyx, tyx, tzyx.")] = None,
    scale: Annotated[str | None, typer.Option(help="Pixel size z,y,x.")] = None,
    channels: Annotated[str | None, typer.Option(help="E.g. 0,2.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path(
        "results"
    ),
) -> None:
    """Carry objects from a few annotated planes of a stack to the others."""
    from napari_fewshot.cli._carry import carry

    carry(
        stack,
        masks,
        prompts,
        out,
        planes,
        scale,
        channels,
        model=model,
        checkpoint=checkpoint,
        mode=mode,
        axes=axes,
        device=device,
        stop_iou=stop_iou,
    )
