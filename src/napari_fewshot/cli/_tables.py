"""Tables of methods and models."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from rich.console import Console
from rich.table import Table

from napari_fewshot.errors import ModelError
from napari_fewshot.methods import default_of, get_method, method_names
from napari_fewshot.models import get_model_spec, load_model, model_specs


def show_methods(details: bool) -> None:
    """Print the methods, with all parameters if wanted."""
    console = Console()
    table = Table("name", "what it does", "model", box=None, pad_edge=False)
    for name in method_names():
        spec = get_method(name).spec
        table.add_row(name, spec.summary, "yes" if spec.uses_model else "")
    console.print(table)
    if not details:
        console.print("\n--details lists the parameters (--param name=value).")
        return
    for name in method_names():
        spec = get_method(name).spec
        console.print(f"\n[bold]{name}[/bold]  {spec.citation}")
        rows = Table("parameter", "default", "meaning", box=None, pad_edge=False)
        for f in fields(spec.params):
            unit = f" ({f.metadata['unit']})" if f.metadata["unit"] else ""
            rows.add_row(f.name, str(default_of(f)), f.metadata["help"] + unit)
        console.print(rows)


def show_models() -> None:
    """Print the models."""
    table = Table("name", "what it is", "licence", "size", box=None, pad_edge=False)
    table.add_column("weights")
    for spec in model_specs():
        size = f"{spec.size_mb:g} MB" if spec.size_mb else "none"
        weights = "your file (--checkpoint)" if spec.needs_download else "here"
        table.add_row(spec.name, spec.summary, spec.licence, size, weights)
    Console().print(table)


def show_model(name: str) -> None:
    """Print all facts about a model."""
    spec = get_model_spec(name)
    for f in fields(spec):
        print(f"{f.name:15s} {getattr(spec, f.name)}")


def verify_models() -> None:
    """Load every model that is present and encode a small image with it.

    Raises
    ------
    ModelError
        If a model gives something that is not finite.
    """
    image = np.random.default_rng(0).random((64, 64, 3)).astype(np.float32)
    for spec in model_specs():
        if spec.needs_download:
            continue
        embedding = load_model(spec.name).encode(image)
        if not np.isfinite(embedding.array).all():
            raise ModelError(
                f"The model {spec.name!r} gave values that are not finite."
            )
        print(f"{spec.name}: works, embedding {embedding.array.shape}")
