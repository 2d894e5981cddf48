"""Let the in-context network practise on the supports of a user.

Each support in turn plays the query while others play the supports, all of them bent
and re-lit; with a single one, copies of it do. A few dozen steps on small images suit
the network to contrast and shapes that its synthetic tasks did not show. It is the
network's own training, on the user's images; they never leave the machine, and the
bundled weights stay as they are.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from napari_fewshot.models._losses import descend, mask_loss
from napari_fewshot.models._network import (
    PROMPT_CHANNELS,
    InContextNetwork,
    pick,
    standardise,
)
from napari_fewshot.models.incontext import (
    InContextModel,
    resample,
    three_channels,
    working_shape,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from napari_fewshot.data import Sample

SIDE = 128
STEPS, STEPS_PER_CLASS = 40, 20
RATE, WARMUP, CLIP = 1e-3, 5, 1.0
MAX_SUPPORTS = 3
# Standard deviations of turns (radians), log-scales and shifts (half sides), of bends,
# of the exponent of brightness, and most noise; weaker ones for what is a support
# anyhow.
STRONG = (0.12, 0.12, 0.08, 0.03)
WEAK = (0.05, 0.05, 0.03, 0.0)
GAMMA, NOISE = 0.2, 0.04
MIRROR, UPEND = 0.5, 0.3


@dataclass(frozen=True, eq=False)
class Exercise:
    """A support as the network sees it: image (1, 3, H, W), labels (1, 1, H, W)."""

    image: Tensor
    labels: Tensor
    _covers: dict[tuple[int, tuple[int, int]], Tensor] = field(default_factory=dict)

    def cover(self, value: int, size: tuple[int, int]) -> Tensor:
        """Return the mask of a class at a size, shrunk once: labels may be large."""
        if (value, size) not in self._covers:
            mask = (self.labels == value).float()
            self._covers[value, size] = resample(mask, size).clamp(0, 1)
        return self._covers[value, size]


def tuned(
    model: InContextModel,
    samples: Sequence[Sample],
    classes: Sequence[int],
    seed: int,
    report: Callable[[int, int], None],
) -> InContextModel:
    """Return a copy of the network that has practised on labelled planes.

    Parameters
    ----------
    model : InContextModel
        Stays as it is.
    samples : sequence of Sample
        The supports.
    classes : sequence of int
        Practised in turn, at random.
    seed : int
        Of everything random.
    report : callable
        Called with the number of the step and of all steps, before each; may raise.

    Returns
    -------
    InContextModel
    """
    rng = np.random.default_rng(seed)
    exercises = [_exercise(sample, model.device) for sample in samples]
    shown = {
        v: [i for i, s in enumerate(samples) if (s.labels == v).any()] for v in classes
    }
    network = copy.deepcopy(model.network).train()
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.0)
    steps = STEPS + STEPS_PER_CLASS * len(classes)
    for step in range(steps):
        report(step, steps)
        rate = RATE * min(1.0, (step + 1) / WARMUP) * (1 - step / steps)
        value = int(rng.choice(list(classes)))
        images, masks = _draw(exercises, shown[value], value, rng)
        descend(network, optimiser, _loss(network, images, masks), rate, CLIP)
    return InContextModel(network, str(model.device), model.sha256)


def _exercise(sample: Sample, device: torch.device) -> Exercise:
    """Shrink the image of a support; its labels stay, masks are drawn from them."""
    shape = working_shape((sample.image.shape[0], sample.image.shape[1]), SIDE)
    image = three_channels(torch.from_numpy(np.ascontiguousarray(sample.image)))
    labels = torch.from_numpy(np.asarray(sample.labels).astype(np.int32))
    return Exercise(
        resample(image[None].to(device), shape), labels[None, None].to(device)
    )


def _draw(
    exercises: Sequence[Exercise],
    shown: Sequence[int],
    value: int,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Draw a query and supports, (N, 3, H, W) and masks (N, 1, H, W); query first."""
    query = int(rng.integers(len(exercises)))
    others = [i for i in rng.permutation(shown) if i != query] or [int(shown[0])]
    count = min(len(others), int(rng.integers(1, MAX_SUPPORTS + 1)))
    chosen = [query, *others[:count]]
    lone = others[0] == query
    rows, columns = exercises[query].image.shape[-2:]
    size = int(rows), int(columns)
    images, masks = [], []
    for place, number in enumerate(chosen):
        item = exercises[number]
        strength = STRONG if place == 0 or lone else WEAK
        image, mask = _bend(
            resample(item.image, size), item.cover(value, size), strength, rng
        )
        images.append(_relight(image, rng))
        masks.append(mask)
    x, y = torch.cat(images), torch.cat(masks)
    turned = [a for a, p in ((3, MIRROR), (2, UPEND)) if rng.random() < p]
    return x.flip(turned), y.flip(turned)


def _bend(
    image: Tensor,
    mask: Tensor,
    strength: tuple[float, float, float, float],
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Turn, stretch, shift and bend an image and its mask alike."""
    turn, stretch, shift, bend = strength
    angle = rng.normal(0, turn)
    sy, sx = np.exp(rng.normal(0, stretch, 2))
    dy, dx = rng.normal(0, shift, 2)
    matrix = [
        [sx * np.cos(angle), -np.sin(angle), dx],
        [np.sin(angle), sy * np.cos(angle), dy],
    ]
    theta = torch.tensor(matrix, dtype=torch.float32, device=image.device)[None]
    grid = F.affine_grid(theta, list(image.shape), align_corners=False)
    if bend:
        knots = torch.from_numpy(rng.normal(0, bend, (1, 2, 5, 5)).astype(np.float32))
        field = F.interpolate(
            knots.to(image.device), image.shape[-2:], mode="bicubic", align_corners=True
        )
        grid = grid + field.permute(0, 2, 3, 1)
    both = F.grid_sample(
        torch.cat([image, mask], 1),
        grid,
        padding_mode="reflection",
        align_corners=False,
    )
    return both[:, :3], both[:, 3:]


def _relight(image: Tensor, rng: np.random.Generator) -> Tensor:
    low, high = image.amin(), image.amax()
    x = ((image - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)
    x = x ** float(np.exp(rng.normal(0, GAMMA)))
    noise = rng.normal(0, rng.uniform(0, NOISE), tuple(x.shape)).astype(np.float32)
    return x + torch.from_numpy(noise).to(x)


def _loss(network: InContextNetwork, images: Tensor, masks: Tensor) -> Tensor:
    """Loss of the first image with the others as supports."""
    shape = images.shape[-2:]
    x = standardise(images).contiguous(memory_format=torch.channels_last)
    features = network.encode(x)
    query, supports = pick(features, 1, 0, 1), pick(features, 1, 1, len(images))
    context = network.context(supports, masks[1:, 0][None])
    prompts = torch.zeros((1, 1, PROMPT_CHANNELS, *shape), device=images.device)
    logits, ridges = network.decode(query, context, prompts)
    return mask_loss(logits, ridges, (masks[:1] > 0.5).float())
