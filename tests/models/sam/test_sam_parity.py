"""The same masks, scores and logits as Meta's package on the same weights."""

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor

import napari_fewshot as nf

CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(scope="module", params=[(200, 200), (120, 256), (300, 170)], ids=str)
def pair(request, meta, weights):
    """Both with one image encoded."""
    rng = np.random.default_rng(0)
    rows, columns = request.param
    image = rng.integers(0, 255, (rows, columns, 3), dtype=np.uint8)
    predictor = SamPredictor(meta)
    predictor.set_image(image)
    model = nf.load_model("sam/vit_b", checkpoint=weights, device="cpu")
    return predictor, model, model.encode(image)


def points(shape):
    rows, columns = shape
    return np.array([[rows * 0.3, columns * 0.6], [rows * 0.8, 11.0]]), [1, 0]


def compare(theirs, ours):
    for their, our in zip(theirs, ours, strict=True):
        assert their.shape == our.shape
        assert their.dtype == our.dtype
    # A pixel whose logit is 0 to the last bit may fall on either side.
    assert (theirs[0] != ours[0]).mean() < 1e-4
    np.testing.assert_allclose(ours[1], theirs[1], **CLOSE)
    np.testing.assert_allclose(ours[2], theirs[2], **CLOSE)


def test_embedding(pair):
    predictor, _, embedding = pair
    theirs = predictor.get_image_embedding()[0].numpy()
    np.testing.assert_allclose(embedding.array, theirs, **CLOSE)
    assert theirs.std() > 0.1, "the comparison must be able to fail"


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("kinds", ["points", "box", "points box", "mask box", "all"])
def test_one_object(pair, kinds, multimask):
    predictor, model, embedding = pair
    shape = embedding.image_shape
    theirs, ours = {}, {}
    if "points" in kinds or kinds == "all":
        yx, labels = points(shape)
        theirs |= {"point_coords": yx[:, ::-1].copy(), "point_labels": np.array(labels)}
        ours |= {"points": yx, "point_labels": labels}
    if "box" in kinds or kinds == "all":
        box = np.array([20.0, 30.0, shape[0] - 40.0, shape[1] - 25.0])
        theirs["box"] = box[[1, 0, 3, 2]]
        ours["boxes"] = box
    if "mask" in kinds or kinds == "all":
        past = np.random.default_rng(1).normal(0, 5, (1, 64, 64)).astype(np.float32)
        theirs["mask_input"] = past
        ours["mask"] = past
    expected = predictor.predict(**theirs, multimask_output=multimask)
    found = model.predict(embedding, **ours, multimask=multimask)
    compare(expected, found)
    assert expected[2].std() > 0.02, "the comparison must be able to fail"


def test_mask_alone(pair):
    predictor, model, embedding = pair
    past = np.random.default_rng(1).normal(0, 5, (64, 64)).astype(np.float32)
    compare(
        predictor.predict(mask_input=past[None]), model.predict(embedding, mask=past)
    )


def test_many_boxes(pair):
    predictor, model, embedding = pair
    rows, columns = embedding.image_shape
    corner = np.random.default_rng(2).uniform(0, 0.5, (11, 2)) * (rows, columns)
    size = np.array([rows // 3, columns // 3])
    boxes = np.concatenate([corner, corner + size], 1)
    turned = predictor.transform.apply_boxes(boxes[:, [1, 0, 3, 2]], (rows, columns))
    expected = predictor.predict_torch(
        None, None, torch.as_tensor(turned, dtype=torch.float32), multimask_output=True
    )
    found = model.predict(embedding, boxes=boxes)
    compare([t.numpy() for t in expected], found)
    one = model.predict(embedding, boxes=boxes[4])
    np.testing.assert_allclose(found[2][4], one[2], **CLOSE)


def test_the_real_size(real_size, tmp_path):
    """ViT-B at 1024 pixels: windows with padding, four blocks that see everything."""
    path = tmp_path / "sam_vit_b_01ec64.pth"
    torch.save(real_size.state_dict(), path)
    image = np.random.default_rng(3).integers(0, 255, (180, 260, 3), dtype=np.uint8)
    predictor = SamPredictor(real_size)
    predictor.set_image(image)
    model = nf.load_model("sam/vit_b", checkpoint=path, device="cpu")
    embedding = model.encode(image)
    assert embedding.array.shape == (256, 64, 64)
    theirs = predictor.get_image_embedding()[0].numpy()
    np.testing.assert_allclose(embedding.array, theirs, **CLOSE)
    expected = predictor.predict(np.array([[200.0, 60.0]]), np.array([1]))
    compare(expected, model.predict(embedding, points=[[60, 200]]))
