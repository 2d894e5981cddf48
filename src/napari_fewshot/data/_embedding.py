"""`Embedding`: a feature map and how it lies over its image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fewshot._types import FloatArray


@dataclass(frozen=True, eq=False)
class Embedding:
    """What a model made of one plane.

    Attributes
    ----------
    array : array (C, h, w)
        float32 features.
    image_shape : (int, int)
        Rows and columns of the plane it was made from.
    model : str
        Name of the model.
    valid : (float, float)
        Share of the rows and columns of cells that show the plane; the rest is padding
        at the bottom and on the right. Cell (i, j) begins at pixel ``i * stride[0]``,
        ``j * stride[1]``.
    extras : dict of str to array (C, h, w)
        float32 maps besides ``array`` that the decoder of some models reads, such as
        finer ones.
    """

    array: FloatArray = field(repr=False)
    image_shape: tuple[int, int]
    model: str
    valid: tuple[float, float] = (1.0, 1.0)
    extras: Mapping[str, FloatArray] = field(default_factory=dict, repr=False)

    @property
    def stride(self) -> tuple[float, float]:
        """Pixels per cell along (y, x)."""
        rows, columns = self._shown
        return self.image_shape[0] / rows, self.image_shape[1] / columns

    @property
    def cells(self) -> FloatArray:
        """The cells that show the plane, (C, h', w'), those at its rim in part."""
        rows, columns = self._shown
        return self.array[:, : max(1, round(rows)), : max(1, round(columns))]

    @property
    def _shown(self) -> tuple[float, float]:
        """Rows and columns of cells that show the plane."""
        _, height, width = self.array.shape
        return height * self.valid[0], width * self.valid[1]
