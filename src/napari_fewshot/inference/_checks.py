"""Checks of a request as a whole, before anything expensive starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.errors import DataError, PromptError, SupportError

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
    _check_text(request)
    if request.prompts:
        check_prompts(request)
    told = request.prompts or request.text
    if len(request.support) or (needs_evidence and not told):
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
            f"{_named(query)} is constant: every pixel has the same value. "
            "Choose another image or channel."
        )


def _check_text(request: SegmentRequest) -> None:
    """Refuse phrases of no class, and the same phrase for two classes."""
    seen: dict[str, int] = {}
    for value, text in request.text.items():
        if value < 1:
            raise PromptError(
                f"There is a phrase for class {value}, but classes are numbered from "
                "1. Give it to another class."
            )
        for word in {w.casefold() for w in text.words}:
            if word in seen:
                raise PromptError(
                    f"Classes {seen[word]} and {value} are both {word!r}. Use another "
                    "phrase for one of them."
                )
            seen[word] = value


def check_prompts(request: SegmentRequest) -> None:
    """Refuse prompts that are not on the image."""
    query = request.query
    shape = query.plane_shape
    stack = (query.n_planes, *shape)
    for value, prompts in request.prompts.items():
        if value < 1:
            raise PromptError(
                f"There are prompts for class {value}, but classes are numbered from "
                "1. Give them to another class."
            )
        alone = not len(request.support) and value not in request.text
        if alone and prompts.is_negative:
            raise PromptError(
                f"The prompts of class {value} only say where it is not. Add a "
                "positive click, a box or a scribble on the object."
            )
        for what, found in (("points", prompts.points), ("boxes", prompts.boxes)):
            if found is not None:
                _check_coordinates(value, what, found, stack)
        for what in ("scribbles", "mask"):
            drawn = getattr(prompts, what)
            if drawn is not None:
                _check_drawn(value, what, drawn.shape, stack)


def _check_drawn(
    value: int, what: str, found: tuple[int, ...], stack: tuple[int, int, int]
) -> None:
    """Refuse scribbles or a mask of another shape than the image."""
    wanted = stack if stack[0] > 1 else stack[1:]
    has, it = ("has", "it") if what == "mask" else ("have", "them")
    subject = f"The {what} of class {value} {has}"
    if found not in (stack[1:], stack):
        raise PromptError(
            f"{subject} the shape {found}, but the image has the shape "
            f"{wanted}. Draw {it} on a layer of the image's size."
        )
    if len(found) == 2 and stack[0] > 1:
        raise PromptError(
            f"{subject} one plane only, but the image has {stack[0]} planes. "
            f"Give an array of the shape {stack}."
        )


def _check_coordinates(
    value: int, what: str, found: AnyArray, stack: tuple[int, ...]
) -> None:
    width = found.shape[1] if what == "points" else found.shape[1] // 2
    if width == 2 and stack[0] > 1:
        raise PromptError(
            f"The {what} of class {value} have no plane numbers, but the image has "
            f"{stack[0]} planes. Give (plane, row, column)."
        )
    if width == 3 and stack[0] == 1 and (found[:, 0] != 0).any():
        raise PromptError(
            f"The {what} of class {value} have plane numbers other than 0, but the "
            "image has one plane only. Give (row, column)."
        )
    limits = np.array(stack[-width:], float)
    low = found[:, :width]
    high = low if what == "points" else found[:, width:]
    # A click on the rim of the first or last pixel is on the image.
    outside = (high < -0.5).any(1) | (low >= limits).any(1)
    if outside.any():
        place = tuple(round(float(v), 1) for v in found[outside][0])
        raise PromptError(
            f"One of the {what} of class {value} is outside the image: it is at "
            f"{place}, but the shape of the image is {tuple(int(n) for n in limits)}. "
            f"Give {'(row, column)' if width == 2 else '(plane, row, column)'} in "
            "pixels, not in micrometres."
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
            f"{_named(request.query)} has {_count(found)}, but the supports have "
            f"{_count(wanted)}. Choose as many channels for both (channels=), or take "
            "supports of the same kind. If these are planes of a stack, say so with "
            "axes='zyx' (--axes zyx)."
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
                f"Plane {plane} does not exist. {_named(request.query)} has planes 0 "
                f"to {count - 1}."
            )


def _named(image: Image) -> str:
    """Return how a sentence about an image begins; arrays have no name."""
    return f"The image {image.name!r}" if image.name else "The image"


def _count(channels: int) -> str:
    return "1 channel" if channels == 1 else f"{channels} channels"
