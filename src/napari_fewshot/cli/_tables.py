"""Tables of methods and models."""

from __future__ import annotations

import shutil
import sys
from dataclasses import fields
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from napari_fewshot.io import installed_model
from napari_fewshot.methods import default_of, get_method, method_names
from napari_fewshot.models import (
    automatic,
    get_model_spec,
    how_to_get,
    installed_models,
    model_specs,
)

if TYPE_CHECKING:
    from napari_fewshot.models import ModelSpec


def show_methods(details: bool, name: str | None = None) -> None:
    """Print the methods, or one of them with its parameters.

    Parameters
    ----------
    details : bool
        Show the parameters of all of them.
    name : str, optional
        Of the only one that is wanted.

    Raises
    ------
    ModelError
        If there is no such method.
    """
    console = Console()
    if name is not None:
        print(get_method(name).spec.summary)
        _show_method(console, name)
        return
    table = Table("name", "what it does", "model", box=None, pad_edge=False)
    for each in method_names():
        spec = get_method(each).spec
        table.add_row(each, spec.summary, "yes" if spec.uses_model else "")
    console.print(table)
    if not details:
        console.print(
            "\nmethods NAME lists the parameters of one (--param name=value), "
            "--details those of all."
        )
        return
    for each in method_names():
        _show_method(console, each)


def _show_method(console: Console, name: str) -> None:
    """Print the parameters of a method."""
    spec = get_method(name).spec
    console.print(f"\n[bold]{name}[/bold]  {spec.citation}")
    rows = Table("parameter", "default", "meaning", box=None, pad_edge=False)
    for f in fields(spec.params):
        unit = f" ({f.metadata['unit']})" if f.metadata["unit"] else ""
        rows.add_row(f.name, str(default_of(f)), f.metadata["help"] + unit)
    console.print(rows)


def show_models(only_installed: bool = False) -> None:
    """Print the models.

    Parameters
    ----------
    only_installed : bool
        Leave out those whose weights are not here.
    """
    here = installed_models()
    # One line each: cut at the edge of a terminal, whole in a pipe.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    row = "{:30s} {:9s} {:>8s}  {:16s} {}"
    print(row.format("name", "state", "size", "licence", "what it is")[:width])
    for spec in model_specs():
        if only_installed and spec.name not in here:
            continue
        state = "installed" if spec.needs_download else "bundled"
        print(
            row.format(
                spec.name,
                state if spec.name in here else "-",
                _size_here(spec),
                spec.licence.split(" (")[0],
                spec.summary,
            )[:width]
        )


def _size_here(spec: ModelSpec) -> str:
    """Return the size of the installed files, or else that of the catalogue."""
    record = installed_model(spec.name) if spec.needs_download else None
    return size_text(spec) if record is None else f"{record.size / 1e6:.1f} MB"


def size_text(spec: ModelSpec) -> str:
    """Return the size of a model's weights as published, in words."""
    if spec.size_mb:
        return f"{spec.size_mb:g} MB"
    return "unknown" if spec.needs_download else "none"


def show_model(name: str) -> None:
    """Print all facts about a model, and how to get it if it is not here."""
    spec = get_model_spec(name)
    for f in fields(spec):
        print(f"{f.name:15s} {getattr(spec, f.name)}")
    device, precision = automatic(spec.name)
    print(f"{'computes here':15s} {device}, {precision}")
    record = installed_model(spec.name) if spec.needs_download else None
    if record is not None:
        print(f"{'installed':15s} {record.installed} ({record.source})")
        print(f"{'agreed':15s} {record.agreed}")
        for file, facts in record.files.items():
            print(f"{'pinned':15s} {file} {facts.sha256}")
    elif spec.needs_download:
        print(f"\nNot installed. {how_to_get(spec)}")
