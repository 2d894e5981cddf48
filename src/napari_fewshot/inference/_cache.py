"""`FitCache`: what was learnt from a set of supports, kept for the next query."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_fewshot.methods import FittedMethod, Reliability

MAX_FITS = 4


@dataclass
class FitCache:
    """The last few fits, by a key that covers supports, method, model and parameters.

    Attributes
    ----------
    max_fits : int
        How many are kept; the least recently used one goes first.
    """

    max_fits: int = MAX_FITS
    _fits: OrderedDict[str, tuple[FittedMethod, Reliability]] = field(
        default_factory=OrderedDict
    )

    def get(self, key: str) -> tuple[FittedMethod, Reliability] | None:
        """Return a fit, or None."""
        if key in self._fits:
            self._fits.move_to_end(key)
        return self._fits.get(key)

    def put(self, key: str, fit: tuple[FittedMethod, Reliability]) -> None:
        """Remember a fit."""
        self._fits[key] = fit
        self._fits.move_to_end(key)
        while len(self._fits) > self.max_fits:
            self._fits.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._fits.clear()
