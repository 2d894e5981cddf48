"""Text in a run: alone, with supports, with prompts, in stacks; bad input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests import tiny_clip

import napari_fewshot as nf
from napari_fewshot.data import Hooks
from napari_fewshot.inference import FitCache, SegmentRequest
from napari_fewshot.inference._reading import learn_evidence
from napari_fewshot.io import open_image
from napari_fewshot.models.text_heads import save_head
from napari_fewshot.session._adapt_text import fit_text_head
from napari_fewshot.session._reading import normalise_text, sides

if TYPE_CHECKING:
    from pathlib import Path


class Seen:
    """A scene as users have it: 8 bits."""

    def __init__(self, scene: Any) -> None:
        self.image = np.rint(np.clip(scene.image, 0, 1) * 255).astype(np.uint8)
        self.mask = scene.mask


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip.write(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def asked() -> list[tuple]:
    return [(Seen(s), p) for s, p in tiny_clip.asked(12)]


def dice(one: np.ndarray, other: np.ndarray) -> float:
    size = one.sum() + other.sum()
    return 2 * (one & other).sum() / size if size else 1.0


def test_a_phrase_finds_its_object(clip: Path, asked: list[tuple]) -> None:
    found = [
        dice(nf.segment(s.image, text=p.text, checkpoint=clip).labels > 0, s.mask(p))
        for s, p in asked
    ]
    silly = [
        dice(
            nf.segment(s.image, text="qwjz vrkk", checkpoint=clip).labels > 0, s.mask(p)
        )
        for s, p in asked
    ]
    assert np.mean(found) > 0.4
    assert np.mean(silly) < 0.15


def test_provenance_says_what_was_read_and_by_whom(clip: Path, asked: list) -> None:
    scene, phrase = asked[0]
    text = {2: nf.TextPrompt(phrase.text, negatives=["background"], name="thing")}
    found = nf.segment(scene.image, text=text, method="maskclip", checkpoint=clip)
    told = found.provenance
    assert told["method"] == "maskclip"
    assert told["text"]["phrases"]["2"]["phrases"] == [phrase.text]
    assert told["text"]["phrases"]["2"]["negatives"] == ["background"]
    assert told["weights_sha256"] == told["text"]["weights_sha256"]
    assert len(told["weights_sha256"]) == 64
    assert found.classes == {2: "thing"}
    assert set(np.unique(found.labels)) <= {0, 2}


def test_nonsense_is_told(clip: Path, asked: list[tuple]) -> None:
    scene, _phrase = asked[0]
    notes = nf.segment(scene.image, text="zzkw qpt", checkpoint=clip).provenance[
        "notes"
    ]
    assert any("not in the vocabulary" in note for note in notes)


def test_a_support_and_a_phrase_decide_together(clip: Path, asked: list) -> None:
    (one, phrase), *_ = asked
    support = nf.Support(one.image, one.mask(phrase).astype(int))
    found = nf.segment(
        one.image, support, text=phrase.text, method="panet", text_model=clip
    )
    assert "% text)" in found.provenance["choice"]
    assert found.provenance["method"] == "panet"
    assert found.provenance["text"]["method"] == "text"
    gated = nf.segment(
        one.image,
        support,
        text="qwjz vrkk",
        method="panet",
        text_model=clip,
        text_share="gate",
    )
    assert not gated.labels.any()
    alone = nf.segment(
        one.image, support, text=phrase.text, text_model=clip, text_share="alone"
    )
    bare = nf.segment(one.image, text=phrase.text, checkpoint=clip)
    assert np.array_equal(alone.labels, bare.labels)
    assert alone.provenance["method"] == bare.provenance["method"] == "text"


def test_classes_of_either_side_are_all_found(clip: Path, asked: list) -> None:
    (one, phrase), *_ = asked
    support = nf.Support(one.image, 3 * one.mask(phrase).astype(int))
    found = nf.segment(
        one.image, support, text={1: "background"}, method="panet", text_model=clip
    )
    assert set(found.scores) == {1, 3}


def test_vlp_learns_from_both(clip: Path, asked: list) -> None:
    (one, phrase), *_ = asked
    support = nf.Support(one.image, one.mask(phrase).astype(int))
    text = {1: phrase.text}
    found = nf.segment(one.image, support, text=text, method="vlp", checkpoint=clip)
    assert found.provenance["choice"].startswith("vlp on")
    assert found.provenance["method"] == "vlp"
    assert found.provenance["score_kind"] == "leave-one-out"
    assert dice(found.labels > 0, one.mask(phrase)) > 0.4
    two = nf.Support(one.image, 1 + one.mask(phrase).astype(int))
    with pytest.raises(nf.PromptError, match="no phrase"):
        nf.segment(one.image, two, text=text, method="vlp", checkpoint=clip)


def test_a_click_corrects_what_was_read(clip: Path, asked: list) -> None:
    scene, phrase = next((s, p) for s, p in asked if 0.02 < s.mask(p).mean() < 0.3)
    rows, columns = np.nonzero(scene.mask(phrase))
    middle = len(rows) // 2
    click = nf.PromptSet(points=[[rows[middle], columns[middle]]])
    both = nf.segment(scene.image, text=phrase.text, prompts=click, checkpoint=clip)
    assert both.labels[rows[middle], columns[middle]] == 1
    missed = nf.segment(scene.image, text="qwjz", prompts=click, checkpoint=clip)
    alone = nf.segment(scene.image, prompts=click)
    assert np.array_equal(missed.labels, alone.labels)


def test_stacks_are_read_plane_by_plane_and_from_anchors(
    clip: Path, asked: list
) -> None:
    scene, phrase = next((s, p) for s, p in asked if 0.02 < s.mask(p).mean() < 0.3)
    blank = np.zeros_like(scene.image)
    stack = np.stack([blank, scene.image, scene.image, scene.image, blank])
    how = {"text": phrase.text, "checkpoint": clip, "axes": "zyxc"}
    plain = nf.segment(stack, **how)
    assert not plain.labels[[0, 4]].any()
    followed = nf.segment(stack, **how, through="anchors")
    assert followed.labels.shape == plain.labels.shape
    assert not followed.labels[[0, 4]].any()
    if plain.labels.any():
        assert dice(followed.labels > 0, plain.labels > 0) > 0.6


def test_where_shows_heat_and_check_text_tells_sense_from_nonsense(
    clip: Path, asked: list
) -> None:
    scene, phrase = asked[0]
    heat = nf.where(scene.image, phrase.text, checkpoint=clip)[1].maps["heat map"]
    assert heat.shape == scene.image.shape[:2]
    assert 0 <= heat.min() < heat.max() <= 1
    table = nf.check_text(scene.image, {1: phrase.text, 2: "wqzk vvj"}, checkpoint=clip)
    assert list(table["class"]) == [1, 2]
    assert table["nonsense_r"][0] < table["nonsense_r"][1]


@pytest.mark.parametrize(
    ("how", "error", "match"),
    [
        ({"text": ""}, nf.PromptError, "empty"),
        ({"text": {1: nf.TextPrompt}}, nf.PromptError, "is a text"),
        ({"text": {0: "ring"}}, nf.PromptError, "numbered from 1"),
        ({"text": {1: "ring", 2: "Ring"}}, nf.PromptError, "both"),
        (
            {"text": "ring", "method": "pixel"},
            nf.ModelError,
            "no supports|there is none",
        ),
        ({"text": "ring", "text_method": "pixel"}, nf.ModelError, "reads no text"),
        ({"text": "ring", "method": "sam3"}, nf.ModelError, "does not work with"),
        ({"text": "ring", "text_share": "most"}, nf.PromptError, "text_share"),
        ({"text": "ring", "cutt": "otsu"}, TypeError, "did you mean 'cut'"),
        ({"method": "m2ib"}, nf.PromptError, "there is none"),
    ],
)
def test_bad_text_is_refused_in_one_sentence(
    clip: Path, asked: list, how: dict, error: type, match: str
) -> None:
    with pytest.raises(error, match=match):
        nf.segment(asked[0][0].image, checkpoint=clip, **how)


@pytest.mark.parametrize(
    "phrase", ["😀", "узел клетка", "<b>ring</b>", "ring " * 3000, "رنگ", "a\x00b"]
)
def test_odd_text_is_read(clip: Path, asked: list, phrase: str) -> None:
    found = nf.segment(asked[0][0].image, text=phrase, checkpoint=clip)
    assert found.labels.shape == asked[0][0].image.shape[:2]
    assert all(len(note) < 300 for note in found.provenance["notes"])


def test_grey_sixteen_bit_and_multichannel_queries(clip: Path, asked: list) -> None:
    scene, phrase = asked[0]
    grey = scene.image.astype(float).mean(-1)
    deep = (grey / max(grey.max(), 1e-6) * 60000).astype(np.uint16)
    for image, axes in ((grey, "yx"), (deep, "yx"), (deep[..., None], "yxc")):
        found = nf.segment(image, text=phrase.text, checkpoint=clip, axes=axes)
        assert found.labels.shape == grey.shape
    many = np.repeat(deep[..., None], 6, -1)
    with pytest.raises(nf.DataError, match="channel"):
        nf.segment(many, text=phrase.text, checkpoint=clip, axes="yxc")


def test_without_a_model_the_way_to_one_is_told() -> None:
    with pytest.raises(nf.WeightsError, match="models download"):
        nf.segment(np.random.default_rng(0).random((32, 32)), text="nucleus")


def test_the_worker_reads_as_this_process_does(clip: Path, asked: list) -> None:
    scene, phrase = asked[0]
    here = nf.segment(scene.image, text=phrase.text, checkpoint=clip)
    there = nf.segment(
        scene.image, text=phrase.text, checkpoint=clip, executor="process"
    )
    assert np.array_equal(here.labels, there.labels)


def test_a_head_that_was_trained_again_is_read_again(
    clip: Path, asked: list, tmp_path: Path
) -> None:
    scene, phrase = asked[0]
    support = nf.Support(scene.image, scene.mask(phrase).astype(int))
    text = normalise_text(phrase.text)
    cache, path = FitCache(), tmp_path / "head.safetensors"
    params = {"head": str(path)}
    found = []
    for seed in (0, 1):
        options = {"kind": "query", "steps": 1, "seed": seed}
        head = fit_text_head(support, text, checkpoint=clip, **options)
        save_head(head, path)
        _, reading = sides("text-head", "auto", clip, params, has_support=False)
        request = SegmentRequest(
            open_image(scene.image), nf.SupportSet(), text=text, reading=reading
        )
        first, again = (
            learn_evidence(request, Hooks(), cache, {}).learnt for _ in range(2)
        )
        assert first is again
        found.append(first)
    assert found[0] is not found[1]


def test_without_a_model_the_ways_to_give_one_are_named() -> None:
    image = np.arange(1024, dtype=np.uint16).reshape(32, 32)
    with pytest.raises(nf.WeightsError, match=r"models import FILE.*--checkpoint"):
        nf.segment(image, text="cell")
