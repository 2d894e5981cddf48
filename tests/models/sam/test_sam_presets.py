"""Presets: which prompts they take, when they ask for candidates, the self-test."""

import numpy as np
import pytest
import torch

import napari_fewshot as nf
from napari_fewshot.models._catalogue import SAM_FAMILY
from napari_fewshot.models.sam import check_preset
from napari_fewshot.models.sam._frame import Frame
from napari_fewshot.models.sam._presets import FAMILIES, LITE, MEDSAM


def test_every_model_of_the_catalogue_has_a_preset():
    assert {spec.name for spec in SAM_FAMILY} == set(FAMILIES)


def brightness(path, gain):
    """Write a U-Net that finds what is brighter than half."""
    state = {}
    for name, channels in (
        *((f"downs.{n}", 1 if n else 5) for n in range(4)),
        *((f"ups.{n}", 2) for n in (1, 3, 5, 7)),
        ("bottleneck", 1),
    ):
        state[f"{name}.conv.0.weight"] = torch.zeros(1, channels, 3, 3)
        state[f"{name}.conv.0.bias"] = torch.zeros(1)
        state[f"{name}.conv.1.weight"] = torch.ones(1)
    for name in ("downs.0", "ups.7"):
        state[f"{name}.conv.0.weight"][0, 0, 1, 1] = 1
    state["final_conv.conv.0.weight"] = torch.full((1, 1, 1, 1), gain)
    state["final_conv.conv.0.bias"] = torch.full((1,), -gain / 2)
    torch.save(state, path)


def test_the_self_test_tells_good_weights_from_bad(tools, tmp_path):
    good, bad = tmp_path / "good.pt", tmp_path / "bad.pt"
    brightness(good, 20.0)
    brightness(bad, -20.0)
    model = tools.load("scribbleprompt/unet", good)
    assert model.self_test() > 0.9
    assert check_preset(model) == ""
    words = check_preset(tools.load("scribbleprompt/unet", bad))
    assert words.startswith("scribbleprompt/unet misses a bright disk")
    assert "choose that model" in words


def test_random_weights_fail_the_self_test(weights, tools):
    for name in ("sam/vit_b", "medsam/vit_b", "sammed2d/vit_b"):
        assert "misses a bright disk" in check_preset(tools.load(name, weights))
    # Classes cannot be tested so.
    assert check_preset(tools.load("finetunesam/vit_b", weights)) == ""


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("sam/vit_b", (True, False, False, False)),
        ("medsam/vit_b", (False, False, False, False)),
        ("scribbleprompt/vit_b", (True, True, True, True)),
    ],
)
def test_when_candidates_are_asked_for(weights, tools, name, asked):
    model = tools.load(name, weights)
    assert asked == (
        model.wants_candidates(1),
        model.wants_candidates(2),
        model.wants_candidates(1, boxes=True),
        model.wants_candidates(1, mask=True),
    )


def test_medsam_takes_boxes_only(weights, tools, picture):
    model = tools.load("medsam/vit_b", weights)
    embedding = model.encode(picture)
    with pytest.raises(nf.PromptError, match="takes boxes only; draw a box"):
        model.predict(embedding, points=[[3, 3]])
    with pytest.raises(nf.PromptError, match="takes boxes only"):
        model.predict(embedding, points=[[3, 3]], boxes=[1, 1, 9, 9])


def test_area_means_by_hand():
    """Three pixels to two: each takes one and a half."""
    image = np.array([[0, 120, 240]] * 3, np.uint8)
    x = Frame((3, 3), 2, LITE).image(image)[0, 0]
    left, right = (0 + 60) / 1.5, (60 + 240) / 1.5
    assert (left, right) == (40, 200)
    np.testing.assert_allclose(x, [[0, 1], [0, 1]], atol=1e-6)
    enlarged = Frame((2, 2), 4, LITE).image(np.array([[0, 9], [9, 9]], np.uint8))
    assert enlarged.shape == (1, 3, 4, 4)
    assert float(enlarged.max()) == 1.0


def test_flat_planes_have_no_range():
    for preset in (MEDSAM, FAMILIES["scribbleprompt/unet"].preset):
        x = Frame((9, 9), 32, preset).image(np.full((9, 9), 7, np.uint8))
        assert not x.any()


def test_a_model_of_another_make(weights, tools):
    with pytest.raises(nf.ModelError, match="filters is no model of the SAM family"):
        tools.load("filters", weights)
    with pytest.raises(nf.WeightsError, match="250 pixels is no multiple of 16"):
        tools.load("sam/vit_b", weights, side=250)


def test_a_published_digest_tells_before_the_name(tmp_path, monkeypatch, tiny_sam):
    """Whoever renames a file does not change what it is."""
    import hashlib

    from napari_fewshot.models.sam import _identify, identify

    renamed = tmp_path / "medsam_vit_b.pth"
    renamed.write_bytes(tiny_sam.read_bytes())
    assert identify(renamed) == ("medsam/vit_b",)
    digest = hashlib.sha256(renamed.read_bytes()).hexdigest()
    monkeypatch.setitem(_identify.DIGESTS, digest, "medicosam/vit_b")
    assert identify(renamed) == ("medicosam/vit_b",)
    assert set(_identify.DIGESTS.values()) >= {"sam/vit_b", "sam/vit_l", "sam/vit_h"}
