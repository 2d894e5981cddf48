"""The weight-free model is a real encoder."""

from __future__ import annotations

import numpy as np
import pytest

import napari_fewshot as nf


@pytest.mark.parametrize(
    "shape", [(64, 80), (64, 80, 3), (9, 9), (700, 300)], ids=lambda s: str(s)
)
def test_embeddings(shape):
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    model = nf.load_model("filters")
    embedding = model.encode(image)
    assert embedding.image_shape == shape[:2]
    assert embedding.array.dtype == np.float32
    assert max(embedding.array.shape[1:]) <= 128
    assert np.isfinite(embedding.array).all()
    assert embedding.stride[0] == shape[0] / embedding.array.shape[1]
    np.testing.assert_array_equal(model.encode(image).array, embedding.array)


def test_other_dtypes_are_windowed():
    image = np.random.default_rng(0).integers(0, 4000, (64, 64)).astype(np.uint16)
    assert np.abs(nf.load_model("auto").encode(image).array).max() < 50


def test_no_weights_and_unknown_names():
    with pytest.raises(nf.WeightsError, match="no weights"):
        nf.load_model("filters", checkpoint="x.pth")
    with pytest.raises(nf.ModelError, match="'filters'"):
        nf.load_model("filter")


def test_tables():
    models, methods = nf.list_models(), nf.list_methods()
    assert models.columns[0] == methods.columns[0] == "name"
    assert {"task", "licence", "size", "needs_download", "trained_on"} <= set(models)
    names = list(methods["name"])
    assert names[:5] == ["auto", "incontext", "pixel", "template", "prototype"]
    published = {"persam", "matcher", "alpnet", "repri", "fob", "linear", "instances"}
    assert published <= set(names)
    assert (methods["citation"] != "").all()
