"""`RelevanceMethod`: which patches the fit of a plane with a phrase depends on."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods.text._base import TextMethod
from napari_fewshot.methods.text._heat import Heat
from napari_fewshot.methods.text._seen import fits_of, within_memory
from napari_fewshot.methods.text._words import unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks, Plane
    from napari_fewshot.methods.text._words import TextBank


@dataclass(frozen=True, eq=False)
class Target:
    """What images of one class should fit.

    Attributes
    ----------
    positive : tensor (M, E)
        Phrases and synonyms, rows of length one; the best of them counts.
    negative : tensor (K, E)
        What it is not; may be empty.
    contrast : float
        How much the best of ``negative`` is subtracted.
    """

    positive: Tensor
    negative: Tensor
    contrast: float

    def fit(self, images: Tensor) -> Tensor:
        """Return how well images (B, E) fit, (B,): a cosine, less another one."""
        import torch

        rows = torch.nn.functional.normalize(images, dim=-1)
        found = (rows @ self.positive.T).amax(-1)
        if len(self.negative):
            found = found - self.contrast * (rows @ self.negative.T).amax(-1)
        return found


def targets_of(bank: TextBank, contrast: float, device: Any) -> list[Target]:
    """Return one target per class of a bank.

    Parameters
    ----------
    bank : TextBank
        All words.
    contrast : float
        See `Target`.
    device : torch.device
        Where the model is.
    """
    import torch

    return [
        Target(
            torch.as_tensor(words.positive, device=device),
            torch.as_tensor(words.negative, device=device),
            contrast,
        )
        for words in bank.classes
    ]


class RelevanceMethod(TextMethod):
    """Base of the methods that explain the fit of a whole plane.

    Each map is brought to [0, 1] by itself, so that maps of classes can't be compared;
    whether a phrase fits at all is told by `Heat.fits` beside `Heat.baseline`. A plane
    is looked at as a whole: these methods take no windows.
    """

    @abstractmethod
    def explained(
        self,
        model: Any,
        image: FloatArray,
        targets: Sequence[Target],
        params: Any,
        hooks: Hooks,
    ) -> tuple[FloatArray, FloatArray]:
        """Return how much each patch explains.

        Parameters
        ----------
        model : TextModel
            With its tower.
        image : array (H, W, C)
            The plane.
        targets : sequence of Target
            One per class.
        params : TextParams
            Of this method.
        hooks : Hooks
            Called at least every second.

        Returns
        -------
        maps : array (C, h, w)
            Larger explains more; any scale.
        pooled : array (E,)
            The plane in the space of words.
        """

    def heat(
        self, model: Any, plane: Plane, bank: Any, params: Any, hooks: Hooks
    ) -> Heat:
        """Say which patches each phrase depends on; see `TextMethod.heat`."""
        hooks.check()
        image = np.ascontiguousarray(plane.image)

        def explained(pixels: FloatArray) -> tuple[FloatArray, FloatArray]:
            # Where memory runs out, a model may have moved before it is tried again.
            targets = targets_of(bank, params.contrast, model.device)
            maps, pooled = self.explained(model, pixels, targets, params, hooks)
            return rescaled(maps), unit(np.nan_to_num(pooled))

        maps, pooled = within_memory(model, partial(explained, image))
        if params.flips:
            mirror = np.ascontiguousarray(image[:, ::-1])
            more, other = within_memory(model, partial(explained, mirror))
            both: FloatArray = maps + more[:, :, ::-1]
            maps, pooled = rescaled(both), unit(pooled + other)
        hooks.check()
        fits, baseline = fits_of(bank, pooled)
        return Heat(maps, "relevance", fits=fits, baseline=baseline)


def rescaled(maps: FloatArray) -> FloatArray:
    """Bring each map (..., h, w) to [0, 1]; one that is flat, or no number, is 0.

    Parameters
    ----------
    maps : array (..., h, w)
        Any values; those that are not finite count as the least.
    """
    found = np.asarray(maps, np.float64)
    good = np.isfinite(found)
    axes = (-2, -1)
    some = good.any(axes, keepdims=True)
    low = np.where(good, found, np.inf).min(axes, keepdims=True)
    high = np.where(good, found, -np.inf).max(axes, keepdims=True)
    low, high = np.where(some, low, 0.0), np.where(some, high, 0.0)
    # Differences within rounding are none.
    span = high - low
    flat = ~(span > 1e-6 * np.maximum(np.abs(high), np.abs(low)))
    share = (np.where(good, found, low) - low) / np.where(flat, 1.0, span)
    result: FloatArray = np.where(flat, 0.0, share).astype(np.float32)
    return result
