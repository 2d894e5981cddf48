"""Shapes between planes, against bodies whose sections are known."""

import numpy as np
import pytest

from napari_fewshot.ops.interpolate import (
    interpolate_labels,
    interpolate_mask,
    signed_distance,
)

SHAPE = (96, 120)


def disc(centre, radius, shape=SHAPE, spacing=(1.0, 1.0)):
    rows, columns = np.indices(shape)
    y = (rows - centre[0]) * spacing[0]
    x = (columns - centre[1]) * spacing[1]
    return np.hypot(y, x) < radius


def same(found, truth, least=0.97):
    both = 2 * (found & truth).sum() / (found.sum() + truth.sum())
    assert both > least, both


def test_distances_to_a_straight_edge():
    mask = np.zeros((4, 10), bool)
    mask[:, 5:] = True
    np.testing.assert_allclose(signed_distance(mask)[0], np.arange(10) - 4.5)
    twice = signed_distance(mask, (2.0, 2.0))
    np.testing.assert_allclose(twice[0], 2 * (np.arange(10) - 4.5))
    # An object that fills the plane has no outline there.
    assert (signed_distance(np.ones((4, 10), bool)) > 10).all()
    assert (signed_distance(np.zeros((4, 10), bool)) < -10).all()


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 0.5)])
def test_sections_of_a_cone_are_discs_between(spacing):
    """Radii change linearly along a cone: the section at a share is known exactly."""
    shape = (60, 240) if spacing[0] == 2 else SHAPE
    middle = (shape[0] // 2, shape[1] // 2)
    ends = [disc(middle, r, shape, spacing) for r in (12, 32)]
    shares = [0.25, 0.5, 0.8]
    shapes = interpolate_mask(*ends, shares, spacing)
    for share, shape_between in zip(shares, shapes, strict=True):
        truth = disc(middle, 12 + 20 * share, shape, spacing)
        same(shape_between > 0, truth, least=0.96)
        depth = shape_between[middle]
        assert depth == pytest.approx(12 + 20 * share, abs=1)


def test_a_sphere_between_two_of_its_sections():
    """The chord of the outline: no more than its rise is missing."""
    radius, planes = 30.0, (-10, 10)
    section = disc((48, 60), np.sqrt(radius**2 - 10**2))
    (found,) = interpolate_mask(section, section, [0.5])
    np.testing.assert_array_equal(found > 0, section)
    rise = radius - np.sqrt(radius**2 - planes[1] ** 2)
    assert rise < 2
    same(found > 0, disc((48, 60), radius), least=0.94)


def test_a_tilted_cylinder_stays_a_cylinder():
    """It moves by more than its width: blended where they lie, nothing is left."""
    first, last = disc((20, 20), 8), disc((60, 95), 8)
    for share, found in zip(
        (0.3, 0.5), interpolate_mask(first, last, (0.3, 0.5)), strict=True
    ):
        truth = disc((20 + 40 * share, 20 + 75 * share), 8)
        same(found > 0, truth, least=0.93)


def test_the_ends_are_the_planes_themselves():
    first, last = disc((30, 40), 15), disc((50, 70), 9)
    begin, end = interpolate_mask(first, last, [0.0, 1.0])
    np.testing.assert_array_equal(begin > 0, first)
    np.testing.assert_array_equal(end > 0, last)


def test_an_object_on_one_plane_only_is_gone_half_way():
    nothing, there = np.zeros(SHAPE, bool), disc((48, 60), 20)
    areas = [
        int((found > 0).sum())
        for found in interpolate_mask(nothing, there, [0.4, 0.6, 0.8])
    ]
    assert areas[0] == 0
    assert 0 < areas[1] < areas[2] < there.sum()
    assert not any((f > 0).any() for f in interpolate_mask(nothing, nothing, [0.5]))


def test_an_object_cut_off_by_the_border_stays_at_the_border():
    first, last = disc((48, 0), 20), disc((60, 0), 20)
    (found,) = interpolate_mask(first, last, [0.5])
    same(found > 0, disc((54, 0), 20), least=0.95)


def test_several_objects_keep_their_numbers_and_do_not_overlap():
    first = np.where(disc((48, 30), 14), 3, 0) + np.where(disc((48, 90), 14), 8, 0)
    last = np.where(disc((48, 45), 14), 3, 0) + np.where(disc((48, 76), 14), 8, 0)
    (found,) = interpolate_labels(first, last, [0.5])
    assert found.dtype == np.int32
    same(found == 3, disc((48, 37.5), 14), least=0.95)
    same(found == 8, disc((48, 83), 14), least=0.95)


def test_where_two_objects_would_overlap_the_deeper_one_is():
    first = np.where(disc((48, 30), 14), 3, 0) + np.where(disc((48, 90), 14), 8, 0)
    last = np.where(disc((48, 90), 14), 3, 0) + np.where(disc((48, 32), 14), 8, 0)
    (found,) = interpolate_labels(first, last, [0.5])
    # On the way one is at column 60, the other at 61: each keeps its side.
    assert (found[48, 48:60] == 3).all()
    assert (found[48, 62:74] == 8).all()


def test_planes_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match="not one shape"):
        list(interpolate_mask(np.ones((4, 4), bool), np.ones((4, 5), bool), [0.5]))
