"""The method ``text-head``: from supports with phrases to masks, and from a file."""

from __future__ import annotations

import numpy as np
import pytest
from tests.models.clip import tiny
from tests.models.text_heads import readers

import napari_fewshot as nf
from napari_fewshot.data import Hooks, Plane, TextPrompt
from napari_fewshot.errors import (
    Cancelled,
    ModelError,
    PromptError,
    SupportError,
    WeightsError,
)
from napari_fewshot.methods import get_method, make_params
from napari_fewshot.methods._text_lessons import fit_text_head, phrases_of
from napari_fewshot.models.text_heads import HeadSettings, load_head, save_head

TEXT = {
    1: TextPrompt(["red disc", "red blob"], negatives=["ring"]),
    2: TextPrompt("blue disc"),
}


@pytest.fixture(scope="module")
def clip():
    return readers.Reader()


@pytest.fixture(scope="module")
def method():
    return get_method("text-head")


@pytest.fixture(scope="module")
def samples():
    return [readers.sample(seed) for seed in range(6)]


@pytest.fixture(scope="module")
def fitted(method, clip, samples):
    params = make_params(method.spec.params, {"kind": "query", "steps": 90})
    return method.fit_text(TEXT, params, clip, Hooks(), samples=samples)


def score(fitted, seeds=range(50, 56)):
    found = []
    for seed in seeds:
        image, labels = readers.scene(seed)
        maps = fitted.predict(Plane(image), Hooks())
        found += [readers.dice(maps[v] > 0.5, labels == v) for v in (1, 2)]
    return float(np.mean(found))


def test_held_out_scenes_are_segmented(fitted):
    assert score(fitted) > 0.85
    assert fitted.choice == "text-head (query) on tiny, trained on 6 planes"


def test_masks_are_of_the_plane(fitted):
    image, _ = readers.scene(50)
    maps = fitted.predict(Plane(image), Hooks())
    assert set(maps) == {1, 2}
    assert all(m.shape == image.shape[:2] for m in maps.values())
    assert all(m.min() >= 0 and m.max() <= 1 for m in maps.values())


def test_a_file_gives_the_same_and_needs_no_support(fitted, method, clip, tmp_path):
    path = save_head(fitted.bank.head, tmp_path / "head")
    params = make_params(method.spec.params, {"head": str(path)})
    again = method.fit_text(TEXT, params, clip, Hooks())
    image, _ = readers.scene(51)
    own, other = (f.predict(Plane(image), Hooks()) for f in (fitted, again))
    assert all(np.array_equal(own[v], other[v]) for v in own)
    assert "from a file" in again.choice
    assert again.notes == ()


def test_phrases_that_were_not_learnt_may_be_asked_and_are_told(fitted, method, clip):
    text = {1: TextPrompt("red disc"), 3: TextPrompt("green triangle")}
    more = method.with_head(text, fitted.params, clip, fitted.bank.head)
    image, _ = readers.scene(52)
    assert set(more.predict(Plane(image), Hooks())) == {1, 3}
    assert len(more.notes) == 1
    assert "'green triangle'" in more.notes[0]
    assert "'red disc'" not in more.notes[0]


def test_phrases_go_through_the_text_tower(fitted, method, clip):
    clip.asked.clear()
    text = {1: TextPrompt("never seen before")}
    method.with_head(text, fitted.params, clip, fitted.bank.head)
    assert any("never seen before" in phrase for phrase in clip.asked)


def test_a_second_look_keeps_the_quality(fitted, method, clip):
    params = make_params(method.spec.params, {"again": True})
    again = method.with_head(TEXT, params, clip, fitted.bank.head)
    assert score(again, range(50, 53)) > 0.8


def test_sentences_name_the_modality(clip):
    text = {1: TextPrompt("liver")}
    clip.asked.clear()
    found = phrases_of(text, clip, "medical", ["CT", "MR"])
    assert {m for _, m in found.classes} == {"CT", "MR"}
    for modality in ("CT", "MR"):
        assert any(modality in p and "liver" in p for p in clip.asked)
    assert not np.allclose(found.classes[1, "CT"], found.classes[1, "MR"])


def test_modalities_of_supports_are_kept(clip, samples):
    head = fit_text_head(
        samples[:2],
        TEXT,
        clip,
        HeadSettings("dynamic", steps=2),
        Hooks(),
        modalities=["CT", "MR"],
    )
    assert head.facts["modalities"] == ["CT", "MR"]
    with pytest.raises(PromptError, match="2 labelled planes and 1 modalities"):
        fit_text_head(
            samples[:2], TEXT, clip, HeadSettings(), Hooks(), modalities=["CT"]
        )


def test_negative_supports_and_one_support_are_taken(method, clip, samples):
    nothing = readers.sample(9)
    nothing = type(nothing)(nothing.image, labels=np.zeros_like(nothing.labels))
    params = make_params(method.spec.params, {"steps": 2})
    for given in ([samples[0]], [samples[0], nothing]):
        fitted = method.fit_text(TEXT, params, clip, Hooks(), samples=given)
        assert set(fitted.predict(Plane(nothing.image), Hooks())) == {1, 2}
    with pytest.raises(PromptError, match="supports show none"):
        method.fit_text(TEXT, params, clip, Hooks(), samples=[nothing])


