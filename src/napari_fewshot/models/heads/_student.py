"""A student that learns to answer like attention over supports, without supports.

After DistillFSS (arXiv 2512.05613): the teacher reads the masks of the other supports
by attention; a few convolutions per class learn to say the same of the features alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks

WIDTH, RATE, DECAY = 24, 4e-3, 1e-2
# Focusing of the loss (Lin et al. 2017), and the range of the teacher's log-odds.
FOCUS, LIMIT = 2.0, 6.0


class Student(nn.Module):
    """Convolutions at two scales that answer for one class.

    Parameters
    ----------
    channels : int
        Of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, WIDTH, 1),
                nn.ReLU(),
                nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(WIDTH, 1, 1),
            )
            for _ in range(2)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, 1, h, w) of features (B, C, h, w)."""
        fine = self.levels[0](features)
        wide = self.levels[1](F.avg_pool2d(features, 2, ceil_mode=True))
        logits: Tensor = fine + F.interpolate(wide, fine.shape[-2:], mode="bilinear")
        return logits


def fit_student(
    features: Sequence[FloatArray],
    taught: Sequence[FloatArray],
    covers: Sequence[FloatArray],
    steps: int,
    seed: int,
    hooks: Hooks,
) -> Student:
    """Fit a student: focal loss of teacher and student, and their difference.

    Parameters
    ----------
    features : sequence of array (C, h, w)
        Standardised, of the supports.
    taught : sequence of array (h, w)
        What the teacher says of each support from the others, in [0, 1].
    covers : sequence of array (h, w)
        Share of every cell that the class covers.
    steps : int
        One support each.
    seed : int
        Makes the fit repeatable.
    hooks : Hooks
        Asked before every step; gets progress.

    Returns
    -------
    Student
        On the CPU; it holds nothing of the supports but its weights.
    """
    random = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = Student(len(features[0]))
    # The teacher's attention has no weights; where it says yes is learnt with it.
    scale = torch.tensor([1.0, 0.0], requires_grad=True)
    optimiser = torch.optim.AdamW(
        [*student.parameters(), scale], RATE, weight_decay=DECAY
    )
    tensors = [
        tuple(torch.from_numpy(np.ascontiguousarray(a, np.float32)) for a in one)
        for one in zip(features, taught, covers, strict=True)
    ]
    balance = _balance(covers)
    for step in range(steps):
        hooks.report("Teaching the student", step, steps)
        for group in optimiser.param_groups:
            group["lr"] = RATE * 0.5 * (1 + np.cos(np.pi * step / steps))
        cells, said, cover = tensors[int(random.integers(len(tensors)))]
        teacher = scale[0] * torch.logit(said, 2e-3).clamp(-LIMIT, LIMIT) + scale[1]
        logits = student(cells[None])[0, 0]
        gap = F.mse_loss(torch.sigmoid(logits), torch.sigmoid(teacher.detach()))
        loss = focal(teacher, cover, balance) + focal(logits, cover, balance) + gap
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss / 3)
        optimiser.step()
    return student.eval()


@torch.no_grad()
def ask_student(student: Student, features: FloatArray) -> FloatArray:
    """Return logits (h, w) of standardised features (C, h, w)."""
    cells = torch.from_numpy(np.ascontiguousarray(features, np.float32))
    logits: FloatArray = student(cells[None])[0, 0].numpy()
    return logits


def focal(logits: Tensor, cover: Tensor, balance: float) -> Tensor:
    """Return the mean focal loss (Lin et al., ICCV 2017) for soft targets.

    Parameters
    ----------
    logits, cover : Tensor (h, w)
        Answer and target in [0, 1].
    balance : float
        How much more the inside counts than the outside.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, cover, reduction="none")
    miss = (torch.sigmoid(logits) - cover).abs() ** FOCUS
    weight = 1 + (balance - 1) * cover
    return (weight * miss * entropy).sum() / weight.sum()


def _balance(covers: Sequence[FloatArray]) -> float:
    """Inside counts as much as outside, within reason."""
    share = float(np.mean([c.mean() for c in covers]))
    return float(np.clip((1 - share) / max(share, 1e-6), 0.2, 20))
