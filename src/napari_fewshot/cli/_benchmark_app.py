"""``benchmark``: arguments of the commands."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations
from typing import Annotated

import typer

from napari_fewshot.cli import _options as o  # noqa: TC001 - typer reads it

benchmark_app = typer.Typer(
    help="Score methods on folders of data sets.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@benchmark_app.command("few-shot")
def benchmark_few_shot(
    root: Annotated[Path, typer.Argument(metavar="DATA_ROOT")],
    datasets: Annotated[str, typer.Option(help="Only these: a,b.")] = "",
    shots: Annotated[str, typer.Option(help="Numbers of supports.")] = "1,5",
    seeds: Annotated[int, typer.Option(help="Draws per number.", min=1)] = 3,
    method: Annotated[
        str,
        typer.Option(
            help="Methods: a,b or all. For reference: forest (a pixel classifier) and, "
            "on volumes, copy (the support's mask)."
        ),
    ] = "auto",
    model: Annotated[
        str, typer.Option(help="Models: x,y; each method runs on each of them.")
    ] = "auto",
    protocol: Annotated[
        str,
        typer.Option(
            help="planes: masks. instances: single objects. chaos: volumes in folds."
        ),
    ] = "planes",
    param: Annotated[
        list[str] | None,
        typer.Option("--param", help="name=value, or method.name=value for one."),
    ] = None,
    support_rule: Annotated[
        str, typer.Option(help="Support of a fold (chaos): extra_scan or index_2.")
    ] = "extra_scan",
    episode: Annotated[
        str,
        typer.Option(
            help="chaos: EP1, three support slices and known extent, or EP2, one "
            "support slice for all slices."
        ),
    ] = "EP1",
    limit_volumes: Annotated[
        int | None, typer.Option(help="Queries of each fold at most (chaos).")
    ] = None,
    hd95: Annotated[
        bool, typer.Option("--hd95", help="Surface distance of volumes, too.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the .jsonl file beside --json."),
    ] = False,
    json_path: Annotated[Path | None, typer.Option("--json")] = None,
    csv_path: Annotated[
        Path | None, typer.Option("--csv", help="One row per query.")
    ] = None,
    plot_path: Annotated[
        Path | None, typer.Option("--plot", help="Figures, .png or .svg.")
    ] = None,
) -> None:
    """Score methods by the few-shot protocols, all on the very same episodes."""
    from napari_fewshot.cli._benchmark_fewshot import run_benchmark
    from napari_fewshot.cli._click_options import numbers
    from napari_fewshot.cli._fewshot_options import FewShotOptions
    from napari_fewshot.evaluation import VolumeRules

    options = FewShotOptions(
        methods=_words(method),
        models=_words(model),
        params=param or [],
        datasets=_words(datasets),
        shots=numbers("--shots", shots, int),
        seeds=seeds,
        protocol=protocol,
        rules=VolumeRules(support_rule, episode, limit_volumes),
        hd95=hd95,
        device=device,
        resume=resume,
        json_path=json_path,
        csv_path=csv_path,
        plot_path=plot_path,
    )
    run_benchmark(root, options, echo=lambda line: print(line, flush=True))


@benchmark_app.command("clicks")
def benchmark_clicks(
    root: Annotated[Path, typer.Argument(metavar="DATA_ROOT")],
    datasets: Annotated[str, typer.Option(help="Only these: a,b.")] = "",
    protocol: Annotated[
        str,
        typer.Option(
            help="A: click the thickest error. B: the largest. D: pairs of clicks. "
            "F: scribbles. G: boxes with noise."
        ),
    ] = "B",
    clicks: Annotated[
        str, typer.Option(help="Report after these; default 1,3,5 or 0,1,2,3,5,10.")
    ] = "",
    max_clicks: Annotated[
        int | None, typer.Option(help="Steps at most; default 20 (A), 7 (D), 5 (F).")
    ] = None,
    supports: Annotated[str, typer.Option(help="Accepted images: 0,4,16.")] = "0",
    whole: Annotated[
        bool, typer.Option("--whole", help="Click on everything of a class.")
    ] = False,
    box: Annotated[bool, typer.Option("--box", help="Begin with a box.")] = False,
    seeds: Annotated[int, typer.Option(help="Draws of images.", min=1)] = 1,
    limit: Annotated[
        int | None, typer.Option(help="Objects of each data set at most.")
    ] = None,
    original: Annotated[
        bool, typer.Option("--original", help="Do not resize to 256 pixels.")
    ] = False,
    method: Annotated[
        str, typer.Option(help="A method, or random-walker for the reference.")
    ] = "incontext",
    model: Annotated[str, typer.Option(help="E.g. sam/vit_b.")] = "auto",
    checkpoint: Annotated[Path | None, typer.Option(help="Its weights.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    jitter: Annotated[
        bool, typer.Option("--jitter", help="Click like a person (A and B).")
    ] = False,
    scribble: Annotated[
        str, typer.Option(help="First scribble: centre, line or contour (F).")
    ] = "centre",
    iou: Annotated[
        str, typer.Option(help="IoU to be reached, for clicks needed and failures.")
    ] = "0.8,0.85,0.9",
    dice: Annotated[str, typer.Option(help="Dice to be reached.")] = "0.8,0.9",
    json_path: Annotated[Path | None, typer.Option("--json")] = None,
    csv_path: Annotated[
        Path | None, typer.Option("--csv", help="One row per object and step.")
    ] = None,
    plot_path: Annotated[
        Path | None, typer.Option("--plot", help="Curves, .png or .svg.")
    ] = None,
) -> None:
    """Score masks by simulated users who click, scribble or draw boxes."""
    from napari_fewshot.cli._benchmark_clicks import run_click_benchmark
    from napari_fewshot.cli._click_options import ClickOptions, numbers

    options = ClickOptions(
        datasets=[d for d in datasets.split(",") if d],
        protocol=protocol.upper(),
        clicks=numbers("--clicks", clicks, int),
        max_clicks=max_clicks,
        supports=numbers("--supports", supports, int),
        whole=whole,
        box=box,
        seeds=seeds,
        limit=limit,
        original=original,
        method=method,
        model=model,
        checkpoint=None if checkpoint is None else str(checkpoint),
        device=device,
        jitter=jitter,
        scribble=scribble,
        iou=numbers("--iou", iou, float),
        dice=numbers("--dice", dice, float),
        json_path=json_path,
        csv_path=csv_path,
        plot_path=plot_path,
    )
    run_click_benchmark(root, options, echo=lambda line: print(line, flush=True))


@benchmark_app.command("text")
def benchmark_text(
    root: Annotated[Path, typer.Argument(metavar="DATA_ROOT")],
    datasets: o.Datasets = "",
    method: o.Readers = "text",
    model: o.ReadingModels = "auto",
    checkpoint: o.Checkpoint = None,
    prompts: o.PhraseFile = None,
    prompt_mode: o.PromptMode = "fixed",
    hparams: o.Hparams = "fixed",
    grid: o.Grid = None,
    param: o.MethodParams = None,
    seeds: o.Seeds = 1,
    limit: o.Limit = None,
    original: o.Original = False,
    bounds: o.Bounds = "all",
    box_model: o.BoxModel = "auto",
    box_checkpoint: o.BoxCheckpoint = None,
    maps: o.Maps = True,
    sensitivity: o.Sensitivity = 1,
    device: o.Device = "auto",
    resume: o.Resume = False,
    json_path: o.JsonFile = None,
    csv_path: o.CsvFile = None,
    markdown_path: o.MarkdownFile = None,
) -> None:
    """Score phrases by the MedCLIP-SAMv2 protocol; says which labels were used."""
    from napari_fewshot.cli._benchmark_text import run_text_benchmark
    from napari_fewshot.cli._text_options import BOUNDS, TextOptions

    named = {"all": list(BOUNDS), "none": []}
    options = TextOptions(
        methods=_words(method),
        models=_words(model),
        checkpoint=checkpoint,
        params=param or [],
        grid=grid or [],
        datasets=_words(datasets),
        prompts_path=prompts,
        prompt_mode=prompt_mode,
        hparams=hparams,
        seeds=seeds,
        limit=limit,
        original=original,
        bounds=named.get(bounds, _words(bounds)),
        box_model=box_model,
        box_checkpoint=box_checkpoint,
        maps=maps,
        sensitivity=sensitivity,
        device=device,
        resume=resume,
        json_path=json_path,
        csv_path=csv_path,
        markdown_path=markdown_path,
    )
    run_text_benchmark(root, options, echo=lambda line: print(line, flush=True))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