def test_what_is_missing_is_told(method, clip, samples, tmp_path):
    params = make_params(method.spec.params, {})
    with pytest.raises(PromptError, match="Add supports, or give head="):
        method.fit_text(TEXT, params, clip, Hooks())
    with pytest.raises(PromptError, match="classes 7, the supports show 1, 2"):
        method.fit_text({7: TextPrompt("ring")}, params, clip, Hooks(), samples=samples)
    wrong = make_params(method.spec.params, {"head": str(tmp_path / "none")})
    with pytest.raises(WeightsError, match="There is no text head"):
        method.fit_text(TEXT, wrong, clip, Hooks())

    class Encoder:
        spec = nf.models.get_model_spec("incontext/small")

    with pytest.raises(ModelError, match="is none"):
        method.fit_text(TEXT, params, Encoder(), Hooks(), samples=samples)


def test_it_stops_when_asked(method, clip, samples):
    calls = []

    def stop():
        calls.append(1)
        return len(calls) > 20

    params = make_params(method.spec.params, {"steps": 500})
    with pytest.raises(Cancelled):
        method.fit_text(
            TEXT, params, clip, Hooks(is_cancelled=stop), samples=samples[:2]
        )


def test_learnt_tokens_need_a_sam(method, clip, samples):
    params = make_params(method.spec.params, {"kind": "vlp"})
    with pytest.raises(ModelError, match="SAM"):
        method.fit_text(TEXT, params, clip, Hooks(), samples=samples)


@pytest.fixture(scope="module")
def sam(tiny_sam):
    return nf.load_model("sam/vit_b", checkpoint=tiny_sam, device="cpu")


@pytest.fixture(scope="module")
def drawn(clip, samples, sam):
    settings = HeadSettings("vlp", steps=12)
    return fit_text_head(samples[:3], TEXT, clip, settings, Hooks(), sam=sam)


def test_learnt_tokens_leave_sam_as_it_is(drawn, sam):
    assert all(p.grad is None for p in sam.network.parameters())
    assert set(drawn.shown) == {1, 2}
    assert drawn.sam == "sam/vit_b"


def test_learnt_tokens_are_saved_with_what_supports_showed(
    drawn, method, clip, sam, tmp_path
):
    back = load_head(save_head(drawn, tmp_path / "vlp"))
    params = make_params(method.spec.params, {})
    image, _ = readers.scene(53)
    maps = [
        method.with_head(TEXT, params, clip, head, sam).predict(Plane(image), Hooks())
        for head in (drawn, back)
    ]
    for value in (1, 2):
        assert maps[0][value].shape == image.shape[:2]
        assert np.allclose(maps[0][value], maps[1][value], atol=1e-5)


def test_learnt_tokens_read_phrase_and_supports(drawn, clip, sam):
    from napari_fewshot.models.text_heads import look

    image, _ = readers.scene(53)
    seen, embedding = look(clip, image), sam.encode(image)
    rows = clip.encode_text(["red disc", "ring"])

    def answer(words, values):
        return drawn.answer(seen, words, values, sam=sam, embedding=embedding)

    told = answer(rows, [1, 1])
    assert not np.allclose(told[0], told[1], atol=1e-4)
    assert not np.allclose(told[0], answer(rows[:1], [None])[0], atol=1e-4)
    with pytest.raises(ModelError, match="not to"):
        drawn.answer(seen, rows, [1, 1], sam=object(), embedding=embedding)


def test_gradients_reach_the_tokens_through_sam(sam):
    import torch

    from napari_fewshot.models.text_heads import sam_logits

    image, _ = readers.scene(0)
    embedding = sam.encode(image)
    tokens = torch.randn(2, 5, 256, generator=torch.Generator().manual_seed(0))
    tokens.requires_grad_()
    logits = sam_logits(sam, embedding, tokens)
    assert logits.shape == (2, sam.mask_side, sam.mask_side)
    (slope,) = torch.autograd.grad(logits[0].sum(), tokens)
    assert float(slope[0].abs().sum()) > 0
    assert float(slope[1].abs().sum()) == 0


def test_points_as_tokens_give_what_sam_gives(sam):
    """What SAM's own prompt encoder makes of a box, given as learnt tokens."""
    import torch

    from napari_fewshot.models.text_heads import sam_logits

    image, _ = readers.scene(0)
    embedding = sam.encode(image)
    box = np.array([20.0, 24.0, 60.0, 70.0])
    expected, _ = sam.decode(embedding, boxes=box, multimask=False)
    prompts = sam._prompts(embedding, None, None, box, None)
    with torch.no_grad():
        tokens, _ = sam.network.prompt_encoder(None, None, prompts.boxes, None)
        found = sam_logits(sam, embedding, tokens)
    assert np.allclose(found.numpy(), expected[:, 0], atol=1e-4)


def test_segment_trains_on_supports_with_phrases(tmp_path):
    folder = tiny.write_native(tmp_path / "clip", layers=4, patch_size=8)
    support = [nf.Support(*readers.picture(seed)) for seed in range(3)]
    image, labels = readers.picture(60)
    options = {"method": "text-head", "text_model": folder, "steps": 60}
    found = nf.segment(image, support, {1: "red disc", 2: "blue disc"}, **options)
    for value in (1, 2):
        assert readers.dice(found.labels == value, labels == value) > 0.6


def test_supports_without_phrases_are_refused(tmp_path):
    folder = tiny.write_native(tmp_path / "clip", layers=4)
    image, labels = readers.picture(0)
    with pytest.raises((PromptError, SupportError), match="there is none"):
        nf.segment(
            image, nf.Support(image, labels), method="text-head", text_model=folder
        )
