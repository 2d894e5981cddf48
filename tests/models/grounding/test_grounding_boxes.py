"""Grounding DINO and OWLv2: parity with transformers, and what is kept."""

import numpy as np
import pytest
import torch

import napari_fewshot as nf
from napari_fewshot.models.grounding import Detections, kept_boxes

# No box is dropped, so that all can be compared.
ALL = {"overlap": 1.0, "largest": 1.0}


def swapped(boxes, shape):
    """Return (x0, y0, x1, y1) as (y0, x0, y1, x1), cut to the plane."""
    found = np.asarray(boxes)[:, [1, 0, 3, 2]]
    return np.clip(found, 0, [*shape[:2], *shape[:2]])


def assert_same(found, boxes, scores, shape):
    """Compare boxes in any order, without those that lie beside the plane."""
    wanted = swapped(boxes, shape)
    fits = (wanted[:, 2:] > wanted[:, :2]).all(1)
    wanted, scores = wanted[fits], np.asarray(scores)[fits]
    assert len(found) == len(scores) > 0
    one, other = np.lexsort(found.boxes.T), np.lexsort(wanted.T)
    np.testing.assert_allclose(found.boxes[one], wanted[other], atol=1e-3)
    np.testing.assert_allclose(found.scores[one], scores[other], atol=1e-5)


@torch.inference_mode()
def test_grounding_dino_finds_what_transformers_finds(dino, image):
    phrases = ["A cell", "dots"]
    given = dino.processor(
        images=image,
        text="a cell. dots.",
        return_tensors="pt",
        input_data_format="channels_last",
    )
    ((tokens, spans),) = dino.sentences(phrases)
    assert tokens == given["input_ids"][0].tolist()
    assert [tokens[a:b] for _, a, b in spans] == [tokens[1:3], tokens[4:6]]
    answer = dino.network(**given)
    level = float(answer.logits.max(-1).values.sigmoid().median())
    # Warned of by transformers itself when a key is read; only others are.
    wanted = dino.processor.post_process_grounded_object_detection(
        answer, threshold=level, text_threshold=0.0, target_sizes=[image.shape[:2]]
    )[0]
    found = dino.detect(image, phrases, level, text_threshold=0.0, **ALL)
    assert_same(found, wanted["boxes"], wanted["scores"], image.shape)
    assert set(found.phrases) <= {0, 1}


@torch.inference_mode()
def test_a_box_belongs_to_the_phrase_of_its_best_token(dino, image):
    phrases = ["round cell", "dark nucleus", "dot"]
    ((tokens, spans),) = dino.sentences(phrases)
    logits, _boxes = dino._answer(tokens, image)
    scores = logits.sigmoid().numpy()
    level = float(np.median(scores.max(1)))
    wanted = []
    for row in range(len(scores)):
        best = [max(scores[row, t] for t in range(a, b)) for _, a, b in spans]
        if scores[row].max() > level and max(best) > 0.4:
            wanted.append((scores[row].max(), int(np.argmax(best))))
    found = dino.detect(image, phrases, level, text_threshold=0.4, **ALL)
    assert len(set(found.phrases)) > 1
    got = sorted(zip(found.scores, found.phrases, strict=True))
    # Those beside the plane are not among the found.
    assert len(got) <= len(wanted)
    pairs = {(round(float(s), 4), p) for s, p in wanted}
    assert {(round(float(s), 4), int(p)) for s, p in got} <= pairs


def test_phrases_beyond_one_sentence_are_read_in_several(dino, image):
    assert dino.context_length == 32
    phrases = [
        f"{a} {b}" for a in ("a", "dark", "round") for b in ("cell", "dot", "dots")
    ]
    phrases += ["cell", "dot", "nucleus", "dark dark cell"]
    parts = dino.sentences(phrases)
    assert len(parts) == 2
    assert all(len(tokens) <= 32 for tokens, _ in parts)
    assert [n for _, spans in parts for n, _, _ in spans] == list(range(len(phrases)))
    found = dino.detect(image, phrases, 0.01, text_threshold=0.0, **ALL)
    assert max(found.phrases) > 8
    long = "cell " * 60
    ((tokens, _spans),) = dino.sentences([long])
    assert len(tokens) == 32
    assert dino.too_long([long, "cell"]) == (long,)


