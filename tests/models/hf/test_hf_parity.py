"""The same masks, scores and logits as transformers on the same weights."""

import numpy as np
import pytest
import torch

import napari_fewshot as nf
from napari_fewshot.models import ModelSpec, hf

transformers = pytest.importorskip("transformers")

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
SHAPES = [(64, 64), (40, 90), (300, 170)]
PROMPTS = ["points", "box", "points box", "mask", "mask box", "points box mask"]


def spec(name):
    return ModelSpec(name, "prompted segmentation", "", "Apache-2.0", url="there")


def image(shape):
    return np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)


def prompts(kinds, shape, side):
    """Return prompts for us and, through their processor's arguments, for them."""
    rows, columns = shape
    ours, theirs, mask = {}, {}, None
    if "points" in kinds:
        yx = [[rows * 0.3, columns * 0.6], [rows * 0.8, 11.0]]
        ours |= {"points": yx, "point_labels": [1, 0]}
        theirs["input_points"] = [[[[x, y] for y, x in yx]]]
        theirs["input_labels"] = [[[1, 0]]]
    if "box" in kinds:
        box = [4.0, 9.0, rows - 5.0, columns - 3.0]
        ours["boxes"] = box
        theirs["input_boxes"] = [[[box[1], box[0], box[3], box[2]]]]
    if "mask" in kinds:
        noise = np.random.default_rng(1).normal(0, 5, (1, side, side))
        ours["mask"] = noise.astype(np.float32)
        mask = torch.from_numpy(ours["mask"])[None]
    return ours, theirs, mask


def compare(model, embedding, ours, answer, restored, multimask):
    masks, scores, logits = model.predict(embedding, **ours, multimask=multimask)
    np.testing.assert_allclose(logits, answer.pred_masks[0, 0].numpy(), **CLOSE)
    np.testing.assert_allclose(scores, answer.iou_scores[0, 0].numpy(), **CLOSE)
    assert masks.shape == (3 if multimask else 1, *embedding.image_shape)
    # A pixel whose logit is 0 to the last bit may fall on either side.
    assert (masks != restored.numpy()).mean() < 1e-3
    assert logits.std() > 0.1, "the comparison must be able to fail"


@pytest.fixture(scope="module")
def sam2_pair(folder):
    size = {"height": 64, "width": 64}
    processor = transformers.Sam2Processor(transformers.Sam2ImageProcessor(size=size))
    reference = transformers.Sam2Model.from_pretrained(folder)
    model = hf.load(spec("sam2/hiera_tiny"), folder, "cpu", "fp32")
    return processor, reference, model


@pytest.fixture(scope="module")
def sam3_pair(sam3_folder):
    size = {"height": 56, "width": 56}
    processor = transformers.Sam3TrackerProcessor(
        transformers.Sam3ImageProcessor(size=size)
    )
    encoder = transformers.Sam3TrackerVideoModel.from_pretrained(sam3_folder)
    reference = transformers.Sam3TrackerModel.from_pretrained(sam3_folder)
    return (
        processor,
        (encoder, reference),
        hf.load(spec("sam3/base"), sam3_folder, "cpu", "fp32"),
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kinds", PROMPTS)
def test_sam2(sam2_pair, shape, kinds):
    processor, reference, model = sam2_pair
    pixels = image(shape)
    ours, theirs, mask = prompts(kinds, shape, 16)
    multimask = kinds != "points box"
    given = processor(images=pixels, **theirs, return_tensors="pt")
    sizes = given.pop("original_sizes")
    with torch.no_grad():
        answer = reference(**given, input_masks=mask, multimask_output=multimask)
    restored = processor.post_process_masks(answer.pred_masks, sizes)[0][0]
    embedding = model.encode(pixels)
    assert {k: v.shape for k, v in embedding.extras.items()} == {
        "stride4": (16, 16, 16),
        "stride8": (32, 8, 8),
    }
    compare(model, embedding, ours, answer, restored, multimask)


@pytest.mark.parametrize("kinds", PROMPTS)
def test_sam3(sam3_pair, kinds):
    processor, (encoder, reference), model = sam3_pair
    pixels = image((40, 90))
    ours, theirs, mask = prompts(kinds, (40, 90), 16)
    given = processor(images=pixels, **theirs, return_tensors="pt")
    sizes = given.pop("original_sizes")
    with torch.no_grad():
        maps = encoder.get_image_embeddings(given.pop("pixel_values"))
        answer = reference(image_embeddings=maps, **given, input_masks=mask)
    restored = processor.post_process_masks(answer.pred_masks, sizes)[0][0]
    compare(model, model.encode(pixels), ours, answer, restored, True)
    assert hasattr(model, "propagate")


def test_meta_file_of_the_published_size(medsam2_file):
    path, network = medsam2_file
    model = hf.load(spec("medsam2/tiny"), path, "cpu", "fp32")
    for name in ("state_dict", "named_buffers"):
        held = dict(getattr(model.network, name)())
        for key, tensor in dict(getattr(network, name)()).items():
            assert torch.equal(held[key], tensor), key
    embedding = model.encode(image((70, 90)))
    assert embedding.array.shape == (256, 32, 32)
    assert embedding.extras["stride4"].shape == (32, 128, 128)
    with pytest.raises(nf.WeightsError, match="holds weights of sam2/hiera_tiny"):
        hf.load(spec("sam2/hiera_large"), path, "cpu", "fp32")


def test_many_objects_at_once(sam2_pair):
    model = sam2_pair[2]
    embedding = model.encode(image((40, 90)))
    corner = np.random.default_rng(2).uniform(0, 0.5, (11, 2)) * (40, 90)
    boxes = np.concatenate([corner, corner + np.array([10, 30])], 1)
    masks, scores, logits = model.predict(embedding, boxes=boxes)
    assert masks.shape == (11, 3, 40, 90)
    one = model.predict(embedding, boxes=boxes[9])
    np.testing.assert_allclose(logits[9], one[2], **CLOSE)
    np.testing.assert_allclose(scores[9], one[1], **CLOSE)
    places = corner[:, None]
    low, _ = model.decode(embedding, points=places, point_labels=np.ones((11, 1)))
    one, _ = model.decode(embedding, points=places[4])
    np.testing.assert_allclose(low[4], one[0], **CLOSE)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "no prompt"),
        ({"points": [[40.0, 3]]}, "outside the image of 40 x 90"),
        ({"boxes": [10, 10, 10, 40]}, "empty"),
        ({"mask": np.zeros((9, 9))}, "16, 16"),
        ({"boxes": [[1, 1, 9, 9]], "points": [[1, 2]]}, "one object each"),
    ],
)
def test_bad_prompts(sam2_pair, given, words):
    model = sam2_pair[2]
    with pytest.raises(nf.PromptError, match=words):
        model.predict(model.encode(image((40, 90))), **given)


def test_cancel_while_encoding_and_other_planes(sam2_pair):
    model, seen = sam2_pair[2], []

    def check(block, blocks):
        seen.append((block, blocks))
        if block == 3:
            raise nf.Cancelled("enough")

    with pytest.raises(nf.Cancelled):
        model.encode(image((20, 20)), check)
    assert seen == [(n, 6) for n in range(4)]
    assert model.encode(np.full((1, 300), np.nan, np.float32)).image_shape == (1, 300)
    assert len(seen) == 4, "nobody watches any more"
    with pytest.raises(nf.DataError, match="one plane"):
        model.encode(np.zeros(4))
