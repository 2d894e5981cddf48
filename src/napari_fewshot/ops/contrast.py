"""Contrastive learning of images with captions: DHN-NCE, and retrieval to judge it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from napari_fewshot._types import AnyArray, BoolArray

# Of MedCLIP-SAM (Koleilat et al., MICCAI 2024).
TEMPERATURE, HARDNESS = 0.6, 0.15


def dhn_nce(
    image: Tensor,
    text: Tensor,
    temperature: float = TEMPERATURE,
    hardness: tuple[float, float] = (HARDNESS, HARDNESS),
    same: Tensor | None = None,
) -> Tensor:
    """Return the decoupled contrastive loss with hard negatives, DHN-NCE.

    With ``l = image @ text.T / temperature`` the loss of images is the mean over i of
    ``-l_ii + log sum_{j != i} W_ij exp(l_ij)``, where ``W_ij = n_i exp(b l_ij) /
    sum_{k != i} exp(b l_ik)`` makes near negatives weigh more, and n_i counts the
    negatives; that of texts is the same with ``l.T``. The pair itself is in no
    denominator. It is computed in log space, after the formula of Koleilat et al.
    (MedCLIP-SAM, MICCAI 2024); the code released with the paper computes another
    quantity, which draws hard negatives nearer.

    Parameters
    ----------
    image, text : tensor (B, E)
        Pairs in the order of rows; rows of any length are brought to one.
    temperature : float
        Above zero.
    hardness : (float, float)
        b for images and for texts; 0 weighs all negatives alike.
    same : tensor (B, B) bool, optional
        Texts that fit other images as well, such as equal captions: no negatives.

    Returns
    -------
    tensor ()

    Raises
    ------
    DataError
        If there are fewer than two pairs, the shapes differ, or nothing is a negative.
    """
    import torch.nn.functional as F

    if image.ndim != 2 or image.shape != text.shape:
        raise DataError(
            f"Images and captions come in pairs; {tuple(image.shape)} and "
            f"{tuple(text.shape)} do not fit together."
        )
    similarity = F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    return dhn_nce_of(similarity, temperature, hardness, same)


def dhn_nce_of(
    similarity: Tensor,
    temperature: float = TEMPERATURE,
    hardness: tuple[float, float] = (HARDNESS, HARDNESS),
    same: Tensor | None = None,
) -> Tensor:
    """Return DHN-NCE of cosines (B, B), images in rows; see `dhn_nce`."""
    import torch

    count = len(similarity)
    if count < 2:
        raise DataError(
            "A batch of one pair has no negatives to learn from. Use batches of two "
            "pairs or more, and leave out a last one that is smaller."
        )
    if not temperature > 0:
        raise DataError(f"The temperature must be above 0, not {temperature}.")
    logits = similarity / temperature
    shut = torch.eye(count, dtype=torch.bool, device=logits.device)
    if same is not None:
        shut = shut | same.to(shut)
    if bool(shut.all()):
        raise DataError(
            "All captions of a batch are equal: there is nothing to tell apart. Give "
            "captions that differ, or use larger batches."
        )
    mine = logits.diagonal()
    of_images = _one_way(logits, mine, shut, hardness[0])
    return of_images + _one_way(logits.T, mine, shut.T, hardness[1])


def _one_way(logits: Tensor, mine: Tensor, shut: Tensor, hardness: float) -> Tensor:
    """Return the mean loss of rows that have negatives."""
    usable = ~shut.all(1)
    rows, closed = logits[usable], shut[usable]
    away = -float("inf")
    count = (~closed).sum(1, keepdim=True).to(rows)
    tilted = (hardness * rows).masked_fill(closed, away)
    weight = count.log() + tilted - tilted.logsumexp(1, keepdim=True)
    against = (rows + weight).masked_fill(closed, away).logsumexp(1)
    return (against - mine[usable]).mean()


def equal_captions(captions: list[str]) -> BoolArray:
    """Return which captions are the same (B, B), but for case and blanks."""
    plain = np.array([" ".join(c.casefold().split()) for c in captions])
    found: BoolArray = plain[:, None] == plain[None, :]
    return found


def recall_at(
    image: AnyArray, text: AnyArray, top: int, same: BoolArray | None = None
) -> tuple[float, float]:
    """Return the share of right retrievals, of texts by images and of images by texts.

    Parameters
    ----------
    image, text : array (N, E)
        Pairs in the order of rows, of length one.
    top : int
        How many of the nearest may hold the right one; ties count as wrong.
    same : array (N, N) bool, optional
        What is right besides the pair itself, as for `dhn_nce`.

    Raises
    ------
    DataError
        If there are no pairs.
    """
    if not len(image) or np.shape(image) != np.shape(text):
        raise DataError("There are no pairs of images and captions to retrieve among.")
    cosines = np.asarray(image, np.float64) @ np.asarray(text, np.float64).T
    right = np.eye(len(cosines), dtype=bool)
    right = right if same is None else right | same
    return _hits(cosines, right, top), _hits(cosines.T, right.T, top)


def _hits(cosines: AnyArray, right: BoolArray, top: int) -> float:
    best = np.where(right, cosines, -np.inf).max(1, keepdims=True)
    before = ((cosines >= best) & ~right).sum(1)
    return float((before < top).mean())
