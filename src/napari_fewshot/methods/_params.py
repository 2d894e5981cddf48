"""Parameters: one frozen dataclass per method.

The form in the dock, the flags of the CLI, the project file and the provenance are all
made from these classes. Metadata of a field is ``param(default, help, ...)``.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Literal

ParamValue = bool | int | float | str | None


def param(
    default: Any,
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    step: float | None = None,
    unit: str = "",
    at_low: str = "",
    advanced: bool = False,
) -> Any:
    """Declare a parameter with the words and limits that forms and the CLI show.

    ``at_low`` is what forms show instead of the lowest number, where that has a meaning
    of its own.
    """
    metadata = {
        "help": text,
        "low": low,
        "high": high,
        "step": step,
        "unit": unit,
        "at_low": at_low,
        "advanced": advanced,
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class CommonParams:
    """Parameters of every method: what happens between probabilities and labels."""

    threshold: float = param(
        0.5,
        "How sure the method must be: lower finds more, higher finds less.",
        low=0.01,
        high=0.99,
        step=0.01,
    )
    min_area: float | Mapping[int, float] = param(
        0.0,
        "Smaller objects are removed; a number or one per class.",
        low=0.0,
        high=1e9,
        unit="pixels",
    )
    max_area: float | Mapping[int, float] = param(
        0.0,
        "Larger objects are removed; 0 is no limit; a number or one per class.",
        low=0.0,
        high=1e9,
        unit="pixels",
        at_low="no limit",
    )
    fill_holes: bool = param(True, "Fill holes that the supports' objects do not have.")
    largest_only: bool = param(False, "Keep only the largest object of each class.")
    instances: Literal["none", "components", "watershed", "alike"] = param(
        "none",
        "Number single objects: touching pixels are one object (components), "
        "touching round objects are split (watershed), or objects are split where the "
        "pieces are more like single objects of the supports (alike).",
    )
    leave_one_out: bool = param(
        True,
        "Estimate the quality by segmenting each support with the others; takes a few "
        "extra fits.",
        advanced=True,
    )
    match_scale: bool = param(
        True,
        "Bring supports to the pixel size of the image to segment, where both are "
        "known: objects are then as large as they really are.",
        advanced=True,
    )
    tile: int = param(
        0,
        "Large planes are segmented in overlapping tiles of this side; automatic takes "
        "what the supports show.",
        low=0,
        high=8192,
        step=64,
        unit="pixels",
        at_low="automatic",
        advanced=True,
    )
    seed: int = param(
        0, "Seed of everything random.", low=0, high=2**31 - 1, advanced=True
    )
    view: Literal["planes", "three", "stack"] = param(
        "planes",
        "Volumes: plane by plane (planes), also cut along rows and columns and fused "
        "(three), or every plane together with its neighbours in z (stack).",
    )
    stack_reach: int = param(
        1,
        "Neighbours on either side that a plane is seen with, for view=stack; networks "
        "see one.",
        low=1,
        high=3,
        unit="planes",
        advanced=True,
    )
    smooth_depth: float = param(
        0.0,
        "Smooth what is found along z over this length, in units of the image's scale "
        "(planes where that is not known).",
        low=0.0,
        high=1e6,
        step=0.1,
        at_low="off",
    )
    min_planes: int = param(
        1,
        "Objects of a volume that are on fewer planes are removed.",
        low=1,
        high=10_000,
        unit="planes",
        advanced=True,
    )
    min_volume: float = param(
        0.0,
        "Smaller objects of a volume are removed.",
        low=0.0,
        high=1e12,
        unit="voxels",
        advanced=True,
    )
    largest_volume: bool = param(
        False,
        "Keep only the largest object of each class in a volume.",
        advanced=True,
    )
    link: Literal["none", "z", "t", "auto"] = param(
        "none",
        "Give an object one number on all planes (z), at all times (t), or over all "
        "axes that the image has (auto).",
    )


def make_params(cls: type[CommonParams], values: Mapping[str, Any]) -> CommonParams:
    """Build parameters from user input, checked.

    Raises
    ------
    TypeError
        For an unknown name (naming the nearest one) or a value of the wrong kind.
    ValueError
        For a value outside its limits.
    """
    known = {f.name: f for f in fields(cls)}
    hints = _hints(cls)
    checked = {}
    for name, value in values.items():
        if name not in known:
            raise TypeError(_unknown(name, list(known)))
        checked[name] = _check(known[name], hints[name], value)
    return cls(**checked)


_HINTS: dict[Any, dict[str, Any]] = {}


def _hints(cls: Any) -> dict[str, Any]:
    """Return the types of all parameters; reading them takes milliseconds."""
    if cls not in _HINTS:
        _HINTS[cls] = typing.get_type_hints(cls)
    return _HINTS[cls]


def parse_params(cls: type[CommonParams], texts: Mapping[str, str]) -> CommonParams:
    """Build parameters from ``{"name": "text"}``, as typed on a command line."""
    hints = _hints(cls)
    values = {k: _parse(v, hints[k]) if k in hints else v for k, v in texts.items()}
    return make_params(cls, values)


def params_to_dict(params: CommonParams) -> dict[str, Any]:
    """Return the parameters as JSON-able values."""
    found = {f.name: getattr(params, f.name) for f in fields(params)}
    return {
        k: {str(c): x for c, x in v.items()} if isinstance(v, Mapping) else v
        for k, v in found.items()
    }


def default_of(f: Field[Any]) -> Any:
    """Return the default value of a dataclass field."""
    return f.default_factory() if f.default_factory is not MISSING else f.default


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1, cutoff=0.0)
    return f"Unknown parameter {name!r}; did you mean {near[0]!r}? Known: " + ", ".join(
        sorted(known)
    )


def _check(f: Field[Any], hint: Any, value: Any) -> Any:
    if isinstance(value, Mapping) and _is_mapping_union(hint):
        return {int(k): _check_number(f, float, v) for k, v in value.items()}
    choices = list(typing.get_args(hint)) if _is_literal(hint) else []
    if choices:
        if value not in choices:
            raise ValueError(
                f"{f.name}={value!r} is not one of {', '.join(map(repr, choices))}."
            )
        return value
    if hint is bool:
        if not isinstance(value, (bool, int)) or value not in (0, 1):
            raise TypeError(f"{f.name} must be True or False, not {value!r}.")
        return bool(value)
    if hint is str:
        return str(value)
    return _check_number(f, int if hint is int else float, value)


def _check_number(f: Field[Any], kind: type, value: Any) -> Any:
    if isinstance(value, (str, bytes)) or not hasattr(value, "__float__"):
        raise TypeError(f"{f.name} must be a number, not {value!r}.")
    if kind is int and int(value) != value:
        raise TypeError(f"{f.name} must be a whole number, not {value!r}.")
    low, high = f.metadata.get("low"), f.metadata.get("high")
    if (
        value != value
        or (low is not None and value < low)
        or (high is not None and value > high)
    ):
        raise ValueError(f"{f.name}={value} is outside {low} to {high}.")
    return kind(value)


def _is_mapping_union(hint: Any) -> bool:
    return any(
        getattr(typing.get_origin(a), "__name__", "") == "Mapping"
        for a in typing.get_args(hint)
    )


def _is_literal(hint: Any) -> bool:
    return typing.get_origin(hint) is Literal


def _parse(text: str, hint: Any) -> Any:
    if hint is bool:
        lowered = text.lower()
        if lowered not in ("true", "false", "yes", "no", "1", "0", "on", "off"):
            raise TypeError(f"{text!r} is not true or false.")
        return lowered in ("true", "yes", "1", "on")
    if _is_literal(hint) or hint is str:
        return text
    if ":" in text and _is_mapping_union(hint):
        return _parse_mapping(text)
    try:
        return int(text) if hint is int else float(text)
    except ValueError:
        return text


def _parse_mapping(text: str) -> dict[int, float]:
    try:
        pairs = [item.split(":") for item in text.split(",")]
        return {int(key): float(value) for key, value in pairs}
    except ValueError:
        raise TypeError(
            f"{text!r} is not a list of class:number, such as 1:20,2:50."
        ) from None
