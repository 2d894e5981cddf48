"""DHN-NCE against its formula written out, and what it teaches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_fewshot.errors import DataError
from napari_fewshot.ops.contrast import (
    dhn_nce,
    dhn_nce_of,
    equal_captions,
    recall_at,
)


def by_hand(cosines, tau, b1, b2):
    """Write the formula out with loops."""
    total = 0.0
    for matrix, b in ((cosines, b1), (cosines.T, b2)):
        logits = matrix / tau
        n = len(logits)
        parts = []
        for i in range(n):
            others = [j for j in range(n) if j != i]
            norm = sum(np.exp(b * logits[i, k]) for k in others)
            weighed = sum(
                (n - 1) * np.exp(b * logits[i, j]) / norm * np.exp(logits[i, j])
                for j in others
            )
            parts.append(-logits[i, i] + np.log(weighed))
        total += float(np.mean(parts))
    return total


def planted(n=8, hard=0.8):
    """Cosines of unrelated pairs, and one text that is nearly right for image 0."""
    cosines = np.random.default_rng(0).uniform(-0.1, 0.1, (n, n))
    np.fill_diagonal(cosines, 0.6)
    cosines[0, 1] = hard
    return cosines


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [2, 3, 9])
def test_the_loss_is_the_formula(seed, size):
    rng = np.random.default_rng(seed)
    image, text = rng.normal(size=(2, size, 5))
    unit = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in (image, text)]
    tau, b1, b2 = rng.uniform(0.05, 1), rng.uniform(0, 1), rng.uniform(0, 1)
    found = dhn_nce(torch.tensor(image), torch.tensor(text), tau, (b1, b2))
    assert float(found) == pytest.approx(by_hand(unit[0] @ unit[1].T, tau, b1, b2))


def test_two_pairs_have_a_closed_form():
    """With one negative its weight is one, so hardness does not matter."""
    cosines = torch.tensor([[0.9, 0.2], [0.1, 0.7]], dtype=torch.float64)
    found = dhn_nce_of(cosines, 0.5, (0.4, 0.9))
    by_images = ((0.2 - 0.9) + (0.1 - 0.7)) / 0.5 / 2
    by_texts = ((0.1 - 0.9) + (0.2 - 0.7)) / 0.5 / 2
    assert float(found) == pytest.approx(by_images + by_texts)


def test_the_gradient_is_that_of_finite_differences():
    cosines = torch.tensor(planted(), requires_grad=True)
    assert torch.autograd.gradcheck(dhn_nce_of, (cosines,))
    pair = torch.randn(2, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: dhn_nce(p[0], p[1]), (pair,))


def test_a_hard_negative_is_pushed_away_harder_than_easy_ones():
    cosines = torch.tensor(planted(), requires_grad=True)
    dhn_nce_of(cosines, 0.6, (0.15, 0.15)).backward()
    slope = cosines.grad
    others = slope[~torch.eye(8, dtype=torch.bool)]
    assert (others > 0).all()
    assert (slope.diagonal() < 0).all()
    hard, easy = float(slope[0, 1]), float(others.min())
    assert hard == float(others.max())
    assert hard > 3 * easy
    sharper = torch.tensor(planted(), requires_grad=True)
    dhn_nce_of(sharper, 0.6, (2.0, 2.0)).backward()
    assert float(sharper.grad[0, 1]) > 1.5 * hard


def test_a_lower_temperature_reaches_the_figures_of_the_design():
    """At sharp temperatures the hard negative takes nearly all of the gradient."""
    cosines = torch.tensor(planted(), requires_grad=True)
    dhn_nce_of(cosines, 0.1, (0.15, 0.15)).backward()
    assert float(cosines.grad[0, 1]) > 100 * float(cosines.grad[cosines.grad > 0].min())


def test_descent_parts_a_hard_negative_and_finds_all_pairs():
    torch.manual_seed(0)
    image = torch.randn(8, 16)
    text = image + 0.8 * torch.randn(8, 16)
    text[1] = image[0] + 0.3 * torch.randn(16)
    pair = torch.stack([image, text]).requires_grad_()
    unit = torch.nn.functional.normalize
    before = unit(pair.detach(), dim=-1)
    assert recall_at(before[0].numpy(), before[1].numpy(), 1)[0] < 1
    optimiser = torch.optim.SGD([pair], 2.0)
    for _ in range(300):
        optimiser.zero_grad()
        dhn_nce(pair[0], pair[1]).backward()
        optimiser.step()
    after = unit(pair.detach(), dim=-1)
    hard = [float(u[0, 0] @ u[1, 1]) for u in (before, after)]
    assert hard[0] > 0.7
    assert hard[1] < 0.3
    assert recall_at(after[0].numpy(), after[1].numpy(), 1) == (1.0, 1.0)


def test_large_logits_do_not_overflow():
    cosines = torch.eye(4) * 2 - 1
    assert torch.isfinite(dhn_nce_of(cosines, 1e-4))


def test_equal_captions_are_no_negatives():
    same = torch.tensor(equal_captions(["a cell", "A  Cell", "a ring"]))
    assert same.tolist()[0] == [True, True, False]
    cosines = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    dhn_nce_of(cosines, same=same).backward()
    assert float(cosines.grad[0, 1]) == 0
    assert float(cosines.grad[1, 0]) == 0
    assert float(cosines.grad[0, 2]) > 0
    nothing = torch.zeros(3, 3, dtype=torch.bool)
    plain = dhn_nce_of(cosines.detach(), same=nothing)
    assert float(plain) == float(dhn_nce_of(cosines.detach()))


def test_rows_without_negatives_are_left_out():
    shut = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 1]], dtype=torch.bool)
    cosines = torch.randn(3, 3, requires_grad=True)
    loss = dhn_nce_of(cosines, same=shut)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(cosines.grad).all()


@pytest.mark.parametrize(
    ("image", "text", "words"),
    [
        (torch.randn(1, 4), torch.randn(1, 4), "batch of one"),
        (torch.randn(0, 4), torch.randn(0, 4), "batch of one"),
        (torch.randn(3, 4), torch.randn(2, 4), "pairs"),
        (torch.randn(4), torch.randn(4), "pairs"),
    ],
)
def test_batches_that_teach_nothing_are_refused(image, text, words):
    with pytest.raises(DataError, match=words):
        dhn_nce(image, text)


def test_hostile_settings_are_refused():
    with pytest.raises(DataError, match="temperature"):
        dhn_nce_of(torch.eye(3), 0.0)
    with pytest.raises(DataError, match="temperature"):
        dhn_nce_of(torch.eye(3), float("nan"))
    with pytest.raises(DataError, match="equal"):
        dhn_nce_of(torch.eye(3), same=torch.ones(3, 3, dtype=torch.bool))


def test_recall_counts_ranks():
    image = np.eye(3)
    text = np.eye(3)[[0, 2, 1]]
    assert recall_at(image, text, 1) == (1 / 3, 1 / 3)
    same = np.array([[1, 0, 0], [0, 1, 1], [0, 1, 1]], bool)
    assert recall_at(image, text, 1, same) == (1.0, 1.0)
    # Ties are no finds: a model that says the same of everything retrieves nothing.
    constant = np.ones((4, 2)) / 2**0.5
    assert recall_at(constant, constant, 2) == (0.0, 0.0)
    with pytest.raises(DataError, match="no pairs"):
        recall_at(np.zeros((0, 3)), np.zeros((0, 3)), 1)
