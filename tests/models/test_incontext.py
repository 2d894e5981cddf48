"""The in-context network: shapes, closed forms, weights good and bad."""

from __future__ import annotations

import hashlib
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import napari_fewshot as nf
from napari_fewshot.data import PlanePrompts
from napari_fewshot.models import _registry, contexts, incontext, load_model
from napari_fewshot.models._blocks import CrossAttention, NetworkConfig, Ridge
from napari_fewshot.models._network import InContextNetwork
from napari_fewshot.models.prompt_image import prompt_image

NAME = "incontext/small"


@pytest.fixture(scope="module")
def model():
    return load_model(NAME)


def picture(seed, shape=(80, 112), channels=1):
    rng = np.random.default_rng(seed)
    return rng.random((*shape, channels)).astype(np.float32)


def test_the_bundled_weights_are_small_and_what_the_spec_says(model):
    data = incontext.WEIGHTS.read_bytes()
    assert len(data) < 10 * 2**20
    assert hashlib.sha256(data).hexdigest() == _registry.INCONTEXT.sha256
    assert model.sha256 == _registry.INCONTEXT.sha256
    table = nf.list_models().set_index("name").loc[NAME]
    assert not table["needs_download"]
    assert table["size"] == pytest.approx(len(data) / 1e6, abs=0.3)


def test_embedding_has_the_contract_shape(model):
    found = model.encode(picture(0, (100, 60)))
    assert found.array.dtype == np.float32
    assert found.image_shape == (100, 60)
    assert found.array.shape[1:] == (64, 40)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(33, 50), (128, 128), (200, 90)])
def test_any_size_and_channels_give_logits_of_the_plane(model, shape, channels):
    image = picture(1, shape, channels)
    mask = np.zeros(shape, bool)
    mask[5:20, 5:20] = True
    features = model.features(image, 128)
    context = model.context([features], [mask])
    logits = model.decode(features, context, shape)
    assert logits.shape == shape
    assert np.isfinite(logits).all()


def test_supports_of_different_sizes_join(model):
    shapes = [(64, 64), (40, 100), (150, 90)]
    features = [model.features(picture(i, s), 128) for i, s in enumerate(shapes)]
    masks = [np.ones(s, bool) for s in shapes]
    context = model.context(features, masks)
    found = model.decode(features[0], context, shapes[0])
    order = [2, 0, 1]
    again = model.decode(
        features[0],
        model.context([features[i] for i in order], [masks[i] for i in order]),
        shapes[0],
    )
    np.testing.assert_allclose(found, again, atol=2e-3)


def test_memory_of_64_supports_stays_bounded(model):
    features = model.features(picture(0, (256, 256)), 256)
    mask = np.zeros((256, 256), bool)
    mask[50:90, 60:120] = True
    context = model.context([features] * 64, [mask] * 64)
    assert all(k.shape[2] <= contexts.MAX_KEYS for k in context.keys)
    size = sum(t.numel() for t in (*context.keys, *context.values)) * 4
    assert size < 200 * 2**20
    assert np.isfinite(model.decode(features, context, (256, 256))).all()


def test_encodings_are_kept_and_do_not_depend_on_it(model):
    image = picture(5)
    first = model.features(image, 128)
    assert model.features(image.copy(), 128) is first
    assert model.features(image, 256) is not first


def test_clicks_change_the_answer_where_they_are(model):
    image = picture(3, (128, 128))
    features = model.features(image, 128)
    yes = PlanePrompts(positive=np.array([[60.0, 60.0]]))
    no = PlanePrompts(negative=np.array([[60.0, 60.0]]))
    with_yes = model.decode(features, None, (128, 128), yes)
    with_no = model.decode(features, None, (128, 128), no)
    assert with_yes[60, 60] > with_no[60, 60] + 1


def test_ridge_equals_the_normal_equations():
    torch.manual_seed(0)
    ridge = Ridge(8, 5)
    x = torch.randn(6, 40)
    positive = torch.zeros(40)
    positive[:13] = 1
    moments = ridge.moments(x, positive, 1 - positive)
    found = ridge.solve(moments, None)
    weight = torch.where(positive > 0, 0.5 / 13, 0.5 / 27)
    target = 2 * positive - 1
    penalty = torch.nn.functional.softplus(ridge.penalty) + 1e-4
    system = (x * weight) @ x.T + penalty * torch.eye(6)
    expected = torch.linalg.solve(system, (x * weight) @ target)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_ridge_without_any_label_says_nothing():
    ridge = Ridge(8, 5)
    x = torch.randn(6, 40)
    nothing = torch.zeros(40)
    assert ridge.solve(ridge.moments(x, nothing, nothing), None).abs().max() == 0


