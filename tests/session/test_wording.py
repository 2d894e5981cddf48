"""Text in a session: set, undone, saved, shown, checked, run, repeated by script."""

from __future__ import annotations

import runpy
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests import tiny_clip

import napari_fewshot as nf

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip.write(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def seen():
    scene, phrase = tiny_clip.asked(1)[0]
    return np.rint(np.clip(scene.image, 0, 1) * 255).astype(np.uint8), phrase.text


@pytest.fixture
def session(tmp_path: Path, clip: Path, seen):
    image, phrase = seen
    session = nf.Session(project=tmp_path / "a.fewshot-project")
    session.set_query(image)
    session.set_text(
        {1: nf.TextPrompt(phrase, negatives=["background"], modality="microscopy")},
        checkpoint=clip,
    )
    yield session
    session.close()


def test_text_joins_the_class_table_and_can_be_undone(session, seen) -> None:
    assert session.state.classes.names == {1: seen[1]}
    session.set_text({1: seen[1], 2: "ring"}, method="maskclip")
    assert session.state.classes.names[2] == "ring"
    assert session.state.document.reading.method == "maskclip"
    session.undo()
    assert session.state.document.reading.method == "text"
    assert set(session.state.document.text) == {1}
    session.set_text(None)
    assert not session.state.document.text
    session.undo()
    assert session.state.document.text[1].modality == "microscopy"


def test_a_method_that_reads_becomes_the_reader(session) -> None:
    session.set_method("sclip")
    assert session.state.document.method == "auto"
    assert session.state.document.reading.method == "sclip"
    session.set_text(session.state.document.text, params={"cut": "otsu"})
    assert session.state.document.reading.params == {"cut": "otsu"}
    session.set_text(session.state.document.text, method="maskclip")
    assert session.state.document.reading.params == {}


@pytest.mark.parametrize(
    ("how", "error", "match"),
    [
        ({"method": "pixel"}, nf.ModelError, "reads no text"),
        ({"model": "sam/vit_b"}, nf.ModelError, "reads no text"),
        ({"share": "half"}, nf.PromptError, "text_share"),
        ({"params": {"cutt": 1}}, TypeError, "cut"),
    ],
)
def test_what_cannot_read_is_refused_and_nothing_changes(
    session, how, error, match
) -> None:
    before = session.state.document
    with pytest.raises(error, match=match):
        session.set_text({1: "ring"}, **how)
    assert session.state.document is before


def test_heat_checks_and_results(session, clip, seen) -> None:
    image, phrase = seen
    shown, told = [], []
    session.shown_where.connect(lambda plane, found: shown.append((plane, found)))
    session.understood.connect(lambda plane, rows: told.append((plane, rows)))
    heat = session.where(0)[1].maps["heat map"]
    assert heat.shape == image.shape[:2]
    assert shown[0][0] == 0
    assert np.array_equal(shown[0][1][1].maps["heat map"], heat)
    (row,) = session.check_text(0)
    assert told[0][1] == (row,)
    assert row.phrase == phrase
    found = session.segment(wait=True)
    text = nf.TextPrompt(phrase, negatives=["background"], modality="microscopy")
    again = nf.segment(image, text=text, checkpoint=clip)
    assert np.array_equal(found.labels, again.labels)
    told = session.explain(0)[1]
    assert "heat map" in told.maps


def test_without_phrases_there_is_nothing_to_show(session) -> None:
    session.set_text(None)
    with pytest.raises(nf.PromptError, match=r"no phrase.*session\.set_text"):
        session.where(0)
    with pytest.raises(nf.PromptError, match="no phrase"):
        session.check_text(0)
    with pytest.raises(nf.SupportError):
        session.explain(0)


def test_a_saved_session_reads_the_same_and_its_script_runs(
    session, tmp_path: Path
) -> None:
    found = session.segment(wait=True)
    folder = tmp_path / "kept.fewshot-project"
    session.save(folder)
    other = nf.Session.load(folder, autosave=False)
    assert other.state.document.text == session.state.document.text
    assert other.state.document.reading == session.state.document.reading
    assert np.array_equal(other.segment(wait=True).labels, found.labels)
    other.close()
    program = tmp_path / "again.py"
    program.write_text(
        session.script("python") + f"\nimport numpy\nnumpy.save({str(tmp_path / 'a')!r}"
        ", prediction.labels)\n"
    )
    runpy.run_path(str(program))
    assert np.array_equal(np.load(tmp_path / "a.npy"), found.labels)
