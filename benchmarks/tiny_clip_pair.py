"""What `train_tiny_clip.py` trains: both towers, taken apart, and how well they do."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from tiny_captions import (
    HELD_OUT,
    SIDE,
    Scene,
    draw_nonsense,
    draw_scene,
    queries,
    vocabulary,
)
from tiny_clip_files import build, write_tokenizer
from tiny_clip_work import PROPERTIES
from torch import Tensor, nn

from napari_fewshot.models.clip import tower_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Ways to read patches; the last one is dear and taken at every third step.
WAYS = ("vanilla", "maskclip", "clearclip", "sclip", "surgery")
SURGERY_BLOCKS = 6


class Pair(nn.Module):
    """A model and the numbers that its losses need."""

    def __init__(self, kind: str, folder: Path) -> None:
        super().__init__()
        write_tokenizer(folder, vocabulary())
        self.kind = kind
        self.clip, self.tokenizer, facts = build(kind, folder, vocabulary())
        self.size = int(facts["size"])
        self.mean = torch.tensor(facts["mean"])[:, None, None]
        self.deviation = torch.tensor(facts["std"])[:, None, None]
        # Slope and bias of patches, and of whole scenes.
        self.slopes = nn.Parameter(torch.tensor([10.0, 10.0]).log())
        self.biases = nn.Parameter(torch.tensor([-3.0, -3.0]))
        self.tower = tower_of(self.clip.visual)
        width = self.clip.visual.head.proj.out_features if kind == "timm" else 0
        width = width or self.clip.visual.proj.shape[1]
        random = torch.randn(width, width, generator=torch.Generator().manual_seed(6))
        self.directions = torch.linalg.qr(random)[0][: len(PROPERTIES)]
        begin_nearby(self.clip.visual, self.tower.grid)

    def hold_words(self, *, held: bool) -> None:
        """Let the towers of words and images learn, or that of images alone."""
        for name, parameter in self.clip.named_parameters():
            parameter.requires_grad_(not held or name.startswith("visual."))

    def images(self, scenes: Sequence[Scene]) -> Tensor:
        """Return what the tower reads, (B, 3, S, S)."""
        return self.prepared(np.stack([s.image for s in scenes]))

    def prepared(self, images: np.ndarray) -> Tensor:
        """Return what the tower reads of images (B, S, S, 3), or of parts of them."""
        x = torch.from_numpy(images).permute(0, 3, 1, 2)
        side = x.shape[-1] * self.size // SIDE
        if side != x.shape[-1]:
            x = F.interpolate(x, (side, side), mode="bicubic", antialias=True)
        return (x - self.mean) / self.deviation

    def words(self, texts: Sequence[str]) -> Tensor:
        """Return texts in the space of words, (P, E), of length one."""
        ids = self.tokenizer(list(texts))
        ids = ids[:, : int((ids != 0).sum(1).max())]
        clip = self.clip
        if self.kind == "timm":
            return F.normalize(clip.encode_text(ids).float(), dim=-1)
        # As `encode_text`, without the padding at the end.
        length = ids.shape[1]
        x = clip.token_embedding(ids) + clip.positional_embedding[:length]
        x = clip.transformer(x, attn_mask=clip.attn_mask[:length, :length])
        x = clip.ln_final(x)[torch.arange(len(ids)), ids.argmax(-1)]
        return F.normalize((x @ clip.text_projection).float(), dim=-1)

    def begin(self, x: Tensor, corner: tuple[int, int]) -> Tensor:
        """Return what the first block reads, of images or of parts at a corner."""
        if x.shape[-1] == self.size:
            return self.tower.begin(x)
        visual = self.clip.visual
        native = self.kind == "native"
        cells = visual.conv1(x) if native else visual.trunk.patch_embed.proj(x)
        code = visual.positional_embedding if native else visual.trunk.pos_embed[0]
        start = visual.class_embedding if native else visual.trunk.cls_token[0, 0]
        step = SIDE // self.tower.grid[0]
        row, column = (c // step for c in corner)
        place = code[1:].unflatten(0, self.tower.grid)
        place = place[row : row + cells.shape[2], column : column + cells.shape[3]]
        cells = cells.flatten(2).mT + place.flatten(0, 1)
        first = (start + code[0]).expand(len(x), 1, -1)
        tokens = torch.cat([first, cells], 1)
        return visual.ln_pre(tokens) if native else tokens

    def look(
        self, x: Tensor, ways: Sequence[str], corner: tuple[int, int] = (0, 0)
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return whole scenes (B, E) and patches (B, n, E) by way, of length one."""
        tower = self.tower
        last = tower.depth - 1
        start = max(0, tower.depth - SURGERY_BLOCKS) if "surgery" in ways else last
        tokens = tower.run(self.begin(x, corner), 0, start)
        added = tokens
        for block in range(start, tower.depth):
            before = tokens
            if "surgery" in ways:
                value = tower.qkv(tokens, block)[2]
                added = added + tower.merged(_attend((value,), value), block)
            tokens = tower.run(tokens, block, block + 1)
        q, k, v = tower.qkv(before, last)
        seen = {"vanilla": tokens, "surgery": added}
        if "maskclip" in ways:
            seen["maskclip"] = tower.merged(v, last)
        if "clearclip" in ways:
            seen["clearclip"] = tower.merged(_attend((q,), v), last)
        if "sclip" in ways:
            mixed = before + tower.merged(_attend((q, k), v), last)
            seen["sclip"] = mixed + tower.perceptron(tower.normed(mixed, last), last)
        patches = {
            w: F.normalize(tower.project(seen[w])[:, tower.prefix :].float(), dim=-1)
            for w in ways
        }
        return F.normalize(tower.pooled(tokens).float(), dim=-1), patches


