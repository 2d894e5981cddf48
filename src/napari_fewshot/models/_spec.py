"""`ModelSpec`: models are data."""

from __future__ import annotations

from dataclasses import dataclass

# The task of models that answer to clicks and boxes by themselves.
PROMPTABLE = "prompted segmentation"


@dataclass(frozen=True)
class ModelSpec:
    """Facts about a model.

    Attributes
    ----------
    name : str
        What users type, e.g. ``"filters"``.
    task : str
        ``"embedding"``, ``"in-context segmentation"`` or ``"prompted segmentation"``.
    summary : str
        One sentence in plain words.
    licence : str
        Licence of the weights.
    size_mb : float
        Size of the weights file in megabytes; 0 when there is none.
    needs_download : bool
        Whether weights must be fetched first.
    trained_on : str
        What the weights have seen.
    sha256 : str
        Of the weights file; "" when there is none or its publisher names none: then
        the file is pinned when it is installed for the first time.
    citation : str
    url : str
        Page that offers the weights; "" when there is nothing to fetch.
    file : str
        Name under which the weights are published; "" when there is none.
    download_url : str
        Of the file itself; "" when the page must be visited (a form, a cloud folder).
    benchmark_data : str
        In words, whether ``trained_on`` includes public data on which models are
        often compared, such as `napari_fewshot.evaluation` reads.
    notes : str
        What to know before use, e.g. limits that the licence sets.
    base : str
        Name of the model on whose weights these are built; "" when they are complete.
    text : str
        How it reads phrases: ``"clip"`` compares them with features, ``"heat"`` makes
        a map, ``"boxes"`` finds boxes, ``"concept"`` finds every object; "" when it
        does not.
    """

    name: str
    task: str
    summary: str
    licence: str
    size_mb: float = 0.0
    needs_download: bool = False
    trained_on: str = "nothing (fixed filters)"
    sha256: str = ""
    citation: str = ""
    url: str = ""
    file: str = ""
    download_url: str = ""
    benchmark_data: str = "no"
    notes: str = ""
    base: str = ""
    text: str = ""
