"""Where networks compute, and with how many bits."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch

from napari_fewshot.errors import ModelError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(device: str) -> str:
    """Return ``device``, or the best one present for ``"auto"``.

    Raises
    ------
    ModelError
        If the device is not there.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(device.split(":")[0], False):
        names = ", ".join(n for n, there in present.items() if there)
        raise ModelError(f"There is no device {device!r} here; present: {names}.")
    return device


def resolve_precision(device: str, precision: str) -> str:
    """Return ``precision``, or what changes no result for ``"auto"``.

    Raises
    ------
    ModelError
        If there is no such precision, or the device does not have it.
    """
    if precision == "auto":
        return "fp32"
    if precision not in PRECISIONS:
        names = ", ".join(PRECISIONS)
        raise ModelError(f"There is no precision {precision!r}; use auto, {names}.")
    if precision == "fp16" and device == "cpu":
        raise ModelError("Processors compute fp16 slowly; use bf16 or fp32 there.")
    return precision


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return a context in which matrix products have the precision."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, PRECISIONS[precision])
