"""The whole published comparison for whoever has the weights, in one command.

Every method on every installed model of the SAM and DINO families, beside the models
that need no download: masks, single objects, and CHAOS-T2 by both support rules and
both kinds of episodes. What is not installed, or not there, is skipped and named. An
interrupted run goes on where it stopped.

``python benchmarks/with_weights.py --data ../shared/data
--chaos ../shared/volumes/chaos_t2 --out results [--dry-run]``

With ``text``, the whole protocol of text prompts instead: every method that reads text
on every installed model that does, leak-free and, where asked for, with the labels that
the paper used; JSON and a page to be read per step.

``python benchmarks/with_weights.py text --data ../shared/data --tasks medclip
[--prompts P2.json] [--oracle-prompts P3.json] --out results [--dry-run]``
"""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_fewshot.cli import main as run_words
from napari_fewshot.evaluation import GRIDS
from napari_fewshot.methods import learning_methods, method_names
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
    known = ("few-shot", "text")
    parser.add_argument("what", nargs="?", choices=known, default=known[0])
    parser.add_argument("--data", type=Path, help="folder of data sets")
    parser.add_argument("--tasks", type=Path, help="text: folder of MedCLIP-SAM tasks")
    parser.add_argument("--prompts", type=Path, help="text: phrases for the tasks")
    parser.add_argument(
        "--oracle-prompts",
        type=Path,
        help="text: a phrase for every image of the tasks",
    )
    parser.add_argument("--limit", default="", help="text: images of each class")
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
    methods = options.methods or ",".join(learning_methods())
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


def plan_text(options: argparse.Namespace) -> tuple[list[Step], list[str]]:
    """Return the commands of the text protocol, and what is skipped."""
    models, skipped = choose_text_models(options.models)
    if not models:
        skipped.append("everything: no model that reads text is installed.")
        return [], skipped
    methods = options.methods or "all"
    common = ["--model", ",".join(models), "--device", options.device, "--resume"]
    common += ["--limit", options.limit] if options.limit else []
    steps = []

    def add(name: str, root: Path, method: str, mode: str, *words: str) -> None:
        endings = {"json": "json", "csv": "csv", "markdown": "md"}
        files = [
            word
            for option, ending in endings.items()
            for word in (f"--{option}", str(options.out / f"{name}.{ending}"))
        ]
        head = ("benchmark", "text", str(root), "--method", method)
        mode_words = ("--prompt-mode", mode, *words)
        steps.append(Step(name, (*head, *common, *mode_words, *files)))

    names = method_names() if methods == "all" else methods.split(",")
    tuned = ",".join(m for m in GRIDS if m in names)
    # Bounds need no phrase, and nonsense is compared once.
    lean = ("--bounds", "random-phrase", "--sensitivity", "0")
    if _is_there(options.data, "data sets", "--data", skipped):
        only = ("--datasets", options.datasets)
        for mode in ("fixed", "name", "template", "ensemble"):
            words = (*only, *(lean if mode != "fixed" else ()))
            add(f"text_{mode}", options.data, methods, mode, *words)
        if tuned:
            words = (*only, *lean, "--hparams", "val3")
            add("text_val3", options.data, tuned, "fixed", *words)
    if _is_there(options.tasks, "tasks of MedCLIP-SAM", "--tasks", skipped):
        add("tasks_name", options.tasks, methods, "name")
        for given, modes in _files_of_phrases(options, skipped).items():
            for mode, hparams in modes:
                method = methods if hparams == "fixed" else tuned
                words = ("--prompts", str(given), "--hparams", hparams, *lean)
                if method:
                    add(f"tasks_{mode}_{hparams}", options.tasks, method, mode, *words)
    return steps, skipped


def _files_of_phrases(
    options: argparse.Namespace, skipped: list[str]
) -> dict[Path, list[tuple[str, str]]]:
    """Return how each file of phrases is used: leak-free, and as in the paper."""
    uses = {
        "--prompts": [("fixed", "fixed"), ("ensemble", "fixed"), ("fixed", "val3")],
        "--oracle-prompts": [("oracle", "fixed"), ("oracle", "val3")],
    }
    found = {}
    for option, modes in uses.items():
        path = getattr(options, option.strip("-").replace("-", "_"))
        if path is None:
            skipped.append(f"tasks, {modes[0][0]} phrases: give {option}.")
        elif not path.is_file():
            skipped.append(f"tasks, {modes[0][0]} phrases: {path} is no file.")
        else:
            found[path] = modes
    return found


def choose_text_models(asked: str) -> tuple[list[str], list[str]]:
    """Return the models that read text, and a line about each that is skipped."""
    here = installed_models()
    specs = {s.name: s for s in model_specs()}
    names = [n for n in asked.split(",") if n] or [n for n in specs if specs[n].text]
    skipped = []
    for name in names:
        if name not in specs:
            skipped.append(f"model {name}: there is none of this name.")
        elif not specs[name].text:
            skipped.append(f"model {name}: it does not read text.")
        elif name not in here:
            skipped.append(f"model {name}: not installed. {how_to_get(specs[name])}")
    return [n for n in names if n in here and specs[n].text], skipped


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
    steps, skipped = (plan_text if options.what == "text" else plan)(options)
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
