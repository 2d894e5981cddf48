"""Where networks compute, with how many bits, and whether compiled."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_fewshot.errors import ModelError
from napari_fewshot.models._measure import measured, product_times

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# How many times faster a product with 16 bits must be to be worth its rounding.
WORTH = 1.5


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


def resolve_precision(device: str, precision: str, *, same_masks: bool = False) -> str:
    """Return which precision is meant.

    ``"auto"`` is fp32: results are those of the reference to the last digits.
    ``"fast"`` is what this machine computes fastest, where the masks stay the same.

    Parameters
    ----------
    device : str
        From `resolve_device`.
    precision : str
        ``"auto"``, ``"fast"`` or one of `PRECISIONS`.
    same_masks : bool
        Whether the model's masks stay the same with 16 bits: then ``"fast"`` is the
        faster precision, measured once per machine.

    Raises
    ------
    ModelError
        If there is no such precision, or the device does not have it.
    """
    if precision == "auto" or (precision == "fast" and not same_masks):
        return "fp32"
    if precision == "fast":
        return faster_precision(torch.device(device))
    if precision not in PRECISIONS:
        names = ", ".join(PRECISIONS)
        raise ModelError(
            f"There is no precision {precision!r}; use auto, fast, {names}."
        )
    if precision == "fp16" and device == "cpu":
        raise ModelError("Processors compute fp16 slowly; use bf16 or fp32 there.")
    return precision


def half_of(device: torch.device) -> str:
    """Return which 16-bit precision is the better one of a device.

    Parameters
    ----------
    device : torch.device
        Cards that have bf16 and processors get it, since its range is that of fp32.
    """
    if device.type == "cpu":
        return "bf16"
    if device.type == "cuda" and torch.cuda.is_available():
        ampere = torch.cuda.get_device_capability(device) >= (8, 0)
        return "bf16" if ampere else "fp16"
    return "fp16"


def faster_precision(device: torch.device) -> str:
    """Return 16 bits if products with them are clearly faster there, else fp32.

    Parameters
    ----------
    device : torch.device
        Measured at the first call (tens of milliseconds), then remembered.
    """
    half = half_of(device)
    kinds = {name: PRECISIONS[name] for name in ("fp32", half)}
    times = measured(f"product {half}", device, lambda: product_times(device, kinds))
    return half if times["fp32"] >= WORTH * times[half] else "fp32"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return a context in which matrix products have the precision."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, PRECISIONS[precision])


def compile_parts(parts: Iterable[nn.Module]) -> None:
    """Let torch compile modules when they are first called.

    Parameters
    ----------
    parts : iterable of Module
        Equal ones share the compiled code. Their parameters keep their names.
    """
    for part in parts:
        # On the instance: `restore_parts` finds the method of the class below it.
        vars(part)["forward"] = torch.compile(part.forward)


def restore_parts(parts: Iterable[nn.Module]) -> None:
    """Undo `compile_parts`.

    Parameters
    ----------
    parts : iterable of Module
        Compiled or not.
    """
    for part in parts:
        vars(part).pop("forward", None)


def is_compile_error(error: BaseException) -> bool:
    """Whether torch could not compile: no compiler, or code it does not take.

    Parameters
    ----------
    error : Exception
        Of a call of a module from `compile_parts`.
    """
    from torch._dynamo.exc import TorchDynamoException

    return isinstance(error, TorchDynamoException)