def test_signs_do_not_end_phrases(dino, image):
    plain = dino.sentences(["a cell"])
    for phrase in ("A cell.", "a. cell?", "a [SEP] cell", "a [cls] cell"):
        assert dino.sentences(dino._words([phrase])) == plain, phrase
    with pytest.raises(nf.PromptError, match="no words"):
        dino.detect(image, ["..."])
    assert dino.unreadable(["細胞", "a 細胞", "zebra"]) == ("細胞", "zebra")


@torch.inference_mode()
def test_owl_finds_what_transformers_finds(owl, image):
    phrases = ["a cell", "dot", "round"]
    given = owl.processor(
        text=[phrases],
        images=image,
        return_tensors="pt",
        input_data_format="channels_last",
    )
    answer = owl.network(**given)
    level = float(answer.logits.max(-1).values.sigmoid().median())
    wanted = owl.processor.post_process_grounded_object_detection(
        answer, threshold=level, target_sizes=[image.shape[:2]]
    )[0]
    found = owl.detect(image, phrases, level, **ALL)
    assert_same(found, wanted["boxes"], wanted["scores"], image.shape)
    labels = dict(
        zip(wanted["scores"].tolist(), wanted["labels"].tolist(), strict=True)
    )
    assert len(set(found.phrases)) > 1
    for score, phrase in zip(found.scores, found.phrases, strict=True):
        nearest = min(labels, key=lambda s: abs(s - score))
        assert labels[nearest] == phrase


@torch.inference_mode()
def test_owl_finds_what_looks_like_an_example(owl, image):
    crop = image[10:40, 20:60]
    given = owl.processor(
        images=image,
        query_images=crop,
        return_tensors="pt",
        input_data_format="channels_last",
    )
    answer = owl.network.image_guided_detection(**given)
    scores = answer.logits.max(-1).values.sigmoid()[0]
    level = float(scores.median())
    wanted = owl.processor.post_process_image_guided_detection(
        answer,
        threshold=level,
        nms_threshold=0.3,
        target_sizes=torch.tensor([image.shape[:2]]),
    )[0]
    found = owl.boxes_like(image, crop, level)
    # Theirs are cut to the plane after doubles are dropped, ours before.
    boxes = swapped(wanted["boxes"], image.shape)
    theirs = {tuple(b.round(2)) for b in boxes}
    mine = {tuple(b.round(2)) for b in found.boxes.astype(np.float64)}
    best = tuple(boxes[int(wanted["scores"].argmax())].round(2))
    assert best in mine
    assert len(mine & theirs) >= 0.5 * len(theirs)
    # The same example twice is one example.
    twice = owl.boxes_like(image, [crop, crop], level)
    np.testing.assert_allclose(twice.boxes, found.boxes, atol=1e-3)
    with pytest.raises(nf.PromptError, match="no example"):
        owl.boxes_like(image, [])


def brute_force(found, shape, overlap, largest):
    """Greedy suppression by its definition."""
    limits = [*shape, *shape]
    rows = []
    for box, score, phrase in zip(
        found.boxes, found.scores, found.phrases, strict=True
    ):
        cut = [min(max(float(v), 0), m) for v, m in zip(box, limits, strict=True)]
        height, width = cut[2] - cut[0], cut[3] - cut[1]
        if height > 0 and width > 0 and height * width <= largest * shape[0] * shape[1]:
            rows.append((score, cut, phrase))
    rows.sort(key=lambda r: -r[0])
    kept = []
    for score, a, phrase in rows:
        for _, b, _ in kept:
            h = min(a[2], b[2]) - max(a[0], b[0])
            w = min(a[3], b[3]) - max(a[1], b[1])
            both = max(h, 0) * max(w, 0)
            every = sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)) - both
            if both / every > overlap:
                break
        else:
            kept.append((score, a, phrase))
    return kept


