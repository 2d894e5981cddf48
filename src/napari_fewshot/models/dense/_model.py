"""An encoder with weights on a device: planes to maps of features."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_fewshot.data import Embedding
from napari_fewshot.errors import DataError
from napari_fewshot.models._device import autocast
from napari_fewshot.models._ladder import Economical
from napari_fewshot.models.dense._frame import CELLS, Fitting, prepared

if TYPE_CHECKING:
    from napari_fewshot._types import FloatArray
    from napari_fewshot.models._spec import ModelSpec
    from napari_fewshot.models.dense._frame import Preset
    from napari_fewshot.models.dense._networks import Check, Network


class DenseModel(Economical):
    """An encoder that gives features and answers no prompts.

    Parameters
    ----------
    network : Network
        With weights.
    spec : ModelSpec
        Facts about it.
    preset : Preset
        How it wants its images.
    device, precision : str
        Where, and with how many bits it computes.
    sha256 : str
        Of the weights file.

    Attributes
    ----------
    side : int
        Pixels of the longest side of what the network reads.
    """

    def __init__(
        self,
        network: Network,
        spec: ModelSpec,
        preset: Preset,
        device: str = "cpu",
        precision: str = "fp32",
        sha256: str = "",
    ) -> None:
        super().__init__(device, precision)
        self.network, self.spec, self.preset = network, spec, preset
        self.sha256, self.side = sha256, CELLS * preset.step
        network.module.eval().to(self.device)

    def move(self, device: torch.device) -> None:
        """Bring the network to a device."""
        super().move(device)
        self.network.module.to(device)

    def before_norm(self) -> DenseModel:
        """Return this encoder with its features before the last norm.

        Matcher and GF-SAM use these of DINOv2. Where features come from an inner map
        of a convolutional network they are the same.
        """
        preset, precision = replace(self.preset, normed=False), self.precision
        place = str(self.device)
        return DenseModel(
            self.network, self.spec, preset, place, precision, self.sha256
        )

    @torch.inference_mode()
    def encode(self, image: Any, check: Check | None = None) -> Embedding:
        """Return the embedding of one plane.

        Its longest side is resized to ``side``, 48 cells; its shape is kept.

        Parameters
        ----------
        image : array (H, W) or (H, W, C)
            uint8 is divided by 255, floats in [0, 1] are taken as they are, other
            numbers are windowed by their percentiles.
        check : callable, optional
            Called with the number of the block and of all blocks; may raise to cancel.

        Returns
        -------
        Embedding
            (C, h, w), the longer of h and w 48; features of the last layer after its
            norm, without class and register tokens.

        Raises
        ------
        DataError
            If it is no plane.
        ModelError
            If memory runs out and nothing is left to give up; see ``notes``.
        """
        pixels = np.asarray(image)
        if pixels.ndim not in (2, 3) or 0 in pixels.shape:
            raise DataError(
                f"{self.spec.name} encodes one plane (H, W) or (H, W, C); this array "
                f"has the shape {pixels.shape}."
            )
        shape = (int(pixels.shape[0]), int(pixels.shape[1]))
        fitting = Fitting(shape, self.side, self.preset.step)
        x = prepared(pixels, fitting, self.preset)
        array = self.within_memory(partial(self._features, x, check))
        return Embedding(array, shape, self.spec.name, fitting.valid)

    def blank_features(self, shape: tuple[int, int]) -> FloatArray:
        """Return the features of a black plane: what they say of position alone.

        INSID3 (2026) takes the space that they span off the features of images.

        Parameters
        ----------
        shape : (int, int)
            Rows and columns of the plane.

        Returns
        -------
        array (C, h, w) float32
            The cells that show the plane.
        """
        return self.encode(np.zeros(shape, np.uint8)).cells

    def _features(self, x: torch.Tensor, check: Check | None) -> FloatArray:
        with autocast(self.device, self.precision):
            found = self.network(x.to(self.device), self.preset, check)
        array: FloatArray = found.float().cpu().contiguous().numpy()
        return array
