"""The surface Dice that papers on MedCLIP-SAM report, which is no boundary metric.

Their evaluator hands a plane to a 3-D routine as a slab of one voxel. Every voxel of
such a slab touches the outside above and below, so all of the foreground counts as
surface, not the outline alone. Figures of that kind are comparable with one another but
not with the surface Dice of `surface_metrics`; both are reported, each by its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_fewshot._types import BoolArray


def nsd_slab(p: BoolArray, r: BoolArray, tau: float = 2.0) -> float:
    """Return the surface Dice of two planes taken for slabs of one voxel.

    ``(|R & grow(P)| + |P & grow(R)|) / (|P| + |R|)``, where ``grow`` adds every pixel
    within ``tau``: a closed form of what the evaluator of MedCLIP-SAMv2 computes by
    surface elements.

    Parameters
    ----------
    p, r : array (H, W) bool
        Prediction and reference.
    tau : float
        Euclidean tolerance in pixels, closed.

    Returns
    -------
    float
        In [0, 1]. 1 if both are empty, 0 if one is.

    Examples
    --------
    Discs of radius 40 and 50 with one centre have Dice 0.781 and not one pixel of
    outline within 2 pixels of the other's, so the surface Dice is 0. Here it is 0.82.
    """
    if not p.any() or not r.any():
        return float(p.any() == r.any())
    near = int((r & _grown(p, tau)).sum()) + int((p & _grown(r, tau)).sum())
    return near / (int(p.sum()) + int(r.sum()))


def _grown(mask: BoolArray, tau: float) -> BoolArray:
    from scipy import ndimage

    grown: BoolArray = ndimage.distance_transform_edt(~mask) <= tau
    return grown
