"""`filters`: a fixed multi-scale filter bank as an embedding; needs no weights.

It is a real encoder with the interface of the large ones, so that every method that
works on embeddings also works with nothing downloaded, and can be tested.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Embedding, as_plane
from napari_fewshot.errors import WeightsError
from napari_fewshot.models._registry import FILTERS
from napari_fewshot.ops import fit_factor, pixel_features, resize_image, scaled_shape

if TYPE_CHECKING:
    from napari_fewshot._types import FloatArray
    from napari_fewshot.models._spec import ModelSpec

WORKING_SIDE = 256
STRIDE = 2
SIGMAS = (1.0, 2.0, 4.0, 8.0, 16.0)
# Typical size of each kind of feature on natural and medical images in [0, 1]: value,
# then per scale mean, gradient, both Hessian eigenvalues, deviation, difference. They
# are fixed, so that embeddings of different images can be compared.
VALUE_SIZE = 0.25
KIND_SIZES = (0.25, 0.06, 0.03, 0.03, 0.08, 0.04)


class FilterEncoder:
    """Encoder of fixed filters."""

    spec = FILTERS

    def encode(self, image: Any) -> Embedding:
        """Return the embedding of one plane.

        Parameters
        ----------
        image : array (H, W) or (H, W, C)
            Floats in [0, 1]; other dtypes are windowed first.

        Returns
        -------
        Embedding
            (C, h, w) with h, w half of the working size (longest side 256).
        """
        plane = as_plane(np.asarray(image))
        shape = (plane.shape[0], plane.shape[1])
        small = scaled_shape(shape, fit_factor(shape, WORKING_SIDE, WORKING_SIDE))
        features = pixel_features(resize_image(plane, small), SIGMAS)
        centre, size = _statistics(features.shape[-1])
        whitened = (features - centre) / size
        grid = (max(2, small[0] // STRIDE), max(2, small[1] // STRIDE))
        cells = resize_image(whitened.astype(np.float32), grid)
        array = np.ascontiguousarray(np.moveaxis(cells, -1, 0))
        return Embedding(array, shape, self.spec.name)


def load(
    spec: ModelSpec, checkpoint: Any, device: str, precision: str
) -> FilterEncoder:
    """Return the encoder; there is nothing to load.

    Raises
    ------
    WeightsError
        If a checkpoint is given.
    """
    if checkpoint is not None:
        raise WeightsError(
            f"The model {spec.name!r} has no weights; leave checkpoint out."
        )
    return FilterEncoder()


def _statistics(count: int) -> tuple[FloatArray, FloatArray]:
    """Centre and size of every feature, repeated per channel."""
    per_channel = 1 + len(KIND_SIZES) * len(SIGMAS)
    size = np.array([VALUE_SIZE, *KIND_SIZES * len(SIGMAS)], np.float32)
    centre = np.zeros(per_channel, np.float32)
    centre[0] = 0.5
    centre[1 :: len(KIND_SIZES)] = 0.5
    channels = count // per_channel
    return np.tile(centre, channels), np.tile(size, channels)
