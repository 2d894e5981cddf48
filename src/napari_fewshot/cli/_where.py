"""``where``: heat maps of phrases, and whether the model understands them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from napari_fewshot.cli import _options as o  # noqa: TC001 - typer reads it


def where_command(
    query: Annotated[Path, typer.Argument(metavar="QUERY", help="An image or stack.")],
    text: Annotated[
        list[str],
        typer.Option("--text", help="What to look for; as for segment."),
    ],
    plane: Annotated[int, typer.Option(help="Plane of a stack, from 0.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the maps.")] = Path("results"),
    rank: Annotated[
        bool,
        typer.Option("--rank", help="Say which phrase, each a --text, works best."),
    ] = False,
    mask: Annotated[
        Path | None, typer.Option(help="With --rank: mask of what is meant.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="One that reads text.")] = None,
    model: Annotated[str | None, typer.Option(help="One that reads text.")] = None,
    modality: o.Modality = None,
    param: o.Params = None,
    axes: o.Axes = None,
    channels: o.Channels = None,
    checkpoint: o.Checkpoint = None,
    device: o.Device = "auto",
) -> None:
    """Show where phrases fit on a plane, as TIFF, and say if they are understood."""
    from napari_fewshot.cli._explain import write_evidence
    from napari_fewshot.cli._given import parse_words
    from napari_fewshot.cli._phrases import parse_text
    from napari_fewshot.io import open_image
    from napari_fewshot.session import check_text, rank_phrases
    from napari_fewshot.session import where as look

    picked = None if channels is None else [int(c) for c in channels.split(",")]
    image = open_image(query, axes=axes, channels=picked)
    how: dict[str, Any] = {
        "method": method,
        "model": model,
        "plane": plane,
        "checkpoint": checkpoint,
        "device": device,
        **parse_words(method or "text", param or []),
    }
    if rank:
        for _, row in rank_phrases(image, text, mask, **how).iterrows():
            print(f"{row['score']:6.3f}  {row['phrase']}  ({row['kind']})")
        return
    phrases = parse_text(text, modality)
    found = look(image, phrases, **how)
    number = plane if image.n_planes > 1 else None
    for path in write_evidence(out, query, found, number):
        print(path)
    for _, row in check_text(image, phrases, **how).iterrows():
        print(f"{row['phrase']}: {row['verdict']} {_figures(row)}")


def _figures(row: Any) -> str:
    """Return how alike the maps are, where it is known."""
    names = {"nonsense_r": "nonsense", "empty_r": "no phrase", "other_r": "others"}
    told = [f"{n} {row[k]:.2f}" for k, n in names.items() if row[k] == row[k]]
    return f"(map correlates with: {', '.join(told)})" if told else ""
