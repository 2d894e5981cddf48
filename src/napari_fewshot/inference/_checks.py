"""Checks of a request as a whole, before anything expensive starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.errors import DataError, ModelError, PromptError, SupportError

if TYPE_CHECKING:
    from napari_fewshot.data import Image
    from napari_fewshot.inference._request import SegmentRequest


def check_request(request: SegmentRequest) -> None:
    """Refuse what can't work, with a sentence that says what to do next.

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
        raise PromptError(
            "No installed method uses points, boxes or scribbles yet. Turn them into a "
            "mask of one image and give it as support instead."
        )
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
