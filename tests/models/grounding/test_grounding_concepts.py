"""SAM 3's concepts: parity with transformers, examples, the canvas."""

import numpy as np
import pytest
import torch

import napari_fewshot as nf
from napari_fewshot.models.grounding import canvas_of, load

LEVEL = 0.2


@torch.inference_mode()
def published(model, image, text=None, boxes=None, labels=None, level=LEVEL):
    """Return what transformers' processor, network and post-processing say."""
    processor = model.processor
    given = processor(
        images=image,
        text=text,
        input_boxes=boxes,
        input_boxes_labels=labels,
        return_tensors="pt",
        input_data_format="channels_last",
    )
    sizes = given.pop("original_sizes").tolist()
    answer = model.network(**given)
    objects = processor.image_processor.post_process_instance_segmentation(
        answer, threshold=level, target_sizes=sizes
    )[0]
    return answer, objects


def assert_same(found, answer, objects):
    assert len(found) == len(objects["scores"]) > 1
    order = torch.argsort(-objects["scores"])
    np.testing.assert_allclose(found.scores, objects["scores"][order], atol=1e-5)
    boxes = objects["boxes"][order].numpy()[:, [1, 0, 3, 2]]
    rows, columns = found.masks.shape[1:]
    boxes = np.clip(boxes, 0, [rows, columns] * 2)
    np.testing.assert_allclose(found.boxes, boxes, atol=1e-3)
    masks = objects["masks"][order].numpy().astype(bool)
    assert (found.masks == masks).mean() > 0.9999
    assert 0 < masks.mean() < 1
    np.testing.assert_allclose(
        found.presence, answer.presence_logits.sigmoid().item(), atol=1e-5
    )
    region = answer.semantic_seg[0, 0].sigmoid().numpy()
    np.testing.assert_allclose(found.region, region, atol=1e-5)


def test_a_phrase_finds_what_transformers_finds(concept, image):
    answer, objects = published(concept, image, "a cell")
    found = concept.concepts(image, "a cell", threshold=LEVEL)
    assert_same(found, answer, objects)
    assert (np.diff(found.scores) <= 0).all()


def test_boxes_and_signs(concept, image):
    """Examples that are meant and that are not, with words and without."""
    places = [[5, 8, 30, 33], [20, 40, 50, 80]]
    theirs = [[[8, 5, 33, 30], [40, 20, 80, 50]]]
    answer, objects = published(concept, image, "a cell", theirs, [[1, 0]])
    found = concept.concepts(image, "a cell", places, [1, 0], threshold=LEVEL)
    assert_same(found, answer, objects)
    # Without a phrase it is "visual", as the processor has it.
    answer, objects = published(concept, image, None, theirs, [[1, 1]])
    assert_same(concept.concepts(image, "", places, threshold=LEVEL), answer, objects)
    other = concept.concepts(image, "a cell", places, [1, 1], threshold=LEVEL)
    assert not np.allclose(other.region, found.region)


def test_light_words(lite_folder, image, read):
    model = read("sam3-litetext/s0", lite_folder)
    answer, objects = published(model, image, "a cell", level=0.01)
    assert_same(model.concepts(image, "a cell", threshold=0.01), answer, objects)
    assert model.context_length == 32


