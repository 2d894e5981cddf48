"""``convert``: labels from one format into another, with all that belongs to them."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations
from typing import Annotated

import typer

from napari_fewshot.errors import DataError


def convert_command(
    labels: Annotated[Path, typer.Argument(metavar="LABELS", show_default=False)],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Its ending is the format.")
    ],
    like: Annotated[
        Path | None, typer.Option(help="The image, for its place, size and unit.")
    ] = None,
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Name of a class, 1=nucleus.")
    ] = None,
    instances: Annotated[
        Path | None, typer.Option(help="Object numbers of the same shape.")
    ] = None,
    scale: Annotated[str | None, typer.Option(help="Pixel size: z,y,x.")] = None,
    unit: Annotated[str, typer.Option(help="Of the pixel size, e.g. um.")] = "",
    ome_version: Annotated[str, typer.Option(help="Of OME-Zarr: 0.5 or 0.4.")] = "0.5",
) -> None:
    """Write labels in another format: OME-Zarr, NIfTI, TIFF, GeoJSON, COCO, PNG."""
    from napari_fewshot.io import open_image, open_labels, read_labels, save_labels

    image = None if like is None else open_image(like)
    found = read_labels(labels, None if image is None else image.label_shape)
    sizes = found.scale
    if sizes is None and image is not None:
        sizes, unit = image.scale, unit or image.unit
    objects = found.instances
    if instances is not None:
        objects = open_labels(instances, tuple(found.array.shape))
    save_labels(
        out,
        found.array,
        like=like,
        scale=_numbers(scale) or sizes,
        axes=found.axes or (None if image is None else image.label_axes),
        classes={**found.classes, **_names(classes or ())},
        instances=objects,
        unit=unit or ("" if scale else found.unit),
        origin=found.origin if like is None and scale is None else None,
        affine=found.affine if like is None and scale is None else None,
        colours=found.colours,
        ome_version=ome_version,
    )
    print(f"Wrote {out}.")


def _names(given: object) -> dict[int, str]:
    names = {}
    for text in given if isinstance(given, (list, tuple)) else ():
        value, _, name = str(text).partition("=")
        if not value.strip().isdecimal() or not name.strip():
            raise DataError(f"--class {text!r} is not NUMBER=NAME, like 1=nucleus.")
        names[int(value)] = name.strip()
    return names


def _numbers(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise DataError(f"--scale {text!r} is not a list of numbers z,y,x.") from None
