"""Whether a phrase fits anything on a plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_fewshot.methods.text._competition import beyond_nonsense, surest

if TYPE_CHECKING:
    from napari_fewshot._types import FloatArray
    from napari_fewshot.methods.text._heat import Heat


def presence(heat: Heat, number: int, odds: FloatArray) -> float:
    """Return how much speaks for a phrase, in log-odds; above 0 it fits something.

    Two witnesses. Near: the best hundredth of the cells, against the rivals that they
    competed with. Far: the whole plane, against phrases that mean nothing, where the
    model compares planes with phrases; cosines count with the same factor. Their
    log-odds are added, as those of independent witnesses are: a small object that the
    whole plane hardly shows is still found if its cells are sure, and a phrase that
    fits the plane worse than nonsense needs cells that are surer than that. Relevance
    has no near witness: such maps have a maximum whatever the phrase is.

    Parameters
    ----------
    heat : Heat
        With ``fits`` and ``baseline``, or without.
    number : int
        Of the class.
    odds : array (h, w)
        After the cut.

    Returns
    -------
    float
        At most 0 where no cell is inside.
    """
    if not (odds > 0).any():
        return min(0.0, float(odds.max()))
    far = beyond_nonsense(heat, number)
    if heat.kind == "relevance":
        return 1.0 if far is None else far
    return surest(odds) + (far or 0.0)
