"""Options that several commands share, with their words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Queries = Annotated[
    list[str] | None, typer.Argument(metavar="QUERY...", show_default=False)
]
Pairs = Annotated[
    list[str] | None,
    typer.Option(
        "--support",
        metavar="IMAGE MASK",
        help="An example; repeatable. With --ignore LABEL beside it: the number that "
        "masks hold where nobody knows.",
    ),
]
Project = Annotated[
    Path | None, typer.Option(help="Take supports and classes from a project.")
]
ConceptFile = Annotated[
    Path | None, typer.Option(help="Supports, method and model of a .fewshot file.")
]
Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Method = Annotated[str | None, typer.Option(help="See: methods; or auto.")]
Model = Annotated[str | None, typer.Option(help="See: models list; or auto.")]
Axes = Annotated[str | None, typer.Option(help="E.g. zyx, tyxc.")]
Scale = Annotated[str | None, typer.Option(help="Pixel size z,y,x.")]
Channels = Annotated[str | None, typer.Option(help="E.g. 0,2.")]
Classes = Annotated[
    list[str] | None, typer.Option("--class", help="Name of a class, 1=nucleus.")
]
Params = Annotated[
    list[str] | None, typer.Option("--param", help="Parameter, name=value.")
]
Text = Annotated[
    list[str] | None,
    typer.Option(
        "--text",
        help="What to look for: nucleus, or 1='name: phrase | synonym | not that'.",
    ),
]
TextMethod = Annotated[
    str | None, typer.Option(help="Reads the text, beside --method; see: methods.")
]
TextModel = Annotated[
    str | None, typer.Option(help="Reads the text: a name, or a file of weights.")
]
TextShare = Annotated[
    str, typer.Option(help="Text beside supports: learnt, equal, gate or alone.")
]
Modality = Annotated[
    str | None, typer.Option(help="How the images were made: 'chest X-ray'.")
]
Prompts = Annotated[Path | None, typer.Option(help="JSON of prompts per class.")]
Checkpoint = Annotated[
    Path | None, typer.Option(help="Weights of your own: a file or folder.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
RegionOf = Annotated[
    str | None,
    typer.Option("--region", help="Only rows and columns y0,x0,y1,x1 of every plane."),
]
Inside = Annotated[
    Path | None, typer.Option(help="Only where this mask is not 0: a labels file.")
]
Scheduler = Annotated[str | None, typer.Option(help="tcp://host:port")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Do finished images again.")
]

Jobs = Annotated[
    Path | None, typer.Option(help="CSV or JSON: a row per image, see the docs.")
]
Format = Annotated[
    str | None,
    typer.Option("--format", help="tif, png, nii, ome-zarr, coco or geojson."),
]
Measure = Annotated[
    bool, typer.Option("--measure", help="Write tables of objects, too.")
]
Workers = Annotated[
    int, typer.Option(help="Images at once, each in a process of its own.", min=1)
]

Level = Annotated[str, typer.Option(help="Of multiscale images; 0 is the finest.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only tell how long it would take.")
]

# Of ``benchmark text``.
Datasets = Annotated[str, typer.Option(help="Only these: a,b.")]
Readers = Annotated[str, typer.Option(help="Methods that read text: a,b or all.")]
ReadingModels = Annotated[
    str, typer.Option(help="Models that read text: x,y; each method on its own.")
]
PhraseFile = Annotated[
    Path | None,
    typer.Option(
        help="JSON: phrases by class, by data set and class, or by image. Default: "
        "text_prompts of dataset.json."
    ),
]
PromptMode = Annotated[
    str,
    typer.Option(
        help="name: of the class. template: the same in sentences. fixed: the "
        "first phrase. ensemble, user: all. oracle: one per image (knows labels)."
    ),
]
Hparams = Annotated[
    str,
    typer.Option(
        help="fixed, or chosen on labelled images: val3 (three), val-full (all)."
    ),
]
Grid = Annotated[
    list[str] | None,
    typer.Option("--grid", help="Settings to choose from: name=a,b,c."),
]
MethodParams = Annotated[
    list[str] | None,
    typer.Option("--param", help="name=value, or method.name=value for one."),
]
Seeds = Annotated[int, typer.Option(help="Random phrases per image.", min=1)]
Limit = Annotated[int | None, typer.Option(help="Images of each class.", min=1)]
Original = Annotated[
    bool, typer.Option("--original", help="Do not resize to 256 pixels.")
]
Bounds = Annotated[
    str,
    typer.Option(
        help="Of random-phrase, oracle-box, oracle-boxes, whole-box, centre-box; "
        "or all, or none."
    ),
]
BoxModel = Annotated[str, typer.Option(help="Who answers the boxes, e.g. sam/vit_b.")]
BoxCheckpoint = Annotated[Path | None, typer.Option(help="Its weights.")]
Maps = Annotated[bool, typer.Option(help="Score heat maps, too.")]
Sensitivity = Annotated[
    int, typer.Option(help="Images of each class to try nonsense on; 0: none.", min=0)
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the .jsonl file beside --json.")
]
JsonFile = Annotated[Path | None, typer.Option("--json")]
CsvFile = Annotated[Path | None, typer.Option("--csv", help="One row per image.")]
MarkdownFile = Annotated[
    Path | None, typer.Option("--markdown", help="The table to be read.")
]
