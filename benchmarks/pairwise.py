"""The two designs for the bundled network, trained alike for the same time.

Pairwise cross-convolution: query and support features meet in a convolution, support by
support, and the query takes the mean (Butoi et al., UniverSeg, ICCV 2023, section 3.2).
Against it, the network that ships. Same tasks, loss, optimiser, minutes and size; then
Dice on synthetic tasks that neither saw and, with a folder, on real images.

``python benchmarks/pairwise.py --minutes 20 [--data ../shared/data]``
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from napari_fewshot.adapt._episode import mean_dice
from napari_fewshot.adapt._tasks import Batch, TaskDataset, TaskStream, draw_group
from napari_fewshot.models._losses import descend, mask_loss, move_towards
from napari_fewshot.models._network import (
    PROMPT_CHANNELS,
    InContextNetwork,
    pick,
    standardise,
)

SIZE, TASKS, QUERIES, RATE, WARMUP = 128, 4, 2, 1.5e-3, 100
WIDTHS = (48, 64, 96, 128)


class Cross(nn.Module):
    """One cross-convolution: (B, C, H, W) and (B, S, C, H, W) to the same, C' wide."""

    def __init__(self, query: int, support: int, out: int) -> None:
        super().__init__()
        self.meet = nn.Conv2d(query + support, out, 3, padding=1)
        self.mix = nn.Conv2d(out, out, 3, padding=1)
        self.norms = nn.ModuleList(nn.GroupNorm(8, out) for _ in range(2))

    def forward(self, query: Tensor, supports: Tensor) -> tuple[Tensor, Tensor]:
        count = supports.shape[1]
        both = torch.cat([query[:, None].expand(-1, count, -1, -1, -1), supports], 2)
        met = F.gelu(self.norms[0](self.meet(both.flatten(0, 1))))
        met = F.gelu(self.norms[1](self.mix(met))).unflatten(0, (-1, count))
        return met.mean(1), met


