"""What the result of a run depends on, as one fingerprint."""

from __future__ import annotations

import hashlib
import itertools
import os
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.inference._provenance import versions
from napari_fewshot.inference._reading import leading_method
from napari_fewshot.methods import params_to_dict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from napari_fewshot.inference._request import SegmentRequest
    from napari_fewshot.inference.tiles._plan import TilePlan

# Windows whose pixels stand for all: the query itself is never read as a whole.
SAMPLED = 5


def run_key(plan: TilePlan) -> str:
    """Return a fingerprint of a plan: supports, prompts, method, query and windows.

    The query is known by its shape, its intensities and a few of its windows.
    """
    return _digest(_evidence(plan.request), _query(plan))


def stack_key(request: SegmentRequest, *more: Any) -> str:
    """Return a fingerprint of what the planes of a stack depend on besides themselves.

    Supports, prompts, method, and how the query is read; not its pixels, and not which
    planes are asked for.

    Parameters
    ----------
    request : SegmentRequest
        Its region and mask do not count: planes are taken whole.
    *more
        Anything else, by its ``repr``.
    """
    query = request.query
    method, params = leading_method(request)
    about = [
        (query.shape, str(query.array.dtype), query.axes, query.channels, query.scale),
        query.window,
        (method.spec.name, params_to_dict(params)),
    ]
    return _digest(_evidence(request), about, more)


def _digest(*parts: Iterable[Any]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in itertools.chain(*parts):
        digest.update(part if isinstance(part, bytes) else repr(part).encode())
    return digest.hexdigest()


def _evidence(request: SegmentRequest) -> Iterator[Any]:
    """Yield what decides what is looked for."""
    yield sorted(versions().items()), metadata.version("torch")
    yield request.method, request.model, request.text, request.reading, request.device
    yield sorted(request.params.items(), key=str), sorted(request.classes.items())
    yield request.keep_probabilities, sorted(request.options.items())
    for path in np.atleast_1d(np.array(request.checkpoint or [], str)).tolist():
        facts = os.stat(path) if os.path.exists(path) else None
        yield path, facts and (facts.st_size, facts.st_mtime_ns)
    for support in request.support:
        yield support.source.shape, support.source.scale, support.label_values
        for plane in support.used_planes:
            yield support.source.plane_digest(plane), support.source.window_of(plane)
            yield support.label_plane(plane).tobytes()
    for value, prompts in sorted(request.prompts.items()):
        yield value, prompts.candidate
        for what in ("points", "point_labels", "boxes", "scribbles", "mask"):
            given = getattr(prompts, what)
            if given is not None:
                yield what, given.shape
                yield given.tobytes()


def _query(plan: TilePlan) -> Iterator[Any]:
    """Yield what decides where is looked; a few windows stand for all pixels."""
    query, image, request = plan.request.query, plan.image, plan.request
    yield plan.lattice, request.region, params_to_dict(plan.params), plan.cells
    yield query.shape, str(query.array.dtype), query.axes, query.channels, query.scale
    yield image.limits
    numbers = sorted(plan.numbers)
    for at in np.linspace(0, len(numbers) - 1, SAMPLED).astype(int):
        yield image.plane_digest(numbers[at])
    if request.inside is not None:
        for plane, windows in sorted(plan.windows.items()):
            for window in sorted(windows):
                shown = plan.shown(plane, plan.lattice.cell(window))
                yield plane, window
                yield b"all" if shown is None else np.packbits(shown).tobytes()
