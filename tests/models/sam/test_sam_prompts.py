"""Prompts and planes, good and bad; the embedding over its plane."""

import numpy as np
import pytest

import napari_fewshot as nf


@pytest.fixture(scope="module")
def model(weights):
    return nf.load_model("sam/vit_b", checkpoint=weights, device="cpu")


@pytest.fixture(scope="module")
def embedding(model):
    rng = np.random.default_rng(0)
    return model.encode(rng.integers(0, 255, (90, 130, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "no prompt"),
        ({"points": np.zeros((0, 2))}, "no prompt"),
        ({"points": [[90.0, 3]]}, "outside the image of 90 x 130"),
        ({"points": [[3.0, -2]]}, "outside"),
        ({"points": [[np.nan, 2]]}, "not a number"),
        ({"points": [[1, 2, 3]]}, r"\(row, column\) each.*\(1, 3\)"),
        ({"points": "here"}, "no numbers"),
        ({"boxes": [1, 2, 3]}, r"A box is.*\(3,\)"),
        ({"points": [[1, 2]], "point_labels": [1, 0]}, "1 points and 2 labels"),
        ({"points": [[1, 2]], "point_labels": [3]}, r"1 \(inside\) or 0"),
        ({"points": np.ones((10_001, 2))}, "too many"),
        ({"boxes": [10, 10, 10, 40]}, "empty"),
        ({"boxes": [50, 10, 10, 40]}, "empty"),
        ({"boxes": [5, 5, 200, 40]}, "outside"),
        ({"mask": np.zeros((9, 9))}, "64, 64"),
        ({"boxes": [[1, 1, 9, 9]], "points": [[1, 2]]}, "one object each"),
    ],
)
def test_bad_prompts(model, embedding, given, words):
    with pytest.raises(nf.PromptError, match=words):
        model.predict(embedding, **given)


def test_thousands_of_points_and_the_rim(model, embedding):
    rng = np.random.default_rng(1)
    points = rng.uniform(0, 1, (3000, 2)) * (89, 129)
    masks, _, _ = model.predict(embedding, points=points)
    assert masks.shape == (3, 90, 130)
    model.predict(embedding, points=[[-0.5, 129.5]], boxes=[-0.5, -0.5, 90, 130])


@pytest.mark.parametrize("shape", [(16, 16), (1, 300), (700, 40, 2), (33, 40, 5)])
def test_planes_of_any_shape(model, shape):
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    embedding = model.encode(image)
    assert embedding.array.shape == (256, 16, 16)
    masks, _, _ = model.predict(embedding, points=[[0, 0]], multimask=False)
    assert masks.shape == (1, *shape[:2])
    rows, columns = embedding.cells.shape[1:]
    assert max(rows, columns) == 16
    assert (rows >= columns) == (shape[0] >= shape[1])


def test_kinds_of_pixels_mean_the_same(model):
    grey = np.random.default_rng(0).integers(0, 256, (60, 80), dtype=np.uint8)
    expected = model.encode(np.stack([grey] * 3, -1)).array
    for same in (grey, grey[..., None], grey / np.float32(255)):
        np.testing.assert_allclose(model.encode(same).array, expected, atol=1e-5)


def test_pixels_that_are_not_numbers(model):
    image = np.random.default_rng(0).random((40, 40)).astype(np.float32)
    image[3:9, 5:9] = np.nan
    assert np.isfinite(model.encode(image).array).all()


def test_not_a_plane(model):
    for shape in ((4,), (2, 3, 4, 5), (0, 7)):
        with pytest.raises(nf.DataError, match="one plane"):
            model.encode(np.zeros(shape))


def test_encoding_can_be_cancelled(model):
    seen = []

    def check(block, blocks):
        seen.append((block, blocks))
        if block == 1:
            raise nf.Cancelled("enough")

    with pytest.raises(nf.Cancelled):
        model.encode(np.zeros((20, 20)), check)
    assert seen == [(0, 3), (1, 3)]


def test_cells_lie_over_the_plane(model):
    """A bright corner of the plane is found in the same corner of the cells."""
    plain = np.full((120, 256), 0.5, np.float32)
    marked = plain.copy()
    marked[-24:, -24:] = 1.0
    change = np.abs(model.encode(marked).cells - model.encode(plain).cells).sum(0)
    assert change.shape == (8, 16)
    row, column = np.unravel_index(change.argmax(), change.shape)
    assert row >= 6
    assert column >= 14
    assert model.encode(plain).stride == pytest.approx((16, 16))


def test_prototypes_on_sam_find_the_class(weights):
    """The embedding serves the methods: flat discs beside stripes, random weights."""
    yy, xx = np.mgrid[:128, :128]
    stripes = 0.5 + 0.5 * np.sin(xx * 1.5)

    def picture(row, column):
        disc = (yy - row) ** 2 + (xx - column) ** 2 < 28**2
        return np.where(disc, 0.5, stripes).astype(np.float32), disc

    image, mask = picture(40, 44)
    query, truth = picture(80, 76)
    found = nf.segment(
        query,
        nf.Support(image, mask),
        method="prototype",
        model="sam/vit_b",
        checkpoint=weights,
    )
    overlap = 2 * ((found.labels == 1) & truth).sum()
    assert overlap / ((found.labels == 1).sum() + truth.sum()) > 0.6
    assert found.provenance["model"] == "sam/vit_b"
    assert len(found.provenance["weights_sha256"]) == 64
