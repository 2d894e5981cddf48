"""`where`, `check_text`, `rank_phrases`: what a model makes of phrases."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_fewshot.data import SupportSet
from napari_fewshot.errors import DataError, PromptError
from napari_fewshot.inference import PlaneResult, SegmentRequest
from napari_fewshot.io import open_image
from napari_fewshot.session._api import run_to_end
from napari_fewshot.session._jobs import get_executor
from napari_fewshot.session._reading import normalise_text, sides

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from napari_fewshot.inference import Evidence


def where(
    query: Any,
    text: Any,
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
    """Return heat maps of phrases on one plane; no masks are drawn.

    Parameters
    ----------
    query : array, path or layer
        Where to look.
    text : str, TextPrompt, or dict of int to these
        What to look for; see `segment`.
    method, model : str
        One that reads text; default the one that suits the model, the best model.
    plane : int
        Which plane of a stack, counted from 0 over all leading axes.
    scale, axes, channels, device, checkpoint, executor, **params
        As for `segment`.

    Returns
    -------
    dict of int to Evidence
        Per class: ``.maps["heat map"]`` (H, W) in [0, 1]; 0.5 is where it would be cut.

    Raises
    ------
    PromptError, DataError, ModelError, WeightsError
        All are `FewShotError`; the message says what to do next.
    TypeError, ValueError
        For unknown parameters or values outside their limits.
    """
    how = {"checkpoint": checkpoint, "device": device, "plane": plane}
    image = open_image(query, axes=axes, scale=scale, channels=channels)
    request = _request(image, text, method, model, params, how, "where")
    return dict(_first(request, executor).evidence)


def check_text(
    query: Any,
    text: Any,
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
) -> pd.DataFrame:
    """Say whether a model understands the phrases on a plane.

    The map of each phrase is compared with those of letters without meaning, of no
    phrase and of its opposite or the other classes: they must differ.

    Parameters
    ----------
    query, text, method, model, plane, scale, axes, channels, device, checkpoint, \
executor, **params
        As for `where`.

    Returns
    -------
    pandas.DataFrame
        Columns ``class, phrase, nonsense_r, empty_r, other_r, gap, verdict``:
        correlations of maps, and by how much the plane fits the phrase better than
        nonsense. The verdict is "understood", "not understood" or "unsure".

    Raises
    ------
    PromptError, DataError, ModelError, WeightsError
        All are `FewShotError`; the message says what to do next.
    TypeError, ValueError
        For unknown parameters or values outside their limits.
    """
    import pandas as pd

    how = {"checkpoint": checkpoint, "device": device, "plane": plane}
    image = open_image(query, axes=axes, scale=scale, channels=channels)
    request = _request(image, text, method, model, params, how, "check-text")
    summary = run_to_end(request, get_executor(executor), lambda _: None)
    columns = ["class", "phrase", "nonsense_r", "empty_r", "other_r", "gap", "verdict"]
    return pd.DataFrame(summary.provenance["sensitivity"], columns=columns)


def rank_phrases(
    query: Any,
    phrases: Sequence[str],
    mask: Any = None,
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
) -> pd.DataFrame:
    """Say which of several phrases for the same thing works best on a plane.

    Parameters
    ----------
    query, method, model, plane, scale, axes, channels, device, checkpoint, executor, \
**params
        As for `where`.
    phrases : sequence of str
        Alternatives; a lone one is ranked by itself.
    mask : array (H, W) or path, optional
        Not 0 where the thing is. Without, phrases are compared with nonsense, which
        tells less.

    Returns
    -------
    pandas.DataFrame
        Columns ``phrase, score, kind``, the best first. With a mask the score is the
        area under the ROC curve (0.5 is chance), else by how much the warmest places
        fit better than nonsense.

    Raises
    ------
    PromptError, DataError, ModelError, WeightsError
        All are `FewShotError`; the message says what to do next.
    """
    import numpy as np
    import pandas as pd

    if isinstance(phrases, str):
        phrases = [phrases]
    how = {"checkpoint": checkpoint, "device": device, "plane": plane}
    image = open_image(query, axes=axes, scale=scale, channels=channels)
    text = dict(enumerate(phrases, 1))
    request = _request(image, text, method, model, params, how, "rank-text")
    if mask is not None:
        is_path = isinstance(mask, str | os.PathLike)
        given = np.asarray(open_image(mask).array if is_path else mask) > 0
        if given.shape != image.plane_shape:
            raise DataError(
                f"The mask has the shape {given.shape}, but a plane of the image has "
                f"{image.plane_shape}. Give the mask of that plane."
            )
        request = replace(request, options={"mask": given})
    summary = run_to_end(request, get_executor(executor), lambda _: None)
    columns = ["phrase", "score", "kind"]
    return pd.DataFrame(summary.provenance["ranking"], columns=columns)


def _request(
    image: Any,
    text: Any,
    method: str | None,
    model: str | None,
    params: Mapping[str, Any],
    how: Mapping[str, Any],
    task: str,
) -> SegmentRequest:
    given = normalise_text(text)
    if not given:
        raise PromptError(
            'There is no phrase. Say what to look for: text="what to look for" '
            "(--text on the command line)."
        )
    _, reading = sides(
        method or "text",
        model or "auto",
        how["checkpoint"],
        params,
        has_support=False,
    )
    return SegmentRequest(
        query=image,
        support=SupportSet(()),
        text=given,
        reading=reading,
        planes=(int(how["plane"]),),
        device=how["device"],
        task=task,
    )


def _first(request: SegmentRequest, executor: Any) -> PlaneResult:
    results: list[PlaneResult] = []
    run_to_end(request, get_executor(executor), results.append)
    return results[0]
