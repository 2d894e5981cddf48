"""What a batch is made of: files, folders, patterns, plates, arrays."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_fewshot.errors import DataError
from napari_fewshot.io import SUFFIXES, is_store, stem_of, suffix_of
from napari_fewshot.session._batch_plates import plate_images

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Rows of plates with up to 1536 wells are A to AF.
WELL = r"(?:A[A-F]|[A-P])(?:0?[1-9]|[1-3][0-9]|4[0-8])"
_IN_NAME = re.compile(
    r"(?:^|[_\-. ])((?:A[A-F]|[A-P])(?:0[1-9]|[1-3][0-9]|4[0-8]))(?=[_\-. ]|$)"
)
_FIELD = re.compile(
    r"(?:^|[_\-. ])(?:s|f|site|field|fld|pos)[_\-]?(\d{1,4})(?=[_\-. ]|$)", re.I
)


@dataclass(frozen=True, eq=False)
class Item:
    """One query of a batch.

    Attributes
    ----------
    query : Path, Image, array or layer
        What to segment.
    name : str
        In the report.
    options : dict
        ``scale``, ``axes``, ``channels`` of this query alone.
    supports : tuple
        Of this query alone: pairs of paths (image, mask), or concept files.
    text : tuple of str
        Phrases of this query alone.
    out : str
        Name of the labels file; "" for the usual one.
    well, field : str
        Where on a plate it is from; "" is nowhere.
    inside : str
        Path of the image inside of a plate store.
    """

    query: Any
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    supports: tuple[Any, ...] = ()
    text: tuple[str, ...] = ()
    out: str = ""
    well: str = ""
    field: str = ""
    inside: str = ""

    @property
    def stem(self) -> str:
        """How files of this query begin."""
        if not isinstance(self.query, Path):
            return "query"
        stem = stem_of(self.query)
        return f"{stem}_{self.well}_{self.field}" if self.inside else stem


def items_of(queries: Any) -> list[Item]:
    """Return what is meant, each once, in order.

    Parameters
    ----------
    queries : path, pattern, array, layer, Image, or a sequence of them
        Folders are their images, plates the images of their wells.

    Raises
    ------
    DataError
        If a name matches nothing.
    """
    is_one = isinstance(queries, (str, os.PathLike)) or hasattr(queries, "shape")
    several = [queries] if is_one or hasattr(queries, "events") else list(queries)
    found: list[Item] = []
    for query in several:
        if isinstance(query, (str, os.PathLike)):
            found += [i for path in _matches(os.fspath(query)) for i in _of(path)]
        else:
            found.append(Item(query, str(getattr(query, "name", "") or "query")))
    once: dict[Any, Item] = {}
    for item in found:
        key = item.query if isinstance(item.query, Path) else id(item.query)
        once.setdefault((key, item.inside), item)
    return _told_apart(list(once.values()))


def _told_apart(items: list[Item]) -> list[Item]:
    """Return items whose names differ: files of one name say their folders, too."""
    counts = Counter(item.name for item in items)
    twins = [i for i in items if counts[i.name] > 1 and isinstance(i.query, Path)]
    if not twins:
        return items
    folders = [os.path.abspath(item.query.parent) for item in twins]
    try:
        common = os.path.commonpath(folders)
    except ValueError:
        # On several drives.
        common = ""
    names = {}
    for item, folder in zip(twins, folders, strict=True):
        below = Path(os.path.relpath(folder, common) if common else folder)
        inside = f"/{item.inside}" if item.inside else ""
        names[id(item)] = (below / item.query.name).as_posix() + inside
    return [replace(i, name=names.get(id(i), i.name)) for i in items]


def find_files(queries: Sequence[str]) -> list[Path]:
    """Return the image files that are meant, each once, in order.

    Parameters
    ----------
    queries : sequence of str
        Files, folders, patterns; ``**`` goes into folders.

    Raises
    ------
    DataError
        If a name matches nothing.
    """
    found: dict[Path, None] = {}
    for query in queries:
        found.update(dict.fromkeys(_matches(os.fspath(query))))
    return list(found)


def _matches(query: str) -> list[Path]:
    path = Path(query)
    if os.path.isdir(path) and not is_store(path):
        matches = _inside(path)
    elif os.path.lexists(path) or os.path.exists(path):
        matches = [path]
    elif "**" in path.parts:
        matches = sorted(_walk(path))
    else:
        matches = [Path(p) for p in sorted(glob.glob(query))]
    if not matches:
        raise DataError(
            f"{_short(query)} names no image. Check the name and the folder."
        )
    return matches


def _inside(folder: Path) -> list[Path]:
    """Return images of a folder; of its wells, if it is the folder of a plate."""
    try:
        listed = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} can't be read ({error.strerror}).") from error
    images = [p for p in listed if _is_image(p)]
    if not images:
        wells = [p for p in listed if re.fullmatch(WELL, p.name) and p.is_dir()]
        images = [p for well in wells for p in sorted(well.iterdir()) if _is_image(p)]
    return images


def _is_image(path: Path) -> bool:
    # Names that begin with a dot are notes of the system, not images.
    known = suffix_of(path) in SUFFIXES and not path.name.startswith(".")
    return known and not stem_of(path).endswith("_labels")


def _walk(pattern: Path) -> Iterator[Path]:
    """Yield what a pattern with ``**`` matches; every folder is visited once."""
    parts = pattern.parts
    root = Path(*parts[: parts.index("**")])
    wanted = parts[parts.index("**") :]
    seen: set[str] = set()
    for place, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        stores = [f for f in folders if f.endswith(".zarr")]
        # A store is one image: its chunks are no files to look at.
        folders[:] = sorted(f for f in folders if not f.endswith(".zarr"))
        below = Path(place).relative_to(root).parts
        for name in [*files, *stores]:
            if not name.startswith(".") and _fits((*below, name), wanted):
                yield Path(place, name)


def _fits(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether parts of a path match parts of a pattern."""
    if not wanted:
        return not parts
    if wanted[0] == "**":
        return any(_fits(parts[n:], wanted[1:]) for n in range(len(parts) + 1))
    return (
        bool(parts)
        and fnmatch.fnmatchcase(parts[0], wanted[0])
        and _fits(parts[1:], wanted[1:])
    )


def _of(path: Path) -> list[Item]:
    """Return the images of a path: one, or those of a plate."""
    if is_store(path):
        images = plate_images(path)
        if images:
            name = path.name
            return [
                Item(path, f"{name}/{i}", well=well, field=place, inside=i)
                for well, place, i in images
            ]
    return [on_plate(Item(path, path.name))]


def on_plate(item: Item) -> Item:
    """Return an item with the well and field that its name or folder tells."""
    path = item.query
    if item.well or not isinstance(path, Path):
        return item
    stem = stem_of(path)
    named = _IN_NAME.search(stem)
    well = named.group(1) if named else ""
    if not well and re.fullmatch(WELL, path.parent.name):
        well = path.parent.name
    if not well:
        return item
    place = _FIELD.search(stem)
    return replace(
        item,
        well=well,
        field=place.group(1) if place else "",
        name=item.name if named else f"{well}/{item.name}",
    )


def _short(text: str) -> str:
    return text if len(text) < 300 else f"{text[:120]}...{text[-60:]}"
