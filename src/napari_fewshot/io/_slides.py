"""Pyramidal TIFF: whole slides and other images with levels, read tile by tile.

Levels are kept as SubIFDs (OME-TIFF), as pages of smaller and smaller images (Aperio
SVS, Hamamatsu NDPI, plain pyramids); tifffile finds out which.
"""

from __future__ import annotations

import math
import re
import struct
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import make_levels
from napari_fewshot.errors import DataError
from napari_fewshot.io._stored import Stored

if TYPE_CHECKING:
    from collections.abc import Iterator

# Micrometres per pixel, as scanners of Aperio write it down.
_MPP = re.compile(r"\bMPP\s*=\s*([0-9.]+(?:[eE][-+]?[0-9]+)?)")
# Micrometres of the units of resolution tags: inch and centimetre.
_RESOLUTION_UNITS = {2: 25400.0, 3: 10000.0}
# Resolution tags that say more (micrometres) are dots per inch of a printer or screen.
MAX_PIXEL = 20.0
# Pieces of a file that are decoded at once are at most this large (bytes).
MAX_PIECE = 1 << 26


class TiledLevel(Stored):
    """One level of a TIFF file, read tile by tile (or strip by strip).

    It can be sent to other processes, which open the file again.

    Parameters
    ----------
    path : path
        Of the file.
    level : int
        0 is the finest.
    """

    def __init__(self, path: str, level: int) -> None:
        import tifffile
        import zarr

        self._opened_by = path, level
        with tifffile.TiffFile(path) as file:
            store = file.series[0].aszarr(level=level)
        self._closer = weakref.finalize(self, store.close)
        super().__init__(
            zarr.open(store, mode="r"), f"{Path(path).name}, level {level}"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return TiledLevel, self._opened_by

    def missing(self) -> tuple[int, int]:
        """Return that no chunk is missing: a TIFF file lists them all."""
        return 0, int(self.source.nchunks)


def open_levels(file: Any, path: Path) -> list[Any]:
    """Return the levels of the first image of a TIFF file, none of them read.

    Parameters
    ----------
    file : TiffFile
        Opened.
    path : Path
        Of it.

    Returns
    -------
    list of array
        The finest first; one without a pyramid.
    """
    levels = file.series[0].levels
    return [_level(file, path, i, level) for i, level in enumerate(levels)]


def _level(file: Any, path: Path, number: int, level: Any) -> Any:
    if level.dataoffset is not None and level.keyframe.is_memmappable:
        return np.memmap(
            path,
            dtype=np.dtype(level.dtype).newbyteorder(file.byteorder),
            mode="r",
            offset=level.dataoffset,
            shape=tuple(level.shape),
        )
    return TiledLevel(str(path), number)


def has_small_pieces(series: Any) -> bool:
    """Whether parts of a page can be read without decoding (almost) all of it."""
    page = series.keyframe
    size = math.prod(page.chunks) * np.dtype(page.dtype).itemsize
    return bool(page.is_memmappable) or size <= MAX_PIECE


def check_codec(file: Any, path: Path) -> None:
    """Refuse a compression that needs a package that is not there.

    Raises
    ------
    DataError
        With the name of the compression and the command that installs it.
    """
    import tifffile

    code = file.series[0].keyframe.compression
    if code in tifffile.TIFF.DECOMPRESSORS:
        return
    name = getattr(code, "name", str(code))
    raise DataError(
        f"{path.name} is compressed as {name}, which takes one more package: pip "
        "install imagecodecs. Then open it again."
    )


def check_complete(file: Any, path: Path) -> None:
    """Refuse a file that was cut off: tifffile would leave out what is not there.

    Raises
    ------
    DataError
        If a level, a page or the list of pages lies beyond the end of the file.
    """
    if all(end <= size for end, size in _ends(file)):
        return
    raise DataError(
        f"{path.name} is incomplete: it ends before its last plane or level. Copy the "
        "file again."
    )


def _ends(file: Any) -> Iterator[tuple[int, int]]:
    """Yield where pixels and lists of tags end, and the sizes of their files.

    Pages of OME-TIFF may lie in other files than the one that was opened.
    """
    import tifffile

    pages = [file.pages[-1]]
    for level in file.series[0].levels:
        pages += [level.pages[0], level.pages[-1]]
    for page in pages:
        if not isinstance(page, tifffile.TiffPage):
            continue
        parts = zip(page.dataoffsets, page.databytecounts, strict=True)
        size = int(page.parent.filehandle.size)
        yield max((offset + count for offset, count in parts), default=0), size
        if page.parent is file:
            for offset in page.subifds or ():
                yield _directory(file, offset)[0], size
    if not file.is_ndpi:
        # The last page says that none follows, or where the next one was.
        size = int(file.filehandle.size)
        end, following = _directory(file, file.pages[-1].offset)
        yield end, size
        if following:
            yield _directory(file, following)[0], size


def _directory(file: Any, offset: int) -> tuple[int, int]:
    """Return where a list of tags ends, and the position of the next one (or 0)."""
    form, handle = file.tiff, file.filehandle
    beyond = (1 << 63, 0)
    if offset + form.tagnosize > handle.size:
        return beyond
    handle.seek(offset)
    (count,) = struct.unpack(form.tagnoformat, handle.read(form.tagnosize))
    end = offset + form.tagnosize + count * form.tagsize
    if end + form.offsetsize > handle.size:
        return beyond
    handle.seek(end)
    (following,) = struct.unpack(form.offsetformat, handle.read(form.offsetsize))
    return end + form.offsetsize, int(following)


def slide_facts(file: Any, axes: str) -> dict[str, Any]:
    """Return pixel size and unit of a slide; empty if it does not say.

    Parameters
    ----------
    file : TiffFile
        Opened.
    axes : str
        Of its first image.

    Returns
    -------
    dict
        ``scale`` (micrometres per pixel along y and x; 1 along z, of which slides say
        nothing) and ``unit``.
    """
    size = _aperio_size(file) or _tagged_size(file)
    if size is None:
        return {}
    sizes = {"z": 1.0, "y": size[0], "x": size[1]}
    return {
        "scale": tuple(sizes[a] for a in axes if a in "zyx"),
        "unit": "micrometer",
    }


def _aperio_size(file: Any) -> tuple[float, float] | None:
    if not file.is_svs:
        return None
    found = _MPP.search(str(file.pages[0].description))
    try:
        size = float(found[1]) if found else 0.0
    except ValueError:
        return None
    return (size, size) if _is_plausible(size) else None


def _tagged_size(file: Any) -> tuple[float, float] | None:
    tags = file.pages[0].tags
    unit = _RESOLUTION_UNITS.get(int(tags.valueof("ResolutionUnit", default=0) or 0))
    sizes = []
    for name in ("YResolution", "XResolution"):
        value = tags.valueof(name, default=None)
        if unit is None or not isinstance(value, tuple) or len(value) != 2:
            return None
        number, per = value
        size = unit * per / number if number else 0.0
        if not _is_plausible(size):
            return None
        sizes.append(size)
    return sizes[0], sizes[1]


def _is_plausible(size: float) -> bool:
    return math.isfinite(size) and 0 < size <= MAX_PIXEL


def level_scales(
    arrays: list[Any], axes: str | None, scale: tuple[float, ...] | None
) -> tuple[tuple[float, ...] | None, ...]:
    """Return the pixel size of every level, from that of the finest and the shapes.

    Raises
    ------
    DataError
        If the levels do not become smaller.
    """
    if axes is None or scale is None:
        return (None,) * len(arrays)
    return make_levels(arrays, axes, scale).scales
