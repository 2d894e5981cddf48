"""Feature surgery against sums over channels, one by one."""

import numpy as np
import pytest
from tests.methods.text.reader import WIDTH, bank_of, forget, native, picture, rows

from napari_fewshot.data import Hooks, Plane
from napari_fewshot.methods import get_method
from napari_fewshot.methods.surgery import surgery
from napari_fewshot.methods.text._seen import Seen

METHOD = get_method("surgery")
PARAMS = METHOD.spec.params()


def by_channels(cells, pooled, texts):
    """Return similarity (N, C) with every feature (n, c, e) written out."""
    odds = np.array([np.exp(2 * (pooled @ t)) for t in texts])
    p = odds / odds.sum()
    w = p / p.mean()
    features = np.zeros((len(cells), len(texts), cells.shape[1]))
    for n, cell in enumerate(cells):
        for c, text in enumerate(texts):
            for e in range(cells.shape[1]):
                features[n, c, e] = w[c] * cell[e] * text[e]
    shared = features.mean(1, keepdims=True)
    return (features - shared).sum(-1)


def test_formula():
    cells, pooled, texts = rows(6, 1), rows(1, 2)[0], rows(4, 3)
    found = surgery(cells, pooled, texts)
    np.testing.assert_allclose(found, by_channels(cells, pooled, texts), atol=1e-5)
    np.testing.assert_allclose(found.sum(1), 0, atol=1e-5)


def test_a_phrase_that_fits_the_plane_better_weighs_more():
    cells = rows(1, 1)
    text = np.stack([cells[0], cells[0]])
    text[1, 0] += 1e-3
    same = surgery(cells, rows(1, 5)[0], np.stack([cells[0], cells[0]]))
    np.testing.assert_allclose(same, 0, atol=1e-6)
    pooled = rows(1, 9)[0]
    found = surgery(cells, pooled, np.stack([pooled, -pooled]))
    wanted = by_channels(cells, pooled, np.stack([pooled, -pooled]))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def seen(seed=0):
    return Seen(rows(12, seed).reshape(3, 4, WIDTH), rows(1, seed + 50)[0])


def test_a_single_class_is_compared_with_no_words():
    view, words = seen(), rows(3, 4)
    bank = bank_of([words])
    found = METHOD.compared(view, bank, PARAMS)
    for i in range(3):
        for j in range(4):
            best = max(view.cells[i, j] @ (w - bank.empty) for w in words)
            assert found[0, i, j] == pytest.approx(best, abs=1e-6)


def test_classes_negatives_and_background_are_the_several_texts():
    view, apart = seen(), rows(2, 7)
    first, second = rows(2, 4), rows(1, 5)
    bank = bank_of([first, second], [apart])
    found = METHOD.compared(view, bank, PARAMS)
    cells = view.cells.reshape(-1, WIDTH)
    mean = first.sum(0) / np.linalg.norm(first.sum(0))
    for number, (words, other) in enumerate([(first, second[0]), (second, mean)]):
        negative = apart if number == 0 else np.zeros((0, WIDTH))
        maps = [
            by_channels(
                cells, view.pooled, np.array([w, other, *negative, *bank.background])
            )[:, 0]
            for w in words
        ]
        np.testing.assert_allclose(found[number].ravel(), np.max(maps, 0), atol=1e-5)


def test_one_class_with_negatives_is_several_texts():
    view, bank = seen(), bank_of([rows(1, 4)], [rows(1, 6)])
    texts = np.concatenate([rows(1, 4), rows(1, 6), bank.background])
    found = METHOD.compared(view, bank, PARAMS)[0].ravel()
    wanted = by_channels(view.cells.reshape(-1, WIDTH), view.pooled, texts)[:, 0]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_the_map_is_relevance_from_0_to_1_and_its_order_is_that_of_the_formula():
    forget()
    reader, image = native(8), picture()
    bank = bank_of([rows(1, 1)])
    heat = METHOD.heat(reader, Plane(image), bank, PARAMS, Hooks())
    assert heat.kind == "relevance"
    assert heat.background is None
    assert heat.maps.min() == 0
    assert heat.maps.max() == 1
    view = METHOD._seen(reader, [image], PARAMS)[0]
    raw = view.cells @ (rows(1, 1)[0] - bank.empty)
    wanted = (raw - raw.min()) / (raw.max() - raw.min())
    np.testing.assert_allclose(heat.maps[0], wanted, atol=1e-5)
