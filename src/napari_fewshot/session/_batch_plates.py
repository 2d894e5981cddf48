"""OME-Zarr plates: which images they hold, and how to open one.

Layout of OME-NGFF 0.4 and 0.5: attributes of the store name the wells, attributes of a
well its images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_fewshot.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


def plate_images(path: Path) -> list[tuple[str, str, str]]:
    """Return well, field and place inside of every image of a plate.

    Parameters
    ----------
    path : Path
        A zarr store.

    Returns
    -------
    list of (str, str, str)
        Such as ``("B03", "0", "B/3/0")``; empty if it is no plate.

    Raises
    ------
    DataError
        If it says that it is a plate, and its wells can't be read.
    """
    import zarr

    try:
        store = zarr.open(path, mode="r")
    except Exception:  # noqa: BLE001 - told when the image is opened
        return []
    plate = _attributes(store).get("plate")
    if not isinstance(plate, dict) or isinstance(store, zarr.Array):
        return []
    try:
        wells = [str(well["path"]) for well in plate["wells"]]
        return [
            (_name(well), str(image["path"]), f"{well}/{image['path']}")
            for well in wells
            for image in _attributes(store[well])["well"]["images"]
        ]
    except Exception as error:
        raise DataError(
            f"The plate {path.name} can't be read: it names wells or images that are "
            f"not there ({error})."
        ) from error


def plate_image(path: Path, inside: str) -> tuple[Any, str | None, Any]:
    """Return array, axes and scale of an image of a plate.

    Parameters
    ----------
    path : Path
        Of the plate.
    inside : str
        From `plate_images`.

    Raises
    ------
    DataError
        If the image can't be read.
    """
    import zarr

    try:
        group = zarr.open_group(path, mode="r", path=inside)
        scales = _attributes(group)["multiscales"][0]
        first = scales["datasets"][0]
        axes = [a["name"] if isinstance(a, dict) else a for a in scales["axes"]]
        array = group[first["path"]]
        steps = first.get("coordinateTransformations", [{}])[0].get("scale")
    except Exception as error:
        raise DataError(
            f"The image {inside} of the plate {path.name} can't be read: it is damaged "
            f"or incomplete ({error})."
        ) from error
    scale = None
    if steps is not None:
        pairs = zip(steps, axes, strict=False)
        scale = tuple(float(s) for s, a in pairs if a in "zyx")
    # Axes of one element say nothing, and five are more than most methods look at.
    return array, "".join(axes), scale


def _attributes(node: Any) -> dict[str, Any]:
    found = dict(node.attrs)
    return {**found, **dict(found.get("ome", {}))}


def _name(well: str) -> str:
    """``B/3`` to ``B03``."""
    row, _, column = well.partition("/")
    return f"{row}{column.zfill(2)}"
