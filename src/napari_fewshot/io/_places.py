"""Where things are kept; models need it too, so it lives with them."""

from __future__ import annotations

from napari_fewshot.models._places import cache_folder, data_folder, log_folder

__all__ = ["cache_folder", "data_folder", "log_folder"]
