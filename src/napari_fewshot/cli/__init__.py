"""The console: ``napari-fewshot``."""

from napari_fewshot.cli._app import main

__all__ = ["main"]
