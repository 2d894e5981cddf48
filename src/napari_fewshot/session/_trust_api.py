"""`check_supports` and `explain`: the questions of `Trust` in one call."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_fewshot.errors import SupportError
from napari_fewshot.inference import PlaneResult, SegmentRequest, Summary
from napari_fewshot.io import open_image
from napari_fewshot.methods import get_method, make_params
from napari_fewshot.session._api import run_to_end
from napari_fewshot.session._asked import paths_of, resolve_supports
from napari_fewshot.session._concepts import as_concept, fill_in
from napari_fewshot.session._jobs import get_executor

if TYPE_CHECKING:
    import pandas as pd

    from napari_fewshot.inference import Evidence

ALL = "all"


def check_supports(
    support: Any,
    method: str | None = None,
    model: str | None = None,
    query: Any = None,
    *,
    scale: Any = None,
    axes: str | None = None,
    channels: Any = None,
    device: str = "auto",
    checkpoint: Any = None,
    executor: Any = "inline",
    **params: Any,
) -> pd.DataFrame:
    """Say what to expect of a few annotated images, before anything is segmented.

    Each is segmented with what the others teach (leave-one-out). A single one is
    compared with altered copies of itself, which tells less.

    Parameters
    ----------
    support : Support, SupportSet, (image, labels), a list of them, or a concept
        The annotated examples.
    method, model : str
        See `list_methods` and `list_models`; default ``"auto"``.
    query : array, path or layer, optional
        What is to be segmented: supports are brought to its pixel size first.
    scale, axes, channels
        Of the query; see `segment`.
    device, checkpoint, executor, **params
        As for `segment`.

    Returns
    -------
    pandas.DataFrame
        Columns ``support, class, name, dice, low, high, redundant``. A row per support
        and class with the Dice that the others reach on it, and whether the support
        teaches nothing new; then a row per class whose support is ``"all"``: the Dice
        to expect, ``low`` and ``high`` of its 80 % interval. ``.attrs["choice"]`` says
        what the method chose, ``.attrs["notes"]`` what was done to the supports.

    Raises
    ------
    SupportError, DataError, ModelError, WeightsError
        All are `FewShotError`; the message says what to do next.
    TypeError, ValueError
        For unknown parameters or values outside their limits.
    """
    options = {"device": device, "checkpoint": checkpoint}
    request = _request(support, method, model, params, "check", options)
    if query is not None:
        image = open_image(query, axes=axes, scale=scale, channels=channels)
        request = replace(request, query=image)
    summary, _ = _run(request, executor)
    return table_of(summary)


def explain(
    query: Any,
    support: Any,
    method: str | None = None,
    model: str | None = None,
    plane: int = 0,
    *,
    scale: Any = None,
    axes: str | None = None,
    channels: Any = None,
    device: str = "auto",
    checkpoint: Any = None,
    executor: Any = "inline",
    **params: Any,
) -> dict[int, Evidence]:
    """Return every intermediate of a method on one plane of a query.

    Parameters
    ----------
    query : array, path or layer
        What would be segmented.
    support : Support, SupportSet, (image, labels), a list of them, or a concept
        The annotated examples.
    method, model : str
        See `list_methods` and `list_models`; default ``"auto"``.
    plane : int
        Which plane of a stack, counted from 0 over all leading axes.
    scale, axes, channels, device, checkpoint, executor, **params
        As for `segment`.

    Returns
    -------
    dict of int to Evidence
        Per class: ``.maps`` (H, W), always with probability and uncertainty,
        ``.prompts``, ``.candidates`` and their ``.scores``.

    Raises
    ------
    SupportError, DataError, ModelError, WeightsError
        All are `FewShotError`; the message says what to do next.
    TypeError, ValueError
        For unknown parameters or values outside their limits.
    """
    options = {"device": device, "checkpoint": checkpoint}
    request = _request(support, method, model, params, "explain", options)
    image = open_image(query, axes=axes, scale=scale, channels=channels)
    request = replace(request, query=image, planes=(int(plane),))
    _, results = _run(request, executor)
    return dict(results[0].evidence)


def table_of(summary: Summary) -> pd.DataFrame:
    """Return what a check found as a table; see `check_supports`."""
    import pandas as pd

    nothing = float("nan")
    rows: list[tuple[Any, ...]] = []
    for name, scores in summary.support_scores.items():
        is_redundant = name in summary.redundant
        for value, dice in scores.items():
            label = summary.classes.get(value, str(value))
            rows.append((name, value, label, dice, nothing, nothing, is_redundant))
    for value, dice in summary.scores.items():
        label = summary.classes.get(value, str(value))
        low, high = summary.score_intervals.get(value, (nothing, nothing))
        rows.append((ALL, value, label, dice, low, high, False))
    columns = ["support", "class", "name", "dice", "low", "high", "redundant"]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs["choice"] = summary.choice
    table.attrs["notes"] = list(summary.provenance.get("notes", ()))
    return table


def _request(
    support: Any,
    method: str | None,
    model: str | None,
    params: dict[str, Any],
    task: str,
    options: dict[str, Any],
) -> SegmentRequest:
    """Return a request whose query is the first support."""
    concept = as_concept(support)
    if concept is not None:
        support = concept.support
        method, model, params = fill_in(concept, method, model, params)
    method, model = method or "auto", model or "auto"
    make_params(get_method(method).spec.params, params)
    supports = resolve_supports(support)
    if not len(supports):
        raise SupportError("There is no support. Give at least one annotated image.")
    return SegmentRequest(
        query=supports[0].source,
        support=supports,
        method=method,
        model=model,
        params=params,
        classes={} if concept is None else concept.classes,
        device=options["device"],
        checkpoint=paths_of(options["checkpoint"]),
        task=task,
    )


def _run(request: SegmentRequest, executor: Any) -> tuple[Summary, list[PlaneResult]]:
    """Run a task to its end."""
    results: list[PlaneResult] = []
    return run_to_end(request, get_executor(executor), results.append), results
