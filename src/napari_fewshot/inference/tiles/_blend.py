"""`Blend`: maps of windows in any order, to maps of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Lattice


class Blend:
    """Puts the windows of one plane together.

    A cell is the mean of the windows that show it, weighted by `Lattice.weights`. Only
    windows that unfinished cells still need are kept.

    Parameters
    ----------
    lattice : Lattice
        Of the plane.
    windows : collection of int
        Those that are on their way.
    cells : collection of int
        Those that are wanted.
    """

    def __init__(
        self, lattice: Lattice, windows: Collection[int], cells: Collection[int]
    ) -> None:
        self.lattice = lattice
        coming, wanted = set(windows), set(cells)
        self._waits = {c: coming.intersection(lattice.around(c)) for c in wanted}
        self._needs = {w: wanted.intersection(lattice.around(w)) for w in coming}
        self._maps: dict[int, Mapping[int, FloatArray]] = {}

    @property
    def held(self) -> int:
        """How many windows are kept."""
        return len(self._maps)

    def is_pending(self, cell: int) -> bool:
        """Whether a cell is wanted and not taken yet."""
        return cell in self._waits

    @property
    def pending(self) -> list[int]:
        """Cells that are not taken yet, in order."""
        return sorted(self._waits)

    def needs(self, window: int) -> bool:
        """Whether any unfinished cell shows a window."""
        return bool(self._needs.get(window))

    def add(self, window: int, maps: Mapping[int, FloatArray]) -> list[int]:
        """Take the maps of a window; returns the cells that are complete by it.

        Parameters
        ----------
        window : int
            Its number.
        maps : mapping of int to array (h, w)
            Probability per class.
        """
        if not self.needs(window):
            return []
        self._maps[window] = maps
        ready = []
        for cell in sorted(self._needs[window]):
            self._waits[cell].discard(window)
            if not self._waits[cell]:
                ready.append(cell)
        return ready

    def maps(self, cell: int) -> dict[int, FloatArray]:
        """Return the maps of a cell, float32, by the windows that are there.

        Empty if there is none of them.
        """
        region = self.lattice.cell(cell)
        found: dict[int, FloatArray] = {}
        total = np.zeros((region[2] - region[0], region[3] - region[1]), np.float32)
        for window in self.lattice.around(cell):
            if window not in self._maps:
                continue
            weight = self.lattice.weights(window, region)
            rows, columns = np.flatnonzero(weight.any(1)), np.flatnonzero(weight.any(0))
            if not len(rows):
                continue
            here = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            top, left = self._offset(window, region)
            there = np.s_[
                rows[0] + top : rows[-1] + 1 + top,
                columns[0] + left : columns[-1] + 1 + left,
            ]
            total[here] += weight[here]
            for value, probability in self._maps[window].items():
                if value not in found:
                    found[value] = np.zeros(total.shape, np.float32)
                found[value][here] += weight[here] * probability[there]
        if not np.allclose(total, 1.0, atol=1e-6):
            scale = np.where(total > 0, 1 / np.maximum(total, 1e-6), 0)
            found = {v: (p * scale).astype(np.float32) for v, p in found.items()}
        return found

    def take(self, cell: int) -> list[int]:
        """Note that a cell is done; returns the windows that nobody needs any more."""
        self._waits.pop(cell, None)
        gone = []
        for window in self.lattice.around(cell):
            needs = self._needs.get(window)
            if needs and cell in needs:
                needs.discard(cell)
                if not needs:
                    self._maps.pop(window, None)
                    gone.append(window)
        return gone

    def _offset(
        self, window: int, region: tuple[int, int, int, int]
    ) -> tuple[int, int]:
        """Where a region begins in the pixels of a window; may be outside of it."""
        top, left, _, _ = self.lattice.window(window)
        return region[0] - top, region[1] - left
