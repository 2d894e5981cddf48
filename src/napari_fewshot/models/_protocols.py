"""What every image encoder offers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from napari_fewshot.data import Embedding
    from napari_fewshot.models._spec import ModelSpec


class Encoder(Protocol):
    """An image encoder.

    Attributes
    ----------
    spec : ModelSpec
        Facts about the model.
    """

    spec: ModelSpec

    def encode(self, image: Any) -> Embedding:
        """Return the embedding of one plane.

        Parameters
        ----------
        image : array (H, W) or (H, W, C)
            Floats in [0, 1], or any real dtype, which is then windowed to [0, 1] by its
            0.5 and 99.5 percentiles.

        Returns
        -------
        Embedding
            ``.array`` is (C, h, w) float32.
        """
