"""Checks of a request as a whole, before anything expensive starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.errors import DataError, ModelError, PromptError, SupportError

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray
    from napari_fewshot.data import Image
    from napari_fewshot.inference._request import SegmentRequest


def check_request(request: SegmentRequest, *, needs_evidence: bool = True) -> None:
    """Refuse what can't work, with a sentence that says what to do next.

    Parameters
    ----------
    request : SegmentRequest
        Everything.
    needs_evidence : bool
        Whether supports or prompts must be there; models that know their classes find
        them without.

    Raises
    ------
    SupportError, PromptError, ModelError, DataError
    """
    if request.text:
        raise ModelError(
            "Text needs a model that understands language, and this version ships "
            "none. Annotate one or two images and give them as support instead."
        )
    if request.prompts:
        _check_prompts(request)
    if len(request.support) or (needs_evidence and not request.prompts):
        request.support.check()
        _check_channels(request)
    _check_planes(request)
    for support in request.support:
        if all(is_constant(support.source, i) for i in support.used_planes):
            raise SupportError(
                f"The support image {support.name!r} is constant: every pixel has the "
                "same value, so nothing can be learnt from it. Choose another image or "
                "channel."
            )
    query = request.query
    if query.n_planes == 1 and is_constant(query, 0):
        raise DataError(
            f"The image {query.name!r} is constant: every pixel has the same value. "
            "Choose another image or channel."
        )


def _check_prompts(request: SegmentRequest) -> None:
    """Refuse prompts that are not on the image."""
    query = request.query
    shape = query.plane_shape
    stack = (query.n_planes, *shape)
    for value, prompts in request.prompts.items():
        if value < 1:
            raise PromptError(
                f"Prompts are for class {value}; classes are whole numbers from 1."
            )
        if not len(request.support) and prompts.is_negative:
            raise PromptError(
                f"The prompts of class {value} only say what it is not. Add a positive "
                "click, a box or a scribble on the object."
            )
        for what, found in (("points", prompts.points), ("boxes", prompts.boxes)):
            if found is not None:
                _check_coordinates(value, what, found, stack)
        for what in ("scribbles", "mask"):
            drawn = getattr(prompts, what)
            if drawn is not None and drawn.shape not in (shape, stack):
                raise PromptError(
                    f"The {what} of class {value} have shape {drawn.shape}, but the "
                    f"image has {stack if query.n_planes > 1 else shape}. Draw them on "
                    "a layer of the image's size."
                )
            if drawn is not None and drawn.ndim == 2 and query.n_planes > 1:
                raise PromptError(
                    f"The {what} of class {value} are one plane, but the image has "
                    f"{query.n_planes}. Give an array of shape {stack}."
                )


def _check_coordinates(
    value: int, what: str, found: AnyArray, stack: tuple[int, ...]
) -> None:
    width = found.shape[1] if what == "points" else found.shape[1] // 2
    if width == 2 and stack[0] > 1:
        raise PromptError(
            f"The {what} of class {value} have no plane number, but the image has "
            f"{stack[0]} planes. Give (plane, row, column)."
        )
    if width == 3 and stack[0] == 1 and (found[:, 0] != 0).any():
        raise PromptError(
            f"The {what} of class {value} have a plane number, but the image has one "
            "plane only. Give (row, column)."
        )
    limits = np.array(stack[-width:], float)
    low = found[:, :width]
    high = low if what == "points" else found[:, width:]
    # A click on the rim of the first or last pixel is on the image.
    outside = (high < -0.5).any(1) | (low >= limits).any(1)
    if outside.any():
        place = tuple(round(float(v), 1) for v in found[outside][0])
        raise PromptError(
            f"One of the {what} of class {value} is outside the image: {place}, but "
            f"the image has {tuple(int(n) for n in limits)} pixels. Coordinates are "
            "(row, column) in pixels, not in micrometres."
        )


def is_constant(image: Image, plane: int) -> bool:
    """Whether every pixel of a plane has the same (finite) value in every channel."""
    pixels = image.raw_plane(plane)
    pixels = pixels.reshape(-1, pixels.shape[-1] if pixels.ndim == 3 else 1)
    return bool(np.all(pixels == pixels[:1]))


def _check_channels(request: SegmentRequest) -> None:
    wanted = request.support[0].source.n_channels
    found = request.query.n_channels
    if found != wanted:
        raise DataError(
            f"The image {request.query.name!r} has {_count(found)} but the supports "
            f"have {_count(wanted)}. Choose the same channels for both (channels=), or "
            "use supports of the same kind."
        )


def _check_planes(request: SegmentRequest) -> None:
    if request.planes is None:
        return
    count = request.query.n_planes
    if not len(request.planes):
        raise DataError("No plane was chosen. Choose at least one plane to segment.")
    for plane in request.planes:
        if not 0 <= plane < count:
            raise DataError(
                f"Plane {plane} does not exist: the image {request.query.name!r} has "
                f"planes 0 to {count - 1}."
            )


def _count(channels: int) -> str:
    return "1 channel" if channels == 1 else f"{channels} channels"
