"""The slab metric against its closed form, and against counting surface elements."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_fewshot.evaluation import binary_dice, nsd_slab, surface_metrics


def disc(radius, shape=(161, 161), centre=(80, 80)):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


def slab_by_surface(p, r, tau):
    """Count voxels of a one-voxel slab, all of which touch the outside."""
    slabs = [np.pad(m[..., None], 1) for m in (p, r)]
    cores = [
        ndimage.binary_erosion(s, ndimage.generate_binary_structure(3, 1))
        for s in slabs
    ]
    edges = [s & ~c for s, c in zip(slabs, cores, strict=True)]
    to_p, to_r = (ndimage.distance_transform_edt(~e) for e in edges)
    near = (to_r[edges[0]] <= tau).sum() + (to_p[edges[1]] <= tau).sum()
    return near / (edges[0].sum() + edges[1].sum())


def test_two_discs_that_share_no_outline():
    small, large = disc(40), disc(50)
    assert binary_dice(small, large) == pytest.approx(0.781, abs=2e-3)
    found = nsd_slab(small, large, 2.0)
    # Closed form: of the large disc what lies within radius 42, of the small all.
    assert found == pytest.approx((42**2 + 40**2) / (40**2 + 50**2), abs=5e-3)
    assert found == pytest.approx(0.826, abs=0.012)
    assert surface_metrics(small, large, (1.0, 1.0), 2.0)["nsd"] == 0
    assert nsd_slab(large, small, 2.0) == found


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0, 3.5])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_voxel_of_a_slab_is_surface(seed, tau):
    rng = np.random.default_rng(seed)
    p, r = (
        ndimage.gaussian_filter(rng.normal(size=(40, 53)), 3) > 0.02 for _ in range(2)
    )
    assert nsd_slab(p, r, tau) == pytest.approx(slab_by_surface(p, r, tau), abs=1e-12)


def test_without_tolerance_it_is_dice():
    p, r = disc(30), disc(30, centre=(70, 90))
    assert nsd_slab(p, r, 0.0) == pytest.approx(binary_dice(p, r))
    assert nsd_slab(p, p) == 1


def test_empty_masks():
    nothing, some = np.zeros((9, 9), bool), disc(2, (9, 9), (4, 4))
    assert nsd_slab(nothing, nothing) == 1
    assert nsd_slab(some, nothing) == nsd_slab(nothing, some) == 0
