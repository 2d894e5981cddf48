"""``clean``: what this package keeps on the machine."""

from __future__ import annotations

import contextlib
import shutil
import stat
from typing import TYPE_CHECKING

import typer

from napari_fewshot.errors import StorageError
from napari_fewshot.inference._embeddings import get_cache
from napari_fewshot.io import cache_folder, data_folder, log_folder

if TYPE_CHECKING:
    from pathlib import Path


def clean_folders(*, everything: bool, yes: bool) -> None:
    """List the folders with their sizes; remove them after a question.

    Parameters
    ----------
    everything : bool
        Projects and logs too, not only what can be computed again.
    yes : bool
        Do not ask.

    Raises
    ------
    StorageError
        If a folder can't be removed.
    """
    folders = [cache_folder()]
    if everything:
        folders += [data_folder(), log_folder()]
    found = [f for f in folders if f.exists()]
    if not found:
        print("There is nothing to remove.")
        return
    for folder in found:
        print(f"{_size(folder) / 1e6:10.1f} MB  {folder}")
    usage = get_cache().usage()
    if usage.planes:
        models = ", ".join(f"{name}: {n}" for name, n in usage.models.items())
        print(f"This includes embeddings of {usage.planes} planes ({models}).")
    projects = list((data_folder() / "projects").glob("*.fewshot-project"))
    if everything and projects:
        print(f"This includes {len(projects)} saved sessions with their annotations.")
    if not yes and not typer.confirm("Remove?"):
        print("Nothing was removed.")
        return
    for folder in found:
        try:
            _remove(folder)
        except OSError as error:
            raise StorageError(f"{folder} can't be removed ({error}).") from error
    print("Removed.")


def _remove(folder: Path) -> None:
    """Remove a folder; what another program removes meanwhile is fine."""
    while folder.exists():
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            facts = path.stat()
            total += facts.st_size if stat.S_ISREG(facts.st_mode) else 0
    return total
