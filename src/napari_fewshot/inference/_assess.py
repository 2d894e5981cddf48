"""How good a method is expected to be, from the supports alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_fewshot.inference._provenance import provenance_of
from napari_fewshot.inference._reading import leading_method, learn_evidence

if TYPE_CHECKING:
    from napari_fewshot.data import Hooks
    from napari_fewshot.inference._cache import FitCache
    from napari_fewshot.inference._learn import Fit
    from napari_fewshot.inference._request import SegmentRequest
    from napari_fewshot.methods import Reliability


def assess(
    request: SegmentRequest, hooks: Hooks, cache: FitCache | None = None
) -> tuple[Reliability, dict[str, Any]]:
    """Learn from the supports of a request and segment nothing.

    Parameters
    ----------
    request : SegmentRequest
        Its query is only named in the record.
    hooks : Hooks
        Progress and cancelling.
    cache : FitCache, optional
        As for `run`.

    Returns
    -------
    reliability : Reliability
        Leave-one-out Dice.
    provenance : dict
        As of a run.

    Raises
    ------
    FewShotError
        If nothing can be learnt.
    TypeError, ValueError
        For unknown parameters or values outside their limits.
    """
    fit, provenance = learn_only(request, hooks, cache)
    return fit.learnt.reliability, provenance


def learn_only(
    request: SegmentRequest, hooks: Hooks, cache: FitCache | None = None
) -> tuple[Fit, dict[str, Any]]:
    """Return what the supports taught, and the record of that; see `assess`."""
    seconds: dict[str, float] = {}
    _, params = leading_method(request)
    if not request.text:
        request.support.check()
    fit = learn_evidence(request, hooks, cache, seconds)
    return fit, provenance_of(request, params, fit, "", seconds)
