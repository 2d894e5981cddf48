"""What was asked for: the arguments of `segment`, checked, as one frozen request."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from napari_fewshot.data import PromptSet, SupportSet, TextChoice, fit_level
from napari_fewshot.errors import DataError, PromptError
from napari_fewshot.inference import SegmentRequest
from napari_fewshot.io import open_image, open_labels, resolve_support
from napari_fewshot.methods import get_method, make_params
from napari_fewshot.session._concepts import taught_by
from napari_fewshot.session._reading import normalise_text, reading_of, sides


def request_of(
    query: Any,
    support: Any,
    text: Any,
    prompts: Any,
    method: str | None,
    model: str | None,
    params: dict[str, Any],
    *,
    scale: Any,
    axes: str | None,
    channels: Any,
    device: str,
    checkpoint: Any,
    keep_probabilities: bool | None,
    region: Any,
    inside: Any,
    level: Any,
    text_method: str | None,
    text_model: Any,
    text_share: str,
) -> SegmentRequest:
    """Return the request that the arguments of `segment` stand for.

    Parameters
    ----------
    query, support, text, prompts, method, model, scale, axes, channels, device, \
checkpoint, keep_probabilities, region, inside, level, text_method, text_model, \
text_share
        As for `segment`.
    params : dict
        Parameters of the method.

    Raises
    ------
    SupportError, PromptError, DataError, ModelError, WeightsError, TypeError
        As `segment`.
    """
    support, method, model, params = taught_by(support, method, model, params)
    supports, phrases = resolve_supports(support), normalise_text(text)
    if phrases and isinstance(level, float):
        params, level = {**params, "level": level}, "auto"
    how: dict[str, Any] = {"method": method, "model": model, "params": params}
    how["checkpoint"] = paths_of(checkpoint)
    reading = TextChoice(share=text_share)
    if get_method(method).spec.reads_text and not phrases:
        raise PromptError(
            f"The method {method!r} looks for phrases, and there is none. Give text=, "
            "or choose a method that learns from supports."
        )
    if phrases:
        reading = reading_of(text_method, text_model, text_share)
        how, reading = sides(**how, has_support=len(supports) > 0, reading=reading)
    else:
        make_params(get_method(method).spec.params, params)
    image = open_image(query, axes=axes, scale=scale, channels=channels, level=level)
    if not prompts and region is None and inside is None:
        # These lie in pixels of the finest level, unless another one is named.
        image = fit_level(image, supports)
    return SegmentRequest(
        query=image,
        support=supports,
        prompts=normalise_prompts(prompts),
        text=phrases,
        reading=reading,
        keep_probabilities=keep_probabilities,
        device=device,
        region=None if region is None else region_of(region),
        inside=None if inside is None else open_labels(inside),
        **how,
    )


def region_of(region: Any) -> tuple[int, int, int, int]:
    """Return a region as whole numbers: row and column minima, then maxima.

    Raises
    ------
    DataError
        If it is anything but four numbers.
    """
    try:
        top, left, bottom, right = (int(n) for n in region)
    except (TypeError, ValueError):
        raise DataError(
            f"region={region!r} must be four whole numbers: first row, first column, "
            "last row, last column."
        ) from None
    return top, left, bottom, right


def paths_of(checkpoint: Any) -> Any:
    """Return a path, or a pair of them, as text; None stays None."""
    if checkpoint is None:
        return None
    if isinstance(checkpoint, (tuple, list)):
        return tuple(os.fspath(path) for path in checkpoint)
    return os.fspath(checkpoint)


def resolve_supports(support: Any) -> SupportSet:
    """Return a support set with all paths opened; None is an empty one."""
    given = SupportSet.of(support if support is not None else ())
    return SupportSet([resolve_support(item) for item in given])


def normalise_prompts(prompts: Any) -> dict[int, PromptSet]:
    """Return ``{class: PromptSet}``; a lone `PromptSet` is class 1."""
    if prompts is None:
        return {}
    if isinstance(prompts, PromptSet):
        prompts = {1: prompts}
    if not isinstance(prompts, Mapping):
        raise PromptError(
            "prompts must be a PromptSet or a dict of class to PromptSet."
        )
    return {int(v): p for v, p in prompts.items() if not p.is_empty}
