"""Open images and labels: TIFF, PNG, JPEG, NIfTI, NumPy, zarr; lazily if possible."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_fewshot.data import Image, Support, layer_options
from napari_fewshot.errors import DataError, FewShotError

TIFF = (".tif", ".tiff")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
NIFTI = (".nii", ".nii.gz")
SUFFIXES = (*TIFF, *PICTURES, *NIFTI, ".npy", ".zarr")
# Axis letters of TIFF files that mean the same as ours; I and Q are "other": planes.
TIFF_AXES = {
    "T": "t",
    "Z": "z",
    "C": "c",
    "S": "c",
    "Y": "y",
    "X": "x",
    "I": "z",
    "Q": "z",
}


@dataclass(frozen=True)
class _Opened:
    array: Any
    axes: str | None = None
    scale: tuple[float, ...] | None = None


def suffix_of(path: str | os.PathLike[str]) -> str:
    """Return the ending of a path in lower case; ``.nii.gz`` is one ending."""
    name = Path(path).name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def stem_of(path: str | os.PathLike[str]) -> str:
    """Return the name of a path without its ending."""
    name = Path(path).name
    ending = suffix_of(path)
    return name[: -len(ending)] if ending else name


def open_image(
    source: Any,
    *,
    axes: str | None = None,
    scale: Any = None,
    channels: Any = None,
    name: str = "",
) -> Image:
    """Open anything that holds an image.

    Parameters
    ----------
    source : path, array, layer or Image
        TIFF, PNG, JPEG, NIfTI, ``.npy`` or zarr file; numpy, dask or zarr array;
        anything with ``.data`` such as a napari layer.
    axes, scale, channels
        Override what the source says of itself.
    name : str
        For messages; default the file or layer name.

    Returns
    -------
    Image
        NIfTI volumes are turned to (z, y, x).

    Raises
    ------
    DataError
        If the source is missing, damaged, of an unknown kind, or not usable.
    """
    if isinstance(source, Image):
        return source
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        opened = _open_path(path)
        array = opened.array
        # Labels and colour decide by shape: a file's own axes only help if they fit.
        axes = axes or opened.axes
        scale = opened.scale if scale is None else scale
        name = name or path.name
    elif hasattr(source, "data") and hasattr(source, "events"):
        options = layer_options(source)
        array = options["array"]
        axes = axes or options["axes"]
        scale = options["scale"] if scale is None else scale
        name = name or options["name"]
    else:
        array = source
    return Image.from_array(array, axes=axes, channels=channels, scale=scale, name=name)


def open_labels(source: Any) -> Any:
    """Open labels as an array (z, y, x order for NIfTI).

    Raises
    ------
    DataError
        If the file is missing, damaged or of an unknown kind.
    """
    if isinstance(source, (str, os.PathLike)):
        array = _open_path(Path(source)).array
        if suffix_of(source) in PICTURES and array.ndim == 3:
            # A mask saved as a colour picture: all colour channels are the same.
            colours = array[..., : min(3, array.shape[-1])]
            if not (colours == colours[..., :1]).all():
                raise DataError(
                    f"{Path(source).name} is a colour picture, not a mask. Save the "
                    "mask as a grey image with one number per class."
                )
            array = colours[..., 0]
        return array
    return source.data if hasattr(source, "events") else source


def resolve_support(support: Support) -> Support:
    """Return a support whose paths are opened.

    Raises
    ------
    DataError, SupportError
        If a file can't be opened or the two do not fit.
    """
    if not support.is_path:
        return support
    image, axes, scale, name = support.image, support.axes, support.scale, support.name
    if isinstance(image, (str, os.PathLike)):
        opened = open_image(image, axes=axes, scale=scale, channels=support.channels)
        image, axes, scale = opened.array, opened.axes, opened.scale
        name = name or opened.name
    return replace(
        support,
        image=image,
        labels=open_labels(support.labels),
        axes=axes,
        scale=scale,
        name=name,
    )


def _open_path(path: Path) -> _Opened:
    if not path.exists():
        raise DataError(f"{path} does not exist. Check the name and the folder.")
    ending = suffix_of(path)
    if path.is_dir() and ending != ".zarr":
        raise DataError(f"{path} is a folder, not an image. Name the files inside it.")
    openers = {
        **dict.fromkeys(TIFF, _open_tiff),
        **dict.fromkeys(PICTURES, _open_picture),
        **dict.fromkeys(NIFTI, _open_nifti),
        ".npy": _open_npy,
        ".zarr": _open_zarr,
    }
    if ending not in openers:
        raise DataError(
            f"{path.name} is not an image that can be read. Known endings: "
            f"{', '.join(SUFFIXES)}."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return openers[ending](path)
    except FewShotError:
        raise
    except Exception as error:  # every reader has its own way to say "damaged"
        raise DataError(
            f"{path.name} can't be read: it is damaged or incomplete ({error}). Copy "
            "the file again or open it in another program to check it."
        ) from error


def _open_tiff(path: Path) -> _Opened:
    import tifffile

    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        axes = "".join(TIFF_AXES.get(letter, "?") for letter in series.axes)
        scale = _tiff_scale(file, axes)
        last = file.pages[-1]
        if isinstance(last, tifffile.TiffPage):
            end = max(
                (
                    o + n
                    for o, n in zip(last.dataoffsets, last.databytecounts, strict=True)
                ),
                default=0,
            )
            if end > path.stat().st_size:
                raise DataError(
                    f"{path.name} is incomplete: it ends before its last plane. Copy "
                    "the file again."
                )
        lazy = len(series.shape) > 2 and series.nbytes > 1 << 26
        if lazy:
            stack = _lazy_tiff(path, series.shape, series.pages[0].shape)
            return _Opened(stack, _known_axes(axes, series.shape), scale)
        array = series.asarray()
    return _Opened(array, _known_axes(axes, array.shape), scale)


def _lazy_tiff(path: Path, shape: tuple[int, ...], page: tuple[int, ...]) -> Any:
    """Map an uncompressed stack into memory, else read it page by page."""
    import tifffile

    try:
        return tifffile.memmap(path, mode="r")
    except ValueError:
        return _TiffPages(path, shape, len(shape) - len(page))


class _TiffPages:
    """A compressed TIFF stack; every plane is read when asked for, no file stays open.

    Parameters
    ----------
    path : Path
        Of the file.
    shape : tuple of int
        Of the whole stack.
    n_leading : int
        Axes that are spread over pages.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], n_leading: int) -> None:
        import tifffile

        self._path = path
        self._leading = shape[:n_leading]
        self.shape, self.ndim = shape, len(shape)
        self.dtype = tifffile.imread(path, key=0).dtype

    def __getitem__(self, key: Any) -> Any:
        import tifffile

        key = key if isinstance(key, tuple) else (key,)
        count = len(self._leading)
        if len(key) < count or any(isinstance(k, slice) for k in key[:count]):
            return np.asarray(self)[key]
        page = int(
            np.ravel_multi_index(tuple(int(k) for k in key[:count]), self._leading)
        )
        return tifffile.imread(self._path, key=page)[key[count:]]

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        import tifffile

        return (
            tifffile.imread(self._path).reshape(self.shape).astype(dtype or self.dtype)
        )


