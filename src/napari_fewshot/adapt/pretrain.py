"""Pre-train the in-context network on synthetic tasks.

``python -m napari_fewshot.adapt.pretrain --config FILE.toml --out DIR`` trains, writes
a checkpoint every few minutes and goes on where it stopped when called again.
"""

from __future__ import annotations

import csv
import math
import time
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import typer
from torch.utils.data import DataLoader

from napari_fewshot.adapt._episode import episode_loss, synthetic_dice
from napari_fewshot.adapt._tasks import Batch, TaskDataset, TaskStream, draw_group
from napari_fewshot.errors import DataError
from napari_fewshot.models._losses import descend, move_towards
from napari_fewshot.models._network import InContextNetwork, NetworkConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKPOINT = "checkpoint.pt"
LOG = "log.csv"


@dataclass(frozen=True)
class TrainingConfig:
    """What a configuration file may set.

    Attributes
    ----------
    steps : int
        Steps in all.
    decay : float
        Last share of the steps, in which the learning rate falls to zero.
    warmup : int
        First steps, in which it rises.
    learning_rate, weight_decay, clip, average : float
        AdamW, gradient norm, and weight of the past in the averaged network.
    sizes, tasks : tuple of int
        Sides of the images and tasks per step, taken in turn.
    seed : int
        Of everything.
    precision : str
        ``"bf16"`` or ``"fp32"``.
    device : str
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    threads, workers : int
        Threads of the network (0: all cores) and processes that draw tasks.
    log_every, save_every, test_every : int
        In steps.
    start : str
        Checkpoint whose averaged network is the start ("" for random weights).
    """

    steps: int = 20000
    decay: float = 0.3
    warmup: int = 200
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.02
    clip: float = 1.0
    average: float = 0.998
    sizes: tuple[int, ...] = (128,)
    tasks: tuple[int, ...] = (4,)
    seed: int = 0
    precision: str = "bf16"
    device: str = "auto"
    threads: int = 1
    workers: int = 1
    log_every: int = 50
    save_every: int = 200
    test_every: int = 500
    start: str = ""


def read_config(path: Path) -> TrainingConfig:
    """Read a TOML file.

    Raises
    ------
    DataError
        If a key is not known.
    """
    values: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    known = {f.name for f in fields(TrainingConfig)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise DataError(
            f"{path.name} sets {unknown[0]!r}, which is not known. "
            f"Known: {', '.join(sorted(known))}."
        )
    found: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
    }
    return TrainingConfig(**found)


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Return the learning rate: a rise, a plateau, and a straight fall to zero."""
    rise = min(1.0, (step + 1) / config.warmup)
    left = (config.steps - step) / max(1.0, config.decay * config.steps)
    return config.learning_rate * rise * min(1.0, max(left, 0.01))


class Trainer:
    """Network, its running average, optimiser and step, saved together."""

    def __init__(self, config: TrainingConfig, out: Path) -> None:
        torch.manual_seed(config.seed)
        device = config.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.config, self.out, self.device = config, out, torch.device(device)
        self.network = InContextNetwork(NetworkConfig()).to(self.device)
        self.network.to(memory_format=torch.channels_last)
        if config.start:
            state = torch.load(config.start, map_location=device, weights_only=True)
            self.network.load_state_dict(state["average"])
        self.average = InContextNetwork(NetworkConfig()).to(self.device).eval()
        self.average.load_state_dict(self.network.state_dict())
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        plain = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, config.learning_rate)
        self.step, self.group, self.seconds = 0, 0, 0.0
        if (out / CHECKPOINT).exists():
            self.load()

    def load(self) -> None:
        """Go on from the last checkpoint."""
        state = torch.load(
            self.out / CHECKPOINT, map_location=self.device, weights_only=True
        )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.group = state["step"], state["group"]
        self.seconds = state["seconds"]

    def save(self) -> None:
        """Write the checkpoint, never half of it."""
        part = self.out / (CHECKPOINT + ".part")
        torch.save(
            {
                "network": self.network.state_dict(),
                "average": self.average.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "step": self.step,
                "group": self.group,
                "seconds": self.seconds,
            },
            part,
        )
        part.replace(self.out / CHECKPOINT)

    def update(self, batch: Batch) -> dict[str, float]:
        """Make one step."""
        rate = learning_rate(self.config, self.step)
        half = self.config.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            loss, figures = episode_loss(self.network, batch, self.device)
        norm = descend(self.network, self.optimiser, loss, rate, self.config.clip)
        self.step += 1
        keep = min(self.config.average, (1 + self.step) / (10 + self.step))
        move_towards(self.average, self.network, 1 - keep)
        return {**figures, "rate": rate, "norm": norm}

    def test(self, batches: list[Batch]) -> dict[str, float]:
        """Dice of the averaged network on tasks that are never trained on."""
        half = self.config.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            found = synthetic_dice(self.average, batches, self.device)
        return {f"dice_{k}": v for k, v in found.items()}


def batches_of(config: TrainingConfig, first: int) -> Iterator[tuple[int, Batch]]:
    """Yield (group number, batch); the group is complete with its last batch."""
    streams = tuple(
        TaskStream(config.seed, size, tasks)
        for size, tasks in zip(config.sizes, config.tasks, strict=True)
    )
    loader = DataLoader(
        TaskDataset(streams, first), batch_size=None, num_workers=config.workers
    )
    in_group = streams[0].visits ** 2
    # Workers yield batches in turn, so groups interleave; count whole rounds.
    per_round = in_group * max(config.workers, 1)
    for number, batch in enumerate(loader, 1):
        done = number // per_round * max(config.workers, 1)
        yield first + done, batch


def train(config: TrainingConfig, out: Path) -> None:
    """Train to the last step, writing checkpoints and a log into ``out``."""
    torch.set_num_threads(config.threads or torch.get_num_threads())
    out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(config, out)
    held_out = TaskStream(10**6 + config.seed, config.sizes[0], 4)
    tests = [batch for number in range(6) for batch in draw_group(held_out, number)]
    recent: list[dict[str, float]] = []
    began = time.monotonic() - trainer.seconds
    for group, batch in batches_of(config, trainer.group):
        if trainer.step >= config.steps:
            break
        recent.append(trainer.update(batch))
        trainer.group, trainer.seconds = group, time.monotonic() - began
        step = trainer.step
        if step % config.log_every == 0:
            row = {k: math.fsum(r[k] for r in recent) / len(recent) for k in recent[0]}
            recent = []
            if step % config.test_every == 0:
                row |= trainer.test(tests)
            write_row(out / LOG, {"step": step, "seconds": trainer.seconds, **row})
        if step % config.save_every == 0:
            trainer.save()
    trainer.save()


def write_row(path: Path, row: dict[str, float]) -> None:
    """Append a row to the log."""
    columns = ["step", "seconds", "loss", "dice", "rate", "norm"]
    columns += [f"dice_{k}" for k in (1, 2, 3, 4)]
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        if fresh:
            writer.writeheader()
        writer.writerow({k: f"{v:.5g}" for k, v in row.items()})


def main(
    config: Annotated[Path, typer.Option(help="TOML file, see TrainingConfig.")],
    out: Annotated[Path, typer.Option(help="Folder of checkpoint and log.")],
) -> None:
    """Pre-train the in-context network on synthetic tasks."""
    train(read_config(config), out)


if __name__ == "__main__":
    typer.run(main)
