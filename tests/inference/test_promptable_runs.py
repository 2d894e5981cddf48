"""Runs in which a promptable model follows the prompts."""

from __future__ import annotations

import numpy as np
import pytest

import napari_fewshot as nf
from napari_fewshot.data import Image
from napari_fewshot.io import import_weights


@pytest.fixture
def image(blob_pair):
    return blob_pair(2)[0]


def test_labels_are_the_masks_of_the_model(tiny_sam, image, monkeypatch):
    monkeypatch.setenv("NAPARI_FEWSHOT_CACHE", "0")
    model = nf.load_model("sam/vit_b", checkpoint=tiny_sam)
    embedding = model.encode(Image.from_array(image).plane(0))
    masks, scores, _ = model.predict(embedding, points=[[30, 40]])
    found = nf.segment(
        image,
        prompts=nf.PromptSet(points=[[30, 40]]),
        model="sam/vit_b",
        checkpoint=tiny_sam,
    )
    np.testing.assert_array_equal(found.labels == 1, masks[scores.argmax()])
    assert found.provenance["model"] == "sam/vit_b"
    assert found.provenance["score_kind"] == "predicted-iou"
    assert len(found.provenance["weights_sha256"]) == 64
    assert found.scores[1] == pytest.approx(max(0, scores.max()), abs=1e-6)


def test_a_file_tells_its_model(tiny_sam, image):
    found = nf.segment(
        image, prompts=nf.PromptSet(points=[[30, 40]]), checkpoint=tiny_sam
    )
    assert found.provenance["model"] == "sam/vit_b"


def test_boxes_are_instances(tiny_sam, image):
    boxes = [[5, 5, 40, 40], [50, 60, 90, 100]]
    found = nf.segment(
        image,
        prompts={1: nf.PromptSet(boxes=boxes), 2: nf.PromptSet(points=[[20, 90]])},
        model="sam/vit_b",
        checkpoint=tiny_sam,
    )
    assert set(np.unique(found.labels)) == {0, 1, 2}
    for number in (1, 2):
        assert set(found.labels[found.instances == number]) == {1}
    assert set(found.labels[found.instances == 3]) == {2}


def test_a_plane_is_encoded_once(tiny_sam, image, monkeypatch):
    model = nf.load_model("sam/vit_b", checkpoint=tiny_sam)
    calls = []
    encode = type(model).encode

    def counted(self, *args, **options):
        calls.append(1)
        return encode(self, *args, **options)

    monkeypatch.setattr(type(model), "encode", counted)
    stack = np.stack([image, image[::-1]])
    prompts = nf.PromptSet(points=[[0, 30, 40], [1, 30, 40]])
    first = nf.segment(stack, prompts=prompts, model="sam/vit_b", checkpoint=tiny_sam)
    assert len(calls) == 2
    again = nf.segment(stack, prompts=prompts, model="sam/vit_b", checkpoint=tiny_sam)
    assert len(calls) == 2
    np.testing.assert_array_equal(first.labels, again.labels)


def test_supports_and_a_promptable_model_together(tiny_sam, blob_pair, image):
    support = nf.Support(*blob_pair(3))
    options = {"method": "pixel", "model": "sam/vit_b", "checkpoint": tiny_sam}
    plain = nf.segment(image, support, **options)
    more = nf.segment(
        image, support, prompts=nf.PromptSet(points=[[30, 40]]), **options
    )
    assert not ((plain.labels == 1) & (more.labels == 0)).any()
    assert (more.labels == 1).sum() > (plain.labels == 1).sum()


def test_prompts_outside_and_missing_weights_are_told(tiny_sam, image):
    with pytest.raises(nf.PromptError, match="outside"):
        nf.segment(
            image,
            prompts=nf.PromptSet(points=[[300, 40]]),
            model="sam/vit_b",
            checkpoint=tiny_sam,
        )
    with pytest.raises(nf.WeightsError, match="napari-fewshot models"):
        nf.segment(image, prompts=nf.PromptSet(points=[[30, 40]]), model="sam/vit_b")


def test_a_wrong_kind_of_file_is_told(tmp_path, image):
    path = tmp_path / "sam_vit_b.pth"
    path.write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(nf.WeightsError, match="sam_vit_b"):
        nf.segment(
            image,
            prompts=nf.PromptSet(points=[[30, 40]]),
            model="sam/vit_b",
            checkpoint=path,
        )


def test_a_model_with_classes_needs_no_evidence(tiny_sam, tmp_path, image):
    import torch

    state = torch.load(tiny_sam, weights_only=True)
    classes = {}
    for key, tensor in state.items():
        if "output_hypernetworks_mlps.3" in key:
            continue
        is_per_mask = "mask_tokens" in key or "iou_prediction_head.layers.2" in key
        classes[key] = tensor[:3] if is_per_mask else tensor
    path = tmp_path / "finetuned.pth"
    torch.save(classes, path)
    found = nf.segment(image, model="finetunesam/vit_b", checkpoint=path)
    model = nf.load_model("finetunesam/vit_b", checkpoint=path)
    embedding = model.encode(Image.from_array(image).plane(0))
    full = model.restore(model.decode(embedding)[0][0], image.shape)
    assert model.classes == len(full) == 2
    assert (found.labels == full.argmax(0)).mean() > 0.999
    assert found.classes == {1: "class 1"}
    with pytest.raises(nf.SupportError):
        nf.segment(image, model="sam/vit_b", checkpoint=tiny_sam)


def test_auto_takes_an_installed_model_for_prompts_alone(tiny_sam, image, blob_pair):
    prompts = nf.PromptSet(points=[[30, 40]])
    assert nf.segment(image, prompts=prompts).provenance["model"] == "incontext/small"
    import_weights(tiny_sam, "sam/vit_b")
    assert nf.segment(image, prompts=prompts).provenance["model"] == "sam/vit_b"
    # Supports say more than a general model knows of them.
    with_support = nf.segment(image, blob_pair(3), prompts=prompts, leave_one_out=False)
    assert with_support.provenance["model"] == "incontext/small"
    named = nf.segment(image, prompts=prompts, model="incontext/small")
    assert named.provenance["model"] == "incontext/small"
