"""Train two tiny models of the CLIP kind on synthetic scenes with captions.

They show that the maps of text methods mean something where published weights are not
at hand; they are no models for users. One is of open_clip's own make, the other built
as BiomedCLIP: a ViT of timm with a BERT. Because what is where is known, every pair of
a scene and a phrase has a truth: the loss is that of SigLIP (Zhai et al., 2023) with
all right pairs, instead of one per row. Beside it the same loss is taken on patches,
in every way that the maps read them. Training on hundreds of millions of pictures
gives such patches by itself; half an hour on one core does not.

Words learn first, then small parts of images, both guided by directions for every
property, then all together. ``python benchmarks/train_tiny_clip.py train native FILE
--minutes 20`` trains and goes on where FILE ends; ``... pack NATIVE TIMM
tests/data/tiny_clip.npz`` writes the weights that the tests read. The same seed and
steps give the same weights; those in `tests/data` are of runs whose stages were put
together on the way, about half an hour of one core for each, and are not repeated
number by number.
"""

from __future__ import annotations

import functools
import json
import math
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from tiny_captions import SIDE, vocabulary
from tiny_clip_files import pack_models
from tiny_clip_pair import WAYS, Pair, localisation
from tiny_clip_work import (
    GROUND,
    GROUPS,
    PART_SHARE,
    THING,
    Looks,
    Work,
    draw_words,
    draw_work,
)
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

# Steps in which words learn by themselves.
WORDS_STEPS = 300
# Share of the last stage in which they stay as they are.
WORDS_HELD = 0.3
# Steps in which images learn by themselves, from so many small parts of so many pixels
# and patches along a side, so many at once.
LOOKS_STEPS = {"native": 1200, "timm": 2700}
LOOKS, LOOKS_AT_ONCE = 5000, 48
LOOKS_SIDES = {"native": (40, 5), "timm": (64, 5)}
# Until this share of the steps both towers are guided, less and less: every property
# has a direction of its own, which words that say it and patches that have it are
# drawn to. Without it neither tower learns before the other one has.
GUIDED = 0.6
# What cosines are multiplied with: more leaves too little between yes and no.
STEEPEST = 16.0
app = typer.Typer(add_completion=False)


def right(logits: Tensor, truth: Tensor, yes: float) -> Tensor:
    """Return the mean loss of pairs; those that are right count ``yes`` times."""
    weight = (truth >= 0) * (1 + (yes - 1) * truth.clamp_min(0))
    each = F.binary_cross_entropy_with_logits(
        logits, truth.clamp_min(0), reduction="none"
    )
    return (each * weight).sum() / weight.sum()


def losses(pair: Pair, work: Work, ways: Sequence[str]) -> dict[str, Tensor]:
    """Return the loss of whole scenes and of patches in every way."""
    words = pair.words(work.texts)
    whole, patches = pair.look(pair.images(work.scenes), ways, work.corner)
    slopes = pair.slopes.exp().clamp_max(STEEPEST)
    found = {
        w: right(slopes[0] * (words @ p.mT) + pair.biases[0], work.places, 4.0)
        for w, p in patches.items()
    }
    fits = slopes[1] * (whole @ words.T) + pair.biases[1]
    found["whole"] = right(fits, work.whole, 1.5)
    # A scene is near the mean of all that is said of it: a shorter way to the same.
    middle = F.normalize((work.whole == 1).float() @ words.detach(), dim=-1)
    found["near"] = (1 - (whole * middle).sum(-1)).mean()
    found["guide"] = guide(pair, work.shown, patches["vanilla"])
    found["guide"] = found["guide"] + guide(pair, work.shown, patches["maskclip"])
    return found


def guide(pair: Pair, shown: Tensor, patches: Tensor) -> Tensor:
    """Return how badly patches (B, n, E) show the properties of what they are of."""
    wanted = F.normalize(shown @ pair.directions, dim=-1)
    weight = 1.0 - 0.9 * (shown[..., GROUND] > 0.9)
    off = 1 - (patches * wanted).sum(-1)
    found = (off * weight).sum() / weight.sum()
    inside = shown[..., THING] > 0.5
    seen = 12.0 * (patches[inside] @ pair.directions.T)
    for group in GROUPS:
        truth = shown[inside][:, group].argmax(-1)
        found = found + 0.5 * F.cross_entropy(seen[:, group], truth)
    return found


