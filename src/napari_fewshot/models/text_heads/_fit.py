"""Fitting a head on a few labelled planes of a user, with the CLIP frozen.

The loss is soft Dice and 0.2 of the cross-entropy, with AdamW, as in the study of CLIP
segmentation models by Poudel et al. (MIDL 2024). Beside the classes, phrases that mean
nothing are asked for in every step and must find nothing: a head that does not read
answers them as well. Where supports are of several modalities, the steps take turns
(MulModSeg).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from napari_fewshot.errors import Cancelled, ModelError, SupportError
from napari_fewshot.models.text_heads._head import new_module
from napari_fewshot.models.text_heads._parts import centred
from napari_fewshot.models.text_heads._query import BLOCK, QueryHead, complementary
from napari_fewshot.models.text_heads._seen import Seen, together
from napari_fewshot.models.text_heads._states import (
    pack_optimiser,
    read_tensors,
    restore_optimiser,
    write_tensors,
)
from napari_fewshot.models.text_heads._vlp import (
    Shown,
    VlpTokens,
    check_sam,
    sam_logits,
    shown_by,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from napari_fewshot.data import Hooks
    from napari_fewshot.models.text_heads._lessons import HeadSettings, Lesson, Phrases

ENTROPY, NOWHERE = 0.2, 0.5
# Of the area, in Dice.
ROOM, EMPTY_ROOM = 1e-3, 1e-2
WARMUP, CLIP = 10, 1.0
# Words are moved by so much of their length, pixels relit by this spread.
WORD_NOISE, LIGHT = 0.1, 0.1
# How often masks are shown to a query head, and supports kept from VLP tokens.
SHOWN, ALONE = 0.5, 0.3


def fit_module(
    lessons: Sequence[Lesson],
    phrases: Phrases,
    settings: HeadSettings,
    hooks: Hooks,
    *,
    sam: Any = None,
    checkpoint: Path | None = None,
    every: int = 25,
) -> tuple[nn.Module, list[float]]:
    """Fit a module.

    Parameters
    ----------
    lessons : sequence of Lesson
        At least one shows a class.
    phrases : Phrases
        Of all classes in all modalities of the lessons.
    settings : HeadSettings
        How.
    hooks : Hooks
        Asked before every step; the report tells the loss.
    sam : SamModel, optional
        Who draws, for ``"vlp"``; stays as it is.
    checkpoint : Path, optional
        File from which an interrupted fit goes on; it is removed at the end.
    every : int
        Steps between its versions.

    Returns
    -------
    module : Module
        In evaluation mode.
    losses : list of float
        Of every step.

    Raises
    ------
    SupportError
        If no lesson shows a class.
    ModelError
        If ``"vlp"`` has no SAM, or the numbers grow beyond all bounds.
    Cancelled
        If the hooks say so; the checkpoint is written first.
    """
    if not any(bool((c > 0).any()) for item in lessons for c in item.covers.values()):
        raise SupportError(
            "No support shows any of the classes: there is nothing to learn a text "
            "head from. Paint at least one of them."
        )
    if settings.kind == "vlp":
        check_sam(sam)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        module = new_module(settings.kind, lessons[0].seen.sizes)
    module = module.to(lessons[0].seen.cells.device).train()
    run = _Run(module, lessons, phrases, settings, sam)
    if checkpoint is not None:
        run.take_up(checkpoint)
    said = ""
    while run.step < settings.steps:
        try:
            hooks.report(f"Training the text head{said}", run.step, settings.steps)
        except Cancelled:
            if checkpoint is not None and run.step:
                run.save(checkpoint)
            raise
        said = f" (loss {run.descend():.2f})"
        if checkpoint is not None and run.step % every == 0:
            run.save(checkpoint)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return module.eval(), run.losses


class _Run:
    """A fit under way: what its checkpoints hold."""

    def __init__(
        self,
        module: nn.Module,
        lessons: Sequence[Lesson],
        phrases: Phrases,
        settings: HeadSettings,
        sam: Any,
    ) -> None:
        self.module, self.lessons, self.phrases = module, lessons, phrases
        self.settings, self.sam = settings, sam
        self.names = [n for n, _ in module.named_parameters()]
        self.parameters = list(module.parameters())
        self.optimiser = torch.optim.AdamW(
            self.parameters, settings.peak, weight_decay=settings.decay
        )
        self.modalities = sorted({item.modality for item in lessons})
        self.centre = phrases.centre
        self.holds = [
            {v: bool((c > 0).any()) for v, c in x.covers.items()} for x in lessons
        ]
        self.step = 0
        self.losses: list[float] = []

    def descend(self) -> float:
        """Make one step and return its loss."""
        settings = self.settings
        rise = min(1.0, (self.step + 1) / WARMUP)
        rate = settings.peak * rise * 0.5
        rate *= 1 + np.cos(np.pi * self.step / settings.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = float(rate)
        rng = np.random.default_rng([settings.seed, self.step])
        loss = self._loss(rng)
        if not bool(torch.isfinite(loss)):
            raise ModelError(
                "The training of the text head diverged. Use a lower learning rate."
            )
        # SAM's weights get no gradients: it belongs to others, too.
        found = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        for parameter, gradient in zip(self.parameters, found, strict=True):
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(self.parameters, CLIP)
        self.optimiser.step()
        self.step += 1
        self.losses.append(float(loss.detach()))
        return self.losses[-1]

    def _loss(self, rng: np.random.Generator) -> Tensor:
        modality = self.modalities[self.step % len(self.modalities)]
        chosen = [self.lessons[i] for i in self._planes(modality, rng)]
        words, values = self._asked(modality, rng)
        targets = torch.stack([_targets(item, values, words) for item in chosen])
        if isinstance(self.module, VlpTokens):
            return self._drawn(chosen, words, values, targets, rng)
        seen = _relit(together([item.seen for item in chosen]), rng)
        if isinstance(self.module, QueryHead):
            coarse = _hints(targets, rng) if rng.random() < SHOWN else None
            logits = self.module(seen, words, coarse)
        else:
            logits = self.module(seen, words)
        return mask_loss(logits, targets)

    def _planes(self, modality: str, rng: np.random.Generator) -> list[int]:
        """Choose planes of a step: every class in turn is shown by one, if possible."""
        pool = [i for i, x in enumerate(self.lessons) if x.modality == modality]
        chosen: list[int] = []
        values = rng.permutation(self.phrases.values).tolist()
        while len(chosen) < min(self.settings.planes, len(pool)):
            left = [i for i in pool if i not in chosen]
            value = values[len(chosen) % len(values)]
            shows = [i for i in left if self.holds[i].get(value)]
            chosen.append(int(rng.choice(shows or left)))
        return chosen

    def _asked(
        self, modality: str, rng: np.random.Generator
    ) -> tuple[Tensor, list[int | None]]:
        """Choose a phrase of every class and one that is nowhere."""
        rows, values = [], []
        for value in self.phrases.values:
            known = self.phrases.classes.get((value, modality))
            if known is not None:
                rows.append(known[int(rng.integers(len(known)))])
                values.append(value)
        found: list[int | None] = list(values)
        if len(self.phrases.absent):
            rows.append(
                self.phrases.absent[int(rng.integers(len(self.phrases.absent)))]
            )
            found.append(None)
        words = centred(torch.stack(rows), self.centre)
        noise = rng.normal(0, WORD_NOISE / words.shape[1] ** 0.5, tuple(words.shape))
        moved = words + torch.from_numpy(noise).to(words)
        return F.normalize(moved, dim=-1), found

    def _drawn(
        self,
        chosen: Sequence[Lesson],
        words: Tensor,
        values: Sequence[int | None],
        targets: Tensor,
        rng: np.random.Generator,
    ) -> Tensor:
        """Let SAM draw one plane with tokens, shown others of the lessons."""
        item = chosen[0]
        others = [x for x in self.lessons if x is not item] or [item]
        shown = [
            None if value is None or rng.random() < ALONE else _shown(others, value)
            for value in values
        ]
        tokens = self.module(item.seen, words, shown)
        embedding: Any = item.embedding
        logits = sam_logits(self.sam, embedding, tokens).to(targets)
        rows, columns = (
            max(1, round(n * share))
            for n, share in zip(logits.shape[-2:], embedding.valid, strict=True)
        )
        return mask_loss(logits[None, :, :rows, :columns], targets[:1])

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        tensors = {f"module.{n}": t for n, t in self.module.state_dict().items()}
        tensors |= pack_optimiser(self.optimiser, self.names)
        facts = {"run": self.digest(), "step": self.step, "losses": self.losses}
        write_tensors(path, tensors, facts)

    def take_up(self, path: Path) -> None:
        """Go on from a checkpoint of the same fit; another one is overwritten."""
        if not path.is_file():
            return
        tensors, facts = read_tensors(path, "checkpoint")
        if facts.get("run") != self.digest():
            return
        state = {n[7:]: t for n, t in tensors.items() if n.startswith("module.")}
        self.module.load_state_dict(state)
        restore_optimiser(self.optimiser, self.names, tensors)
        self.step, self.losses = int(facts["step"]), list(facts["losses"])

    def digest(self) -> str:
        """Name the fit by all that decides its outcome."""
        found = hashlib.sha256(json.dumps(asdict(self.settings)).encode())
        for item in self.lessons:
            found.update(f"{item.modality} {sorted(item.covers)}".encode())
            every = [item.seen.cells, *(item.covers[v] for v in sorted(item.covers))]
            for tensor in every:
                found.update(tensor.cpu().numpy().tobytes())
        for key, rows in sorted(self.phrases.classes.items()):
            found.update(f"{key}".encode() + rows.cpu().numpy().tobytes())
        found.update(getattr(self.sam, "sha256", "").encode())
        return found.hexdigest()


def mask_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return soft Dice of what is there, and 0.2 of the cross-entropy of all.

    Phrases that are nowhere count by themselves and half as much: with them in one
    mean, to say less and less everywhere would pay, for most phrases are nowhere on
    most planes. For them Dice is the share of the answer in itself and a hundredth of
    the plane.

    Parameters
    ----------
    logits : tensor (N, C, h, w)
        At any size.
    targets : tensor (N, C, H, W)
        In [0, 1].
    """
    large = F.interpolate(logits.float(), targets.shape[-2:], mode="bilinear")
    entropy = F.binary_cross_entropy_with_logits(large, targets)
    chance = large.sigmoid()
    area = targets.shape[-1] * targets.shape[-2]
    there = (targets.amax((2, 3)) > 0).float()
    room = area * (there * ROOM + (1 - there) * EMPTY_ROOM)
    overlap = (chance * targets).sum((2, 3))
    size = chance.sum((2, 3)) + targets.sum((2, 3))
    dice = 1 - (2 * overlap + room) / (size + room)
    shown = (dice * there).sum() / there.sum().clamp_min(1)
    empty = (dice * (1 - there)).sum() / (1 - there).sum().clamp_min(1)
    found: Tensor = shown + NOWHERE * empty + ENTROPY * entropy
    return found


