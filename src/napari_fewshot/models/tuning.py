"""Let the in-context network practise on the supports of a user.

A few supports at a time, bent and re-lit, each segmented by what the others show; with
a single one, copies of it. A few dozen steps on small images, or on parts of larger
ones where fine structure counts, suit the network to contrast and shapes that its
synthetic tasks did not show. It is the network's own training, on the user's images;
they never leave the machine, and the bundled weights stay as they are.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from napari_fewshot.models._copies import resample, three_channels, working_shape
from napari_fewshot.models._losses import descend, mask_loss, move_towards
from napari_fewshot.models._network import (
    PROMPT_CHANNELS,
    Features,
    InContextNetwork,
    standardise,
)
from napari_fewshot.models.incontext import InContextModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from napari_fewshot.data import Sample

# Longest side of whole images, side of a part of larger ones.
WHOLE, PART = 128, 160
STEPS, STEPS_PER_CLASS = 40, 20
# Copies of a single image are soon learnt by heart: smaller steps, and of the way from
# the bundled weights only this share (Wortsman et al., CVPR 2022).
RATE, LONE_RATE, LONE_SHARE = 2e-3, 1e-3, 0.5
WARMUP, CLIP = 5, 1.0
# Images a step.
IMAGES = 4
# Encodings that a network after practice keeps: two planes.
FEW_BYTES = 16 * 2**20
# Attempts to cut out a part that shows the class.
TRIES = 4
# Standard deviations of turns (radians), log-scales and shifts (half sides), of bends,
# of the exponent of brightness, and most noise; weaker ones for what is a support
# anyhow.
STRONG = (0.12, 0.12, 0.08, 0.03)
WEAK = (0.05, 0.05, 0.03, 0.0)
GAMMA, NOISE = 0.2, 0.04
MIRROR, UPEND, HALF = 0.5, 0.3, 0.5


@dataclass(frozen=True, eq=False)
class Exercise:
    """A support as the network sees it: image (1, 3, H, W), labels (1, 1, H', W')."""

    image: Tensor
    labels: Tensor
    _covers: dict[int, Tensor] = field(default_factory=dict)

    def cover(self, value: int) -> Tensor:
        """Return the mask (1, 1, H, W) of a class; labels may be large: shrunk once."""
        if value not in self._covers:
            mask = (self.labels == value).float()
            small = resample(mask, (self.image.shape[-2], self.image.shape[-1]))
            self._covers[value] = small.clamp(0, 1)
        return self._covers[value]


def tuned(
    model: InContextModel,
    samples: Sequence[Sample],
    closer: Mapping[int, float],
    seed: int,
    report: Callable[[int, int], None],
    large: int = 256,
) -> InContextModel:
    """Return a copy of the network that has practised on labelled planes.

    Parameters
    ----------
    model : InContextModel
        Stays as it is.
    samples : sequence of Sample
        The supports.
    closer : dict of int to float
        Classes, practised in turn at random, and the share of steps on parts of larger
        images, from 0 (shape and position count) to 1 (fine structure counts).
    seed : int
        Of everything random.
    report : callable
        Called with the number of the step and of all steps, before each; may raise.
    large : int
        Longest side of the images that parts are cut from.

    Returns
    -------
    InContextModel
    """
    rng = np.random.default_rng(seed)
    whole = [_exercise(sample, WHOLE, model.device) for sample in samples]
    near = []
    if any(closer.values()):
        near = [_exercise(sample, large, model.device) for sample in samples]
    shown = {
        v: [i for i, s in enumerate(samples) if (s.labels == v).any()] for v in closer
    }
    network = copy.deepcopy(model.network).train()
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.0)
    steps = STEPS + STEPS_PER_CLASS * len(closer)
    peak = RATE if len(samples) > 1 else LONE_RATE
    for step in range(steps):
        report(step, steps)
        rate = peak * min(1.0, (step + 1) / WARMUP) * (1 - step / steps)
        value = int(rng.choice(list(closer)))
        chosen = _choose(shown[value], len(samples), rng)
        if rng.random() < closer[value]:
            images, masks = _cut(*_draw(near, chosen, value, rng), rng)
        else:
            images, masks = _draw(whole, chosen, value, rng)
        descend(network, optimiser, _loss(network, images, masks), rate, CLIP)
    if len(samples) == 1:
        move_towards(network, model.network, 1 - LONE_SHARE)
    # Its supports are encoded once and every query once: little is worth keeping.
    return InContextModel(network, str(model.device), model.sha256, FEW_BYTES, 0)


def _exercise(sample: Sample, side: int, device: torch.device) -> Exercise:
    """Shrink the image of a support; its labels stay, masks are drawn from them."""
    shape = working_shape((sample.image.shape[0], sample.image.shape[1]), side)
    image = three_channels(torch.from_numpy(np.ascontiguousarray(sample.image)))
    labels = torch.from_numpy(np.asarray(sample.labels).astype(np.int32, copy=False))
    return Exercise(
        resample(image[None].to(device), shape), labels[None, None].to(device)
    )


def _choose(shown: Sequence[int], count: int, rng: np.random.Generator) -> list[int]:
    """Choose images of a step: two that show the class, or one twice, and others."""
    first = [int(i) for i in rng.permutation(shown)[:2]]
    others = [int(i) for i in rng.permutation(count) if i not in first]
    return [*first, *(first if len(first) == 1 else []), *others][:IMAGES]


def _draw(
    exercises: Sequence[Exercise],
    chosen: Sequence[int],
    value: int,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Return chosen images (N, 3, H, W) and masks (N, 1, H, W), each bent anew."""
    rows, columns = exercises[chosen[0]].image.shape[-2:]
    size = int(rows), int(columns)
    images, masks = [], []
    for number in chosen:
        item = exercises[number]
        strong = chosen.count(number) > 1 or rng.random() < HALF
        image, mask = _bend(
            resample(item.image, size),
            resample(item.cover(value), size),
            STRONG if strong else WEAK,
            rng,
        )
        images.append(_relight(image, rng))
        masks.append(mask)
    x, y = torch.cat(images), torch.cat(masks)
    turned = [a for a, p in ((3, MIRROR), (2, UPEND)) if rng.random() < p]
    return x.flip(turned), y.flip(turned)


