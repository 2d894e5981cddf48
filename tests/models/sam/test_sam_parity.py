"""The same masks, scores and logits as Meta's package on the same weights."""

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor, sam_model_registry

import napari_fewshot as nf
from napari_fewshot.models.sam._configs import kind, sam_config
from napari_fewshot.models.sam._model import SamNetwork

CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(scope="module", params=[(200, 200), (120, 256), (300, 170)], ids=str)
def pair(request, meta, weights):
    """Both with one image encoded."""
    rng = np.random.default_rng(0)
    rows, columns = request.param
    image = rng.integers(0, 255, (rows, columns, 3), dtype=np.uint8)
    predictor = SamPredictor(meta)
    predictor.set_image(image)
    model = nf.load_model(
        "sam/vit_b", checkpoint=weights, device="cpu", precision="fp32"
    )
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
    """1024 pixels a side: windows with padding, a block that sees all."""
    path = tmp_path / "sam_vit_b_01ec64.pth"
    torch.save(real_size.state_dict(), path)
    image = np.random.default_rng(3).integers(0, 255, (180, 260, 3), dtype=np.uint8)
    predictor = SamPredictor(real_size)
    predictor.set_image(image)
    model = nf.load_model("sam/vit_b", checkpoint=path, device="cpu", precision="fp32")
    embedding = model.encode(image)
    assert embedding.array.shape == (256, 64, 64)
    theirs = predictor.get_image_embedding()[0].numpy()
    np.testing.assert_allclose(embedding.array, theirs, **CLOSE)
    expected = predictor.predict(np.array([[200.0, 60.0]]), np.array([1]))
    compare(expected, model.predict(embedding, points=[[60, 200]]))


@pytest.mark.parametrize("size", ["vit_b", "vit_l", "vit_h"])
def test_published_sizes(size):
    """Names and shapes of the published encoders; nothing is computed."""
    with torch.device("meta"):
        theirs = sam_model_registry[size]()
        state = theirs.state_dict()
        assert kind(state, "x") == ("sam", size)
        ours = SamNetwork(sam_config(state, 0))
    shapes = {k: v.shape for k, v in ours.state_dict().items()}
    assert shapes == {k: state[k].shape for k in shapes}
    assert {k for k in state if "pixel_" not in k} == set(shapes)
    blocks = theirs.image_encoder.blocks
    everywhere = tuple(i for i, b in enumerate(blocks) if b.window_size == 0)
    assert ours.image_encoder.config.global_blocks == everywhere
    assert ours.image_encoder.config.heads == blocks[0].attn.num_heads


def test_entry_at_any_block(meta, weights):
    model = nf.load_model(
        "sam/vit_b", checkpoint=weights, device="cpu", precision="fp32"
    )
    encoder = model.network.image_encoder
    x = torch.randn(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    theirs = []
    for block in meta.image_encoder.blocks:
        block.register_forward_hook(lambda *given: theirs.append(given[2]))
    with torch.inference_mode():
        expected = meta.image_encoder(x)
        found, kept = encoder(x, keep=(2, 0))
        for k in range(4):
            again = encoder.suffix(encoder.prefix(x, k), k)
            torch.testing.assert_close(again, expected, **CLOSE)
        torch.testing.assert_close(found, expected, **CLOSE)
        for block, tokens in zip((2, 0), kept, strict=True):
            torch.testing.assert_close(tokens, theirs[block], **CLOSE)


def test_another_side_by_hand(meta, tools, tmp_path):
    """Tables for 96 pixels from those for 256, interpolated by hand."""
    path = tmp_path / "other.pth"
    torch.save(meta.state_dict(), path)
    model = tools.load("sam/vit_b", path, side=96)
    assert model.side == 96
    state = model.network.image_encoder.state_dict()
    old = meta.image_encoder.state_dict()
    table = linear(old["blocks.1.attn.rel_pos_h"].numpy(), 11)
    np.testing.assert_allclose(state["blocks.1.attn.rel_pos_h"], table, atol=1e-6)
    window = state["blocks.0.attn.rel_pos_h"]
    torch.testing.assert_close(window, old["blocks.0.attn.rel_pos_h"])
    places = linear(old["pos_embed"][0].numpy(), 6)
    places = linear(places.swapaxes(0, 1), 6).swapaxes(0, 1)
    np.testing.assert_allclose(state["pos_embed"][0], places, atol=1e-6)
    image = np.random.default_rng(0).integers(0, 255, (50, 70), dtype=np.uint8)
    embedding = model.encode(image)
    assert embedding.array.shape == (256, 6, 6)
    assert model.predict(embedding, points=[[20, 20]])[0].shape == (3, 50, 70)


def linear(table, count):
    """Interpolate along the first axis between centres of cells."""
    centres = (np.arange(count) + 0.5) * len(table) / count - 0.5
    low = np.floor(centres).astype(int)
    share = (centres - low).reshape(-1, *[1] * (table.ndim - 1))
    last = len(table) - 1
    ends = table[np.clip(low, 0, last)], table[np.clip(low + 1, 0, last)]
    return ends[0] * (1 - share) + ends[1] * share