def test_a_plane_is_encoded_once_and_a_phrase_once(concept, image, monkeypatch):
    network, calls = concept.network, []

    def counted(name):
        work = getattr(network, name)

        def count(*args, **more):
            calls.append(name)
            return work(*args, **more)

        monkeypatch.setattr(network, name, count)

    counted("get_vision_features")
    counted("get_text_features")
    phrases = [f"dot {i}" for i in range(4)]
    for plane in (255 - image, image // 2):
        for phrase in phrases:
            concept.concepts(plane, phrase)
    assert calls.count("get_vision_features") == 2
    assert calls.count("get_text_features") == 4


def test_the_query_side_of_a_canvas(concept, image):
    """With examples elsewhere: the same as transformers says of the canvas by hand."""
    support = np.random.default_rng(5).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    canvas = canvas_of(image, [(support, np.array([10, 20, 26, 40], np.float32))])
    rows, columns = image.shape[:2]
    assert canvas.pixels.shape == (rows, canvas.column + columns, 3)
    np.testing.assert_array_equal(canvas.pixels[:, canvas.column :], image)
    y0, x0, y1, x1 = map(float, canvas.boxes[0])
    answer, objects = published(
        concept, canvas.pixels, "a cell", [[[x0, y0, x1, y1]]], [[1]]
    )
    middles = (objects["boxes"][:, 0] + objects["boxes"][:, 2]) / 2
    here = (middles >= canvas.column).numpy()
    found = concept.concepts(
        image, "a cell", exemplars=[(support, [10, 20, 26, 40])], threshold=LEVEL
    )
    assert found.masks.shape[1:] == (rows, columns)
    assert found.region.shape == (rows, columns)
    assert len(found) == here.sum()
    order = np.argsort(-objects["scores"].numpy()[here], kind="stable")
    masks = objects["masks"].numpy().astype(bool)[here][order]
    if here.any():
        assert (found.masks == masks[:, :, canvas.column :]).mean() > 0.9999
    small = answer.semantic_seg.sigmoid()
    shape = canvas.pixels.shape[:2]
    large = torch.nn.functional.interpolate(small, shape, mode="bilinear")[0, 0]
    np.testing.assert_allclose(
        found.region, large[:, canvas.column :].detach().numpy(), atol=1e-5
    )


def test_pieces_of_supports_keep_their_pixels():
    query = np.zeros((60, 80, 3), np.uint8)
    random = np.random.default_rng(0)
    large = random.integers(0, 256, (200, 300, 3)).astype(np.uint8)
    small = random.integers(0, 256, (12, 9, 3)).astype(np.uint8)
    # In a corner, in the middle, and a plane that is smaller than its panel.
    boxes = [[0, 0, 9, 12], [100, 150, 112, 160], [2, 1, 8, 7]]
    supports = [(large, boxes[0]), (large, boxes[1]), (small, boxes[2])]
    canvas = canvas_of(query, supports)
    assert canvas.column == 40
    for (plane, box), place in zip(supports, canvas.boxes, strict=True):
        a, b, c, d = np.asarray(box)
        y0, x0, y1, x1 = place.astype(int)
        np.testing.assert_array_equal(canvas.pixels[y0:y1, x0:x1], plane[a:c, b:d])
        assert x1 <= canvas.column


def test_an_object_larger_than_its_panel_shrinks():
    query = np.zeros((60, 80, 3), np.uint8)
    support = np.zeros((300, 300, 3), np.uint8)
    support[50:250, 100:180] = 255
    canvas = canvas_of(query, [(support, [50, 100, 250, 180])])
    bright = canvas.pixels[..., 0] > 128
    rows, columns = (np.flatnonzero(bright.any(a)) for a in (1, 0))
    seen = [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]
    np.testing.assert_allclose(canvas.boxes[0], seen, atol=1)
    sides = canvas.boxes[0, 2:] - canvas.boxes[0, :2]
    np.testing.assert_allclose(sides[0] / sides[1], 200 / 80, rtol=0.05)
    assert (sides <= 0.71 * np.array([60, canvas.column])).all()


@pytest.mark.parametrize(
    "box",
    [
        [1, 2, 3],
        [5, 5, 5, 9],
        [9, 5, 5, 9],
        [np.nan, 0, 5, 5],
        [500, 500, 600, 600],
        "box",
    ],
)
def test_boxes_that_are_none(concept, image, box):
    with pytest.raises(nf.PromptError, match=r"[Bb]ox"):
        concept.concepts(image, "cell", box)
    with pytest.raises(nf.PromptError, match=r"[Bb]ox"):
        concept.concepts(image, "cell", exemplars=[(image, box)])


def test_what_is_refused(concept, image):
    good = [5, 5, 20, 20]
    for phrase, boxes, labels in (("", None, None), ("", good, [0]), (" ", None, None)):
        with pytest.raises(nf.PromptError, match="nothing to look for"):
            concept.concepts(image, phrase, boxes, labels)
    for labels in ([1, 1], [2], ["yes"]):
        with pytest.raises(nf.PromptError, match="as many labels"):
            concept.concepts(image, "cell", good, labels)
    with pytest.raises(nf.PromptError, match="no boxes"):
        concept.concepts(image, "cell", None, [1])
    with pytest.raises(nf.PromptError, match="too many"):
        concept.concepts(image, "cell", exemplars=[(image, good)] * 20)
    with pytest.raises(nf.DataError, match="one plane"):
        concept.concepts(np.zeros(4), "cell")


def test_phrases_and_planes_of_all_kinds(concept):
    long = "cell " * 80
    assert concept.too_long([long, "cell", ""]) == (long,)
    for plane in (np.full((40, 30), np.nan), np.zeros((33, 20, 7), np.uint16)):
        for phrase in ("細胞", "🔬", "<|endoftext|> cell", long):
            found = concept.concepts(plane, phrase, threshold=0.01)
            assert np.isfinite(found.scores).all()
            assert found.masks.shape[1:] == plane.shape[:2]
    none = concept.concepts(np.zeros((20, 20)), "cell", threshold=1.0)
    assert len(none) == 0
    assert none.masks.shape == (0, 20, 20)


def test_it_can_be_stopped(concept, image):
    def stop(number, count):
        raise nf.Cancelled("stopped")

    with pytest.raises(nf.Cancelled):
        concept.concepts(255 - image, "cell", check=stop)


def test_sixteen_bits(sam3, image):
    from napari_fewshot.models import get_model_spec

    spec = get_model_spec("sam3/concept")
    half = load(spec, sam3[1], "cpu", "bf16").concepts(image, "cell", threshold=LEVEL)
    full = load(spec, sam3[1], "cpu", "fp32").concepts(image, "cell", threshold=LEVEL)
    assert 0 < abs(half.presence - full.presence) < 0.05
