"""Train a tiny SAM and a tiny DINOv2 on synthetic images, in the published layouts.

They show that the methods on embeddings work as compositions where the published
weights are not at hand (`benchmarks/tiny_models.py`); they are no models for users.

``python benchmarks/train_tiny_models.py scenes POOL --first 0 --count 900`` draws
images (several may run at once), ``... sam POOL FILE --minutes 40`` and ``... vit POOL
FILE --minutes 15`` train. Both encoders learn to foretell the features of the bundled
network; SAM's decoder learns as in Kirillov et al. (2023): points, boxes and earlier
masks of one object, the best of three masks, and its overlap.
"""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - typer reads annotations
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from timm.models.vision_transformer import VisionTransformer
from tiny_models import pack
from tiny_scenes import (
    SIDE,
    TEACHER,
    Asked,
    Pool,
    draw_pool,
    first_look,
    next_look,
    objects,
)
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from napari_fewshot.models.sam import _vit
from napari_fewshot.models.sam._configs import SamConfig
from napari_fewshot.models.sam._decoder import DecoderConfig
from napari_fewshot.models.sam._model import SamNetwork
from napari_fewshot.models.sam._presets import DEVIATION, MEAN

if TYPE_CHECKING:
    from collections.abc import Iterator

SAM = _vit.VitConfig(96, 5, 3, (1, 3, 4), 2 * SIDE, 8)
CELLS, PATCH = 16, 14
VIT: dict[str, Any] = {
    "img_size": CELLS * PATCH,
    "patch_size": PATCH,
    "embed_dim": 128,
    "depth": 5,
    "num_heads": 2,
    "mlp_ratio": 2,
}
# Of the decoder's 2048 hidden units these are not zero: the file stays small.
ALIVE = 192
IMAGES, OBJECTS = 3, 4
# How often the masks of a step are given back with a correction.
AGAIN = 0.5

app = typer.Typer(add_completion=False)


@app.command()
def scenes(pool: Path, first: int = 0, count: int = 900, chunk: int = 100) -> None:
    """Draw images with their regions, and let the bundled network look at them."""
    torch.set_num_threads(1)
    draw_pool(pool, first, count, chunk)


@dataclass
class Work:
    """One step's images (B, 3, ., .), masks (B P, S, S) and features (B, C, n, n)."""

    images: Tensor
    masks: np.ndarray
    features: Tensor


def draw_work(rng: np.random.Generator, pool: Pool, side: int) -> Work:
    """Draw what one step of SAM sees."""
    drawn = [pool.draw(rng) for _ in range(IMAGES)]
    images = torch.from_numpy(np.stack([d[1] for d in drawn])).permute(0, 3, 1, 2)
    images = (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[
        :, None, None
    ]
    images = F.interpolate(images, (side, side), mode="bilinear")
    masks = [objects(rng, d[2], pool.targets[d[0]], OBJECTS) for d in drawn]
    features = torch.from_numpy(np.stack([d[3] for d in drawn])).permute(0, 3, 1, 2)
    return Work(images, np.concatenate(masks), features)


def sam_loss(
    logits: Tensor, quality: Tensor, truth: Tensor, *, clear: bool
) -> tuple[Tensor, Tensor]:
    """Return the loss of four masks (N, 4, h, w) each, and which was best (N,)."""
    logits = logits.float()
    goal = truth[:, None].expand_as(logits)
    chance = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, goal, reduction="none")
    overlap = (chance * goal).sum((2, 3))
    dice = 1 - (2 * overlap + 1) / (chance.sum((2, 3)) + goal.sum((2, 3)) + 1)
    each = 2 * entropy.mean((2, 3)) + dice
    best = each[:, 1:].detach().argmin(1) + 1
    chosen = each.gather(1, best[:, None])[:, 0]
    # All three learn a little, so that none stays behind unused.
    loss = (
        chosen.mean()
        + 0.05 * each[:, 1:].mean()
        + (1 if clear else 0.3) * each[:, 0].mean()
    )
    hard, wanted = logits.detach() > 0, goal > 0.5
    union = (hard | wanted).sum((2, 3)).clamp_min(1)
    iou = (hard & wanted).sum((2, 3)) / union
    return loss + F.mse_loss(quality.float(), iou), best


def plain_attention(q: Tensor, k: Tensor, v: Tensor, by_h: Tensor, by_w: Tensor):
    """Attend with gradients; the module's own ways write in place."""
    bias = by_h[..., :, None] + by_w[..., None, :]
    bias = bias.flatten(4).flatten(2, 3).to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