def _known_axes(axes: str, shape: tuple[int, ...]) -> str | None:
    """Return the file's axes if they are all known and name each one once."""
    if "?" in axes or len(set(axes)) != len(axes) or len(axes) != len(shape):
        return None
    return axes if "y" in axes and "x" in axes else None


def _tiff_scale(file: Any, axes: str) -> tuple[float, ...] | None:
    """Pixel size of ImageJ files, in the unit of the file."""
    meta = file.imagej_metadata
    if not meta or "unit" not in meta:
        return None
    tags = file.pages[0].tags
    sizes = {"z": float(meta.get("spacing", 1.0))}
    for letter, tag in (("y", "YResolution"), ("x", "XResolution")):
        if tag not in tags:
            return None
        number, per = tags[tag].value
        sizes[letter] = per / number if number else 1.0
    return tuple(sizes[a] for a in axes if a in "zyx")


def _open_picture(path: Path) -> _Opened:
    from PIL import Image as Picture

    plain = {"1": "L", "LA": "L", "CMYK": "RGB"}
    with Picture.open(path) as picture:
        mode = plain.get(picture.mode)
        array = np.asarray(picture.convert(mode) if mode else picture)
    return _Opened(array, "yxc" if array.ndim == 3 else "yx")


def _open_nifti(path: Path) -> _Opened:
    import nibabel

    file: Any = nibabel.load(path)
    zooms = tuple(float(z) for z in file.header.get_zooms())
    ndim = len(file.shape)
    # A truncated file shows only when its end is read.
    np.asarray(file.dataobj[(..., -1)])
    axes = {2: "yx", 3: "zyx", 4: "tzyx"}.get(ndim)
    scale = tuple(reversed(zooms[:3]))[-min(ndim, 3) :]
    if path.name.endswith(".gz"):
        return _Opened(np.asarray(file.dataobj).transpose(), axes, scale)
    return _Opened(_Transposed(file.dataobj), axes, scale)


class _Transposed:
    """A lazy array seen with its axes in reverse order."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self.shape = tuple(reversed(array.shape))
        self.dtype = np.asarray(array[(slice(0, 1),) * len(array.shape)]).dtype
        self.ndim = len(self.shape)

    def __getitem__(self, key: Any) -> Any:
        key = key if isinstance(key, tuple) else (key,)
        full = (*key, *[slice(None)] * (self.ndim - len(key)))
        return np.asarray(self._array[tuple(reversed(full))]).transpose()

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.asarray(self._array).transpose().astype(dtype or self.dtype)


def _open_npy(path: Path) -> _Opened:
    return _Opened(np.load(path, mmap_mode="r", allow_pickle=False))


def _open_zarr(path: Path) -> _Opened:
    import zarr

    opened = zarr.open(path, mode="r")
    if isinstance(opened, zarr.Array):
        return _Opened(opened)
    attributes = dict(opened.attrs)
    attributes = {**attributes, **dict(attributes.get("ome", {}))}
    scales = attributes.get("multiscales")
    if scales:
        first = scales[0]["datasets"][0]
        array = opened[first["path"]]
        axes = "".join(
            a["name"] if isinstance(a, dict) else a for a in scales[0]["axes"]
        )
        steps = first.get("coordinateTransformations", [{}])[0].get("scale")
        scale = None
        if steps is not None:
            scale = tuple(
                float(s) for s, a in zip(steps, axes, strict=True) if a in "zyx"
            )
        return _Opened(array, axes, scale)
    arrays = sorted(opened.array_keys())
    if not arrays:
        raise DataError(f"{path.name} holds no array. Name the array inside the store.")
    return _Opened(opened[arrays[0]])