def test_attention_equals_its_formula():
    torch.manual_seed(0)
    head = CrossAttention(12, 8, NetworkConfig(heads=2, depth=4))
    query = torch.nn.functional.normalize(torch.randn(1, 2, 3, 4), dim=-1)
    keys = torch.nn.functional.normalize(torch.randn(1, 2, 5, 4), dim=-1)
    values = torch.randn(1, 2, 5, 4)
    found = head(query, keys, values)
    nobody = torch.nn.functional.normalize(head.no_key, dim=-1)[None]
    every = torch.cat([keys, nobody], 2)
    logits = head.temperature[:, None, None] * query @ every.transpose(2, 3)
    padded = torch.cat([values, torch.zeros(1, 2, 1, 4)], 2)
    torch.testing.assert_close(found, logits.softmax(-1) @ padded)


def test_attention_reads_the_mean_of_the_mask():
    head = CrossAttention(12, 8, NetworkConfig(heads=2, depth=4))
    masks = torch.zeros(1, 1, 16, 16)
    masks[..., :8, :8] = 1
    masks[..., 8:, 8:12] = 1
    mean = head.value(masks)[0, :, :, 0]
    torch.testing.assert_close(mean, torch.tensor([[1.0, -1.0, -1.0, 0.0]] * 2))


def test_prompts_are_drawn_at_the_networks_scale():
    scribbles = np.zeros((40, 80), int)
    scribbles[10, 20:30] = 1
    scribbles[30, 70] = -1
    prompts = PlanePrompts(
        np.array([[20.0, 40.0]]),
        np.array([[5.0, 5.0]]),
        np.array([[10.0, 20.0, 20.0, 60.0]]),
        scribbles,
    )
    channels = prompt_image(prompts, (40, 80), (80, 160))
    assert channels[0, 40, 80] == 1
    assert channels[0, 21, 45] == 1
    assert channels[1, 10, 10] == 1
    assert channels[1, 61, 141] == 1
    np.testing.assert_array_equal(channels[2, 20:40, 40:120], 1)
    assert channels[2].sum() == 20 * 80


def test_prompts_on_the_rim_are_not_lost():
    prompts = PlanePrompts(np.array([[-0.5, -0.5], [39.4, 79.4]]))
    channels = prompt_image(prompts, (40, 80), (32, 64))
    assert channels[0, 0, 0] == 1
    assert channels[0, 31, 63] == 1


def test_the_model_travels_without_what_it_encoded(model):
    image = picture(9)
    again = pickle.loads(pickle.dumps(model))
    expected = model.encode(image).array
    np.testing.assert_array_equal(again.encode(image).array, expected)


# -- bad weights ---------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A copy of the bundled weights that may be harmed."""
    path = tmp_path / "incontext_small.safetensors"
    path.write_bytes(incontext.WEIGHTS.read_bytes())
    monkeypatch.setattr(incontext, "WEIGHTS", path)
    return path


@pytest.mark.parametrize("harm", ["missing", "truncated", "altered"])
def test_harmed_weights_are_refused_with_advice(weights, harm):
    data = weights.read_bytes()
    weights.unlink()
    if harm == "truncated":
        weights.write_bytes(data[: len(data) // 2])
    if harm == "altered":
        weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(nf.WeightsError, match="Install napari-fewshot again") as error:
        load_model(NAME)
    assert ("altered" in str(error.value)) == (harm != "missing")
    # What can do without them goes on.
    assert load_model("auto").spec.name == "filters"


@pytest.mark.parametrize("harm", ["missing", "altered"])
def test_auto_goes_on_without_the_network_and_says_so(weights, blob_pair, harm):
    if harm == "missing":
        weights.unlink()
    else:
        weights.write_bytes(b"x" + weights.read_bytes()[1:])
    image, labels = blob_pair(0)
    query, truth = blob_pair(1)
    found = nf.segment(query, (image, labels))
    assert nf.evaluate(found.labels, truth)["dice"][0] > 0.8
    assert "without the bundled network" in found.choice
    assert "Install napari-fewshot again" in found.choice


def test_weights_of_your_own(tmp_path):
    torch.manual_seed(3)
    path = tmp_path / "mine.safetensors"
    save_file(InContextNetwork().state_dict(), path)
    mine = load_model(NAME, checkpoint=path)
    assert mine.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_values_that_are_not_numbers_are_refused(tmp_path):
    state = InContextNetwork().state_dict()
    next(iter(state.values())).view(-1)[3] = float("nan")
    path = tmp_path / "mine.safetensors"
    save_file(state, path)
    with pytest.raises(nf.WeightsError, match="not numbers"):
        load_model(NAME, checkpoint=path)


def test_a_file_that_is_cut_short_is_refused(tmp_path):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(incontext.WEIGHTS.read_bytes()[:5000])
    with pytest.raises(nf.WeightsError, match="cut short"):
        load_model(NAME, checkpoint=path)


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(3)}, path)
    with pytest.raises(nf.WeightsError, match="does not hold weights of"):
        load_model(NAME, checkpoint=path)
    path.write_bytes(b"not safetensors")
    with pytest.raises(nf.WeightsError, match="does not hold weights of"):
        load_model(NAME, checkpoint=path)


def test_a_device_that_is_not_there():
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(nf.ModelError, match="no device 'cuda'"):
        load_model(NAME, device="cuda")
