"""Supports are brought to the pixel size of the query."""

import numpy as np
import pytest

import napari_fewshot as nf
from napari_fewshot.data import Sample
from napari_fewshot.inference._scale import at_query_scale


def cells(side, radius, spacing, seed=0):
    """Bright discs of one radius (pixels) on a noisy ground, and their mask."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    mask = np.zeros((side, side), bool)
    for top in range(spacing // 2, side, spacing):
        for left in range(spacing // 2, side, spacing):
            at = np.array([top, left]) + rng.uniform(-0.2, 0.2, 2) * radius
            mask |= (rows - at[0]) ** 2 + (columns - at[1]) ** 2 <= radius**2
    image = 0.3 + 0.4 * mask + rng.normal(0, 0.03, mask.shape)
    return image.clip(0, 1).astype(np.float32), mask


def sample(side=100, radius=6, spacing=25, size=(0.5, 0.5)):
    image, mask = cells(side, radius, spacing)
    return Sample(image[..., None], None, size, labels=mask.astype(np.int32), name="a")


def test_finer_query_gets_parts_of_the_support():
    found, notes = at_query_scale([sample()], (100, 100), (0.25, 0.25))
    assert 1 < len(found) <= 4
    assert "factor of 2," in notes[0]
    for part in found:
        # 100 pixels of 0.25 show half of a support of 100 pixels of 0.5.
        assert part.image.shape == (100, 100, 1)
        assert part.labels.shape == (100, 100)
        assert part.pixel_size == (0.25, 0.25)
    areas = [np.pi * 12**2, 4 * np.pi * 12**2]
    assert areas[0] < (found[0].labels > 0).sum() < 1.2 * areas[1]
    assert len({part.name for part in found}) == len(found)


def test_coarser_query_gets_the_support_continued():
    found, _ = at_query_scale([sample()], (100, 120), (1.0, 1.01))
    (only,) = found
    assert only.image.shape == (100, 120, 1)
    # Objects are half as large in pixels, and the mirror images are labelled as well.
    assert (only.labels[:50, :50] > 0).sum() == pytest.approx(
        (sample().labels > 0).sum() / 4, rel=0.15
    )
    assert (only.labels[50:] > 0).any()


def test_same_or_unknown_sizes_are_left_alone():
    same = sample()
    found, notes = at_query_scale([same], (64, 64), (0.52, 0.49))
    assert found == [same]
    assert not notes
    for size in (None, (1.0, 1.0)):
        found, notes = at_query_scale([same], (64, 64), size)
        assert found == [same]
        assert "not known" in notes[0]
    unset = sample(size=None)
    assert "a is not known" in at_query_scale([unset], (64, 64), (0.5, 0.5))[1][0]
    assert not at_query_scale([unset], (64, 64), None)[1]


def test_absurd_scales_are_refused_in_words():
    same = sample()
    found, notes = at_query_scale([same], (64, 64), (0.001, 0.001))
    assert found == [same]
    assert "Check the scale" in notes[0]


def test_negative_supports_are_rescaled_too():
    blank = sample()
    blank = Sample(
        blank.image, None, blank.pixel_size, labels=np.zeros_like(blank.labels)
    )
    (only,), _ = at_query_scale([blank], (100, 100), (0.25, 0.25))
    assert not only.labels.any()


def test_discs_of_the_right_size_are_found():
    # Two sizes of discs on the query; those as large as the support's are meant.
    image, mask = cells(128, 5, 32)
    support = nf.Support(image, mask, scale=(0.5, 0.5))
    query, small = cells(128, 10, 64, seed=1)
    found = nf.segment(
        query, support, method="pixel", scale=(0.25, 0.25), leave_one_out=False
    )
    both = 2 * ((found.labels == 1) & small).sum()
    assert both / ((found.labels == 1).sum() + small.sum()) > 0.9
    assert any("rescaled" in note for note in found.provenance["notes"])
    plain = nf.segment(
        query,
        support,
        method="pixel",
        scale=(0.25, 0.25),
        match_scale=False,
        leave_one_out=False,
    )
    assert not plain.provenance["notes"]
