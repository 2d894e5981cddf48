"""``explain``: every intermediate of a method on one plane, as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fewshot._types import AnyArray
    from napari_fewshot.data import PromptSet
    from napari_fewshot.inference import Evidence


def explain_command(
    query: Annotated[Path, typer.Argument(metavar="QUERY", help="An image or stack.")],
    support: Annotated[
        list[str] | None,
        typer.Option("--support", metavar="IMAGE MASK", help="An example; repeatable."),
    ] = None,
    concept: Annotated[
        Path | None, typer.Option(help="Supports, method and model of a .fewshot file.")
    ] = None,
    plane: Annotated[int, typer.Option(help="Plane of a stack, from 0.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("results"),
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
    axes: Annotated[str | None, typer.Option(help="E.g. zyx, tyxc.")] = None,
    scale: Annotated[str | None, typer.Option(help="Pixel size z,y,x.")] = None,
    channels: Annotated[str | None, typer.Option(help="E.g. 0,2.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights of your own.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Write how a method sees a plane: maps, points and boxes, candidates."""
    from napari_fewshot.cli._check import given_supports
    from napari_fewshot.cli._given import parse_words
    from napari_fewshot.io import open_image
    from napari_fewshot.session import explain

    image = open_image(
        query,
        axes=axes,
        scale=None if scale is None else [float(s) for s in scale.split(",")],
        channels=None if channels is None else [int(c) for c in channels.split(",")],
    )
    found = explain(
        image,
        given_supports(support or [], concept, classes or []),
        method,
        model,
        plane,
        checkpoint=checkpoint,
        device=device,
        **parse_words(method or "auto", param or []),
    )
    is_stack = image.n_planes > 1
    for path in write_evidence(out, query, found, plane if is_stack else None):
        print(path)


def write_evidence(
    out: Path, query: Path, found: Mapping[int, Evidence], plane: int | None
) -> list[Path]:
    """Write the evidence of a plane; returns the files.

    Parameters
    ----------
    out : Path
        Folder.
    query : Path
        Names the files.
    found : mapping of int to Evidence
        Per class.
    plane : int, optional
        Number of the plane in a stack; prompts then begin with it.
    """
    from napari_fewshot.io import stem_of, write_text

    where = "" if plane is None else f"_plane{plane}"
    stem = f"{stem_of(query)}{where}"
    files = []
    for value, evidence in found.items():
        for name, values in evidence.maps.items():
            words = name.replace(" ", "-")
            files.append(out / f"{stem}_class{value}_{words}.tif")
            _write_tiff(files[-1], values.astype("float32"), "YX")
        masks = evidence.candidates
        if masks is not None and len(masks):
            files.append(out / f"{stem}_class{value}_candidates.tif")
            # The best first; ImageJ shows 0 and 255 as black and white.
            _write_tiff(files[-1], masks.astype("uint8") * 255, "ZYX")
    content = {
        str(value): prompts_record(evidence.prompts, plane)
        for value, evidence in found.items()
        if evidence.prompts is not None
    }
    if content:
        files.append(out / f"{stem}_prompts.json")
        write_text(files[-1], json.dumps(content, indent=1))
    return files


def prompts_record(prompts: PromptSet, plane: int | None) -> dict[str, Any]:
    """Return points and boxes as ``segment --prompts`` reads them.

    Parameters
    ----------
    prompts : PromptSet
        In pixels of a plane.
    plane : int, optional
        Its number in a stack; coordinates then begin with it.
    """
    record: dict[str, Any] = {}
    if prompts.points is not None:
        points = prompts.points.tolist()
        record["points"] = [[plane, *p] if plane is not None else p for p in points]
        record["point_labels"] = prompts.point_labels.tolist()
    if prompts.boxes is not None:
        boxes = prompts.boxes.tolist()
        if plane is not None:
            boxes = [[plane, *b[:2], plane + 1, *b[2:]] for b in boxes]
        record["boxes"] = boxes
    return record


def _write_tiff(path: Path, values: AnyArray, axes: str) -> None:
    import tifffile

    from napari_fewshot.io import atomic_write

    with atomic_write(path) as temporary:
        tifffile.imwrite(
            temporary,
            values,
            # Three candidates are no colours.
            photometric="minisblack",
            compression="zlib",
            metadata={"axes": axes},
        )
