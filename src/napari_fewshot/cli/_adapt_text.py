"""``adapt-text``: suit models that read to one's own images."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_fewshot.errors import Cancelled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_fewshot.data import Hooks, Progress

adapt_text_app = typer.Typer(
    help="Suit models that read phrases to your own images.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Model = Annotated[str, typer.Option(help="A CLIP, see: models list")]
Weights = Annotated[
    Path | None, typer.Option("--checkpoint", help="Weights of your own.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Seed = Annotated[int, typer.Option(help="Of everything random.", min=0)]


@adapt_text_app.command("clip")
def clip_command(
    pairs: Annotated[
        Path, typer.Argument(metavar="PAIRS.csv", help="Columns: image,caption.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the best weights.")],
    model: Model = "auto",
    checkpoint: Weights = None,
    epochs: Annotated[int, typer.Option(help="At most.", min=1)] = 10,
    batch: Annotated[int, typer.Option(help="Pairs per step.", min=2)] = 32,
    rate: Annotated[float, typer.Option(help="Learning rate.")] = 1e-6,
    parts: Annotated[
        str, typer.Option(help="What is trained: all, last or projections.")
    ] = "all",
    blocks: Annotated[int, typer.Option(help="For parts=last.", min=1)] = 2,
    validation: Annotated[float, typer.Option(help="Share held out.")] = 0.15,
    patience: Annotated[
        int, typer.Option(help="Epochs that may be no better.", min=1)
    ] = 3,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Fine-tune a CLIP on images with captions; goes on where it was stopped."""
    from napari_fewshot.session._adapt_text import finetune_clip

    with stoppable() as hooks:
        found = finetune_clip(
            pairs,
            out,
            model=model,
            checkpoint=checkpoint,
            device=device,
            hooks=hooks,
            epochs=epochs,
            batch=batch,
            rate=rate,
            parts=parts,
            blocks=blocks,
            validation=validation,
            patience=patience,
            seed=seed,
        )
    print(found.told)


@adapt_text_app.command("head")
def head_command(
    out: Annotated[Path, typer.Option(help="File for the head, .safetensors.")],
    support: Annotated[
        list[str],
        typer.Option("--support", metavar="IMAGE MASK", help="An example; repeatable."),
    ],
    text: Annotated[
        list[str], typer.Option("--text", help="Per class: 1=nucleus | nuclei.")
    ],
    kind: Annotated[
        str, typer.Option(help="query, clipseg, dynamic or vlp.")
    ] = "dynamic",
    model: Model = "auto",
    checkpoint: Weights = None,
    sam: Annotated[Path | None, typer.Option(help="Weights of a SAM, for vlp.")] = None,
    modality: Annotated[
        list[str] | None,
        typer.Option("--modality", help="One per support, or one for all."),
    ] = None,
    templates: Annotated[str, typer.Option(help="medical, natural or none.")] = (
        "medical"
    ),
    steps: Annotated[int, typer.Option(help="Of the training.", min=1)] = 200,
    rate: Annotated[float, typer.Option(help="Learning rate; 0: by kind.")] = 0.0,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Train a small head that finds phrases on annotated examples."""
    from napari_fewshot.cli._pairs import support_from
    from napari_fewshot.cli._phrases import parse_text
    from napari_fewshot.session._adapt_text import fit_text_head

    # typer's lists know one value per flag: `main` has joined the two.
    files = [item.split("\0", 1) for item in support]
    said = modality or []
    out = out if out.suffix == ".safetensors" else Path(f"{out}.safetensors")
    one = said[0] if len(said) == 1 else None
    many: list[str] = said if len(said) > 1 else []
    with stoppable() as hooks:
        head = fit_text_head(
            [support_from(a, b) for a, b in files],
            parse_text(text, one),
            kind=kind,
            model=model,
            checkpoint=checkpoint,
            sam=sam,
            device=device,
            templates=templates,
            modalities=many,
            steps=steps,
            rate=rate,
            seed=seed,
            out=out,
            hooks=hooks,
        )
    told: dict[str, Any] = dict(head.facts)
    print(
        f"A {head.kind} head, trained on {told['planes']} planes in {told['steps']} "
        f"steps (loss {told['loss']:.2f}): {out}. Use it: segment --method text-head "
        f"--param head={out}"
    )


@contextmanager
def stoppable() -> Iterator[Hooks]:
    """Give hooks that print progress and stop between steps at Ctrl-C.

    Raises
    ------
    KeyboardInterrupt
        After what was done has been written.
    """
    from napari_fewshot.data import Hooks

    asked: list[int] = []

    def ask(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    def show(progress: Progress) -> None:
        if sys.stderr.isatty():
            said = f"{progress.stage}: {progress.done} of {progress.total}"
            print(f"\r{said:<70}", end="", file=sys.stderr, flush=True)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield Hooks(show, lambda: bool(asked))
    except Cancelled:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, before)
        if sys.stderr.isatty():
            print(file=sys.stderr)
