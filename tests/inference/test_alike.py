"""`instances="alike"` from the outside."""

from __future__ import annotations

import numpy as np

import napari_fewshot as nf


def test_touching_discs_become_single_objects():
    rows, columns = np.mgrid[:72, :72]
    random = np.random.default_rng(0)

    def plane(*centres):
        mask = np.zeros((72, 72), bool)
        for y, x in centres:
            mask |= np.hypot(rows - y, columns - x) < 9
        image = 0.2 + 0.6 * mask + random.normal(0, 0.02, mask.shape)
        return image.clip(0, 1).astype(np.float32), mask.astype(np.int32)

    image, labels = plane((20, 20), (50, 50))
    support = nf.SupportSet([nf.Support(image, labels, axes="yx")])
    query, truth = plane((30, 25), (30, 40))
    found = nf.segment(
        query, support, method="linear", model="filters", instances="alike"
    )
    assert found.instances.max() == 2
    np.testing.assert_array_equal(found.instances > 0, found.labels > 0)
    assert ((found.labels > 0) == (truth > 0)).mean() > 0.95
