"""A model of the CLIP kind looks at every mask by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.ops import bounding_box

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.methods.text._words import TextBank

# Round a mask so much of its longer side is shown, and at least so many pixels.
MARGIN, LEAST = 0.1, 2
# What is round the mask is shown so dim in the second view.
DIMMED = 0.3


def can_look(model: Any) -> bool:
    """Whether a model compares images with phrases, so that it can judge masks."""
    return hasattr(model, "tower") and hasattr(model, "prepared")


def judge_mask(
    image: FloatArray, mask: BoolArray, bank: TextBank, number: int, model: Any
) -> tuple[float, bool]:
    """Return how well a mask by itself fits its class, and whether nothing fits better.

    Parameters
    ----------
    image : array (H, W, C)
        The plane, in [0, 1].
    mask : array (H, W) bool
        Not empty.
    bank : TextBank
        Rivals are the other classes, what this one is not, and the background.
    number : int
        Of the class in the bank.
    model : TextModel
        See `can_look`.

    Returns
    -------
    share : float
        Of the class in the softmax over it and its rivals, with the model's own
        temperature; the mean of two views.
    wins : bool
        Whether no rival has a larger share.
    """
    positive, rivals = _rows(bank, number)
    shown = look(two_views(image, mask), model)
    fits = np.concatenate([(shown @ positive.T).max(1)[:, None], shown @ rivals.T], 1)
    logits = float(model.logit_scale) * fits
    raised = np.exp(logits - logits.max(1, keepdims=True))
    share = (raised / raised.sum(1, keepdims=True)).mean(0)
    return float(share[0]), bool(share[0] >= share.max())


def two_views(image: FloatArray, mask: BoolArray) -> list[FloatArray]:
    """Return what is shown of a mask: alone on the mean colour, and with dim context.

    Parameters
    ----------
    image : array (H, W, C)
        The plane.
    mask : array (H, W) bool
        Not empty.

    Returns
    -------
    list of array (h, w, C)
        Both of the box of the mask with a margin.
    """
    tight = bounding_box(mask, 0)
    longest = max(tight[1] - tight[0], tight[3] - tight[2])
    top, bottom, left, right = bounding_box(mask, max(LEAST, round(MARGIN * longest)))
    crop, inside = image[top:bottom, left:right], mask[top:bottom, left:right, None]
    mean = image.mean((0, 1), keepdims=True)
    return [
        np.where(inside, crop, mean).astype(np.float32),
        np.where(inside, crop, DIMMED * crop).astype(np.float32),
    ]


def look(views: Sequence[FloatArray], model: Any) -> FloatArray:
    """Return images in the space of words, (n, E), rows of length one.

    Parameters
    ----------
    views : sequence of array (h, w, C)
        In [0, 1].
    model : TextModel
        See `can_look`.
    """
    import torch

    with torch.inference_mode():
        batch = torch.cat([model.prepared(view) for view in views])
        tower = model.tower
        tokens = tower.run(tower.begin(batch), 0, tower.depth)
        rows = tower.pooled(tokens).float()
        unit = rows / rows.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        found: FloatArray = unit.cpu().numpy()
    return found


def _rows(bank: TextBank, number: int) -> tuple[FloatArray, FloatArray]:
    """Return the phrases of a class, and those that speak against it."""
    mine = bank.classes[number]
    others = [bank.classes[i].positive for i in bank.rivals(number)]
    return mine.positive, np.concatenate([*others, mine.negative, bank.background])
