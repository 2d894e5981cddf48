"""A request made ready for a cluster, on the side of the user."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_fewshot.data import intensity_window
from napari_fewshot.errors import DataError
from napari_fewshot.session._dask_wire import (
    PROTOCOL,
    Shared,
    TooLarge,
    describe,
    describe_supports,
    without_pixels,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from napari_fewshot._types import AnyArray
    from napari_fewshot.data import Image
    from napari_fewshot.inference import SegmentRequest

logger = logging.getLogger(__name__)
# Planes and pixels of each that the intensity window is taken from.
N_WINDOW_PLANES, WINDOW_PIXELS = 16, 100_000


def shared_of(
    request: SegmentRequest,
    planes: Sequence[int],
    weights: Mapping[str, Mapping[str, str]],
    checkpoints: Mapping[str, str],
) -> Shared:
    """Describe a request; what a worker can't open by itself travels in pieces.

    Parameters
    ----------
    request : SegmentRequest
        What to do.
    planes : sequence of int
        Its planes; one of them tells whether a worker opens the same image.
    weights, checkpoints : mapping
        See `Shared`.
    """
    parts = (without_pixels(request), describe_supports(request.support))
    try:
        query = describe(request.query, with_pixels=False)
    except TooLarge:
        query = describe(request.query, with_pixels=True)
        return Shared(
            parts[0], query, parts[1], None, weights, checkpoints, sends_pixels=True
        )
    check = _fingerprint(request.query, planes)
    return Shared(parts[0], query, parts[1], check, weights, checkpoints)


def with_window(request: SegmentRequest) -> SegmentRequest:
    """Return a request whose query knows its intensity window.

    All workers must have the same one, so it is worked out once, here. A plane that
    can't be read has no part in it; it is told of when its turn comes.

    Raises
    ------
    DataError
        If no plane can be read.
    """
    query = request.query
    try:
        _ = query.window
    except Exception as error:
        step = max(1, query.n_planes // N_WINDOW_PLANES)
        pixels = []
        for plane in range(0, query.n_planes, step):
            try:
                pixels.append(query.sampled(plane, WINDOW_PIXELS))
            except Exception:
                logger.info("plane %d can't be read", plane, exc_info=True)
        if not pixels:
            raise DataError(
                f"The image can't be read ({error}). Check that its file or store is "
                "still there and complete."
            ) from error
        query = copy.copy(query)
        query.__dict__["window"] = intensity_window(pixels)
    return replace(request, query=query)


def pickled(shared: Shared) -> bytes:
    """Return a request as bytes."""
    import cloudpickle

    return bytes(cloudpickle.dumps(shared, protocol=PROTOCOL))


def readable(query: Image, planes: Iterable[int]) -> dict[int, AnyArray]:
    """Read planes; those that can't be read are left for the worker to report."""
    found = {}
    for plane in planes:
        try:
            found[plane] = query.raw_plane(plane)
        except Exception as error:  # noqa: BLE001 - the user's array may fail in any way
            logger.info("plane %d can't be read: %r", plane, error)
    return found


def _fingerprint(query: Image, planes: Sequence[int]) -> tuple[int, str] | None:
    """Return the digest of a plane that can be read here."""
    for plane in (planes[0], planes[len(planes) // 2], planes[-1]):
        try:
            return plane, query.plane_digest(plane)
        except Exception:
            # The workers will say which planes are bad.
            logger.info("plane %d can't be read", plane, exc_info=True)
    return None
