"""Fine-tune a CLIP on images with captions by DHN-NCE.

As MedCLIP-SAM does with BiomedCLIP and radiology captions (Koleilat et al., MICCAI
2024), but with the loss of the paper, which differs from that of its code; see
`ops.contrast`. Every epoch is judged by the loss on held-out pairs; the best one is
written as a folder that is loaded like any other CLIP.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_fewshot.adapt.text._pairs import Pair, as_pairs, split_pairs
from napari_fewshot.adapt.text._settings import Finetuned, FinetuneSettings
from napari_fewshot.errors import Cancelled, DataError, ModelError
from napari_fewshot.models.text_heads import (
    TrainableClip,
    pack_optimiser,
    read_tensors,
    replaced,
    restore_optimiser,
    write_tensors,
)
from napari_fewshot.ops.contrast import (
    dhn_nce,
    equal_captions,
    recall_at,
)

if TYPE_CHECKING:
    from torch import Tensor

    from napari_fewshot.data import Hooks

STATE, REPORT = "training.safetensors", "training.json"
CLIP = 1.0
# Seconds after which what was learnt within an epoch is written, too.
SAVE_EVERY = 300.0


def finetune(
    pairs: Sequence[Any],
    model: Any,
    out: Path,
    settings: FinetuneSettings,
    hooks: Hooks,
    read: Callable[[Any], Any] | None = None,
) -> Finetuned:
    """Fine-tune a copy of a CLIP; goes on where it was stopped in the same folder.

    Parameters
    ----------
    pairs : sequence of Pair or (image, caption)
        See `as_pairs`.
    model : ClipModel
        Stays as it is.
    out : Path
        Folder for the best weights, the state to go on from, and a report.
    settings : FinetuneSettings
        How.
    hooks : Hooks
        Asked before every step; reports tell the loss.
    read : callable, optional
        Opens the paths of images as planes (H, W[, C]).

    Returns
    -------
    Finetuned

    Raises
    ------
    DataError
        If pairs can't be used, or the folder holds another training.
    ModelError
        If the model can't be trained, or the numbers grow beyond all bounds.
    StorageError
        If the folder can't be written.
    Cancelled
        If the hooks say so; the best so far is in the folder, and a call with the same
        arguments goes on.
    """
    every = as_pairs(pairs)
    run = _Run(every, model, Path(out), settings, hooks, read)
    run.take_up()
    if not run.history:
        run.history.append({"epoch": 0.0, **run.judge()})
        run.save()
    while not run.is_over():
        run.epoch()
    return run.finished()


class _Run:
    """A training under way: what its state file holds."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        model: Any,
        out: Path,
        settings: FinetuneSettings,
        hooks: Hooks,
        read: Callable[[Any], Any] | None,
    ) -> None:
        self.out, self.settings, self.hooks, self.read = out, settings, hooks, read
        self.clip = TrainableClip(model, settings.parts, settings.blocks)
        parts = split_pairs(pairs, settings.validation, settings.seed)
        self.training, self.held_out = parts
        self.size = min(settings.batch, len(self.training))
        self.steps = len(self.training) // self.size
        self.digest = _digest(pairs, model, settings)
        self.optimiser = torch.optim.AdamW(
            self.clip.trained.values(),
            settings.rate,
            weight_decay=settings.weight_decay,
        )
        self.step, self.losses = 0, list[float]()
        self.history: list[dict[str, float]] = []
        self.began = self.saved = time.monotonic()
        self.made = 0

    @property
    def best(self) -> int:
        """Number of the best epoch so far; the first of equals."""
        return int(np.argmin([h["loss"] for h in self.history]))

    def is_over(self) -> bool:
        """Whether all epochs are done, or the last ones were no better."""
        done = len(self.history) - 1
        idle = done - self.best
        return done >= self.settings.epochs or idle >= self.settings.patience

    def epoch(self) -> None:
        """Train on all pairs once, from the step where it was stopped, and judge."""
        number = len(self.history)
        rng = np.random.default_rng([self.settings.seed, number])
        # The last pairs of the order are left out: all batches are of one size.
        order = rng.permutation(len(self.training))
        while self.step < self.steps:
            begin = self.step * self.size
            chosen = order[begin : begin + self.size]
            self._report(number)
            self._learn([self.training[i] for i in chosen.tolist()], number)
            self.step += 1
            if time.monotonic() - self.saved > SAVE_EVERY:
                self.save()
        self.save()
        found = self.judge()
        mean = float(np.mean(self.losses)) if self.losses else float("nan")
        self.history.append({"epoch": float(number), "training loss": mean, **found})
        self.step, self.losses = 0, []
        if self.best == number:
            self.clip.publish(self.out)
        self.save()

    def _report(self, number: int) -> None:
        done = (number - 1) * self.steps + self.step
        total = self.settings.epochs * self.steps
        said = f", loss {self.losses[-1]:.3f}" if self.losses else ""
        left = None
        if self.made:
            left = (time.monotonic() - self.began) / self.made * (total - done)
        try:
            self.hooks.report(f"Epoch {number}{said}", done, total, left)
        except Cancelled:
            self.save()
            raise

    def _learn(self, batch: Sequence[Pair], number: int) -> None:
        """Make one step; a batch with one caption only teaches nothing."""
        self.made += 1
        captions = [p.caption for p in batch]
        same = equal_captions(captions)
        if same.all():
            return
        settings = self.settings
        for group in self.optimiser.param_groups:
            group["lr"] = settings.rate * 0.5 ** self._idle()
        pixels = self._pixels(batch)
        self.clip.train(on=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_seed(settings.seed, number, self.step))
            image, text = self.clip.embed(pixels, self.clip.phrases(captions))
            loss = dhn_nce(
                image,
                text,
                settings.temperature,
                (settings.hardness, settings.hardness),
                torch.from_numpy(same).to(image.device),
            )
            self.optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self.clip.trained.values(), CLIP)
        if not bool(torch.isfinite(norm)):
            raise ModelError(
                "The fine-tuning diverged. Use a lower rate; the best so far is in "
                f"{self.out}."
            )
        self.optimiser.step()
        self.losses.append(float(loss.detach()))

    def _idle(self) -> int:
        """How often an epoch was no better than all before it."""
        best, count = float("inf"), 0
        for one in self.history:
            count += one["loss"] >= best
            best = min(best, one["loss"])
        return count

    def _pixels(self, batch: Sequence[Pair]) -> Tensor:
        return self.clip.images([p.pixels(self.read) for p in batch])

    @torch.no_grad()
    def judge(self) -> dict[str, float]:
        """Return loss and retrieval on the held-out pairs."""
        self.clip.train(on=False)
        images, texts = [], []
        for begin in range(0, len(self.held_out), self.size):
            self.hooks.check()
            batch = self.held_out[begin : begin + self.size]
            tokens = self.clip.phrases([p.caption for p in batch])
            image, text = self.clip.embed(self._pixels(batch), tokens)
            images.append(image)
            texts.append(text)
        image, text = torch.cat(images), torch.cat(texts)
        same = equal_captions([p.caption for p in self.held_out])
        settings = self.settings
        found = {"loss": float("nan")}
        if not same.all():
            both = (settings.hardness, settings.hardness)
            mask = torch.from_numpy(same).to(image.device)
            found["loss"] = float(
                dhn_nce(image, text, settings.temperature, both, mask)
            )
        for top in (1, 2):
            by_images, by_texts = recall_at(
                image.cpu().numpy(), text.cpu().numpy(), top, same
            )
            found[f"text top {top}"] = by_images
            found[f"image top {top}"] = by_texts
        if not np.isfinite(found["loss"]):
            raise DataError(
                "The held-out images all have one caption, or numbers without end. "
                "Give more captions that differ, or another seed."
            )
        return found

    def save(self) -> None:
        """Write all that is needed to go on."""
        trained = self.clip.trained
        tensors: dict[str, Tensor] = {f"weights.{n}": t for n, t in trained.items()}
        tensors |= pack_optimiser(self.optimiser, list(self.clip.trained))
        facts = {
            "run": self.digest,
            "step": self.step,
            "losses": self.losses,
            "history": self.history,
        }
        write_tensors(self.out / STATE, tensors, facts)
        self.saved = time.monotonic()

    def take_up(self) -> None:
        """Go on from the state in the folder.

        Raises
        ------
        DataError
            If it is of another training.
        """
        path = self.out / STATE
        if not path.is_file():
            return
        tensors, facts = read_tensors(path, "state of a training")
        if facts.get("run") != self.digest:
            raise DataError(
                f"{self.out} holds another training: pairs, model or settings differ. "
                f"Choose another folder, or remove {STATE} to start anew."
            )
        names = list(self.clip.trained)
        self.clip.take({n: tensors[f"weights.{n}"] for n in names})
        restore_optimiser(self.optimiser, names, tensors)
        self.step, self.losses = int(facts["step"]), list(facts["losses"])
        self.history = [dict(h) for h in facts["history"]]

    def finished(self) -> Finetuned:
        """Write the report and return it."""
        best = self.best
        found = Finetuned(
            self.out if best else None,
            self.history[0],
            self.history[best],
            tuple(self.history),
            best,
            (len(self.training), len(self.held_out)),
        )
        said = {
            "settings": asdict(self.settings),
            "model": self.clip.model.spec.name,
            "sha256": self.clip.model.sha256,
            "best": best,
            "pairs": found.pairs,
            "history": self.history,
        }
        text = json.dumps(said, indent=1)
        replaced(self.out / REPORT, lambda path: path.write_text(text, "utf-8"))
        return found


def _seed(*numbers: int) -> int:
    return int(np.random.default_rng(numbers).integers(2**62))


def _digest(pairs: Sequence[Pair], model: Any, settings: FinetuneSettings) -> str:
    """Name a training by all that decides its outcome, but for the epochs."""
    told = {k: v for k, v in asdict(settings).items() if k != "epochs"}
    found = hashlib.sha256(json.dumps([told, model.sha256]).encode())
    for pair in pairs:
        found.update(f"\0{pair.key}\0{pair.caption}".encode("utf-8", "replace"))
    return found.hexdigest()