def _targets(item: Lesson, values: Sequence[int | None], like: Tensor) -> Tensor:
    """Return masks (C, h, w) of classes on a plane; None is nowhere."""
    empty = torch.zeros_like(next(iter(item.covers.values())))
    masks = [empty if v is None else item.covers.get(v, empty) for v in values]
    return torch.stack(masks).to(like)


def _shown(lessons: Sequence[Lesson], value: int) -> Shown | None:
    holding = [item for item in lessons if value in item.covers]
    if not holding:
        return None
    return shown_by(
        [item.seen for item in holding], [item.covers[value] for item in holding]
    )


def _relit(seen: Seen, rng: np.random.Generator) -> Seen:
    """Change the light of the pixels; the frozen features stay."""
    shape = (len(seen), 1, 1, 1)
    gain = torch.from_numpy(np.exp(rng.normal(0, LIGHT, shape))).to(seen.pixels)
    shift = torch.from_numpy(rng.normal(0, LIGHT, shape)).to(seen.pixels)
    return Seen(seen.pixels * gain + shift, seen.levels, seen.cells, seen.whole)


def _hints(targets: Tensor, rng: np.random.Generator) -> Tensor:
    """Return masks as a user or an earlier pass has them: shifted, and half hidden."""
    moves = (int(rng.integers(-2, 3)), int(rng.integers(-2, 3)))
    rough = torch.roll(targets, moves, (2, 3))
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    # Blocks are counted on the grid of the logits, which is half as fine.
    shape = int(targets.shape[2]), int(targets.shape[3])
    return rough * complementary(shape, 2 * BLOCK, generator).to(targets)
