"""What training lowers, and how: in pre-training and on a user's supports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor, nn

RIDGE_WEIGHT = 0.15


def mask_loss(logits: Tensor, ridges: tuple[Tensor, ...], target: Tensor) -> Tensor:
    """Cross-entropy and soft Dice of the logits, cross-entropy of the regressions.

    Parameters
    ----------
    logits : Tensor (B, 1, H, W)
        Of the network.
    ridges : tuple of Tensor (B, 1, H / s, W / s)
        Of its regressions.
    target : Tensor (B, 1, H, W)
        Masks in [0, 1].
    """
    logits = logits.float()
    entropy = F.binary_cross_entropy_with_logits(logits, target)
    chance = torch.sigmoid(logits)
    overlap = (chance * target).sum((1, 2, 3))
    size = chance.sum((1, 2, 3)) + target.sum((1, 2, 3))
    dice = 1 - (2 * overlap + 8) / (size + 8)
    loss = 2 * entropy + dice.mean()
    for ridge in ridges:
        stride = target.shape[-1] // ridge.shape[-1]
        share = F.avg_pool2d(target, stride)
        weight = 0.1 + 0.5 * share / share.mean((1, 2, 3), keepdim=True).clamp_min(0.02)
        loss = loss + RIDGE_WEIGHT * F.binary_cross_entropy_with_logits(
            ridge.float().clamp(-15, 15), share, weight
        )
    return loss


def descend(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    loss: Tensor,
    rate: float,
    clip: float,
) -> float:
    """Make one step down the gradient and return its norm; without end it is left out.

    Parameters
    ----------
    network : Module
        Whose parameters the optimiser changes.
    optimiser : Optimizer
        Gets the learning rate.
    loss : Tensor ()
        What to lower.
    rate, clip : float
        Learning rate, and the largest norm of the gradient.
    """
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
    if torch.isfinite(norm):
        optimiser.step()
    return float(norm)


@torch.no_grad()
def move_towards(network: nn.Module, goal: nn.Module, share: float) -> None:
    """Move the parameters of a network towards those of another, in place.

    Parameters
    ----------
    network, goal : Module
        Of the same architecture.
    share : float
        Of the way, from 0 to 1.
    """
    for own, other in zip(network.parameters(), goal.parameters(), strict=True):
        own.lerp_(other, share)
