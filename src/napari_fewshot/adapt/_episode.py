"""One training step: supports and simulated users to a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_fewshot.adapt._prompting import (
    PROMPTS_ONLY,
    SUPPORTS_ONLY,
    draw_modes,
    first_prompts,
    look_again,
)
from napari_fewshot.models._losses import mask_loss
from napari_fewshot.models._network import pick, standardise

if TYPE_CHECKING:
    from torch import Tensor

    from napari_fewshot.adapt._tasks import Batch
    from napari_fewshot.models._network import Context, InContextNetwork

# Queries a task in the first pass, and of these in the later passes.
QUERIES, SECOND = 4, 2
# Most later passes; the last one is learnt from.
PASSES = 3


def episode_loss(
    network: InContextNetwork, batch: Batch, device: torch.device
) -> tuple[Tensor, dict[str, float]]:
    """Return the loss of a batch and figures for the log.

    Parameters
    ----------
    network : InContextNetwork
        In training mode.
    batch : Batch
        Tasks.
    device : torch.device
        Where the network is.
    """
    rng = np.random.default_rng(batch.seed)
    tasks, supports = batch.images.shape[0], batch.supports
    queries = min(batch.images.shape[1] - supports, QUERIES)
    used = supports + queries
    images = batch.images[:, :used].flatten(0, 1).to(device)
    images = standardise(images).contiguous(memory_format=torch.channels_last)
    features = network.encode(images)
    context = network.context(
        pick(features, tasks, 0, supports),
        batch.masks[:, :supports].to(device, torch.float32),
    )
    modes = draw_modes(rng, tasks * queries)
    truth = batch.masks[:, supports:used].flatten(0, 1).numpy()
    drawn = [first_prompts(rng, t, m) for t, m in zip(truth, modes, strict=True)]
    prompts = np.stack([d[0] for d in drawn])
    wanted = np.stack([d[1] for d in drawn])
    shown = torch.tensor([float(m != PROMPTS_ONLY) for m in modes], device=device)

    def run(begin: int, end: int) -> tuple[Tensor, Tensor]:
        part = slice_tasks(tasks, queries, begin, end)
        given = torch.from_numpy(prompts[part]).to(device)
        logits, ridges = network.decode(
            pick(features, tasks, supports + begin, supports + end),
            context,
            given.unflatten(0, (tasks, -1)),
            shown[part].unflatten(0, (tasks, -1)),
        )
        target = torch.from_numpy(wanted[part]).to(device, torch.float32)[:, None]
        return logits, mask_loss(logits, ridges, target)

    logits, loss = run(0, queries)
    past = logits.detach().float().cpu().numpy()[:, 0]
    second = min(SECOND, queries)
    again = slice_tasks(tasks, queries, 0, second)
    latest, passes = past[again], int(rng.integers(1, PASSES + 1))
    for left in range(passes)[::-1]:
        for i, before in zip(again, latest, strict=True):
            clicked = modes[i] != SUPPORTS_ONLY
            look_again(rng, prompts[i], before, wanted[i], clicked=clicked)
        with torch.set_grad_enabled(left == 0):
            logits, more = run(0, second)
        latest = logits.detach().float().cpu().numpy()[:, 0]
    found = torch.from_numpy(past > 0)
    plain = [i for i, m in enumerate(modes) if m == SUPPORTS_ONLY]
    score = mean_dice(found[plain], torch.from_numpy(wanted[plain])) if plain else 0.0
    total = (loss + 0.5 * more) / 1.5
    return total, {"loss": float(total.detach()), "dice": score}


def slice_tasks(tasks: int, count: int, begin: int, end: int) -> np.ndarray:
    """Return the flat numbers of queries ``begin:end`` of every task."""
    return np.arange(tasks * count).reshape(tasks, count)[:, begin:end].ravel()


def mean_dice(found: Tensor, wanted: Tensor) -> float:
    """Mean Dice of masks (B, H, W); 1 when both are empty."""
    overlap = (found & wanted).sum((1, 2)).float()
    size = found.sum((1, 2)).float() + wanted.sum((1, 2)).float()
    return float(torch.where(size > 0, 2 * overlap / size.clamp_min(1), 1.0).mean())


@torch.no_grad()
def synthetic_dice(
    network: InContextNetwork, batches: list[Batch], device: torch.device
) -> dict[int, float]:
    """Dice with supports alone on fixed batches, by the number of supports."""
    found: dict[int, list[float]] = {}
    for batch in batches:
        tasks, supports = batch.images.shape[0], batch.supports
        images = standardise(batch.images.flatten(0, 1).to(device))
        features = network.encode(images.contiguous(memory_format=torch.channels_last))
        context: Context = network.context(
            pick(features, tasks, 0, supports),
            batch.masks[:, :supports].to(device, torch.float32),
        )
        rest = batch.masks[:, supports:]
        prompts = torch.zeros((*rest.shape[:2], 5, *rest.shape[2:]), device=device)
        last = batch.images.shape[1]
        logits, _ = network.decode(
            pick(features, tasks, supports, last), context, prompts
        )
        score = mean_dice((logits[:, 0] > 0).cpu(), rest.flatten(0, 1))
        found.setdefault(supports, []).append(score)
    return {k: float(np.mean(v)) for k, v in sorted(found.items())}
