"""Arguments, exit codes, and errors as one sentence on standard error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_fewshot.cli import _options as o  # noqa: TC001 - typer reads it
from napari_fewshot.cli._adapt_text import adapt_text_app
from napari_fewshot.cli._benchmark_app import benchmark_app
from napari_fewshot.cli._check import check_command
from napari_fewshot.cli._cluster import cluster_app
from napari_fewshot.cli._concept import concept_app
from napari_fewshot.cli._contrast import compare_command
from napari_fewshot.cli._convert import convert_command
from napari_fewshot.cli._encode import encode
from napari_fewshot.cli._everything import everything
from napari_fewshot.cli._explain import explain_command
from napari_fewshot.cli._models import models_app
from napari_fewshot.cli._pairs import joined
from napari_fewshot.cli._propagate import propagate_command
from napari_fewshot.cli._where import where_command
from napari_fewshot.errors import FewShotError

if TYPE_CHECKING:
    from collections.abc import Sequence

OK, FAILED, USAGE, SOME_FAILED, INTERRUPTED = 0, 1, 2, 3, 130

app = typer.Typer(
    name="napari-fewshot",
    help="Annotate a few. Get the rest.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(models_app, name="models")
app.add_typer(benchmark_app, name="benchmark")
app.add_typer(concept_app, name="concept")
app.add_typer(cluster_app, name="cluster")
app.add_typer(adapt_text_app, name="adapt-text")
app.command()(encode)
app.command()(everything)
app.command("convert")(convert_command)
app.command("propagate")(propagate_command)
app.command("compare")(compare_command)
app.command("check")(check_command)
app.command("explain")(explain_command)
app.command("where")(where_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default: those of the process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    is_debug = "--debug" in words
    try:
        words = joined([w for w in words if w != "--debug"])
        code = app(args=words, prog_name="napari-fewshot", standalone_mode=False)
    except typer.Exit as stop:
        raise SystemExit(stop.exit_code) from None
    except (KeyboardInterrupt, typer.Abort):
        _say("Interrupted. What was finished is kept.")
        raise SystemExit(INTERRUPTED) from None
    except (FewShotError, TypeError, ValueError) as error:
        if is_debug:
            raise
        _say(str(error))
        is_usage = isinstance(error, TypeError) and not isinstance(error, FewShotError)
        raise SystemExit(USAGE if is_usage else FAILED) from None
    except Exception as error:
        # The last boundary: click's own usage errors know how to show themselves.
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            error.show()
            raise SystemExit(error.exit_code) from None
        if is_debug:
            raise
        _say(f"Something unexpected went wrong: {error}. --debug shows the details.")
        raise SystemExit(FAILED) from None
    raise SystemExit(code if isinstance(code, int) else OK)


def _say(message: str) -> None:
    print(f"napari-fewshot: {message}", file=sys.stderr)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("napari-fewshot"))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Annotate a few. Get the rest. --debug shows tracebacks."""


@app.command()
def demo(
    headless: Annotated[
        bool, typer.Option("--headless", help="Write files and close the window.")
    ] = False,
    out: Annotated[
        Path, typer.Option(help="Folder for labels, pictures and figures.")
    ] = Path("demo-output"),
    sample: Annotated[str, typer.Option(help="Which sample data.")] = "nuclei_fluo",
) -> None:
    """Run the main job on sample images in a napari window."""
    words = [sys.executable, "-m", "napari_fewshot.viewer.demo"]
    words += ["--out", str(out), "--sample", sample]
    words += ["--headless"] if headless else []
    raise typer.Exit(subprocess.run(words, check=False).returncode)


@app.command()
def methods(
    name: Annotated[
        str | None, typer.Argument(help="Show only this one, with its parameters.")
    ] = None,
    details: Annotated[
        bool, typer.Option("--details", help="Show all parameters.")
    ] = False,
) -> None:
    """List the methods."""
    from napari_fewshot.cli._tables import show_methods

    show_methods(details, name)


@app.command()
def segment(
    queries: o.Queries = None,
    support: o.Pairs = None,
    project: o.Project = None,
    concept: o.ConceptFile = None,
    out: o.Out = Path("results"),
    method: o.Method = None,
    model: o.Model = None,
    axes: o.Axes = None,
    scale: o.Scale = None,
    channels: o.Channels = None,
    classes: o.Classes = None,
    param: o.Params = None,
    text: o.Text = None,
    text_method: o.TextMethod = None,
    text_model: o.TextModel = None,
    text_share: o.TextShare = "learnt",
    modality: o.Modality = None,
    prompts: o.Prompts = None,
    checkpoint: o.Checkpoint = None,
    device: o.Device = "auto",
    scheduler: o.Scheduler = None,
    overwrite: o.Overwrite = False,
    region: o.RegionOf = None,
    inside: o.Inside = None,
    jobs: o.Jobs = None,
    output_format: o.Format = None,
    measure: o.Measure = False,
    workers: o.Workers = 1,
    level: o.Level = "auto",
    dry_run: o.DryRun = False,
) -> None:
    """Segment files, folders or globs by examples, phrases or prompts."""
    from napari_fewshot.cli._segment import BatchOptions, run_batch

    # typer's lists know one value per flag: `main` has joined the two.
    pairs = [tuple(item.split("\0", 1)) for item in support or []]
    code = run_batch(
        queries or [],
        BatchOptions(
            supports=[(a, b) for a, b in pairs],
            project=project,
            out=out,
            method=method,
            model=model,
            axes=axes,
            scale=scale,
            channels=channels,
            classes=classes or [],
            params=param or [],
            text=text or [],
            prompts=prompts,
            checkpoint=checkpoint,
            device=device,
            executor=scheduler or "inline",
            overwrite=overwrite,
            concept=concept,
            text_method=text_method,
            text_model=text_model,
            text_share=text_share,
            modality=modality,
            jobs=jobs,
            format=output_format,
            measure=measure,
            workers=workers,
            level=level,
            dry_run=dry_run,
            region=region,
            inside=inside,
        ),
    )
    raise typer.Exit(code)


@app.command()
def evaluate(
    predicted: Annotated[Path, typer.Argument(help="File or folder of labels.")],
    truth: Annotated[Path, typer.Argument(help="File or folder of true masks.")],
    scale: Annotated[str | None, typer.Option(help="Pixel size z,y,x.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json")] = None,
    html_path: Annotated[Path | None, typer.Option("--html")] = None,
) -> None:
    """Compare labels with truth, file by file."""
    from napari_fewshot.cli._compare import compare

    raise typer.Exit(compare(predicted, truth, scale, json_path, html_path))


@app.command()
def clean(
    everything: Annotated[
        bool, typer.Option("--all", help="Remove projects and logs, too.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """List what is kept on this machine, and remove it."""
    from napari_fewshot.cli._clean import clean_folders

    clean_folders(everything=everything, yes=yes)
