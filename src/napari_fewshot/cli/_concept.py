"""``concept``: save what to look for as one file, look into one, check some."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_fewshot.errors import DataError, FewShotError

if TYPE_CHECKING:
    from napari_fewshot.data import Concept

FAILED, SOME_FAILED = 1, 3

concept_app = typer.Typer(
    help="Concept files: supports, method and scores to share.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="A .fewshot file.")]


@concept_app.command("save")
def concept_save(
    out: Annotated[Path, typer.Option(help="The .fewshot file to write.")],
    support: Annotated[
        list[str] | None,
        typer.Option("--support", metavar="IMAGE MASK", help="An example; repeatable."),
    ] = None,
    project: Annotated[
        Path | None, typer.Option(help="All of a project: supports, classes, method.")
    ] = None,
    method: Annotated[str, typer.Option(help="See: methods")] = "auto",
    model: Annotated[str, typer.Option(help="See: models list")] = "auto",
    param: Annotated[
        list[str] | None, typer.Option("--param", help="Parameter, name=value.")
    ] = None,
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Name of a class, 1=nucleus.")
    ] = None,
    axes: Annotated[str | None, typer.Option(help="E.g. zyx, tyxc.")] = None,
    scale: Annotated[str | None, typer.Option(help="Pixel size z,y,x.")] = None,
    channels: Annotated[str | None, typer.Option(help="E.g. 0,2.")] = None,
    author: Annotated[str, typer.Option(help="Who made it.")] = "",
    licence: Annotated[str, typer.Option(help="What others may do with it.")] = "",
    notes: Annotated[str, typer.Option(help="What to know about it.")] = "",
    assess: Annotated[
        bool,
        typer.Option(
            "--assess/--no-assess", help="Keep the Dice to expect; takes a first run."
        ),
    ] = True,
    thumbnails: Annotated[
        bool, typer.Option("--thumbnails/--no-thumbnails", help="Add small pictures.")
    ] = True,
) -> None:
    """Save annotated examples, or a project, as a concept file."""
    from napari_fewshot.session import save_concept

    words: dict[str, Any] = {
        "author": author,
        "licence": licence,
        "notes": notes,
        "thumbnails": thumbnails,
    }
    if project is not None:
        if support:
            raise DataError("Give --support or --project, not both.")
        path = _save_project(project, out, assess, words)
    else:
        options = {"axes": axes, **_image_options(scale, channels)}
        path = save_concept(
            out,
            _supports(support or [], classes or [], options),
            method=method,
            model=model,
            params=_params(method, param or []),
            assess=assess,
            **words,
        )
    print(f"{path} is written ({path.stat().st_size / 1e6:.1f} MB).")


@concept_app.command("info")
def concept_info(file: File) -> None:
    """Tell what a concept file holds; it is checked first."""
    from napari_fewshot.session import load_concept

    _show(load_concept(file))


@concept_app.command("verify")
def concept_verify(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="To check.")],
) -> None:
    """Check that concept files are whole, unchanged and safe to open."""
    from napari_fewshot.session import load_concept

    failures = 0
    for file in files:
        try:
            concept = load_concept(file)
            print(f"{file}: whole, {len(concept.support)} supports")
        except FewShotError as error:
            failures += 1
            print(f"napari-fewshot: {error}", file=sys.stderr)
    if failures:
        raise typer.Exit(FAILED if failures == len(files) else SOME_FAILED)


def _supports(
    pairs: list[str], classes: list[str], options: dict[str, Any]
) -> list[Any]:
    from napari_fewshot.cli._given import parse_pairs
    from napari_fewshot.cli._pairs import support_from

    names = {int(k): v[0] for k, v in parse_pairs(classes, "--class").items()}
    # typer's lists know one value per flag: `main` has joined the two.
    files = [item.split("\0", 1) for item in pairs]
    return [support_from(a, b, classes=names or None, **options) for a, b in files]


def _image_options(scale: str | None, channels: str | None) -> dict[str, Any]:
    return {
        "scale": None if scale is None else [float(s) for s in scale.split(",")],
        "channels": None if channels is None else [int(c) for c in channels.split(",")],
    }


def _params(method: str, words: list[str]) -> dict[str, Any]:
    from napari_fewshot.cli._given import parse_words

    return parse_words(method, words)


def _save_project(project: Path, out: Path, assess: bool, words: dict[str, Any]) -> Any:
    from napari_fewshot.io import write_concept
    from napari_fewshot.session import Session
    from napari_fewshot.session._concept_files import assessed
    from napari_fewshot.session._concepts import concept_of

    thumbnails = words.pop("thumbnails")
    document = Session.load(project, autosave=False).state.document
    concept = concept_of(document, **words)
    concept = assessed(concept) if assess else concept
    return write_concept(out, concept, thumbnails=thumbnails)


def _show(concept: Concept) -> None:
    """Print all facts about a concept, a line each."""
    from napari_fewshot.session._concepts import weights_note

    row = "{:12s} {}"
    print(row.format("written by", f"napari-fewshot {concept.version}"))
    for word in ("author", "licence", "notes", "method", "model"):
        print(row.format(word, getattr(concept, word)))
    print(row.format("weights", concept.weights_sha256 or "-"))
    for name, value in concept.params.items():
        print(row.format("parameter", f"{name}={value}"))
    for value, name in concept.classes.items():
        print(row.format(f"class {value}", name + _score(concept, value)))
    for support in concept.support:
        size = " x ".join(map(str, support.source.shape))
        kind = f"{support.source.axes}, {support.source.array.dtype}"
        count = len(support.used_planes)
        planes = f"{count} of its planes" if support.source.n_planes > 1 else ""
        words = [support.name, f"{size} ({kind})", planes]
        if support.source.scale is not None:
            words.append("pixel " + " x ".join(f"{s:g}" for s in support.source.scale))
        print(row.format("support", ", ".join(w for w in words if w)))
    try:
        note = weights_note(concept)
    except FewShotError as error:
        note = str(error)
    if note:
        print(f"\n{note}")


def _score(concept: Concept, value: int) -> str:
    if value not in concept.scores:
        return ""
    text = f", expected Dice {concept.scores[value]:.2f}"
    if value in concept.score_intervals:
        low, high = concept.score_intervals[value]
        text += f" (80 %: {low:.2f} to {high:.2f})"
    return text
