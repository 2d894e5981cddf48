"""The random field against its definition, pair by pair."""

import numpy as np
import pytest

from napari_fewshot.ops.random_field import (
    NARROW_FIELD,
    WIDE_FIELD,
    Field,
    mean_field,
)


def energy(p):
    return -np.log(p + 1e-8) / (1.05 / (1 + np.exp(-p)))


def every_pair(probability, image, field, steps=1):
    """Mean field with all pairs of pixels, as it is written down."""
    height, width = probability.shape
    at = np.stack(np.mgrid[:height, :width], -1).reshape(-1, 2).astype(float)
    colour = image.reshape(height * width, -1) * 255.0
    if colour.shape[1] == 1:
        colour = np.repeat(colour, 3, 1)
    apart = ((at[:, None] - at[None]) ** 2).sum(-1)
    unlike = ((colour[:, None] - colour[None]) ** 2).sum(-1)
    kernels = []
    for weight, kernel in (
        (field.near_weight, np.exp(-apart / 2 / field.near**2)),
        (
            field.far_weight,
            np.exp(-apart / 2 / field.far**2 - unlike / 2 / field.colour**2),
        ),
    ):
        root = np.sqrt(kernel.sum(1))
        kernels.append(weight * kernel / root[:, None] / root[None])
    a = probability.ravel().astype(float)
    unary = np.stack([energy(1 - a), energy(a)])
    q = np.exp(-unary) / np.exp(-unary).sum(0)
    for _ in range(steps):
        # Potts: a label pays for what neighbours believe of the other one; what they
        # believe of itself is the same up to a constant.
        logits = -unary + sum(k @ q.T for k in kernels).T
        q = np.exp(logits - logits.max(0))
        q /= q.sum(0)
    return q[1].reshape(height, width)


def scene(shape, channels, seed=0):
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    inside = np.hypot(rows - shape[0] / 2, columns - shape[1] / 2) < shape[0] / 3
    image = np.where(inside[..., None], 0.6, 0.3) + 0.01 * rng.normal(
        size=(*shape, channels)
    )
    vague = 0.35 + 0.3 * inside + 0.2 * rng.normal(size=shape)
    return np.clip(image, 0, 1).astype(np.float32), np.clip(vague, 0, 1), inside


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("steps", [1, 3])
def test_narrow_field_is_mean_field_over_all_pairs(channels, steps):
    image, vague, _ = scene((26, 31), channels)
    field = Field(near=2.0, far=2.5, colour=3.0)
    found = mean_field(vague, image, field, steps)
    assert np.abs(found - every_pair(vague, image, field, steps)).max() < 0.02


def test_paper_fields_on_a_small_plane():
    # Smaller than three standard deviations of either: nothing is cut off.
    image, vague, _ = scene((14, 15), 3)
    found = mean_field(vague, image, NARROW_FIELD)
    assert np.abs(found - every_pair(vague, image, NARROW_FIELD)).max() < 1e-3


def test_wide_field_in_blocks_is_near_to_all_pairs():
    image, vague, inside = scene((40, 44), 3)
    field = Field(near=3.0, far=15.0, colour=5.0)
    found, truth = mean_field(vague, image, field), every_pair(vague, image, field)
    assert ((found >= 0.5) == (truth >= 0.5)).mean() > 0.99
    assert np.abs(found - truth).mean() < 0.02
    # It does what it is for: a noisy map follows the image.
    assert ((found >= 0.5) == inside).mean() > 0.97 > ((vague >= 0.5) == inside).mean()


def test_grey_counts_as_three_equal_colours():
    image, vague, _ = scene((20, 20), 1)
    same = np.repeat(image, 3, 2)
    one = mean_field(vague, image, NARROW_FIELD)
    np.testing.assert_allclose(one, mean_field(vague, same, NARROW_FIELD), atol=1e-5)


@pytest.mark.parametrize("field", [NARROW_FIELD, WIDE_FIELD], ids=["narrow", "wide"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (1, 40), (17, 33)])
def test_any_shape_and_certainty(shape, field):
    image = np.zeros((*shape, 1), np.float32)
    for value in (0.0, 0.5, 1.0):
        found = mean_field(np.full(shape, value), image, field)
        assert found.shape == shape
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
        if value == 0.5:
            np.testing.assert_allclose(found, 0.5, atol=1e-6)
        else:
            assert ((found > 0.5) == (value > 0.5)).all()


def test_scaled_field_on_a_scaled_image():
    assert Field(6, 12, 5).scaled(0.5) == Field(3, 6, 5)