@pytest.mark.parametrize("seed", range(4))
def test_which_boxes_are_kept(seed):
    random = np.random.default_rng(seed)
    low = random.uniform(-20, 80, (40, 2))
    boxes = np.concatenate([low, low + random.uniform(-2, 60, (40, 2))], 1)
    given = Detections(
        boxes.astype(np.float32),
        random.random(40).astype(np.float32),
        random.integers(0, 3, 40),
    )
    found = kept_boxes(given, (90, 70), 0.4, 0.3)
    wanted = brute_force(given, (90, 70), 0.4, 0.3)
    assert len(found) == len(wanted) < 40
    np.testing.assert_allclose(found.scores, [w[0] for w in wanted])
    np.testing.assert_allclose(found.boxes, [w[1] for w in wanted], atol=1e-4)
    assert list(found.phrases) == [w[2] for w in wanted]


def test_boxes_as_large_as_the_plane_are_dropped():
    whole = Detections(
        np.array([[0, 0, 50, 50], [0, 0, 10, 10]], np.float32),
        np.array([0.9, 0.4], np.float32),
        np.zeros(2, int),
    )
    assert list(kept_boxes(whole, (50, 50), 0.5, 0.8).scores) == [np.float32(0.4)]
    assert len(kept_boxes(whole, (50, 50), 0.5, 1.0)) == 2
    assert len(kept_boxes(Detections(), (50, 50), 0.5, 0.8)) == 0


class Seer:
    """Stands for the network in a detector: sees bright rectangles, as a whole."""

    def __call__(self, rgb, words, threshold, check, **more):
        bright = rgb[..., 0] > 128
        rows, columns = (np.flatnonzero(bright.any(a)) for a in (1, 0))
        if not len(rows):
            return Detections()
        box = [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]
        return Detections(
            np.array([box], np.float32), np.ones(1, np.float32), np.zeros(1, int)
        )


def test_windows_find_each_object_once_and_whole(dino, monkeypatch):
    """An object that the edge of a window cuts counts where it is whole."""
    monkeypatch.setattr(dino, "_found", Seer())
    plane = np.zeros((96, 300, 3), np.uint8)
    plane[20:50, 80:110] = 255
    found = dino.detect(plane, ["cell"], windows="on")
    np.testing.assert_array_equal(found.boxes, [[20, 80, 50, 110]])
    plane[10:30, 250:270] = 255
    # Seen as one box on the whole plane, and one by one in the windows.
    found = dino.detect(plane, ["cell"], windows="auto", largest=0.2)
    boxes = {tuple(b) for b in found.boxes.astype(int).tolist()}
    assert boxes == {(20, 80, 50, 110), (10, 250, 30, 270)}
    assert len(dino.detect(plane, ["cell"], windows="off", largest=0.2)) == 0


@pytest.mark.parametrize("which", ["dino", "owl"])
def test_what_is_refused_and_what_is_not(which, request, image):
    model = request.getfixturevalue(which)
    for phrases in ([], [""], ["cell", " "]):
        with pytest.raises(nf.PromptError):
            model.detect(image, phrases)
    with pytest.raises(nf.PromptError, match="between 0 and 1"):
        model.detect(image, ["cell"], 2)
    with pytest.raises(nf.DataError, match="one plane"):
        model.detect(np.zeros((2, 3, 4, 5)), ["cell"])
    for plane in (np.full((40, 30), np.nan), np.zeros((33, 20), np.uint16)):
        found = model.detect(plane, ["<b>細胞</b> 🔬 cell", "cell " * 99], 0.01)
        assert np.isfinite(found.boxes).all()
    assert len(model.detect(image, ["cell"], 1.0)) == 0
    with pytest.raises(nf.ModelError, match="gives no features"):
        model.encode(image)


def test_it_can_be_stopped(dino, owl, image):
    def stop(number, count):
        raise nf.Cancelled("stopped")

    for model in (dino, owl):
        with pytest.raises(nf.Cancelled):
            model.detect(255 - image, ["cell"], check=stop)
