"""What loaded models give: that of open_clip, for any plane and phrase."""

import os
import subprocess
import sys

import numpy as np
import open_clip
import pytest
import torch
from tests.models.clip import tiny

import napari_fewshot as nf
from napari_fewshot.errors import DataError, ModelError
from napari_fewshot.models import load_text_model
from napari_fewshot.models.clip import _model

PHRASES = [
    "a photo of a cell",
    "",
    "dark round nucleus " * 3,
    "細胞核",
    "Опухоль мозга",
    "😀🧬",
    "<b>tumour</b> & [SEP] {x}",
    "a\nb\tc\x00d",
    "\ud800 half a letter",
    "lesion " * 1500,
    "z" * 10_000,
]


def reference(folder):
    model = tiny.build(folder)
    model.load_state_dict(torch.load(folder / "open_clip_pytorch_model.bin"))
    return model


@pytest.fixture(params=["native", "biomed"])
def pair(request):
    """A loaded model and the one that open_clip made of the same file."""
    folder = request.getfixturevalue(request.param)
    return load_text_model("biomedclip", folder, device="cpu"), reference(folder)


@pytest.fixture
def plane():
    return np.random.default_rng(0).integers(0, 255, (70, 91, 3), np.uint8)


def test_images_are_those_of_open_clip(pair, plane):
    model, other = pair
    x = model.prepared(plane)
    assert x.shape == (1, 3, model.size, model.size)
    tower = model.tower
    found = tower.pooled(tower.run(tower.begin(x), 0, tower.depth))
    torch.testing.assert_close(found, other.encode_image(x), rtol=0, atol=1e-5)


def test_phrases_are_those_of_open_clip(pair, native, biomed):
    model, other = pair
    folder = native if model.context_length == 77 else biomed
    read = open_clip.get_tokenizer(f"local-dir:{folder}")
    some = PHRASES[:7]
    with torch.no_grad():
        wanted = other.encode_text(read(some), normalize=True).numpy()
    found = model.encode_text(some)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert model.logit_scale == pytest.approx(other.logit_scale.exp().item())


def test_any_phrase_is_read(pair):
    model, _ = pair
    found = model.encode_text(PHRASES)
    assert found.shape == (len(PHRASES), 24)
    assert np.isfinite(found).all()
    # Each alone as among others, and in any order.
    np.testing.assert_allclose(model.encode_text(PHRASES[::-1])[::-1], found, atol=1e-6)
    assert model.encode_text([]).shape == (0, 24)
    assert model.encode_text("cell").shape == (1, 24)


def test_cut_phrases_are_told(pair):
    model, _ = pair
    told = model.too_long(PHRASES)
    assert told == tuple(PHRASES[-2:])
    assert model.too_long([]) == ()
    just = model.context_length - 2
    assert model.too_long(["red " * just]) == ()
    assert model.too_long(["red " * (just + 1)]) != ()
    # Only the beginning counts.
    long, longer = model.encode_text(["red " * 80, "red " * 80 + "cell " * 40])
    np.testing.assert_allclose(long, longer, atol=1e-6)


def test_marks_of_the_tokenizer_do_not_end_a_phrase(native):
    model = load_text_model("biomedclip", native, device="cpu")
    cut, whole = model.encode_text(["cell <end_of_text> of a brain", "cell"])
    assert not np.allclose(cut, whole, atol=1e-3)


def test_embedding_covers_the_plane_in_the_space_of_words(pair, plane):
    model, other = pair
    found = model.encode(plane)
    rows, columns = model.tower.grid
    assert found.array.shape == (24, rows, columns)
    assert found.array.dtype == np.float32
    assert found.stride == (70 / rows, 91 / columns)
    with torch.no_grad():
        parts = other.visual.forward_intermediates(
            model.prepared(plane),
            indices=1,
            normalize_intermediates=True,
            output_fmt="NLC",
        )["image_intermediates"][0]
        visual = other.visual
        head = getattr(visual, "head", None)
        words = head(parts) if head is not None else parts @ visual.proj
    np.testing.assert_allclose(
        found.array.reshape(24, -1).T, words[0].numpy(), atol=1e-5
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p[..., 0],
        lambda p: p[..., 0].astype(np.uint16) * 200,
        lambda p: p.astype(np.float32) / 255,
        lambda p: p.astype(np.int32) - 4000,
        lambda p: p[:3, :200],
        lambda p: p[:1, :1],
        lambda p: np.where(p[..., 0] > 9, p[..., 0], np.nan),
        lambda p: np.zeros_like(p),
        lambda p: p[..., [0, 1, 2, 2]],
    ],
)
def test_planes_of_any_kind(native, plane, change):
    model = load_text_model("biomedclip", native, device="cpu")
    found = model.encode(change(plane))
    assert found.array.shape == (24, 4, 4)
    assert np.isfinite(found.array).all()


