"""Write labels in the format of their image; a file is complete or not there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.errors import DataError
from napari_fewshot.io._atomic import atomic_write
from napari_fewshot.io._images import NIFTI, TIFF, suffix_of

if TYPE_CHECKING:
    import os
    from pathlib import Path


def labels_suffix(source: str | os.PathLike[str] | None) -> str:
    """Return the ending that labels of a source get; lossy formats become PNG."""
    ending = suffix_of(source) if source is not None else ".tif"
    if ending in (*TIFF, *NIFTI, ".png", ".npy", ".zarr"):
        return ending
    return ".png" if ending else ".tif"


def save_labels(
    path: str | os.PathLike[str],
    labels: Any,
    *,
    like: str | os.PathLike[str] | None = None,
    scale: tuple[float, ...] | None = None,
    axes: str | None = None,
) -> None:
    """Write labels; the ending of the path chooses the format.

    Parameters
    ----------
    path : path
        ``.tif``, ``.png``, ``.nii``, ``.nii.gz``, ``.npy`` or ``.zarr``.
    labels : array
        int labels; stacks are written plane by plane where the format allows.
    like : path, optional
        For NIfTI: the image whose position in space (affine) is kept.
    scale : tuple of float, optional
        Pixel size per spatial axis (z, y, x).
    axes : str, optional
        Axes of the labels.

    Raises
    ------
    DataError
        If the format can't hold these labels.
    StorageError
        If the file can't be written.
    """
    ending = suffix_of(path)
    with atomic_write(path) as temporary:
        if ending in TIFF:
            _write_tiff(temporary, labels, scale, axes)
        elif ending == ".png":
            _write_png(temporary, labels)
        elif ending in NIFTI:
            _write_nifti(temporary, labels, like, scale)
        elif ending == ".npy":
            np.save(temporary, np.asarray(labels), allow_pickle=False)
        elif ending == ".zarr":
            _write_zarr(temporary, labels)
        else:
            raise DataError(
                f"Labels can't be written as {ending or 'a file without ending'}. Use "
                ".tif, .png, .nii.gz, .npy or .zarr."
            )


def smallest_dtype(top: int) -> Any:
    """Return the smallest unsigned type that holds labels up to ``top``."""
    for kind in (np.uint8, np.uint16, np.uint32):
        if top <= np.iinfo(kind).max:
            return kind
    raise DataError(f"Label {top} is too large to be written.")


def _top(labels: Any) -> int:
    if len(labels.shape) <= 2:
        return int(np.asarray(labels).max(initial=0))
    return max(_top(labels[i]) for i in range(labels.shape[0]))


def _planes(labels: Any) -> Any:
    if len(labels.shape) == 2:
        yield np.asarray(labels)
    else:
        for i in range(labels.shape[0]):
            yield from _planes(labels[i])


def _write_tiff(
    path: Path, labels: Any, scale: tuple[float, ...] | None, axes: str | None
) -> None:
    import tifffile

    # ImageJ files know 8 and 16 bits and carry axes and pixel sizes.
    kind = smallest_dtype(_top(labels))
    letters = (axes or {2: "yx", 3: "zyx"}.get(len(labels.shape), "")).upper()
    is_imagej = kind is not np.uint32 and set(letters) <= set("TZYX") and bool(letters)
    options: dict[str, Any] = {"compression": "zlib"}
    if is_imagej:
        metadata: dict[str, Any] = {"axes": letters}
        if scale is not None:
            metadata["unit"] = "pixel"
            if "Z" in letters and len(scale) == 3:
                metadata["spacing"] = scale[0]
            options["resolution"] = (1 / scale[-1], 1 / scale[-2])
        options.update(imagej=True, metadata=metadata)
    tifffile.imwrite(
        path,
        data=(plane.astype(kind) for plane in _planes(labels)),
        shape=tuple(labels.shape),
        dtype=kind,
        **options,
    )


def _write_png(path: Path, labels: Any) -> None:
    from PIL import Image as Picture

    array = np.asarray(labels)
    if array.ndim != 2:
        raise DataError("A PNG holds one plane; write a stack as .tif.")
    kind = smallest_dtype(int(array.max(initial=0)))
    if kind is np.uint32:
        raise DataError("A PNG holds labels up to 65535; write these as .tif.")
    Picture.fromarray(array.astype(kind)).save(path)


def _write_nifti(
    path: Path,
    labels: Any,
    like: str | os.PathLike[str] | None,
    scale: tuple[float, ...] | None,
) -> None:
    import nibabel

    array = np.asarray(labels).transpose()
    array = array.astype(smallest_dtype(int(array.max(initial=0))))
    if like is not None and suffix_of(like) in NIFTI:
        source: Any = nibabel.load(like)
        header = source.header.copy()
        header.set_data_dtype(array.dtype)
        header.set_slope_inter(1, 0)
        image = nibabel.Nifti1Image(array, source.affine, header)
    else:
        sizes = tuple(reversed(scale)) if scale is not None else (1.0,) * array.ndim
        affine = np.diag([*(*sizes, 1.0, 1.0)[:3], 1.0])
        image = nibabel.Nifti1Image(array, affine)
    nibabel.save(image, path)


def _write_zarr(path: Path, labels: Any) -> None:
    import zarr

    shape = tuple(labels.shape)
    chunks = (*(1,) * (len(shape) - 2), *(min(n, 1024) for n in shape[-2:]))
    store = zarr.create_array(path, shape=shape, chunks=chunks, dtype="int32")
    for index in np.ndindex(*shape[:-2]):
        store[index] = np.asarray(labels[index])