class Pairwise(nn.Module):
    """A U-Net of cross-convolutions at strides 2, 4, 8 and 16."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Conv2d(3, WIDTHS[0], 5, 2, 2)
        self.support = nn.Conv2d(4, WIDTHS[0], 5, 2, 2)
        down, up, last = [], [], WIDTHS[0]
        for width in WIDTHS:
            down.append(Cross(last, last, width))
            last = width
        for width in WIDTHS[-2::-1]:
            up.append(Cross(last + width, last + width, width))
            last = width
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(up)
        self.out = nn.Sequential(
            nn.Conv2d(last + 3, 32, 3, padding=1), nn.GELU(), nn.Conv2d(32, 1, 1)
        )

    def forward(self, queries: Tensor, supports: Tensor, masks: Tensor) -> Tensor:
        """(B, 3, H, W), (B, S, 3, H, W), (B, S, 1, H, W) to logits (B, 1, H, W)."""
        count = supports.shape[1]

        def resized(x: Tensor, factor: float) -> Tensor:
            flat = x.flatten(0, 1) if x.ndim == 5 else x
            small = F.interpolate(flat, scale_factor=factor, mode="bilinear")
            return small.unflatten(0, (-1, count)) if x.ndim == 5 else small

        u = self.query(queries)
        v = self.support(torch.cat([supports, masks], 2).flatten(0, 1))
        v = v.unflatten(0, (-1, count))
        skips = []
        for number, block in enumerate(self.down):
            if number:
                u, v = resized(u, 0.5), resized(v, 0.5)
            u, v = block(u, v)
            skips.append((u, v))
        for block, (u_skip, v_skip) in zip(self.up, skips[-2::-1], strict=True):
            u = torch.cat([resized(u, 2), u_skip], 1)
            v = torch.cat([resized(v, 2), v_skip], 2)
            u, v = block(u, v)
        return self.out(torch.cat([resized(u, 2), queries], 1))


def pairwise_logits(network: Pairwise, images: Tensor, masks: Tensor, k: int) -> Tensor:
    """Logits of all but the first k images (T, N, 3, H, W) of every task."""
    rest = images.shape[1] - k
    x = standardise(images.flatten(0, 1)).unflatten(0, images.shape[:2])
    supports = x[:, :k].repeat_interleave(rest, 0)
    shown = masks[:, :k, None].float().repeat_interleave(rest, 0)
    return network(x[:, k:].flatten(0, 1), supports, shown)


def shipped(
    network: InContextNetwork, images: Tensor, masks: Tensor, k: int
) -> tuple[Tensor, tuple[Tensor, ...]]:
    tasks, count = images.shape[:2]
    features = network.encode(standardise(images.flatten(0, 1)))
    context = network.context(pick(features, tasks, 0, k), masks[:, :k].float())
    prompts = torch.zeros((tasks, count - k, PROMPT_CHANNELS, *images.shape[-2:]))
    return network.decode(pick(features, tasks, k, count), context, prompts)


def answer(network: nn.Module, images: Tensor, masks: Tensor, k: int) -> tuple:
    if isinstance(network, Pairwise):
        return pairwise_logits(network, images, masks, k), ()
    return shipped(network, images, masks, k)


def train(network: nn.Module, minutes: float) -> nn.Module:
    """Train for a time; return the running average."""
    torch.manual_seed(0)
    average = type(network)().eval()
    average.load_state_dict(network.state_dict())
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.02)
    stream = TaskDataset((TaskStream(0, SIZE, TASKS),))
    begin, step = time.monotonic(), 0
    for batch in DataLoader(stream, batch_size=None, num_workers=1):
        share = (time.monotonic() - begin) / (60 * minutes)
        if share >= 1:
            break
        rate = RATE * min(1, (step + 1) / WARMUP, max(0.01, (1 - share) / 0.4))
        used = batch.supports + QUERIES
        images, masks = batch.images[:, :used], batch.masks[:, :used]
        with torch.autocast("cpu", torch.bfloat16):
            logits, ridges = answer(network, images, masks, batch.supports)
        target = masks[:, batch.supports :].flatten(0, 1)[:, None].float()
        descend(network, optimiser, mask_loss(logits, ridges, target), rate, 1.0)
        step += 1
        move_towards(average, network, 1 - min(0.998, (1 + step) / (10 + step)))
    print(f"{type(network).__name__}: {step} steps, {parameters(network):.2f} M")
    return average


def parameters(network: nn.Module) -> float:
    return sum(p.numel() for p in network.parameters()) / 1e6


@torch.no_grad()
def synthetic(network: nn.Module, batches: list[Batch]) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for batch in batches:
        k = batch.supports
        logits, _ = answer(network, batch.images, batch.masks, k)
        truth = batch.masks[:, k:].flatten(0, 1)
        found.setdefault(k, []).append(mean_dice(logits[:, 0] > 0, truth))
    return {k: round(float(np.mean(v)), 3) for k, v in sorted(found.items())}


@torch.no_grad()
def real(networks: list[nn.Module], root: Path, shots: int) -> list[float]:
    """Macro Dice over data sets at longest side 128, one draw, four queries a class."""
    from napari_fewshot.cli._benchmark import open_datasets, read_item
    from napari_fewshot.evaluation import episode, make_pair

    rows: dict[str, list[list[float]]] = {}
    for folder, facts in open_datasets(root):
        items = [read_item(folder, item) for item in facts["items"]]
        for value in facts["classes"]:
            found = [make_pair(im, la, int(value), g) for im, la, g in items]
            pairs = [p for p in found if p is not None]
            ordered = bool(facts.get("ordered_slices"))
            drawn = episode([p.group for p in pairs], shots, 0, is_ordered=ordered)
            if drawn is None:
                continue
            chosen = [pairs[i] for i in (*drawn[0], *drawn[1][:4])]
            images = torch.stack([square(p.image.transpose(2, 0, 1)) for p in chosen])
            masks = torch.stack([square(p.mask[None])[0] > 0.5 for p in chosen])
            images, masks = images[None], masks[None]
            row = [
                mean_dice(
                    answer(n, images, masks, shots)[0][:, 0] > 0, masks[0, shots:]
                )
                for n in networks
            ]
            rows.setdefault(folder.name, []).append(row)
    macro = np.mean([np.mean(r, axis=0) for r in rows.values()], axis=0)
    return [round(float(x), 3) for x in macro]


def square(array: np.ndarray) -> Tensor:
    x = torch.from_numpy(array.astype(np.float32))
    x = x.expand(3, -1, -1) if x.shape[0] == 1 and array.dtype != bool else x
    return F.interpolate(x[None], (SIZE, SIZE), mode="bilinear", antialias=True)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--data", type=Path)
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    networks = [train(n, wanted.minutes) for n in (Pairwise(), InContextNetwork())]
    stream = TaskStream(10**6, SIZE, TASKS)
    held_out = [batch for number in range(8) for batch in draw_group(stream, number)]
    for network in networks:
        print(type(network).__name__, "synthetic", synthetic(network, held_out))
    for shots in (1, 5) if wanted.data else ():
        print(f"real, k={shots}:", real(networks, wanted.data, shots))


if __name__ == "__main__":
    main()
