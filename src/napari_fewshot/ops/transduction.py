"""Models of a class that adapt to the query: its own pixels take part in the fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.ops.prototypes import unit_rows

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, FloatArray

EPSILON = 1e-6
# Probabilities are held this far from 0 and 1 before their logarithm is taken.
LEAST = 1e-12


@dataclass(frozen=True)
class RepriTerms:
    """What RePRI minimises.

    Attributes
    ----------
    proportion : float
        Share of the query that the class should cover, in (0, 1).
    kl, entropy : float
        Weights of the proportion and of certainty; the supports' weight is 1.
    scale : float
        Of the cosine.
    """

    proportion: float
    kl: float
    entropy: float
    scale: float = 20.0


def repri_loss(
    weight: AnyArray,
    bias: float,
    support: FloatArray,
    truth: FloatArray,
    query: FloatArray,
    terms: RepriTerms,
) -> tuple[float, AnyArray, float]:
    """Return RePRI's objective and its gradient.

    ``CE(support) + kl * KL(mean query probability || proportion) + entropy * mean
    entropy of the query`` of ``p(x) = sigmoid(scale * cos(x, weight) - bias)``.

    Parameters
    ----------
    weight : array (C,)
        The classifier; its length does not matter.
    bias : float
        Level at which p is one half.
    support : array (N, C)
        Tokens of unit length.
    truth : array (N,)
        In [0, 1].
    query : array (M, C)
        Tokens of unit length.
    terms : RepriTerms
        Targets and weights.

    Returns
    -------
    loss : float
    by_weight : array (C,)
        Derivative with respect to the weight.
    by_bias : float

    Notes
    -----
    Boudiaf et al., Few-shot segmentation without meta-learning (RePRI), CVPR 2021,
    equations 1 to 4.
    """
    seen = _probability(support, weight, bias, terms.scale)
    found = _probability(query, weight, bias, terms.scale)
    entropies = -found * np.log(found) - (1 - found) * np.log(1 - found)
    share, wanted = float(found.mean()), terms.proportion
    cross = -truth * np.log(seen) - (1 - truth) * np.log(1 - seen)
    apart = share * np.log(share / wanted)
    apart += (1 - share) * np.log((1 - share) / (1 - wanted))
    loss = float(cross.mean() + terms.kl * apart + terms.entropy * entropies.mean())
    # Derivatives with respect to the logits, then the chain to weight and bias.
    slope = np.log(share / (1 - share)) - np.log(wanted / (1 - wanted))
    sure = np.log(found / (1 - found))
    of_support = (seen - truth) / len(truth)
    of_query = found * (1 - found) * (terms.kl * slope - terms.entropy * sure)
    of_query /= len(found)
    pulled = of_support @ support + of_query @ query
    length = float(np.linalg.norm(weight)) + EPSILON
    unit = weight / length
    by_weight = terms.scale / length * (pulled - (pulled @ unit) * unit)
    return loss, by_weight, -float(of_support.sum() + of_query.sum())


def _probability(
    rows: FloatArray, weight: AnyArray, bias: float, scale: float
) -> AnyArray:
    length = float(np.linalg.norm(weight)) + EPSILON
    logits = scale * (rows @ weight).astype(np.float64) / length - bias
    held: AnyArray = np.clip(1 / (1 + np.exp(-np.clip(logits, -40, 40))), LEAST, None)
    return np.minimum(held, 1 - LEAST)


def chambolle(values: FloatArray, weight: float, rounds: int = 20) -> FloatArray:
    """Return the map that is near the given one and has short boundaries.

    The minimiser of ``|u - values|^2 / 2 + weight * TV(u)``.

    Parameters
    ----------
    values : array (h, w)
        Such as a soft mask.
    weight : float
        Of the total variation; larger is smoother.
    rounds : int
        Steps of the iteration.

    Notes
    -----
    Chambolle, An algorithm for total variation minimization, JMIV 2004.
    """
    from skimage.restoration import denoise_tv_chambolle

    found: FloatArray = denoise_tv_chambolle(
        values.astype(np.float32), weight=weight, eps=0.0, max_num_iter=rounds
    )
    return found


@dataclass(frozen=True)
class Phases:
    """Settings of `mumford_shah`.

    Attributes
    ----------
    scale : float
        Of the cosine distance.
    smoothness : float
        Weight of the total variation.
    momentum : float
        Share of the old prototype that stays.
    rounds : int
        At most so many alternations.
    still : float
        It ends when less than this share of the cells changes sides.
    """

    scale: float = 20.0
    smoothness: float = 0.2
    momentum: float = 0.7
    rounds: int = 8
    still: float = 0.005


def mumford_shah(
    features: FloatArray,
    prototypes: FloatArray,
    inside: int,
    bias: float,
    settings: Phases,
) -> tuple[FloatArray, FloatArray]:
    """Find a soft mask and the prototypes that explain a query, in turn.

    Minimises ``sum_i u_i * distance(prototype_i, x) + entropy / scale + TV(u)`` over
    soft masks u that sum to one and over the prototypes (piecewise constant
    Mumford-Shah model with cosine distance).

    Parameters
    ----------
    features : array (C, h, w)
        Cells of unit length.
    prototypes : array (P, C)
        To begin with, such as those of the supports.
    inside : int
        The first so many belong to the class, the others to the background.
    bias : float
        Log-odds that are taken off the class.
    settings : Phases
        See there.

    Returns
    -------
    log_odds : array (h, w)
        Of the class, after smoothing.
    prototypes : array (P, C)
        Adapted to the query.

    Notes
    -----
    The model of LMS-Net (arXiv 2502.05473) without its learnt parts: the total
    variation stands for its deep prior, a momentum update for its transformer.
    """
    present = unit_rows(prototypes)
    mask, before = np.zeros(features.shape[1:], np.float32), None
    for number in range(settings.rounds):
        phases = _phases(features, present, inside, bias, settings)
        mask = phases[:inside].sum(0)
        change = 1.0 if before is None else float(((mask > 0.5) != before).mean())
        before = mask > 0.5
        if change < settings.still or number == settings.rounds - 1:
            break
        sums = np.tensordot(phases, features, ((1, 2), (1, 2)))
        kept = settings.momentum
        moved = unit_rows(kept * present + (1 - kept) * unit_rows(sums))
        # A phase that holds nothing has no mean to move to.
        held = phases.sum((1, 2)) >= 1.0
        present = np.where(held[:, None], moved, present)
    held_back = np.clip(mask, 1e-4, 1 - 1e-4)
    odds: FloatArray = np.log(held_back / (1 - held_back)).astype(np.float32)
    return odds, present.astype(np.float32)


def _phases(
    features: FloatArray,
    prototypes: FloatArray,
    inside: int,
    bias: float,
    settings: Phases,
) -> AnyArray:
    """Return the soft masks (P, h, w): softmax of likeness, then smoothed."""
    logits = settings.scale * np.tensordot(prototypes, features, 1)
    logits[:inside] -= bias
    shares: AnyArray = np.exp(logits - logits.max(0))
    shares /= shares.sum(0)
    if settings.smoothness <= 0:
        return shares
    # Only the boundary of the class is made short, not those within background.
    mask = shares[:inside].sum(0)
    smooth = np.clip(chambolle(mask, settings.smoothness), 0, 1)
    shares[:inside] *= smooth / np.maximum(mask, EPSILON)
    shares[inside:] *= (1 - smooth) / np.maximum(1 - mask, EPSILON)
    return shares


def self_prototype(
    query: FloatArray, prototype: FloatArray, mask: FloatArray, trust: float
) -> FloatArray:
    """Move a prototype towards the query's own cells of the class.

    Parameters
    ----------
    query : array (C, h, w)
        Cells of unit length.
    prototype : array (C,)
        From the supports.
    mask : array (h, w)
        How much every cell belongs to the class, in [0, 1].
    trust : float
        Share of the query's own mean, in [0, 1]; nothing moves if the mask is empty.

    Returns
    -------
    array (C,)
        Of length one.

    Notes
    -----
    The mean of the cells is what replaces them with the least squared error: the
    minimum that Q-Net (arXiv 2208.11451) walks to by gradient steps.
    """
    total = float(mask.sum())
    if total < EPSILON:
        trust, total = 0.0, 1.0
    own = np.tensordot(query, mask, 2) / total
    both = unit_rows(np.stack([prototype, own]))
    moved: FloatArray = unit_rows(((1 - trust) * both[0] + trust * both[1])[None])[0]
    return moved
