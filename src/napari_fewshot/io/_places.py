"""Where things are kept: the user's folders, or ``NAPARI_FEWSHOT_HOME``."""

from __future__ import annotations

import os
from pathlib import Path

APP = "napari-fewshot"


def data_folder() -> Path:
    """Return the folder of projects and models."""
    return _place("data")


def cache_folder() -> Path:
    """Return the folder of what can be computed again."""
    return _place("cache")


def log_folder() -> Path:
    """Return the folder of logs."""
    return _place("log")


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
