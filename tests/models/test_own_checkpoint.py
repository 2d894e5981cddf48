"""Weights of one's own: pairs of files, and the simple task that they do first."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import napari_fewshot as nf
from napari_fewshot.io import import_weights
from napari_fewshot.models import recognise
from napari_fewshot.models.sam import SamModel, _promptable


@pytest.fixture
def asked(monkeypatch):
    """Return a list that grows with every simple task; none was done so far."""
    done, test = [], SamModel.self_test
    monkeypatch.setattr(_promptable, "_tested", {})
    monkeypatch.setattr(
        SamModel, "self_test", lambda model: done.append(model) or test(model)
    )
    return done


def test_random_weights_are_noted_once_and_told_in_provenance(tiny_sam, asked):
    own = {"model": "sam/vit_b", "checkpoint": tiny_sam}
    image = tiny_image()
    model = nf.load_model("sam/vit_b", tiny_sam)
    assert [note for note in model.notes if "bright disk" in note]
    found = nf.segment(image, prompts=nf.PromptSet(points=[[30, 40]]), **own)
    everything = nf.segment_everything(image, points_per_side=2, **own)
    point = nf.PromptSet(points=[[0, 30, 40]])
    carried = nf.propagate(tiny_image(2), point, **own)
    for one in (found, everything, carried):
        notes = one.provenance["notes"]
        assert len([note for note in notes if "bright disk" in note]) == 1
    assert len(asked) == 1, "once per file"


def test_a_model_that_does_the_task_has_no_note(tiny_sam, asked, monkeypatch, tmp_path):
    monkeypatch.setattr(_promptable, "SELF_TEST", 0.0)
    # Another path: models stay loaded, with their notes.
    other = shutil.copy(tiny_sam, tmp_path)
    for _ in range(2):
        assert nf.load_model("sam/vit_b", other).notes == []
    assert len(asked) == 1


def test_installed_weights_are_not_tested_again(tiny_sam, asked):
    import_weights(tiny_sam, "sam/vit_b")
    before = len(asked)
    assert not nf.load_model("sam/vit_b").notes
    assert len(asked) == before


def test_pairs_of_files_are_recognised_or_refused(tiny_sam):
    with pytest.raises(nf.WeightsError, match="does not build on another file"):
        recognise((str(tiny_sam), str(tiny_sam)))
    with pytest.raises(nf.WeightsError, match="pair of files, not 3"):
        recognise([tiny_sam] * 3)
    with pytest.raises(nf.WeightsError, match="alone"):
        nf.load_model(checkpoint=(tiny_sam, tiny_sam))


def tiny_image(planes=0):
    shape = (planes, 64, 80) if planes else (64, 80)
    return np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
