"""What the next run will take, in the dock: follows the choices, warns, learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import zarr

import napari_fewshot as nf
from napari_fewshot.data import Image, SupportSet
from napari_fewshot.errors import DataError
from napari_fewshot.session import InlineExecutor, Session, _estimate
from napari_fewshot.session._dask_link import ClusterCheck, Facts
from napari_fewshot.session._estimate import Estimate
from napari_fewshot.widgets import _estimate_line
from napari_fewshot.widgets._estimate_choices import Choices
from napari_fewshot.widgets._estimate_line import (
    BORROWED,
    GUESSED,
    MEASURED,
    say_estimate,
)

from .conftest import until

pytestmark = pytest.mark.gui


def line(dock):
    return dock.run_panel.status.text()


def known(dock, *words):
    """Wait until the line says this."""
    until(lambda: all(w in line(dock) for w in words), f"{words} in {line(dock)!r}")
    return line(dock)


def settled(dock):
    """Wait until the line has followed every choice."""
    found = dock.estimate
    until(lambda: not (found._timer.isActive() or found._is_busy), "the estimate")


def lacking(monkeypatch, free=1e6):
    """Let the computer have next to no memory."""
    monkeypatch.setattr(_estimate, "free_memory", lambda: free)
    monkeypatch.setattr(_estimate, "LITTLE", 0)
    monkeypatch.setattr(_estimate_line, "free_memory", lambda: free)


def test_the_line_says_what_a_run_takes(dock):
    assert line(dock) == "4 planes", "at once: the rest is not waited for"
    text = known(dock, "4 planes", "about", "memory")
    assert "disk" not in text
    assert dock.run_panel.status.toolTip().startswith(GUESSED)


def test_it_follows_the_choices(dock):
    known(dock, "4 planes", "memory")
    dock.image_panel.this_plane.setChecked(True)
    assert line(dock) == "1 plane"
    known(dock, "1 plane \u00b7 about")
    dock.image_panel.some.setChecked(True)
    dock.image_panel.range.setText("1-3")
    dock.image_panel.range.textEdited.emit("1-3")
    known(dock, "3 planes \u00b7 about")
    dock.image_panel.whole.setChecked(True)
    known(dock, "4 planes \u00b7 about")


def test_without_evidence_there_is_nothing_to_estimate(dock):
    known(dock, "memory")
    for row in dock.session.state.supports:
        dock.session.mute_support(row.key, True)
    until(lambda: line(dock) == "4 planes", "the estimate to go")
    assert dock.run_panel.status.toolTip() == "4 planes"


def test_a_line_that_is_known_does_not_flicker(dock):
    text = known(dock, "memory")
    seen = []
    show = dock.run_panel.show_status
    dock.run_panel.show_status = lambda t, tip="": (seen.append(t), show(t, tip))
    for _ in range(5):
        dock.estimate.show()
    settled(dock)
    assert set(seen) == {text}


def test_a_run_makes_the_next_estimate_better(dock, home, monkeypatch):
    monkeypatch.setattr(_estimate, "_noted", [-float("inf")])
    known(dock, "memory")
    dock.run_panel.segment_button.click()
    until(lambda: not dock.session.is_running, "the segmentation")
    assert "pixel" in (home / "cache" / "speeds.json").read_text()
    known(dock, "4 planes \u00b7 about")
    until(lambda: MEASURED in dock.run_panel.status.toolTip(), "the measured time")


def test_a_session_without_a_window_learns_too(home, blob_pair, monkeypatch):
    monkeypatch.setattr(_estimate, "_noted", [-float("inf")])
    session = Session(method="pixel", autosave=False)
    for seed in (0, 1):
        session.add_support(*blob_pair(seed, (64, 64), 4))
    session.set_method("pixel", params={"trees": 5})
    session.set_query(blob_pair(2, (64, 64), 4)[0])
    choices = Choices(session.state.document)
    guess = choices.look()
    assert guess.is_guess
    spent = sum(session.segment().provenance["seconds"].values())
    known = choices.look()
    assert not known.is_guess
    # What was measured is nearer to the truth than what was guessed.
    assert abs(known.seconds - spent) < abs(guess.seconds - spent)
    assert known.seconds == pytest.approx(spent, rel=0.5, abs=0.5)


def test_what_does_not_fit_is_said_and_asked_once(dock, monkeypatch):
    lacking(monkeypatch)
    dock.estimate.show()
    text = known(dock, "\u26a0 Needs", "1 MB are free", "Choose tile 512")
    assert len(text) < 90, "two lines"
    assert "needs about" in dock.run_panel.status.toolTip()
    dock.run_panel.segment_button.click()
    assert not dock.session.is_running
    said = dock.run_panel.message.text()
    assert "96 x 112 pixels needs about" in said
    assert "How, change" in said
    assert said.endswith("Press Segment again to try all the same.")
    dock.run_panel.segment_button.click()
    assert dock.session.is_running
    assert dock.run_panel.message.text() == ""
    until(lambda: not dock.session.is_running, "the segmentation")


def test_other_choices_are_asked_again(dock, monkeypatch):
    lacking(monkeypatch)
    with pytest.raises(DataError, match="Press Segment again"):
        dock.estimate.confirm()
    dock.image_panel.this_plane.setChecked(True)
    with pytest.raises(DataError, match="Press Segment again"):
        dock.estimate.confirm()
    dock.estimate.confirm()


def test_a_full_disk_is_told(dock, monkeypatch):
    monkeypatch.setattr(_estimate, "free_disk", lambda place: 1000)
    monkeypatch.setattr(_estimate, "disk_of", lambda *_, **__: (0, 5_000_000))
    dock.estimate.show()
    known(dock, "\u26a0 Needs 5 MB of disk", "Free some space")
    with pytest.raises(DataError, match="NAPARI_FEWSHOT_HOME"):
        dock.estimate.confirm()


def test_a_warning_moves_nothing(dock, monkeypatch, viewer):
    viewer.window.resize(1280, 720)
    dock.window().show()
    known(dock, "memory")
    button = dock.run_panel.segment_button
    before = button.mapTo(dock, button.rect().topLeft())
    lacking(monkeypatch)
    dock.estimate.show()
    known(dock, "\u26a0 Needs")
    assert dock.run_panel.status.height() >= 2 * (
        dock.run_panel.status.fontMetrics().lineSpacing()
    )
    assert button.mapTo(dock, button.rect().topLeft()) == before


def test_planning_reads_no_pixels(tmp_path, blob_pair):
    """Shapes suffice, however large the image is."""

    reads = []

    class Counted:
        shape, dtype, ndim = (3, 50_000, 50_000), np.dtype("u1"), 3

        def __getitem__(self, key):
            reads.append(key)
            return np.zeros((1, 1), np.uint8)

    session = Session(autosave=False)
    session.add_support(*blob_pair(0, (64, 64), 4))
    document = session.state.document
    image = Image(Counted(), axes="zyx")
    reads.clear()
    found = Choices(replace(document, query=image)).look()
    assert found.n_planes == 3
    assert found.n_windows > 1000
    part = Choices(replace(document, query=image), (0,), (0, 0, 3000, 3000)).look()
    assert part.n_windows < found.n_windows / 100
    assert not reads


def test_only_the_part_in_view(viewer, make_dock, tmp_path, blob_pair):
    path = tmp_path / "large.zarr"
    large = zarr.create_array(path, shape=(6000, 6000), chunks=(512, 512), dtype="u1")
    viewer.add_image(large, name="slide", contrast_limits=(0, 255))
    dock = make_dock()
    dock.session.add_support(*blob_pair(0, (64, 64), 4))
    whole = known(dock, "tiles", "memory")
    assert "tiles" in whole
    camera = viewer.scene.camera
    camera.center, camera.zoom = (0, 3000, 3000), 0.4
    viewer.window.screenshot(canvas_only=True, flash=False)
    dock.image_panel.in_view.setChecked(True)
    until(lambda: line(dock) != whole and "memory" in line(dock), "fewer tiles")
    part = line(dock)
    camera.zoom = 4
    viewer.window.screenshot(canvas_only=True, flash=False)
    until(lambda: line(dock) != part and "memory" in line(dock), "fewer still")
    counts = [
        int(t.split("in ")[1].split(" tiles")[0].replace(",", ""))
        for t in (whole, part, line(dock))
    ]
    assert counts[0] > 2 * counts[1] > 4 * counts[2]


def test_several_images_add_up(dock, viewer, stack):
    settled(dock)
    one = dock.estimate._choices().look()
    viewer.add_image(stack[0][:2], name="more")
    viewer.layers.selection = {viewer.layers["cells"], viewer.layers["more"]}
    dock.image_panel.refresh()
    dock.image_panel.layer.setCurrentIndex(dock.image_panel.layer.count() - 1)
    assert dock.image_panel.is_all_selected
    both = dock.estimate._choices().look()
    assert (one.n_planes, both.n_planes) == (4, 6)


def test_on_a_cluster_time_is_shared_and_memory_not_known(dock):
    known(dock, "memory")
    place = InlineExecutor("dask")
    place.found = None
    home = dock.session.place
    dock.session.run_on(place)
    dock.where_panel.connected.emit(None)
    known(dock, "4 planes \u00b7 on a cluster")
    facts = Facts("tcp://a:1", "a", {}, 1, 1.0)
    place.found = ClusterCheck("tcp://a:1", "", (facts, facts))
    dock.where_panel.connected.emit(place.found)
    text = known(dock, "on 2 workers")
    assert "memory" not in text
    assert BORROWED in dock.run_panel.status.toolTip()
    dock.session.run_on(home)
    dock.where_panel.connected.emit(None)
    known(dock, "memory")


def test_workers_share_the_planes_but_not_the_learning(blob_pair):
    session = Session(autosave=False)
    session.add_support(*blob_pair(0, (64, 64), 4))
    session.set_query(np.zeros((40, 64, 64), np.uint8))
    document = session.state.document
    alone, four = (Choices(document, workers=n).look() for n in (1, 4))
    bare = replace(document, rows=())
    assert Choices(bare).look() is None
    fit = nf.estimate(np.zeros((1, 64, 64), np.uint8), SupportSet.of(())).seconds
    learning = alone.seconds - 40 * fit
    assert four.seconds == pytest.approx(learning + 10 * fit)


@pytest.mark.parametrize(
    ("found", "workers", "text"),
    [
        (Estimate(180, 1_200_000_000, 0, n_planes=40, n_windows=40), 0, None),
        (
            Estimate(7200, 2e9, 3e9, n_planes=1, n_windows=1024),
            0,
            "1 plane in 1,024 tiles \u00b7 about 2.0 hours \u00b7 2.0 GB memory \u00b7 "
            "3.0 GB disk",
        ),
        (
            Estimate(12, 2e9, 0, n_planes=2000, n_windows=2000),
            1,
            "2,000 planes \u00b7 about 12 s on 1 worker",
        ),
    ],
)
def test_words(found, workers, text):
    text = text or "40 planes \u00b7 about 3 min \u00b7 1.2 GB memory"
    assert say_estimate(found, workers) == text


def test_closing_the_dock_lets_go(dock, viewer):
    known(dock, "memory")
    dock.estimate.show()
    dock.shut_down()
    dock.shut_down()
    viewer.scene.camera.zoom = 3
    assert not dock.estimate._timer.isActive()