def words_loss(pair: Pair, seed: Sequence[int]) -> Tensor:
    """Return how far texts are from the directions of what they say."""
    texts, said = draw_words(seed, 64)
    wanted = F.normalize(said @ pair.directions, dim=-1)
    known = said.abs().sum(-1) > 0
    return (1 - (pair.words(texts) * wanted).sum(-1))[known].mean()


def _is_inner(name: str, parameter: nn.Parameter) -> bool:
    """Whether it is a matrix within a block, which Muon (Jordan, 2024) learns best."""
    return parameter.ndim == 2 and ("blocks" in name or ".layer." in name)


def looks_loss(
    pair: Pair, looks: Looks, seed: Sequence[int]
) -> tuple[dict[str, Tensor], Tensor]:
    """Return how badly patches of small parts show what they are of, and the sum."""
    images, shown = looks.draw(seed, LOOKS_AT_ONCE)
    grid = pair.tower.grid[0] - int(shown.shape[1] ** 0.5)
    step = SIDE // pair.tower.grid[0]
    at = np.random.default_rng(seed).integers(0, grid + 1, 2) * step
    corner = (int(at[0]), int(at[1]))
    ways = ("vanilla", "maskclip", "clearclip")
    _, patches = pair.look(pair.prepared(images), ways, corner)
    found = {w: guide(pair, shown, p) for w, p in patches.items()}
    inside = shown[..., THING] > 0.5
    for name, group in zip(("shape", "colour", "fill"), GROUPS, strict=True):
        seen = patches["vanilla"][inside] @ pair.directions[group].T
        right_ = seen.argmax(-1) == shown[inside][:, group].argmax(-1)
        found[name] = right_.float().mean()
    return found, torch.stack([found[w] for w in ways]).sum()


class Course:
    """Optimiser, running average, and a learning rate that falls with the steps."""

    def __init__(self, pair: Pair, steps: int, rate: float) -> None:
        self.pair, self.total, self.rate = pair, steps, rate
        inner = [p for n, p in pair.named_parameters() if _is_inner(n, p)]
        apart = {id(p) for p in inner}
        others = [p for p in pair.parameters() if id(p) not in apart]
        self.optimisers = (
            torch.optim.Muon(inner, rate, 0.02, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, rate, betas=(0.9, 0.98), weight_decay=0),
        )
        self.average = {k: v.clone() for k, v in pair.state_dict().items()}
        self.step_number = 0

    def step(self, loss: Tensor, done: float) -> None:
        """Take a step, at a share of the stage that it is in."""
        rise = min(1.0, done / 0.03 + 0.02)
        fall = 0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * min(done, 1)))
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.rate * rise * fall
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.pair.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        self.step_number += 1
        keep = min(0.995, (1 + self.step_number) / (20 + self.step_number))
        now = self.pair.state_dict()
        names = [n for n, v in now.items() if v.is_floating_point()]
        torch._foreach_lerp_(
            [self.average[n] for n in names], [now[n] for n in names], 1 - keep
        )

    def save(self, file: Path) -> None:
        """Write all that is needed to go on."""
        state = {
            "pair": self.pair.state_dict(),
            "average": self.average,
            "optimisers": [o.state_dict() for o in self.optimisers],
            "step": self.step_number,
        }
        part = file.with_name(file.name + ".part")
        torch.save(state, part)
        part.replace(file)

    def resume(self, file: Path) -> None:
        """Go on where a file ends."""
        state = torch.load(file, weights_only=True)
        self.pair.load_state_dict(state["pair"])
        self.average = state["average"]
        for optimiser, own in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(own)
        self.step_number = state["step"]


