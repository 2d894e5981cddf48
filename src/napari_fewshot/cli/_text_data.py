"""What ``benchmark text`` looks for, and in which images: two layouts of folders.

*Data sets* with ``dataset.json``, whose ``text_prompts`` list phrases per class.
*Tasks* of MedCLIP-SAMv2: ``TASK/test_images`` and ``test_masks`` (and ``val_``,
``train_``) whose files are paired by name, masks being white on black.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.cli._benchmark import open_datasets, plane_query
from napari_fewshot.cli._click_tasks import Item, read_items
from napari_fewshot.cli._text_prompts import as_phrases, phrases_for
from napari_fewshot.errors import DataError
from napari_fewshot.evaluation import plain_name
from napari_fewshot.io import SUFFIXES, open_image, stem_of, suffix_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_fewshot._types import BoolArray
    from napari_fewshot.data import Image

# Masks of the second layout are foreground above this.
WHITE = 200
TEST = "test_images"
Read = Callable[[], "tuple[Image, BoolArray]"]


@dataclass(frozen=True, eq=False)
class Case:
    """One image with its truth.

    Attributes
    ----------
    name : str
        Its file without the ending.
    group : str
        Images of one group, such as a patient, are resampled together.
    files : tuple of Path
        Image and mask.
    read : callable
        Returns the image and its mask (H, W).
    """

    name: str
    group: str
    files: tuple[Path, Path]
    read: Read = field(repr=False)


@dataclass(frozen=True, eq=False)
class TextSet:
    """One class of a data set, or one task.

    Attributes
    ----------
    dataset, class_name : str
    value : int
        Of the class.
    cases : sequence of Case
        To be scored.
    val : sequence of Case
        Labelled images of a split of their own; empty if there is none.
    phrases : tuple of str
        What may be typed.
    by_image : dict of str to str
        Phrases by name of the image.
    others : tuple of str
        First phrases of the other classes.
    """

    dataset: str
    class_name: str
    value: int
    cases: Sequence[Case]
    val: Sequence[Case] = ()
    phrases: tuple[str, ...] = ()
    by_image: Mapping[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()


def text_sets(
    root: Path,
    datasets: Sequence[str] = (),
    prompts: Mapping[str, Any] | None = None,
    *,
    original: bool = False,
) -> Iterator[TextSet]:
    """Yield what there is to look for.

    Parameters
    ----------
    root : path
        Folder of data sets, of tasks, or one task.
    datasets : sequence of str, optional
        Only these.
    prompts : dict, optional
        From `read_prompts`; goes before what the data sets list.
    original : bool
        Images of data sets as they are, not resized to longest side 256 as in the other
        benchmarks. Tasks are never resized.

    Raises
    ------
    DataError
        If the folder holds none, or a task can't be paired.
    """
    prompts = prompts or {}
    tasks = _tasks(root, datasets)
    if not tasks or any(root.glob("*/dataset.json")):
        for folder, facts in open_datasets(root, datasets):
            yield from _classes(folder, facts, prompts, original)
    for task in tasks:
        phrases, by_image = phrases_for(prompts, task.name, 1, task.name)
        yield TextSet(
            task.name,
            task.name,
            1,
            task_cases(task, "test"),
            task_cases(task, "val") if (task / "val_images").is_dir() else (),
            phrases,
            by_image,
        )


def _tasks(root: Path, datasets: Sequence[str]) -> list[Path]:
    if (root / TEST).is_dir():
        return [root]
    found = [p.parent for p in sorted(root.glob(f"*/{TEST}")) if p.is_dir()]
    return [f for f in found if not datasets or f.name in datasets]


def _classes(
    folder: Path, facts: Mapping[str, Any], prompts: Mapping[str, Any], original: bool
) -> Iterator[TextSet]:
    """Yield the classes of a data set."""
    listed = {}
    for value, name in facts["classes"].items():
        own = facts.get("text_prompts", {}).get(value, ())
        given = phrases_for(prompts, folder.name, int(value), name)
        listed[value] = given if any(given) else (as_phrases(own), {})
    paths = {
        i["image"]: (folder / i["image"], folder / i["mask"]) for i in facts["items"]
    }
    for value, name in facts["classes"].items():
        items = read_items(folder, dict(facts), int(value), original=original)
        phrases, by_image = listed[value]
        yield TextSet(
            folder.name,
            name,
            int(value),
            [
                Case(
                    item.name[: -len(suffix_of(item.name))],
                    item.pair.group,
                    paths[item.name],
                    functools.partial(_read_item, item),
                )
                for item in items
            ],
            (),
            phrases,
            by_image,
            tuple(
                (listed[v][0] or (plain_name(n),))[0]
                for v, n in facts["classes"].items()
                if v != value
            ),
        )


def _read_item(item: Item) -> tuple[Image, BoolArray]:
    return plane_query(item.pair.image), item.pair.mask


def task_cases(task: Path, split: str) -> list[Case]:
    """Return the images of a split with their masks, paired by name.

    Parameters
    ----------
    task : path
        With folders ``SPLIT_images`` and ``SPLIT_masks``.
    split : str
        ``"train"``, ``"val"`` or ``"test"``.

    Raises
    ------
    DataError
        If one has no partner, or a name occurs twice.
    """
    images, masks = (_by_name(task / f"{split}_{k}") for k in ("images", "masks"))
    alone = sorted(set(images) ^ set(masks))
    if alone:
        where = "masks" if alone[0] in images else "images"
        raise DataError(
            f"{len(alone)} files of {task.name} have no partner of the same name: "
            f"{split}_{where} lacks {alone[0]!r}. Add it, or remove its partner."
        )
    if not images:
        raise DataError(f"{task / f'{split}_images'} holds no image.")
    return [
        Case(
            name,
            name,
            (images[name], masks[name]),
            functools.partial(_read_task, images[name], masks[name]),
        )
        for name in images
    ]


def _by_name(folder: Path) -> dict[str, Path]:
    """Return the images of a folder by name without ending."""
    if not folder.is_dir():
        raise DataError(
            f"{folder} is missing; masks lie beside images, split by split."
        )
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or suffix_of(path) not in SUFFIXES:
            continue
        name = stem_of(path)
        if name in found:
            raise DataError(
                f"{folder} has {name!r} twice, with other endings; remove one."
            )
        found[name] = path
    return found


def _read_task(image: Path, mask: Path) -> tuple[Image, BoolArray]:
    return open_image(image), read_white(mask)


def read_white(path: Path) -> BoolArray:
    """Return the foreground (H, W) of a mask that is white on black.

    Parameters
    ----------
    path : path
        An image, grey or colour (the first channel counts).

    Raises
    ------
    DataError
        If nothing in it is white although it is not black: labels 0 and 1, say.
    """
    pixels = np.asarray(open_image(path).array)
    pixels = pixels[..., 0] if pixels.ndim == 3 else pixels
    white: BoolArray = pixels > WHITE
    if pixels.any() and not white.any():
        raise DataError(
            f"{path.name} is no mask of 0 and 255: its largest value is "
            f"{pixels.max()}. Foreground is above {WHITE}."
        )
    return white


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file.

    Parameters
    ----------
    path : path
        Read in pieces.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def few(cases: Sequence[Case], most: int | None) -> list[Case]:
    """Return so many cases at most, evenly spread.

    Parameters
    ----------
    cases : sequence of Case
        In their order.
    most : int, optional
        None keeps all.
    """
    if most is None or len(cases) <= most:
        return list(cases)
    return [cases[i] for i in np.linspace(0, len(cases) - 1, most).round().astype(int)]
