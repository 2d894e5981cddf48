"""`Embedding`: a feature map and how it lies over its image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_fewshot._types import FloatArray


@dataclass(frozen=True, eq=False)
class Embedding:
    """What a model made of one plane.

    Attributes
    ----------
    array : array (C, h, w)
        float32 features.
    image_shape : (int, int)
        Rows and columns of the plane it was made from; cell (i, j) covers pixels
        ``i * H / h ... (i + 1) * H / h``.
    model : str
        Name of the model.
    """

    array: FloatArray = field(repr=False)
    image_shape: tuple[int, int]
    model: str

    @property
    def stride(self) -> tuple[float, float]:
        """Pixels per cell along (y, x)."""
        _, height, width = self.array.shape
        return self.image_shape[0] / height, self.image_shape[1] / width