@app.command()
def train(
    kind: str,
    file: Path,
    minutes: Annotated[float, typer.Option(help="Stops then; may go on.")] = 20.0,
    steps: Annotated[int, typer.Option(help="Of the whole course.")] = 5000,
    rate: float = 1.5e-3,
    seed: int = 0,
    start: Annotated[Path | None, typer.Option(help="Weights to begin with.")] = None,
    begin: Annotated[int, typer.Option(help="First step, with --start.")] = 0,
    every: Annotated[int, typer.Option(help="Steps between measures.")] = 500,
) -> None:
    """Train a tiny model: native or timm."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    began = time.monotonic()
    with TemporaryDirectory() as folder:
        pair = Pair(kind, Path(folder))
    course = Course(pair, steps, rate)
    if file.exists():
        course.resume(file)
    elif start is not None:
        pair.load_state_dict(torch.load(start, weights_only=True)["average"])
        course.average = {k: v.clone() for k, v in pair.state_dict().items()}
        course.step_number = begin
    kept: dict[str, list[float]] = {}
    while course.step_number < steps and time.monotonic() - began < 60 * minutes:
        each, loss, done = one_step(pair, course.step_number, steps, seed)
        course.step(loss, done)
        for name, value in each.items():
            kept.setdefault(name, []).append(float(value.detach()))
        if course.step_number % 50 == 0:
            shown = " ".join(f"{n} {np.mean(v):.3f}" for n, v in kept.items())
            spent = (time.monotonic() - began) / 60
            print(f"{course.step_number} {spent:.1f} min {shown}", flush=True)
            kept = {}
        if course.step_number % every == 0:
            course.save(file)
            print(json.dumps(measured(course, 30)), flush=True)
    course.save(file)
    print(json.dumps(measured(course, 60)), flush=True)


def one_step(
    pair: Pair, number: int, steps: int, seed: int
) -> tuple[dict[str, Tensor], Tensor, float]:
    """Return the losses of a step, their sum, and the share of its stage.

    Words learn first, by themselves, then images beside them, and both at the end.
    """
    if number < WORDS_STEPS:
        loss = words_loss(pair, [seed, number, 8])
        return {"words": loss}, loss, number / WORDS_STEPS
    number -= WORDS_STEPS
    looks_steps = LOOKS_STEPS[pair.kind]
    if number < looks_steps:
        pair.hold_words(held=True)
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            each, loss = looks_loss(pair, looks_of(pair.kind, seed), [seed, number, 9])
        return each, loss, number / looks_steps
    number -= looks_steps
    done = number / (steps - WORDS_STEPS - looks_steps)
    is_last = done >= PART_SHARE
    pair.hold_words(held=done < WORDS_HELD)
    work = draw_work(
        [seed, number, 7],
        pair.tower.grid,
        parts=pair.kind == "native" and not is_last,
        short=False,
    )
    ways = WAYS if number % 3 == 0 or is_last else WAYS[:-1]
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        each = losses(pair, work, ways)
    places = torch.stack([each[w] for w in ways]).mean()
    guided = max(0.0, 1 - done / GUIDED)
    whole = 0.4 * each["whole"] + 0.2 * each["near"]
    return each, places + whole + guided * each["guide"], done


@functools.cache
def looks_of(kind: str, seed: int) -> Looks:
    """Return small parts of scenes for a kind of model."""
    return Looks(LOOKS, *LOOKS_SIDES[kind], seed)


def measured(course: Course, count: int) -> dict[str, list[float]]:
    """Return how the averaged weights do on held-out scenes; see `localisation`."""
    pair = course.pair
    own = {k: v.clone() for k, v in pair.state_dict().items()}
    pair.load_state_dict(course.average)
    pair.eval()
    try:
        return localisation(pair, count)
    finally:
        pair.load_state_dict(own)
        pair.train()


@app.command()
def pack(native: Path, timm: Path, target: Path) -> None:
    """Write the averaged weights of both models as test data."""
    states = {}
    for kind, file in (("native", native), ("timm", timm)):
        average = torch.load(file, weights_only=True)["average"]
        state = {
            k.removeprefix("clip."): v
            for k, v in average.items()
            if k.startswith("clip.")
        }
        slope = average["slopes"][1].clamp_max(math.log(STEEPEST))
        states[kind] = state | {"logit_scale": slope}
    pack_models(states, vocabulary(), target)


if __name__ == "__main__":
    app()
