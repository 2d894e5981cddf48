"""The whole published comparison for whoever has the weights, in one command.

Every method on every installed model of the SAM and DINO families, beside the models
that need no download: masks, single objects, and CHAOS-T2 by both support rules and
both kinds of episodes. What is not installed, or not there, is skipped and named. An
interrupted run goes on where it stopped.

``python benchmarks/with_weights.py --data ../shared/data
--chaos ../shared/volumes/chaos_t2 --out results [--dry-run]``
"""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_fewshot.cli import main as run_words
from napari_fewshot.methods import method_names
from napari_fewshot.models import how_to_get, installed_models, model_specs

if TYPE_CHECKING:
    from collections.abc import Sequence

PUBLISHED = ("sam/", "sam2/", "sam3/", "medsam", "hqsam/", "mobilesam/", "dino", "clip")
BUNDLED = ("filters", "incontext/small")
CHAOS = {
    "chaos_ep1_extra_scan": ("--episode", "EP1", "--support-rule", "extra_scan"),
    "chaos_ep1_index_2": ("--episode", "EP1", "--support-rule", "index_2"),
    "chaos_ep2_extra_scan": ("--episode", "EP2", "--support-rule", "extra_scan"),
}


@dataclass(frozen=True)
class Step:
    """One command of the plan."""

    name: str
    words: tuple[str, ...]


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of data sets")
    parser.add_argument("--chaos", type=Path, help="folder of CHAOS-T2")
    parser.add_argument("--out", type=Path, default=Path("with-weights"))
    parser.add_argument("--methods", default="", help="a,b; default all")
    parser.add_argument("--models", default="", help="x,y; default all installed")
    parser.add_argument("--datasets", default="", help="a,b; default all")
    parser.add_argument("--seeds", default="3")
    parser.add_argument("--shots", default="1,5")
    parser.add_argument("--limit-volumes", default="", help="queries of each fold")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dry-run", action="store_true", help="print the plan only")
    return parser.parse_args(words)


def choose_models(asked: str) -> tuple[list[str], list[str]]:
    """Return the models to run, and a line about each that is skipped."""
    here = installed_models()
    specs = {s.name: s for s in model_specs()}
    names = [n for n in asked.split(",") if n]
    names = names or [n for n in specs if n in BUNDLED or n.startswith(PUBLISHED)]
    skipped = []
    for name in names:
        if name not in specs:
            skipped.append(f"model {name}: there is none of this name.")
        elif name not in here:
            skipped.append(f"model {name}: not installed. {how_to_get(specs[name])}")
    return [n for n in names if n in here], skipped


def plan(options: argparse.Namespace) -> tuple[list[Step], list[str]]:
    """Return the commands, and a line about everything that is skipped."""
    models, skipped = choose_models(options.models)
    methods = options.methods or ",".join(method_names())
    common = ("--model", ",".join(models), "--device", options.device, "--resume")
    steps = []

    def add(name: str, root: Path, method: str, *words: str) -> None:
        files = [
            w
            for ending in ("json", "csv", "png")
            for w in (
                "--plot" if ending == "png" else f"--{ending}",
                str(options.out / f"{name}.{ending}"),
            )
        ]
        head = ("benchmark", "few-shot", str(root), "--method", method)
        steps.append(Step(name, (*head, *common, *words, *files)))

    if not models:
        skipped.append("everything: none of the models is installed.")
        return [], skipped
    if _is_there(options.data, "data sets", "--data", skipped):
        draws = ("--seeds", options.seeds, "--datasets", options.datasets)
        by_mask = ("--shots", options.shots, *draws)
        add("planes", options.data, f"{methods},forest", *by_mask)
        by_object = ("--protocol", "instances", "--shots", "5", *draws)
        if _numbers_objects(options.data, options.datasets):
            add("instances", options.data, f"{methods},forest", *by_object)
        else:
            skipped.append("instances: no data set numbers its objects.")
    if _is_there(options.chaos, "CHAOS-T2", "--chaos", skipped):
        limit = ("--limit-volumes", options.limit_volumes)
        for name, rules in CHAOS.items():
            words = ("--protocol", "chaos", *rules)
            words += limit if options.limit_volumes else ()
            add(name, options.chaos, f"copy,{methods}", *words)
    return steps, skipped


def _is_there(root: Path | None, what: str, option: str, skipped: list[str]) -> bool:
    if root is not None and root.is_dir():
        return True
    where = f"give {option}" if root is None else f"{root} is no folder"
    skipped.append(f"{what}: {where}.")
    return False


def _numbers_objects(root: Path, datasets: str) -> bool:
    files = [
        p
        for p in root.glob("*/dataset.json")
        if not datasets or p.parent.name in datasets.split(",")
    ]
    return any('"instances"' in p.read_text(encoding="utf-8") for p in files)


def main(words: Sequence[str] | None = None) -> int:
    options = arguments(words)
    steps, skipped = plan(options)
    for line in skipped:
        print(f"skipped {line}")
    failed = 0
    for number, step in enumerate(steps, 1):
        command = shlex.join(step.words)
        print(f"{number}/{len(steps)} {step.name}: {command}", flush=True)
        if options.dry_run:
            continue
        try:
            run_words(step.words)
        except SystemExit as stop:
            if stop.code == 130:
                return 130
            failed += bool(stop.code)
    return int(failed > 0 or not steps)


if __name__ == "__main__":
    sys.exit(main())
