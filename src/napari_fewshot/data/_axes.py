"""Axis strings: which axis of an array is time, depth, channel, row or column.

Everything above this module talks of *planes*: the (t, z) index of an image is
flattened in C order, so that a plane is always ``(y, x)`` or ``(y, x, c)``.
"""

from __future__ import annotations

from napari_fewshot.errors import DataError

AXES = "tzcyx"
SPATIAL = "zyx"


def resolve_axes(shape: tuple[int, ...], dtype: object, axes: str | None) -> str:
    """Return the axis string of an array, guessed by the house rules if None.

    Parameters
    ----------
    shape : tuple of int
        Shape of the array.
    dtype : dtype
        Only used to tell RGB(A) from a short stack: uint8 and uint16 with a last axis
        of 3 or 4 are colour.
    axes : str, optional
        One letter of ``tzcyx`` per axis, e.g. ``"zyx"``.

    Returns
    -------
    str
        The validated axis string.

    Raises
    ------
    DataError
        If the axes can't be guessed or do not fit the shape.
    """
    if axes is None:
        return _guess_axes(shape, dtype)
    axes = axes.lower()
    if len(axes) != len(shape):
        raise DataError(
            f"axes={axes!r} names {len(axes)} axes but the image has {len(shape)} "
            f"(shape {shape}). Give one letter of 'tzcyx' per axis."
        )
    unknown = set(axes) - set(AXES)
    if unknown or len(set(axes)) != len(axes):
        raise DataError(
            f"axes={axes!r} is not valid: use each of the letters t, z, c, y, x at "
            "most once."
        )
    if "y" not in axes or "x" not in axes:
        raise DataError(f"axes={axes!r} has no 'y' or no 'x'; both are needed.")
    if axes.index("y") > axes.index("x"):
        raise DataError(f"axes={axes!r}: 'y' (rows) must come before 'x' (columns).")
    return axes


def _guess_axes(shape: tuple[int, ...], dtype: object) -> str:
    if len(shape) == 2:
        return "yx"
    if len(shape) == 3:
        is_colour = shape[-1] in (3, 4) and str(dtype) in ("uint8", "uint16")
        return "yxc" if is_colour else "zyx"
    raise DataError(
        f"An image of shape {shape} has {len(shape)} axes; say which is which with "
        "axes=, for example axes='tyxc' or axes='zcyx'."
    )


def plane_axes(axes: str) -> str:
    """Return the axes that are flattened into planes, e.g. ``"tz"``."""
    return "".join(a for a in axes if a in "tz")


def label_axes(axes: str) -> str:
    """Return the axes of labels for an image: all but the channel axis."""
    return axes.replace("c", "")


def label_shape(shape: tuple[int, ...], axes: str) -> tuple[int, ...]:
    """Return the shape of labels for an image of this shape."""
    return tuple(n for n, a in zip(shape, axes, strict=True) if a != "c")


def resolve_scale(
    scale: tuple[float, ...] | list[float] | float | None, axes: str
) -> tuple[float, ...] | None:
    """Return one positive pixel size per spatial axis (z, y, x), or None.

    A scale with one entry per label axis (as napari layers have) is accepted too: its
    time entry is dropped.
    """
    if scale is None:
        return None
    values = (scale,) if isinstance(scale, (int, float)) else tuple(scale)
    values = tuple(float(v) for v in values)
    spatial = [a for a in axes if a in SPATIAL]
    named = label_axes(axes)
    if len(values) == 1 and len(spatial) > 1:
        values = values * len(spatial)
    elif len(values) == len(named) and len(values) != len(spatial):
        values = tuple(v for v, a in zip(values, named, strict=True) if a in SPATIAL)
    if len(values) != len(spatial):
        raise DataError(
            f"scale has {len(values)} numbers but the image has {len(spatial)} spatial "
            f"axes ({', '.join(spatial)}). Give one pixel size per spatial axis."
        )
    if any(not v > 0 or v == float("inf") for v in values):
        raise DataError(f"scale={values} must hold positive, finite pixel sizes.")
    return values
