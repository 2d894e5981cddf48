"""`ModelSpec`: models are data."""

from __future__ import annotations

from dataclasses import dataclass


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
        Of the weights file; "" when there is none.
    citation : str
    url : str
        Page that offers the weights; "" when there is nothing to fetch.
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
