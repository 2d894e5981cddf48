"""Parts of an annotation that nobody knows: as a mask beside the labels, and in them.

A mask goes in (`Support.ignore`); inside, labels are `IGNORED` there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.errors import SupportError

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray

# Label of pixels that nobody knows.
IGNORED = -1


def checked_ignore(ignore: Any, wanted: tuple[int, ...]) -> Any:
    """Return what to ignore as something with a shape, or None.

    Parameters
    ----------
    ignore : array, or None
        Not zero where labels are not known; (leading axes, H, W).
    wanted : tuple of int
        Shape of the labels.

    Raises
    ------
    SupportError
        If its shape is another one.
    """
    if ignore is None:
        return None
    if not hasattr(ignore, "shape") or not hasattr(ignore, "dtype"):
        ignore = np.asarray(ignore)
    found = tuple(int(n) for n in ignore.shape)
    if found != wanted:
        one, other = (" x ".join(map(str, shape)) for shape in (found, wanted))
        raise SupportError(
            f"What to ignore has another size ({one}) than the image ({other}). Give "
            "a mask of the image's size that is not zero where labels are not known."
        )
    return ignore


def with_ignored(labels: AnyArray, ignore: Any) -> AnyArray:
    """Return the labels of a plane (H, W), `IGNORED` where the mask (H, W) is set."""
    return np.where(np.asarray(ignore) != 0, IGNORED, labels.astype(np.int64))


def without_ignored(labels: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Return labels without `IGNORED`, and where it was: the reverse of the above."""
    off = labels == IGNORED
    return np.where(off, 0, labels), off