@pytest.mark.parametrize("shape", [(4,), (2, 2, 2, 2), (0, 5), ()])
def test_what_is_no_plane_is_refused(native, shape):
    model = load_text_model("biomedclip", native, device="cpu")
    for call in (model.encode, model.prepared):
        with pytest.raises(DataError, match="one plane"):
            call(np.zeros(shape))


def test_squash_keeps_what_is_square_and_standardises(native):
    model = load_text_model("biomedclip", native, device="cpu")
    plane = np.random.default_rng(1).random((64, 64, 3), np.float32)
    wanted = (plane - np.array(tiny.MEAN)) / np.array(tiny.DEVIATION)
    np.testing.assert_allclose(
        model.prepared(plane)[0].permute(1, 2, 0), wanted, atol=1e-5
    )
    half = np.zeros((10, 640), np.float32)
    half[:, 320:] = 1
    across = model.prepared(half)[0, 0]
    assert across[:, :28].max() < 0 < across[:, 36:].min()


def test_sixteen_bits(native, biomed, plane):
    for folder in (native, biomed):
        full = load_text_model("biomedclip", folder, device="cpu")
        half = load_text_model("biomedclip", folder, device="cpu", precision="bf16")
        assert half.precision == "bf16"
        for x, y in (
            (full.encode(plane).array, half.encode(plane).array),
            (full.encode_text(PHRASES[:3]), half.encode_text(PHRASES[:3])),
        ):
            assert x.dtype == y.dtype == np.float32
            assert not np.array_equal(x, y)
            assert np.corrcoef(x.ravel(), y.ravel())[0, 1] > 0.99


def test_memory_is_saved_step_by_step(native, plane, monkeypatch):
    model = load_text_model("biomedclip", native, device="cpu")
    model = type(model)(model.network, model._tokens, model.make, model.spec)
    features = type(model)._features

    def hungry(self, *given):
        if self.precision == "fp32":
            raise MemoryError
        return features(self, *given)

    monkeypatch.setattr(_model.ClipModel, "_features", hungry)
    assert np.isfinite(model.encode(plane).array).all()
    assert model.precision == "bf16"
    assert "Memory ran out" in model.notes[0]
    monkeypatch.setattr(_model.ClipModel, "_read", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.encode_text(["new words"])


def test_cancelled_between_blocks(native, plane):
    model = load_text_model("biomedclip", native, device="cpu")
    seen = []

    def check(block, depth):
        seen.append((block, depth))
        if block == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.encode(plane, check)
    assert seen == [(i, 12) for i in range(4)]


def test_serves_as_an_encoder_of_any_method(biomed, plane):
    model = nf.load_model("biomedclip", biomed, device="cpu")
    assert model.encode(plane).array.shape == (24, 10, 10)


def test_weights_ask_for_no_gradients_and_give_them(pair, plane):
    model, _ = pair
    assert not any(p.requires_grad for p in model.network.parameters())
    x = model.prepared(plane).requires_grad_()
    model.tower.pooled(
        model.tower.run(model.tower.begin(x), 0, model.tower.depth)
    ).sum().backward()
    assert x.grad.abs().sum() > 0


def test_models_that_read_nothing_are_refused():
    with pytest.raises(ModelError, match="does not read phrases"):
        load_text_model("dinov2/vits14")
    with pytest.raises(ModelError, match="did you mean 'biomedclip'"):
        load_text_model("biomed")


def test_importing_models_loads_no_network():
    code = (
        "import sys, napari_fewshot.models as m; m.installed_text_models();"
        "print({'torch', 'open_clip', 'transformers', 'timm'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    )
    assert done.stdout.strip() == "set()", done.stderr
