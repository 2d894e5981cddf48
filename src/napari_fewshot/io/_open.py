"""Open a path: the ending chooses the reader, and damage is told by name."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from napari_fewshot.errors import DataError, FewShotError
from napari_fewshot.io._coco import open_coco
from napari_fewshot.io._endings import (
    NIFTI,
    PICTURES,
    SLIDES,
    SUFFIXES,
    TIFF,
    Opened,
    is_store,
    suffix_of,
)
from napari_fewshot.io._geojson import open_geojson
from napari_fewshot.io._nifti import open_nifti
from napari_fewshot.io._ome import label_names, open_zarr
from napari_fewshot.io._pictures import open_npy, open_picture
from napari_fewshot.io._tiff import open_tiff

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

_OPENERS: dict[str, Callable[[Path], Opened]] = {
    **dict.fromkeys((*TIFF, *SLIDES), open_tiff),
    **dict.fromkeys(PICTURES, open_picture),
    **dict.fromkeys(NIFTI, open_nifti),
    ".npy": open_npy,
}


def open_path(path: str | os.PathLike[str]) -> Opened:
    """Open an image file.

    Raises
    ------
    DataError
        If it is missing, damaged or of an unknown kind.
    """
    file = _existing(path)
    opener = open_zarr if is_store(file) else _OPENERS.get(suffix_of(file))
    if opener is None:
        if file.is_dir():
            raise DataError(
                f"{file} is a folder, not an image. Name the files inside it."
            )
        raise DataError(
            f"{file.name} is not an image that can be read. Known endings: "
            f"{', '.join(SUFFIXES)}."
        )
    return _told(opener, file)


def read_labels(
    path: str | os.PathLike[str], shape: tuple[int, ...] | None = None
) -> Opened:
    """Open a file of labels, with class names, colours, scale and object numbers.

    Parameters
    ----------
    path : path
        A file of any kind that `save_labels` writes. Of an OME-Zarr image its label
        image is opened, if it has exactly one.
    shape : tuple of int, optional
        Of the image, for outlines of other programs, which do not say.

    Returns
    -------
    Opened

    Raises
    ------
    DataError
        If it is missing, damaged, of an unknown kind, or holds no labels.
    """
    ending = suffix_of(path)
    if ending == ".coco.json":
        return _told(open_coco, _existing(path))
    if ending == ".geojson":
        return _told(lambda p: open_geojson(p, shape), _existing(path))
    file = Path(path)
    if is_store(file) and file.exists():
        names = label_names(file) if not _is_label_image(file) else []
        if len(names) > 1:
            raise DataError(
                f"{file.name} holds several label images ({', '.join(names)}). Name "
                f"one, for example {file / 'labels' / names[0]}."
            )
        if names:
            return open_path(file / "labels" / names[0])
    opened = open_path(file)
    if ending not in PICTURES or opened.array.ndim != 3:
        return opened
    # A mask saved as a colour picture: all colour channels are the same.
    colours = opened.array[..., : min(3, opened.array.shape[-1])]
    if not (colours == colours[..., :1]).all():
        raise DataError(
            f"{file.name} is a colour picture, not a mask. Save the mask as a grey "
            "image with one number per class."
        )
    return Opened(colours[..., 0], "yx")


def _is_label_image(path: Path) -> bool:
    import zarr

    from napari_fewshot.io._ome import is_label_image

    try:
        return is_label_image(zarr.open_group(path, mode="r"))
    except Exception:  # noqa: BLE001 - `open_path` finds and tells what is wrong
        return False


def _existing(path: str | os.PathLike[str]) -> Path:
    file = Path(path)
    try:
        is_there = file.exists()
    except (OSError, RuntimeError) as error:
        # A link that leads to itself, a name that is too long, a folder without rights.
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{file} can't be opened ({reason}). Check its name."
        ) from error
    if not is_there:
        where = " (a link that leads nowhere)" if file.is_symlink() else ""
        raise DataError(f"{file} does not exist{where}. Check the name and the folder.")
    if file.is_file() and file.stat().st_size == 0:
        raise DataError(f"{file.name} is empty (0 bytes). Copy the file again.")
    return file


def _told(opener: Callable[[Path], Opened], file: Path) -> Opened:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return opener(file)
    except FewShotError:
        raise
    except Exception as error:  # every reader has its own way to say "damaged"
        raise DataError(
            f"{file.name} can't be read: it is damaged or incomplete ({error}). Copy "
            "the file again or open it in another program to check it."
        ) from error
