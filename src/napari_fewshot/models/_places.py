"""Where things are kept: the user's folders, or ``NAPARI_FEWSHOT_HOME``.

An installed model is a folder of its own with the weights and ``installed.json``, the
record that `napari_fewshot.io` writes when the download or import is complete.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

APP = "napari-fewshot"
RECORD = "installed.json"


def data_folder() -> Path:
    """Return the folder of projects and models."""
    return _place("data")


def cache_folder() -> Path:
    """Return the folder of what can be computed again."""
    return _place("cache")


def log_folder() -> Path:
    """Return the folder of logs."""
    return _place("log")


def models_folder() -> Path:
    """Return the folder of installed models."""
    return data_folder() / "models"


def model_folder(name: str) -> Path:
    """Return the folder of one model, there or not."""
    return models_folder() / name.replace("/", "--")


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return the record of an installed model; None if there is no complete one."""
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_record = isinstance(found, dict) and isinstance(found.get("files"), dict)
    return found if is_record and found["files"] else None


def weights_of(name: str) -> Path | None:
    """Return the installed weights of a model: a file, or a folder of several.

    Parameters
    ----------
    name : str
        Of a model.

    Returns
    -------
    Path or None
        None if it is not installed.
    """
    folder = model_folder(name)
    record = read_record(folder)
    if record is None:
        return None
    paths = [folder / file for file in record["files"]]
    if not all(path.is_file() for path in paths):
        return None
    return paths[0] if len(paths) == 1 else folder


def _place(kind: str) -> Path:
    home = os.environ.get("NAPARI_FEWSHOT_HOME")
    if home:
        return Path(home) / kind
    import platformdirs

    find = {
        "data": platformdirs.user_data_path,
        "cache": platformdirs.user_cache_path,
        "log": platformdirs.user_log_path,
    }[kind]
    return find(APP, appauthor=False)
