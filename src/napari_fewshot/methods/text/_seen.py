"""What an image tower made of planes lately: a new phrase costs no new look."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from napari_fewshot.models import Recent, digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_fewshot._types import FloatArray
    from napari_fewshot.methods.text._words import TextBank

T = TypeVar("T")

KEPT_BYTES = 256 * 2**20
KEPT: Recent[Any] = Recent(KEPT_BYTES)


@dataclass(frozen=True, eq=False)
class Seen:
    """One view of a plane in the space of words.

    Attributes
    ----------
    cells : array (h, w, E)
        Every cell of length one; the grid covers the whole view.
    pooled : array (E,)
        The view as a whole, of length one.
    """

    cells: FloatArray = field(repr=False)
    pooled: FloatArray = field(repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes of both."""
        return int(self.cells.nbytes + self.pooled.nbytes)


def key_of(model: Any, pixels: FloatArray, what: str) -> str:
    """Return what tells a result from others: pixels, weights, and what was done.

    Parameters
    ----------
    model : TextModel
        Its weights and precision count.
    pixels : array (H, W[, C])
        Of the view, contiguous.
    what : str
        Method and parameters.
    """
    # Models without a hash are told apart as objects.
    weights = getattr(model, "sha256", "") or str(id(model))
    more = (getattr(model, name, "") for name in ("precision", "preset", "size"))
    name = f"{model.spec.name} {weights} {' '.join(map(str, more))}"
    return f"{digest(pixels)} {pixels.dtype} {name} {what}"


def stem(model: Any, pixels: FloatArray, last: int) -> Any:
    """Return tokens (1, T, D) after the first ``last`` blocks, computed or kept.

    Parameters
    ----------
    model : TextModel
        Its tower is run.
    pixels : array (H, W[, C])
        A plane.
    last : int
        Number of blocks.

    Returns
    -------
    tensor (1, T, D)
        Never to be changed in place; without gradients.
    """
    import torch

    key = key_of(model, np.ascontiguousarray(pixels), f"stem {last}")
    found = KEPT.get(key)
    if found is None:
        with torch.no_grad():
            found = model.tower.run(
                model.tower.begin(model.prepared(pixels)), 0, last
            ).detach()
        KEPT.put(key, found)
    return found.to(model.device)


def within_memory(model: Any, work: Callable[[], T]) -> T:
    """Return what some work gives; a model that can is made smaller where it must be.

    Parameters
    ----------
    model : TextModel
        Perhaps one that knows what to give up when memory runs out.
    work : callable
        Is called again then.
    """
    ladder = getattr(model, "within_memory", None)
    found: T = work() if ladder is None else ladder(work)
    return found


def fits_of(bank: TextBank, pooled: FloatArray) -> tuple[FloatArray, float | None]:
    """Return cosines (C,) of a plane with each class, and with nonsense the best one.

    Parameters
    ----------
    bank : TextBank
        All words.
    pooled : array (E,)
        The plane as a whole, of length one.

    Returns
    -------
    fits : array (C,) float32
    baseline : float or None
        None where the bank has no nonsense.
    """
    fits = np.array([words.mean @ pooled for words in bank.classes], np.float32)
    nonsense = bank.nonsense @ pooled
    return fits, float(nonsense.max()) if len(nonsense) else None
