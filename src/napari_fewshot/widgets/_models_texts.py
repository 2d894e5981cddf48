"""What the dock *Models* says about a model."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from napari_fewshot.models import how_to_get

if TYPE_CHECKING:
    from napari_fewshot.io import InstalledModel
    from napari_fewshot.models import ModelSpec

# Words that fit a column.
TASKS = {
    "prompted segmentation": "prompts",
    "in-context segmentation": "examples",
    "embedding": "features",
    "text search": "phrases",
}


def size_words(spec: ModelSpec) -> str:
    """Return the size of the weights, short."""
    if spec.size_mb >= 1000:
        return f"{spec.size_mb / 1000:.1f} GB"
    if spec.size_mb:
        return f"{spec.size_mb:.0f} MB"
    return "?" if spec.needs_download else "none"


def state_words(spec: ModelSpec, record: InstalledModel | None) -> str:
    """Return whether a model is here."""
    if not spec.needs_download:
        return "bundled"
    return "" if record is None else "installed"


def link(address: str, text: str = "") -> str:
    """Return a link as rich text."""
    return f'<a href="{html.escape(address)}">{html.escape(text or address)}</a>'


def details(spec: ModelSpec, record: InstalledModel | None) -> str:
    """Return all facts about a model as rich text."""
    rows = [("Licence", html.escape(spec.licence)), ("Size", size_words(spec))]
    if spec.url:
        rows.append(("Source", link(spec.url)))
    rows += [
        ("Trained on", html.escape(spec.trained_on)),
        ("Benchmark data", html.escape(spec.benchmark_data)),
        ("Citation", html.escape(spec.citation)),
    ]
    if spec.notes:
        rows.append(("Note", html.escape(spec.notes)))
    if spec.base:
        rows.append(("Builds on", html.escape(spec.base)))
    if record is not None:
        when = record.installed.replace("T", " ")[:16]
        rows.append(("Installed", f"{when} UTC, {record.size / 1e6:.1f} MB"))
    elif spec.needs_download and not spec.download_url:
        page = link(spec.url, "its page")
        what = html.escape(spec.file or "the weights")
        rows.append(("To install", f"Get {what} from {page}, then Import file..."))
    head = f"<b>{html.escape(spec.name)}</b><br>{html.escape(spec.summary)}"
    return head + "".join(f"<br><b>{key}:</b> {value}" for key, value in rows)


def terms(spec: ModelSpec) -> str:
    """Return what has to be agreed to before a download, as rich text."""
    text = (
        f"<b>{html.escape(spec.name)}</b> ({size_words(spec)}) is published under the "
        f"licence <b>{html.escape(spec.licence)}</b>.<br>Read it at {link(spec.url)}."
    )
    if spec.notes:
        text += f"<br><br>{html.escape(spec.notes)}"
    return text


def download_tip(spec: ModelSpec) -> str:
    """Return the tooltip of the button that downloads."""
    if not spec.needs_download:
        return "This model comes with the package."
    if not spec.download_url:
        return f"There is no direct download. {how_to_get(spec)}"
    return f"Fetch {size_words(spec)} after you have agreed to the licence."