@contextmanager
def trainable() -> Iterator[None]:
    """Let SAM's encoder compute in a way that has gradients."""
    held = _vit.by_kernel, _vit.by_products
    _vit.by_kernel = _vit.by_products = plain_attention
    try:
        # The fused kernel is slow on the way back in bf16.
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        _vit.by_kernel, _vit.by_products = held


def new_sam() -> SamNetwork:
    """Build the network with random weights."""
    network = SamNetwork(SamConfig(SAM, DecoderConfig()))
    nn.init.trunc_normal_(network.image_encoder.pos_embed, std=0.1)
    code = network.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    code.normal_()
    for embedding in network.modules():
        if isinstance(embedding, nn.Embedding):
            nn.init.normal_(embedding.weight, std=0.2)
    transformer = network.mask_decoder.transformer
    nearby(transformer.final_attn_token_to_image)
    for layer in transformer.layers:
        nearby(layer.cross_attn_token_to_image)
        nearby(layer.cross_attn_image_to_token)
        with torch.no_grad():
            # A unit without input, bias and output never gets a gradient.
            layer.mlp.lin1.weight[ALIVE:] = 0
            layer.mlp.lin1.bias[ALIVE:] = 0
            layer.mlp.lin2.weight[:, ALIVE:] = 0
    return network


def nearby(attention: Any, gain: float = 2.0) -> None:
    """Let queries begin with attending to keys of the same place."""
    nn.init.orthogonal_(attention.q_proj.weight, gain)
    attention.k_proj.load_state_dict(attention.q_proj.state_dict())


class Course:
    """Optimiser, running average and a learning rate that falls with the time."""

    def __init__(self, parts: nn.Module, minutes: float, rate: float) -> None:
        self.parts, self.rate, self.limit = parts, rate, 60 * minutes
        self.optimiser = torch.optim.AdamW(parts.parameters(), rate, weight_decay=0)
        self.average = {k: v.clone() for k, v in parts.state_dict().items()}
        self.began, self.steps = time.monotonic(), 0

    @property
    def share(self) -> float:
        return (time.monotonic() - self.began) / self.limit

    def step(self, loss: Tensor) -> None:
        fall = 0.5 + 0.5 * math.cos(math.pi * min(self.share, 1))
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * min(1, (self.steps + 1) / 50) * fall
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parts.parameters(), 1.0)
        self.optimiser.step()
        self.steps += 1
        keep = min(0.99, (1 + self.steps) / (10 + self.steps))
        for name, value in self.parts.state_dict().items():
            self.average[name].lerp_(value, 1 - keep)

    def save(self, path: Path, prefix: str) -> None:
        state = {
            k.removeprefix(prefix): v
            for k, v in self.average.items()
            if k.startswith(prefix)
        }
        pack(state, path)


def look(network: SamNetwork, embedding: Tensor, asked: Asked) -> tuple[Tensor, Tensor]:
    """Decode all objects of all images, four masks each."""
    tokens, dense = network.prompt_encoder(*asked.given)
    code = network.prompt_encoder.pe_layer.grid(SAM.grid)
    return network.mask_decoder(embedding, code, tokens, dense, range(4))


@app.command()
def sam(
    pool: Path,
    file: Path,
    minutes: float = 40.0,
    rate: float = 7e-4,
    workers: Annotated[int, typer.Option(help="Processes on the same weights.")] = 1,
    start: Annotated[Path | None, typer.Option(help="Checkpoint to go on.")] = None,
) -> None:
    """Train the tiny SAM."""
    torch.manual_seed(0)
    parts = nn.ModuleDict({"sam": new_sam(), "teach": nn.Conv2d(256, 64, 1)})
    if start is not None:
        parts.load_state_dict(torch.load(start, weights_only=True))
    # Steps of several processes on shared weights (Niu et al., Hogwild, 2011).
    parts.share_memory()
    more = [
        torch.multiprocessing.Process(
            target=practise, args=(parts, n, pool, file, minutes, rate)
        )
        for n in range(1, workers)
    ]
    for process in more:
        process.start()
    practise(parts, 0, pool, file, minutes, rate)
    for process in more:
        process.join()


def practise(
    parts: Any, number: int, pool: Path, file: Path, minutes: float, rate: float
) -> None:
    """Train until the time is over; the first process keeps the average."""
    torch.set_num_threads(1)
    rng = np.random.default_rng([int(time.time()), number])
    scenes_of, course, figures = Pool(pool), Course(parts, minutes, rate), []
    while course.share < 1:
        if course.steps % 100 == 0:
            scenes_of.refresh()
        work = draw_work(rng, scenes_of, SAM.side)
        with trainable(), torch.autocast("cpu", torch.bfloat16):
            loss, seen = sam_step(parts, work, rng)
        course.step(loss)
        figures.append([float(loss.detach()), *seen])
        if number:
            continue
        if course.steps % 50 == 0:
            shown = " ".join(f"{v:.3f}" for v in np.mean(figures, 0))
            print(f"{course.steps} {course.share:.3f} {shown}", flush=True)
            figures = []
        if course.steps % 100 == 0:
            save_all(course, file, "sam.")
    if not number:
        save_all(course, file, "sam.")


