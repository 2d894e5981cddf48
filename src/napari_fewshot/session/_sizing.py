"""The size of what was found, set by hand: masks drawn anew from maps in memory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.errors import DataError
from napari_fewshot.methods import get_method, make_params
from napari_fewshot.ops import has_holes, probabilities_to_labels

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, FloatArray
    from napari_fewshot.data import Prediction
    from napari_fewshot.session._state import Document

NAME = "target_area"
# A map that is nowhere likelier than this shows nothing that could be larger.
LEAST = 0.01
NOTE = "The size was set by hand; masks were drawn anew from the maps of the run."


def has_size(method: str) -> bool:
    """Whether a method takes the size of the target."""
    return NAME in get_method(method).spec.params.__dataclass_fields__


def can_redraw(document: Document) -> bool:
    """Whether the masks of a result can be drawn anew without a run.

    Its maps are needed, which are kept of single planes, and nothing in it may be by
    hand.
    """
    result = document.result
    return (
        result is not None
        and bool(result.probabilities)
        and not document.objects
        and not document.accepted
        and result.provenance.get("method") == document.method
    )


def with_size(document: Document, percent: float) -> Document:
    """Return a version that wishes for a size, its result drawn anew if that can be.

    Parameters
    ----------
    document : Document
        Its method takes the size of the target.
    percent : float
        Share of the plane that each class should cover; 0 is as found.

    Raises
    ------
    DataError
        If the method takes no size.
    ValueError
        If it is outside the limits.
    """
    if not has_size(document.method):
        raise DataError(
            f"The method {document.method!r} takes no size of the target. Choose one "
            "on embeddings, such as 'repri' or 'panet'."
        )
    params = {k: v for k, v in document.params.items() if k != NAME}
    if percent:
        params[NAME] = float(percent)
    make_params(get_method(document.method).spec.params, params)
    changed = replace(document, params=params)
    result = document.result
    if result is None or not can_redraw(document):
        return changed
    return replace(changed, result=_drawn(result, float(percent)))


def _drawn(result: Prediction, percent: float) -> Prediction:
    made_with = result.provenance["params"]
    if not percent and result.provenance.get("sized_from", made_with.get(NAME)):
        # The maps were made for some size; what would be found without is not in them.
        return result
    shape = result.labels.shape
    maps = {v: np.asarray(p, np.float32) for v, p in result.probabilities.items()}
    # Holes of classes that had none are closed at every size, not only as found.
    closed = {
        v: bool(made_with["fill_holes"])
        and not has_holes(_plane(np.asarray(result.labels) == v))
        for v in maps
    }
    flat = {
        v: sized_map(_plane(p), percent / 100, closed=closed[v])
        for v, p in maps.items()
    }
    labels = probabilities_to_labels(
        flat,
        threshold=0.5 if percent else made_with["threshold"],
        min_area=_by_class(made_with["min_area"]),
        max_area=_by_class(made_with["max_area"]),
        fill_holes=closed,
        largest_only=made_with["largest_only"],
    )
    notes = [n for n in result.provenance.get("notes", ()) if n != NOTE]
    provenance = {
        **result.provenance,
        "params": {**made_with, NAME: percent},
        # What the maps were made for, however often the size is changed.
        "sized_from": result.provenance.get("sized_from", made_with.get(NAME, 0.0)),
        "notes": [*notes, NOTE],
    }
    return replace(
        result,
        labels=labels.reshape(shape),
        present={v: bool((labels == v).any()) for v in maps},
        provenance=provenance,
    )


def sized_map(
    probability: FloatArray, share: float, *, closed: bool = False
) -> FloatArray:
    """Return a map that is at least one half on just a share of the plane.

    The likeliest pixels are taken. Where a map is certain many are alike: those deepest
    inside come first, then those nearest to it. Compare `grid._calibrate.sized`, which
    does so to maps of cells, before edges are drawn.

    Parameters
    ----------
    probability : array (H, W)
        Of a class, in [0, 1].
    share : float
        Of the plane, in [0, 1); 0 leaves the map alone, as does a map of nothing.
    closed : bool
        Close the holes of all level sets first (reconstruction by erosion: Soille,
        Morphological Image Analysis, 2003), so that filling them adds nothing.
    """
    from scipy import ndimage

    if share <= 0 or float(probability.max()) < LEAST:
        return probability
    if closed:
        probability = _without_holes(probability)
    core = probability >= min(0.5, float(probability.max()))
    depth = ndimage.distance_transform_edt(core)
    if not core.all():
        depth = depth - ndimage.distance_transform_edt(~core)
    order = np.lexsort((depth.ravel(), probability.ravel()))
    chosen = np.zeros(probability.size, bool)
    chosen[order[order.size - max(1, round(share * order.size)) :]] = True
    inside = chosen.reshape(probability.shape)
    found: FloatArray = np.where(
        inside, np.maximum(probability, 0.5), np.minimum(probability, 0.499)
    ).astype(np.float32)
    return found


def _without_holes(probability: FloatArray) -> FloatArray:
    """Raise what is darker than all around it to the least bright way out."""
    from skimage.morphology import reconstruction

    start = np.full_like(probability, probability.max())
    start[[0, -1]], start[:, [0, -1]] = probability[[0, -1]], probability[:, [0, -1]]
    found: FloatArray = reconstruction(start, probability, method="erosion")
    return found.astype(np.float32)


def _plane(array: AnyArray) -> Any:
    """Return the only plane of an array, (H, W)."""
    return array.reshape(array.shape[-2:])


def _by_class(value: Any) -> Any:
    if isinstance(value, dict):
        return {int(k): v for k, v in value.items()}
    return value
