"""A session as a program: what the user did, to be repeated."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from napari_fewshot.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from napari_fewshot.session._state import Document

PYTHON = """\
import napari_fewshot as nf

# Supports, classes, query and parameters as they were saved.
session = nf.Session.load({project!r}, autosave=False)
session.set_method({method!r}, {model!r}, params={params!r})
prediction = session.segment(wait=True)
print(prediction.choice, prediction.scores)
labels = prediction.labels
"""


def write_script(kind: str, document: Document, project: Path) -> str:
    """Return a program.

    Parameters
    ----------
    kind : str
        ``"python"`` or ``"cli"``.
    document : Document
        What to repeat.
    project : Path
        Folder in which it was saved.

    Raises
    ------
    ModelError
        For another kind.
    """
    if kind == "python":
        return PYTHON.format(
            project=str(project),
            method=document.method,
            model=document.model,
            params=dict(document.params),
        )
    if kind != "cli":
        raise ModelError(f"There is no script of kind {kind!r}; use 'python' or 'cli'.")
    words = ["napari-fewshot", "segment"]
    if document.query_source is not None:
        words.append(document.query_source)
    words += ["--project", str(project), "--method", document.method]
    words += ["--model", document.model]
    if document.checkpoint is not None:
        words += ["--checkpoint", document.checkpoint]
    for name, value in document.params.items():
        words += ["--param", f"{name}={value}"]
    return shlex.join([*words, "--out", "results"]) + "\n"
