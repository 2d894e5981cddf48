"""The record of a run: what, with what, how long."""

from __future__ import annotations

import functools
import platform
from importlib import metadata
from typing import TYPE_CHECKING, Any, Protocol

from napari_fewshot.inference._reading import leading_method
from napari_fewshot.methods import params_to_dict

if TYPE_CHECKING:
    from napari_fewshot.inference._cache import Learnt
    from napari_fewshot.inference._request import SegmentRequest
    from napari_fewshot.methods import CommonParams

VERSIONED = ("napari-fewshot", "numpy", "scikit-image", "scikit-learn", "scipy")


class Fit(Protocol):
    """What a record tells of a fit."""

    learnt: Learnt
    names: dict[int, str]
    model: Any
    digests: list[str]
    notes: list[str]


@functools.cache
def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in VERSIONED}


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide what comes out."""
    # Reading them takes as long as a fifth of a click.
    return dict(_versions())


def provenance_of(
    request: SegmentRequest,
    params: CommonParams,
    fit: Fit,
    fingerprint: str,
    seconds: dict[str, float],
) -> dict[str, Any]:
    """Return a JSON-able record of a run.

    Parameters
    ----------
    request : SegmentRequest
        What was asked.
    params : CommonParams
        Parameters of the method, complete.
    fit : Fit
        What was learnt.
    fingerprint : str
        Of the planes that were segmented.
    seconds : dict of str to float
        Per stage.
    """
    query = request.query
    return {
        **_text_record(request, fit),
        "method": leading_method(request)[0].spec.name,
        "model": None if fit.model is None else fit.model.spec.name,
        "weights_sha256": getattr(fit.model, "sha256", None),
        "choice": fit.learnt.fitted.choice,
        "params": params_to_dict(params),
        "classes": {str(v): n for v, n in fit.names.items()},
        "versions": {
            "python": platform.python_version(),
            **versions(),
        },
        "inputs": {
            "query": {
                "name": query.name,
                "shape": list(query.shape),
                "dtype": str(query.array.dtype),
                "axes": query.axes,
                "channels": list(query.channels),
                "scale": None if query.scale is None else list(query.scale),
                "window": list(query.window),
                "planes": None
                if request.planes is None
                else [int(p) for p in request.planes],
                "fingerprint": fingerprint,
            },
            "supports": [
                {"name": s.name, "planes": [int(p) for p in s.used_planes]}
                for s in request.support
            ],
            "support_fingerprints": fit.digests,
        },
        "seconds": {k: round(v, 4) for k, v in seconds.items()},
        "score_kind": fit.learnt.reliability.kind,
        "device": str(getattr(fit.model, "device", "cpu")),
        "precision": str(getattr(fit.model, "precision", "fp32")),
        "notes": [*getattr(fit.model, "notes", ()), *fit.notes],
        "seed": params.seed,
    }


def _text_record(request: SegmentRequest, fit: Fit) -> dict[str, Any]:
    """Return what was read, and by whom; nothing without text."""
    if not request.text:
        return {}
    reading = request.reading
    model = getattr(fit.learnt.fitted, "text_model", None) or fit.model
    return {
        "text": {
            "phrases": {
                str(value): {
                    "phrases": list(text.phrases),
                    "synonyms": list(text.synonyms),
                    "negatives": list(text.negatives),
                    "attributes": list(text.attributes),
                    "modality": text.modality,
                }
                for value, text in request.text.items()
            },
            "method": reading.method,
            "model": None if model is None else model.spec.name,
            "weights_sha256": getattr(model, "sha256", None),
            "params": dict(reading.params),
            "share": reading.share,
        }
    }
