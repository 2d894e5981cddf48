"""``models``: what there is, and getting it, with the licence agreed to first."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path  # noqa: TC003 - typer reads annotations
from typing import TYPE_CHECKING, Annotated

import typer

from napari_fewshot.errors import FewShotError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_fewshot.io._model_store import Progress
    from napari_fewshot.models import ModelSpec

FAILED, USAGE, SOME_FAILED = 1, 2, 3

models_app = typer.Typer(
    help="Models on this machine.", no_args_is_help=True, rich_markup_mode=None
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a model.")]
Yes = Annotated[bool, typer.Option("--yes", help="Agree; do not ask.")]


@models_app.command("list")
def models_list(
    installed: Annotated[
        bool, typer.Option("--installed", help="Only those that are here.")
    ] = False,
) -> None:
    """List the models."""
    from napari_fewshot.cli._tables import show_models

    show_models(installed)


@models_app.command("info")
def models_info(name: Name) -> None:
    """Tell all about a model."""
    from napari_fewshot.cli._tables import show_model

    show_model(name)


@models_app.command("download")
def models_download(name: Name, yes: Yes = False) -> None:
    """Fetch the weights of a model, once its licence is agreed to."""
    from napari_fewshot.errors import WeightsError
    from napari_fewshot.io import download_model, installed_model
    from napari_fewshot.models import get_model_spec, how_to_get

    spec = get_model_spec(name)
    if not spec.needs_download:
        print(f"{spec.name} comes with the package; there is nothing to download.")
        return
    if not spec.download_url:
        raise WeightsError(f"{spec.name} has no direct download. {how_to_get(spec)}")
    if installed_model(spec.name) is not None:
        print(f"{spec.name} is installed; it is replaced when the download is right.")
    _show_terms(spec)
    if not _agrees(yes, "Agree to the licence and download?"):
        return
    with _bar(f"downloading {spec.name}") as progress:
        record = download_model(spec, agreed=True, progress=progress)
    (facts,) = record.files.values()
    kind = "as published" if spec.sha256 else "pinned from now on"
    print(f"{spec.name} is installed. SHA-256 {facts.sha256} ({kind}).")


@models_app.command("import")
def models_import(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="Weights, or a bundle (zip).")
    ],
    model: Annotated[
        str, typer.Option(help="Which model it is; default: recognised.")
    ] = "",
) -> None:
    """Install a model from a file, or all models of a bundle, without a network."""
    from napari_fewshot.io import (
        import_bundle,
        import_weights,
        is_bundle,
        verify_model,
    )

    with _bar(f"copying {path.name}") as progress:
        if is_bundle(path):
            records = import_bundle(path, progress)
        else:
            records = (import_weights(path, model, progress),)
    for record in records:
        print(f"{record.name} is installed. Licence: {record.licence}.")
    if not is_bundle(path):
        # Weights of the same shape may want other images: a wrong name shows here.
        print(verify_model(records[0].name))


@models_app.command("verify")
def models_verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME...]", help="Default: all that are here."),
    ] = None,
) -> None:
    """Check that models are the files that were installed, and that they load."""
    from napari_fewshot.io import downloaded_models, verify_model
    from napari_fewshot.models import model_specs

    wanted = names or [
        *(spec.name for spec in model_specs() if not spec.needs_download),
        *(record.name for record in downloaded_models()),
    ]
    failed = 0
    for name in wanted:
        try:
            print(f"{name}: {verify_model(name)}")
        except FewShotError as error:
            failed += 1
            print(f"napari-fewshot: {error}", file=sys.stderr)
    if failed:
        raise typer.Exit(FAILED if failed == len(wanted) else SOME_FAILED)


@models_app.command("remove")
def models_remove(name: Name, yes: Yes = False) -> None:
    """Remove an installed model from this machine."""
    from napari_fewshot.io import remove_model

    if _agrees(yes, f"Remove {name} from this machine?"):
        print(f"Removed {name}: {remove_model(name) / 1e6:.1f} MB are free again.")


@models_app.command("bundle")
def models_bundle(
    out: Annotated[Path, typer.Argument(metavar="OUT.zip", help="File to write.")],
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME...]", help="Default: all installed ones."),
    ] = None,
) -> None:
    """Write installed models into one zip file, for machines without a network."""
    from napari_fewshot.io import bundle_models

    records = bundle_models(out, names or ())
    for record in records:
        print(f"{record.size / 1e6:10.1f} MB  {record.name}  ({record.licence})")
    print(f"On the other machine: napari-fewshot models import {out.name}")


@models_app.command("convert")
def models_convert(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A pickled file.")],
    out: Annotated[
        Path | None, typer.Option(help="Default: FILE with .safetensors.")
    ] = None,
    yes: Yes = False,
) -> None:
    """Turn a file that could run code into one that can't, if you trust it."""
    from napari_fewshot.models.sam import convert

    print(
        f"{path.name} may hold a pickle. Opening it can run any program that its maker "
        "put in.\nGo on only if you trust where it comes from; afterwards the new file "
        "holds tensors only."
    )
    if not _agrees(yes, "Open it once, in a process of its own?"):
        return
    target = path.with_suffix(".safetensors") if out is None else out
    written = convert(path, target)
    print(f"Written: {written}")
    print(f"Install it with: napari-fewshot models import {written}")


def _show_terms(spec: ModelSpec) -> None:
    from napari_fewshot.cli._tables import size_text

    rows = (
        ("model", spec.name),
        ("licence", spec.licence),
        ("size", size_text(spec)),
        ("source", spec.url),
        ("file", spec.download_url),
        ("trained on", spec.trained_on),
        ("benchmarks", spec.benchmark_data),
        ("note", spec.notes),
    )
    for key, value in rows:
        if value:
            print(f"{key:11s} {value}")


def _agrees(yes: bool, question: str) -> bool:
    """Ask, unless it was answered with ``--yes``; without a terminal nobody can.

    Raises
    ------
    typer.Exit
        With the code of wrong usage, without a terminal.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        print(
            "napari-fewshot: this needs an answer and there is no terminal to ask in. "
            "Read the above and pass --yes to agree.",
            file=sys.stderr,
        )
        raise typer.Exit(USAGE)
    if typer.confirm(question):
        return True
    print("Nothing was changed.")
    return False


@contextmanager
def _bar(what: str) -> Iterator[Progress]:
    """Show bytes, speed and time left; nothing where there is no terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
