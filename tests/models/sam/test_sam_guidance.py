"""PerSAM's guidance of the decoder: the formula, and that it changes answers."""

import numpy as np
import pytest
import torch

import napari_fewshot as nf
from napari_fewshot.errors import PromptError
from napari_fewshot.models.sam._decoder import biased_attention


@pytest.fixture(scope="module")
def encoded(weights, picture):
    model = nf.load_model("sam/vit_b", checkpoint=weights, device="cpu")
    return model, model.encode(picture)


def test_formula():
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, n, 8, generator=generator) for n in (3, 5, 5))
    z = torch.randn(5, generator=generator)
    chance = torch.softmax(torch.einsum("bnc,bmc->bnm", q, k) / 8**0.5, -1)
    raised = torch.exp(chance + torch.sigmoid(z))
    expected = raised / raised.sum(-1, keepdim=True) @ v
    torch.testing.assert_close(biased_attention(q, k, v, z.sigmoid()), expected)


def test_even_bias_is_no_preference(encoded):
    model, embedding = encoded
    ask = {"points": np.array([[30, 40]]), "point_labels": [1]}
    side = embedding.array.shape[1:]
    zero, one = (
        model.decode(embedding, **ask, attention_bias=np.full(side, b))[0]
        for b in (0.0, 3.0)
    )
    np.testing.assert_allclose(zero, one, rtol=1e-4, atol=1e-5)
    spot = np.full(side, -30.0)
    spot[0, 0] = 30
    other, _ = model.decode(embedding, **ask, attention_bias=spot)
    assert abs(other - zero).max() > 1e-4


def test_target_changes_answers_and_zero_does_not(encoded):
    model, embedding = encoded
    ask = {"points": np.array([[30, 40]]), "point_labels": [1]}
    plain, scores = model.decode(embedding, **ask)
    same, same_scores = model.decode(embedding, **ask, target=np.zeros(256))
    np.testing.assert_allclose(same, plain, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(same_scores, scores, rtol=1e-4, atol=1e-5)
    other, _ = model.decode(embedding, **ask, target=np.ones(256))
    assert abs(other - plain).max() > 1e-3


def test_wrong_shapes_are_told(encoded):
    model, embedding = encoded
    with pytest.raises(PromptError, match=r"target has the shape \(3,\)"):
        model.decode(embedding, points=[[3, 4]], target=np.zeros(3))
    with pytest.raises(PromptError, match="attention_bias"):
        model.decode(embedding, points=[[3, 4]], attention_bias=np.zeros((3, 3)))