def _cut(
    images: Tensor, masks: Tensor, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Cut a part out of every image, most often one that shows the class."""
    rows, columns = images.shape[-2:]
    height, width = min(PART, rows), min(PART, columns)
    parts = []
    for image, mask in zip(images, masks, strict=True):
        for _ in range(TRIES):
            top = int(rng.integers(rows - height + 1))
            left = int(rng.integers(columns - width + 1))
            window = np.s_[:, top : top + height, left : left + width]
            if bool((mask[window] > 0).any()):
                break
        parts.append((image[window], mask[window]))
    x, y = zip(*parts, strict=True)
    return torch.stack(x), torch.stack(y)


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
    """Loss of every image of which the others show the class."""
    shows = [bool((mask > 0).any()) for mask in masks]
    count = len(images)
    rest = [[j for j in range(count) if j != i] for i in range(count)]
    asked = [i for i in range(count) if any(shows[j] for j in rest[i])]
    # The part of a small object may have been missed everywhere: nothing to learn.
    asked = asked or list(range(count))
    x = standardise(images).contiguous(memory_format=torch.channels_last)
    features = network.encode(x)
    teachers = [j for i in asked for j in rest[i]]
    context = network.context(
        _take(features, teachers), masks[teachers, 0].unflatten(0, (len(asked), -1))
    )
    shape = (len(asked), 1, PROMPT_CHANNELS, *images.shape[-2:])
    prompts = torch.zeros(shape, device=images.device)
    logits, ridges = network.decode(_take(features, asked), context, prompts)
    return mask_loss(logits, ridges, (masks[asked] > 0.5).float())


def _take(features: Features, numbers: Sequence[int]) -> Features:
    """Return encoded images by their numbers, which may repeat."""
    return Features(*(tuple(x[list(numbers)] for x in part) for part in features))
