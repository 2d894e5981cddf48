"""NIfTI: turned to (z, y, x) on the way in, and back on the way out.

Files list their axes as (x, y, z), with x varying fastest; that is the memory order of
our (z, y, x), so that planes are written one after the other as they are.
"""

from __future__ import annotations

import functools
import gzip
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import unit_name
from napari_fewshot.errors import DataError
from napari_fewshot.io._endings import NIFTI, Opened, suffix_of
from napari_fewshot.io._tiff import class_note, read_table

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray
    from napari_fewshot.io._written import Written

# A header of version 1 counts with 16 bits.
MAX_SIDE = 32767
# The number of extensions that hold a comment.
COMMENT = 6
UNITS = {"micrometer": "micron", "millimeter": "mm", "meter": "meter"}


def open_nifti(path: Path) -> Opened:
    """Open a NIfTI file; uncompressed ones stay on disk."""
    import nibabel

    file: Any = nibabel.load(path)
    zooms = tuple(float(z) for z in file.header.get_zooms())
    ndim = len(file.shape)
    # A truncated file shows only when its end is read.
    np.asarray(file.dataobj[(..., -1)])
    axes = {2: "yx", 3: "zyx", 4: "tzyx"}.get(ndim)
    classes: dict[int, str] = {}
    for extension in getattr(file.header, "extensions", ()):
        if extension.get_code() == COMMENT:
            text = extension.get_content()
            text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
            classes = read_table(str(text).rstrip("\0 "))
    affine = turned(file.affine)
    is_packed = path.name.lower().endswith(".gz")
    dataobj = file.dataobj
    return Opened(
        np.asarray(dataobj).transpose() if is_packed else _Transposed(dataobj),
        axes,
        tuple(reversed(zooms[:3]))[-min(ndim, 3) :],
        unit_name(file.header.get_xyzt_units()[0]),
        tuple(float(v) for v in affine[:3, 3])[-min(ndim, 3) :],
        affine,
        classes=classes,
    )


def turned(affine: Any) -> AnyArray:
    """Return an affine of (x, y, z) as one of (z, y, x), or the other way round."""
    order = [2, 1, 0, 3]
    found: AnyArray = np.asarray(affine, np.float64)[np.ix_(order, order)]
    return found


class _Transposed:
    """A lazy array seen with its axes in reverse order."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self.shape = tuple(reversed(array.shape))
        self.dtype = np.asarray(array[(slice(0, 1),) * len(array.shape)]).dtype
        self.ndim = len(self.shape)

    def __getitem__(self, key: Any) -> Any:
        key = key if isinstance(key, tuple) else (key,)
        if Ellipsis in key:
            at = key.index(Ellipsis)
            full = (slice(None),) * (self.ndim - len(key) + 1)
            key = (*key[:at], *full, *key[at + 1 :])
        full = (*key, *[slice(None)] * (self.ndim - len(key)))
        return np.asarray(self._array[tuple(reversed(full))]).transpose()

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.asarray(self._array).transpose().astype(dtype or self.dtype)


def write_nifti(path: Path, given: Written) -> None:
    """Write labels plane by plane; with ``like`` the header of that image is kept.

    A series of planes becomes a volume: the format knows time as the fourth axis only.
    """
    if given.axes not in ("yx", "zyx", "tyx", "tzyx"):
        raise DataError(
            "NIfTI holds planes, volumes and series of them, not axes "
            f"{given.axes!r}. Write these labels as .tif or .ome.zarr."
        )
    header = _header(given)
    kind = header.get_data_dtype()
    is_packed = path.name.lower().endswith(".gz")
    packed: Any = functools.partial(gzip.open, compresslevel=4)
    with (packed if is_packed else open)(path, "wb") as file:
        header.write_to(file)
        file.write(b"\0" * int(header.get_data_offset() - file.tell()))
        for _, part in given.strips():
            file.write(np.ascontiguousarray(part.astype(kind)).tobytes())


def _header(given: Written) -> Any:
    """Return the header of the file, complete."""
    import nibabel

    shape = tuple(reversed(given.shape))
    source = _header_of(given.like)
    kind = nibabel.Nifti2Header if max(shape) > MAX_SIDE else nibabel.Nifti1Header
    if source is not None and len(source.get_data_shape()) == len(shape):
        is_single = isinstance(source, kind) and source.is_single
        header = source.copy() if is_single else kind.from_header(source)
        header.set_data_shape(shape)
    else:
        header = kind()
        header.set_data_shape(shape)
        _place(header, given, len(shape))
    header.set_data_dtype(given.smallest_dtype())
    header.set_slope_inter(1, 0)
    header["vox_offset"] = 0
    header["cal_min"], header["cal_max"] = 0, 0
    _note_classes(header, given)
    header["vox_offset"] = header.single_vox_offset + header.extensions.get_sizeondisk()
    return header


def _header_of(like: Any) -> Any:
    import nibabel

    if like is None or suffix_of(like) not in NIFTI or not Path(like).is_file():
        return None
    return nibabel.load(like).header


def _place(header: Any, given: Written, ndim: int) -> None:
    """Set the affine from what is known: an affine, or pixel sizes and an origin."""
    affine = given.affine
    if affine is None:
        sizes, first = np.ones(3), np.zeros(3)
        if given.scale is not None:
            sizes[-len(given.scale) :] = given.scale
        if given.origin is not None:
            first[-len(given.origin) :] = given.origin
        affine = np.diag([*sizes, 1.0])
        affine[:3, 3] = first
    header.set_sform(turned(affine), code=1)
    header.set_qform(turned(affine), code=1)
    zooms = np.linalg.norm(turned(affine)[:3, :3], axis=0)[: min(ndim, 3)]
    header.set_zooms((*zooms, *(1.0,) * (ndim - len(zooms))))
    header.set_xyzt_units(UNITS.get(given.unit, 0), "sec" if ndim > 3 else 0)


def _note_classes(header: Any, given: Written) -> None:
    from nibabel.nifti1 import Nifti1Extension, Nifti1Extensions

    kept = [e for e in header.extensions if not _is_table(e)]
    if given.classes:
        kept.append(Nifti1Extension("comment", class_note(given.classes).encode()))
    header.extensions = Nifti1Extensions(kept)


def _is_table(extension: Any) -> bool:
    if extension.get_code() != COMMENT:
        return False
    content = extension.get_content()
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else content
    return bool(read_table(str(text).rstrip("\0 ")))
