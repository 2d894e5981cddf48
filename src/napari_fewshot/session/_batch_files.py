"""Files of a batch: their names, whether they changed, what is wrong with them."""

from __future__ import annotations

import csv
import errno
import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_fewshot.data import Image
from napari_fewshot.errors import DataError
from napari_fewshot.io import (
    atomic_write,
    cache_folder,
    labels_suffix,
    open_image,
    suffix_of,
)
from napari_fewshot.session._batch_rows import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot.session._batch_items import Item

FORMATS = {
    "tif": ".tif",
    "png": ".png",
    "nii": ".nii.gz",
    "ome-zarr": ".ome.zarr",
    "coco": ".coco.json",
    "geojson": ".geojson",
}
# File systems allow names of this many bytes; labels are written beside first.
MAX_NAME = 255
# Tiles of results that grow, in the folder of results.
PARTS = ".parts"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Names:
    """Names of labels files: each once, and none too long.

    Parameters
    ----------
    out : Path
        Folder of the results.
    wanted : str, optional
        Of `FORMATS`; default that of the image.
    """

    def __init__(self, out: Path, wanted: str | None) -> None:
        self._out, self._format = out, wanted
        self._names: dict[str, int] = {}

    def target(self, item: Item) -> Path:
        """Return the file of the result; equal names get a number."""
        source = item.query if isinstance(item.query, Path) else None
        wanted = self._format
        ending = FORMATS[wanted] if wanted else labels_suffix(source)
        if item.inside and not wanted:
            ending = ".tif"
        base = f"{item.stem}_labels"
        if item.out:
            base = item.out.removesuffix(ending)
            known = suffix_of(base) if not wanted else ""
            if known and labels_suffix(base) == known:
                base, ending = base[: -len(known)], known
        room = MAX_NAME - len(os.fsencode(ending)) - len("_measurements.csv") - 8
        base = shortened(base, room)
        name = f"{base}{ending}"
        number = self._names.get(name.casefold(), 0) + 1
        while number > 1 and f"{base}_{number}{ending}".casefold() in self._names:
            number += 1
        self._names[name.casefold()] = number
        if number > 1:
            name = f"{base}_{number}{ending}"
            self._names[name.casefold()] = 1
        return self._out / name


def measured(target: Path) -> Path:
    """Return the file of the measurements of a labels file."""
    name, ending = target.name, suffix_of(target)
    for known in FORMATS.values():
        if name.endswith(known):
            ending = known
    stem = name.removesuffix(ending).removesuffix("_labels")
    return target.with_name(f"{stem}_measurements.csv")


def gather(path: Path, tables: Sequence[tuple[str, Path]]) -> None:
    """Write tables below one another, with a first column for the image.

    Parameters
    ----------
    path : Path
        CSV file to write.
    tables : sequence of (str, Path)
        Name of the image and CSV file; read one after the other.

    Raises
    ------
    StorageError
        If it can't be written.
    """
    columns: dict[str, None] = {"image": None}
    for _, source in tables:
        with source.open(newline="", encoding="utf-8") as file:
            columns.update(dict.fromkeys(next(csv.reader(file), [])))
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as target,
    ):
        writer = csv.DictWriter(target, list(columns), restval="", lineterminator="\n")
        writer.writeheader()
        for name, source in tables:
            with source.open(newline="", encoding="utf-8") as file:
                writer.writerows({"image": name, **r} for r in csv.DictReader(file))


def shortened(base: str, room: int) -> str:
    """Return a name of at most so many bytes; what is cut is told by a digest."""
    content = os.fsencode(base)
    if len(content) <= room:
        return base
    digest = hashlib.blake2b(content, digest_size=4).hexdigest()
    kept = content[: room - len(digest) - 1].decode("utf-8", "ignore")
    return f"{kept}_{digest}"


def fingerprint(item: Item) -> str:
    """Return path, size and time of a file: enough to see that it is the same one.

    Of a folder (zarr) those of all files in it, as one digest.

    Raises
    ------
    DataError
        If it is not there.
    """
    query = item.query
    if not isinstance(query, Path):
        image = query if isinstance(query, Image) else open_image(query)
        digest = hashlib.blake2b(digest_size=16)
        for plane in range(image.n_planes):
            digest.update(image.plane_digest(plane).encode())
        return digest.hexdigest()
    path = query / item.inside if item.inside else query
    try:
        facts = path.stat()
        if not path.is_dir():
            return f"{path.resolve()}:{facts.st_size}:{facts.st_mtime_ns}"
        digest = hashlib.blake2b(digest_size=16)
        for place, folders, files in os.walk(path):
            folders.sort()
            for name in sorted(files):
                there = Path(place, name).stat()
                words = f"{place}/{name}:{there.st_size}:{there.st_mtime_ns}\n"
                digest.update(os.fsencode(words))
        return f"{path.resolve()}:{digest.hexdigest()}"
    except OSError as error:
        raise DataError(
            f"{printable(item.name)} can't be read ({error.strerror or error}). Check "
            "the name and the folder."
        ) from error


def is_full(error: BaseException) -> bool:
    """Whether a disk is full, or no longer to be written to."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in FULL:
            return True
        seen = seen.__cause__
    return False


def forget(labels: Any) -> None:
    """Remove the store of a large result from the cache, once it is written.

    Parameters
    ----------
    labels : array
        Of a prediction; nothing happens unless it is such a store.
    """
    root = getattr(getattr(labels, "store", None), "root", None)
    if root is None:
        return
    store = Path(root).resolve()
    if store.parent.parent == (cache_folder() / "results").resolve():
        shutil.rmtree(store.parent, ignore_errors=True)