def sam_step(
    parts: Any, work: Work, rng: np.random.Generator
) -> tuple[Tensor, list[float]]:
    """Return the loss of a step, and its distillation, first and last Dice."""
    network = parts["sam"]
    truth = F.avg_pool2d(torch.from_numpy(work.masks.astype(np.float32))[None], 2)[0]
    embedding = network.image_encoder(work.images)
    goal = F.avg_pool2d(work.features, TEACHER // SAM.grid)
    loss = 0.3 * F.mse_loss(parts["teach"](embedding).float(), goal)
    figures = [float(loss.detach())]
    each = embedding.repeat_interleave(OBJECTS, 0)
    asked = first_look(rng, work.masks)
    for again in (True, False)[rng.random() >= AGAIN :]:
        logits, quality = look(network, each, asked)
        more, best = sam_loss(logits, quality, truth, clear=asked.clear)
        loss = loss + more
        chosen = logits.detach().float()[torch.arange(len(best)), best]
        figures.append(overlap(chosen, truth))
        if again:
            asked = next_look(rng, asked, chosen, work.masks)
    return loss, [*figures[:2], figures[-1]]


def overlap(logits: Tensor, truth: Tensor) -> float:
    """Return the mean Dice of logits (N, h, w)."""
    mine, wanted = logits > 0, truth > 0.5
    both = 2 * (mine & wanted).sum((1, 2))
    sizes = mine.sum((1, 2)) + wanted.sum((1, 2))
    return float((both / sizes.clamp_min(1)).mean())


def save_all(course: Course, file: Path, prefix: str) -> None:
    """Write the weights, and all that is needed to go on."""
    course.save(file, prefix)
    torch.save(course.average, file.with_suffix(".resume"))


@app.command()
def vit(pool: Path, file: Path, minutes: float = 15.0, rate: float = 1.5e-3) -> None:
    """Train the tiny DINOv2: the bundled network's features from patches of 14."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    scenes_of = Pool(pool)
    module = VisionTransformer(
        **VIT, num_classes=0, init_values=0.3, weight_init="skip"
    )
    nn.init.zeros_(module.pos_embed)
    parts = nn.ModuleDict({"vit": module, "teach": nn.Linear(128, 64)})
    course, figures = Course(parts, minutes, rate), []
    while course.share < 1:
        if course.steps % 100 == 0:
            scenes_of.refresh()
        images, goal = draw_views(rng, scenes_of)
        with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16):
            tokens = module.forward_features(images)[:, 1:]
            found = parts["teach"](tokens).float()
        loss = F.mse_loss(found, goal.flatten(2).transpose(1, 2))
        course.step(loss)
        figures.append(float(loss.detach()))
        if course.steps % 50 == 0:
            shown = f"{course.steps} {course.share:.3f} {np.mean(figures):.4f}"
            print(shown, flush=True)
            figures = []
        if course.steps % 200 == 0:
            save_all(course, file, "vit.")
    save_all(course, file, "vit.")


def draw_views(rng: np.random.Generator, pool: Pool) -> tuple[Tensor, Tensor]:
    """Return parts of images (B, 3, 224, 224), magnified, and features (B, C, 16, 16).

    At use 48 cells lie along a side, whatever its length: a cell is small.
    """
    images, goals = [], []
    pixels = CELLS * PATCH
    for _ in range(8):
        _, image, _, features = pool.draw(rng)
        cells = int(rng.choice([8, 16, 24, 32]))  # of the teacher's, along the part
        top, left = rng.integers(0, TEACHER - cells + 1, 2)
        step = SIDE // TEACHER
        rows = slice(top * step, (top + cells) * step)
        columns = slice(left * step, (left + cells) * step)
        part = torch.from_numpy(image[rows, columns].copy()).permute(2, 0, 1)[None]
        seen = torch.from_numpy(
            features[top : top + cells, left : left + cells].copy()
        ).permute(2, 0, 1)[None]
        images.append(F.interpolate(part, (pixels, pixels), mode="bicubic"))
        goals.append(F.interpolate(seen, (CELLS, CELLS), mode="area"))
    x = torch.cat(images)
    x = (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]
    return x, torch.cat(goals)


if __name__ == "__main__":
    app()