@torch.no_grad()
def begin_nearby(visual: Any, grid: tuple[int, int]) -> None:
    """Let patches begin with looking at their neighbours.

    Positions begin as waves over rows and columns instead of noise, and keys as copies
    of queries in the first half of the blocks. It saves most of the time that a tower
    needs to find out what is beside what.
    """
    native = hasattr(visual, "transformer")
    place = visual.positional_embedding if native else visual.trunk.pos_embed[0]
    blocks = visual.transformer.resblocks if native else visual.trunk.blocks
    width = place.shape[1]
    waves = torch.arange(width // 4)
    periods = 3.0 * (2.0 * max(grid) / 3.0) ** (waves / (len(waves) - 1))
    codes = []
    for count in grid:
        phase = 2 * math.pi * torch.arange(count)[:, None] / periods
        codes.append(torch.cat([phase.sin(), phase.cos()], 1))
    rows = codes[0][:, None].expand(-1, grid[1], -1)
    columns = codes[1][None].expand(grid[0], -1, -1)
    place[-grid[0] * grid[1] :] = 0.5 * torch.cat([rows, columns], -1).flatten(0, 1)
    for block in blocks[: len(blocks) // 2]:
        joined = block.attn.in_proj_weight if native else block.attn.qkv.weight
        nn.init.orthogonal_(joined[:width], 0.8)
        joined[width : 2 * width] = joined[:width]


def _attend(keys: Sequence[Tensor], value: Tensor) -> Tensor:
    """Mix values by the likeness of tokens to each other, for every kind of key."""
    total = torch.zeros_like(value)
    for key in keys:
        total = total + F.scaled_dot_product_attention(key, key, value)
    return total


@torch.no_grad()
def localisation(pair: Pair, count: int) -> dict[str, list[float]]:
    """Return pointing and Dice of phrases, then of nonsense, per way.

    Dice is that at one threshold for all, the best for the phrases; "whole" is how
    often the right one of a right and a meaningless phrase fits a scene better.
    """
    rng = np.random.default_rng(1)
    maps: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    better = []
    for number in range(HELD_OUT, HELD_OUT + count):
        scene = draw_scene(number)
        asked = list(queries(scene, rng))
        words = pair.words([*(p.text for p in asked), draw_nonsense(rng).text])
        whole, patches = pair.look(pair.images([scene]), WAYS)
        fits = (whole @ words.T)[0]
        better += (fits[:-1] > fits[-1]).tolist()
        for way, patch in patches.items():
            seen = (patch[0] @ words.T).T.reshape(1, -1, *pair.tower.grid)
            full = F.interpolate(seen, scene.image.shape[:2], mode="bilinear")[0]
            for phrase, one in zip(asked, full[:-1].numpy(), strict=True):
                row = (scene.mask(phrase), one, full[-1].numpy())
                maps.setdefault(way, []).append(row)
    found = {"whole": [round(float(np.mean(better)), 3)]}
    for way, rows in maps.items():
        found[way] = [round(v, 3) for v in _figures(rows)]
    return found


def _figures(rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> list[float]:
    """Return pointing, Dice, pointing of nonsense, Dice of nonsense, threshold."""
    points = [[m.flat[i.argmax()] for m, *both in rows for i in (both[k],)]
              for k in (0, 1)]  # fmt: skip
    best = (0.0, 0.0)
    for level in np.linspace(-0.2, 0.9, 23):
        dices = [_dice(one > level, mask) for mask, one, _ in rows]
        best = max(best, (float(np.mean(dices)), float(level)))
    wrong = [_dice(other > best[1], mask) for mask, _, other in rows]
    return [
        float(np.mean(points[0])),
        best[0],
        float(np.mean(points[1])),
        float(np.mean(wrong)),
        best[1],
    ]


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / max(a.sum() + b.sum(), 1))
