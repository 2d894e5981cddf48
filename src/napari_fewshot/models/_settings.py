"""What the user chose for all models: device and precision."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_fewshot.errors import ModelError
from napari_fewshot.models._places import data_folder

if TYPE_CHECKING:
    from pathlib import Path

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fast", "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Settings:
    """What ``"auto"`` means on this machine.

    Attributes
    ----------
    device : {"auto", "cpu", "cuda", "mps"}
    precision : {"auto", "fast", "fp32", "bf16", "fp16"}
    """

    device: str = "auto"
    precision: str = "auto"


def settings_file() -> Path:
    """Return the file that holds the settings, there or not."""
    return data_folder() / "settings.json"


def read_settings() -> Settings:
    """Return the settings; what is missing or unknown is ``"auto"``."""
    try:
        found = json.loads(settings_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Settings()
    if not isinstance(found, dict):
        return Settings()
    device, precision = found.get("device"), found.get("precision")
    return Settings(
        device if device in DEVICES else "auto",
        precision if precision in PRECISIONS else "auto",
    )


def preferred(device: str, precision: str) -> tuple[str, str]:
    """Return device and precision with the user's choice in place of ``"auto"``.

    A choice that this machine can't follow (a graphics card that is gone, fp16 on a
    processor) is passed over: it was made once for all models, not for this call.
    """
    chosen = read_settings()
    if chosen == Settings():
        return device, precision
    from napari_fewshot.models._device import resolve_device, resolve_precision

    if device == "auto" and chosen.device != "auto":
        try:
            device = resolve_device(chosen.device)
        except ModelError:
            device = "auto"
    if precision == "auto" and chosen.precision != "auto":
        try:
            resolve_precision(resolve_device(device), chosen.precision)
            precision = chosen.precision
        except ModelError:
            precision = "auto"
    return device, precision
