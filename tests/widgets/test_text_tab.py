"""The Text tab in a real window, with a tiny CLIP in the worker process."""

from __future__ import annotations

import time

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QComboBox, QLineEdit, QPushButton, QSlider
from scipy import ndimage

import napari_fewshot as nf
from napari_fewshot.methods import get_method, method_names
from napari_fewshot.methods._registry import TEXT_METHODS
from napari_fewshot.methods.text import ADVICE
from napari_fewshot.session import Understanding
from napari_fewshot.viewer._actions import text as open_text
from napari_fewshot.viewer._layers import KEY, role
from napari_fewshot.widgets._text_heat import cut_of, rescaled, verdict_words
from napari_fewshot.widgets._text_reading import offer_words
from napari_fewshot.widgets._text_rows import PhraseEdit
from tests import tiny_clip

from .conftest import until

pytestmark = pytest.mark.gui
SCENE, PHRASE = 7, "green box"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_clip.write(tmp_path_factory.mktemp("models") / "tiny-clip")


@pytest.fixture(scope="module")
def scene():
    return (255 * tiny_clip.scene(SCENE).image).round().astype(np.uint8)


@pytest.fixture
def dock(viewer, scene, make_dock):
    """A dock on one scene, without any model that reads."""
    viewer.add_image(scene, name="scene", rgb=True, scale=(0.5, 0.5))
    found = make_dock()
    found.show_tab("text")
    return found


@pytest.fixture
def reading(dock, folder):
    """The same with the tiny CLIP; masks are the maps themselves."""
    how = {"decoder": "map", "presence": False}
    dock.session.set_text(None, checkpoint=folder, params=how)
    return dock


def type_in(line, text):
    line.setFocus()
    line.clear()
    if text.isascii() and len(text) < 40:
        QTest.keyClicks(line, text)
    else:
        # No key of the test's keyboard gives these.
        line.insert(text)
    line.editingFinished.emit()


def finished(dock):
    """Until the job, and the check that follows it, are done."""
    heat = dock.text.panel.heat
    # The first call imports all that CLIP needs: minutes on a busy machine.
    while dock.session.is_running or heat._wants_check:
        QApplication.processEvents()
        time.sleep(0.005)
    QApplication.processEvents()


def ours(viewer):
    return [x for x in viewer.layers if role(x) == "where"]


def show(dock):
    panel = dock.text.panel
    panel.heat.show_button.click()
    finished(dock)
    return panel.heat.layer


def test_from_a_phrase_to_labels(reading, viewer):
    dock, panel = reading, reading.text.panel
    before = viewer.layers[0].data.copy()
    type_in(panel.rows.phrase, PHRASE)
    assert dock.session.state.document.text[1].phrases == (PHRASE,)
    layers = show(dock)
    (heat,) = ours(viewer)
    assert heat.name == f"where: {PHRASE}"
    np.testing.assert_allclose(heat.affine.affine_matrix, np.eye(3))
    np.testing.assert_allclose(heat.data_to_world((7, 9)), (3.5, 4.5))
    assert viewer.layers.selection.active is not heat
    values = layers._values
    usual = layers.mask.sum()
    inner = ndimage.binary_erosion(layers.mask, border_value=1)
    np.testing.assert_array_equal(heat.data > 1, layers.mask & ~inner)
    assert 0 < usual < layers.mask.size
    assert panel.heat.verdict.text()
    # The slider asks nobody: the outline has changed when the call returns.
    jobs = []
    dock.session.progressed.connect(jobs.append)
    panel.heat.slider.setValue(80)
    assert 0 < layers.mask.sum() < usual
    np.testing.assert_array_equal(layers.mask, values >= 0.8)
    inner = ndimage.binary_erosion(layers.mask, border_value=1)
    np.testing.assert_array_equal(heat.data > 1, layers.mask & ~inner)
    assert jobs == []
    assert not dock.session.is_running
    assert panel.heat.number.text() == "0.80"
    shown = layers.mask
    dock.run_panel.segment_button.click()
    finished(dock)
    assert cut_of(dock.session.state.document.reading) == ("auto", 0.8)
    labels = dock.binding.result_layer.data
    # The same but for edges, which the run takes from the image.
    edge = ndimage.binary_dilation(shown, iterations=3) & ~ndimage.binary_erosion(
        shown, iterations=3
    )
    assert labels.any()
    np.testing.assert_array_equal(labels[~edge] > 0, shown[~edge])
    # Asked again at another level, the map and its cut are the same.
    show(dock)
    np.testing.assert_allclose(layers._values, values, atol=0.01)
    np.testing.assert_array_equal(layers.mask, shown)
    panel.heat.hide_button.click()
    assert ours(viewer) == []
    np.testing.assert_array_equal(viewer.layers[0].data, before)


def test_a_result_is_refined_with_clicks_and_kept_as_support(reading):
    dock, panel = reading, reading.text.panel
    assert not panel.refine_button.isEnabled()
    type_in(panel.rows.phrase, PHRASE)
    dock.run_panel.segment_button.click()
    finished(dock)
    found = dock.session.prediction.labels > 0
    panel.refine_button.click()
    assert dock.is_prompting
    np.testing.assert_array_equal(dock.prompt_panel._guess > 0, found)
    dock.show_tab("text")
    panel.keep_button.click()
    state = dock.session.state
    assert [row.accepted_plane for row in state.supports] == [0]
    assert not panel.keep_button.isEnabled()
    # Beside supports words have a share.
    assert panel.reading.share.isVisibleTo(panel)
    panel.reading.share.setCurrentIndex(panel.reading.share.findData("gate"))
    panel.reading.share.activated.emit(panel.reading.share.currentIndex())
    assert dock.session.state.document.reading.share == "gate"
    dock.session.undo()
    assert panel.reading.share.currentData() == "learnt"


def test_nonsense_is_told_and_a_known_phrase_is_not(reading):
    dock, panel = reading, reading.text.panel
    type_in(panel.rows.phrase, tiny_clip.nonsense(3))
    show(dock)
    assert panel.heat.verdict.text() == f"⚠ {ADVICE}"
    assert "letters without meaning" in panel.heat.verdict.toolTip()
    type_in(panel.rows.phrase, PHRASE)
    assert not panel.heat.verdict.isVisibleTo(panel), "it was said of other words"
    assert ours(dock.viewer) == [], "so was the map"
    show(dock)
    row = panel.heat._verdicts[1]
    assert row.verdict != "not understood"
    assert panel.heat.verdict.text() == verdict_words(row)[0]


@pytest.mark.parametrize(
    ("row", "start"),
    [
        (Understanding(1, "a", 0.95, 0.1, 0.2, 0.1, "not understood"), f"⚠ {ADVICE}"),
        (Understanding(1, "a", 0.5, 0.1, 0.2, -0.1, "unsure"), "? "),
        (Understanding(1, "a", 0.5, 0.1, float("nan"), 0.1, "understood"), "✓ "),
    ],
)
def test_a_verdict_has_a_sign_and_words(row, start):
    text, tip, style = verdict_words(row)
    assert text.startswith(start)
    assert f"{row.nonsense_r:.2f}" in tip
    assert "nan" not in tip
    assert bool(style) == (row.verdict == "not understood")
    assert ADVICE == (
        "This model does not understand the phrase well: add a support or a click."
    )


def test_a_run_tells_too_that_a_phrase_is_not_understood(reading, monkeypatch):
    dock, panel = reading, reading.text.panel
    type_in(panel.rows.phrase, PHRASE)
    dock.run_panel.segment_button.click()
    finished(dock)
    prediction = dock.session.prediction
    notes = [n for n in prediction.provenance["notes"] if not n.endswith(ADVICE)]
    prediction.provenance["notes"] = [*notes, f"{PHRASE!r}: {ADVICE}", "A note."]
    panel.show_state(dock.session.state)
    assert panel.heat.verdict.text() == f"⚠ {ADVICE}"
    assert "A note." in panel.notes.text()
    assert ADVICE not in panel.notes.text()


def test_it_follows_the_class_table_and_back(dock):
    panel, table = dock.text.panel, dock.class_panel.table
    dock.session.set_classes({1: "cell", 2: "vessel"})
    assert panel.classes.isVisibleTo(panel)
    type_in(panel.rows.phrase, "round cell")
    table.setCurrentCell(1, 1)
    assert panel.value == 2
    assert panel.rows.phrase.text() == ""
    # What is typed is kept when one goes to another class.
    panel.rows.phrase.setText("blood vessel")
    table.setCurrentCell(0, 1)
    assert panel.rows.phrase.text() == "round cell"
    assert dock.session.state.document.text[2].name == "vessel"
    panel.classes.setCurrentIndex(1)
    panel.classes.activated.emit(1)
    assert table.currentRow() == 1
    assert table.item(1, 2).text() == "blood vessel"
    table.item(1, 2).setText("dark vessel; blood vessel")
    text = dock.session.state.document.text[2]
    assert text.phrases == ("dark vessel", "blood vessel")
    assert panel.rows.phrase.text() == "dark vessel; blood vessel"
    table.item(1, 2).setText("")
    assert set(dock.session.state.document.text) == {1}


def test_the_table_offers_words_while_one_types(dock):
    dock.session.set_classes({1: "cell"})
    table = dock.class_panel.table
    table.setCurrentCell(0, 2)
    table.editItem(table.item(0, 2))
    editor = table.findChild(PhraseEdit)
    QTest.keyClicks(editor, "nucle")
    assert "nucleus" in editor.offers
    editor.setText("nucleus")
    QTest.keyClick(editor, Qt.Key.Key_Return)
    until(lambda: bool(dock.session.state.document.text), "the phrase")
    assert dock.session.state.document.text[1].phrases == ("nucleus",)


def test_offers_keep_what_was_typed_before():
    line = PhraseEdit()
    QTest.keyClicks(line, "dark nucle")
    assert "dark nucleus" in line.offers
    line.clear()
    QTest.keyClicks(line, "cell; nucle")
    assert line.offers
    assert all(offer.startswith("cell; ") for offer in line.offers)
    line.setText("x" * 10_000)
    line.textEdited.emit(line.text())
    assert line.offers == []


def test_all_lines_become_a_prompt_in_one_step_each(dock):
    panel, rows = dock.text.panel, dock.text.panel.rows
    type_in(rows.phrase, "nucleus")
    type_in(rows.synonyms, "nuclei, cell nucleus")
    type_in(rows.negatives, "debris; vacuole")
    type_in(rows.looks, "dark, round")
    rows.modality.setCurrentText("CT")
    rows.modality.activated.emit(rows.modality.currentIndex())
    found = dock.session.state.document.text[1]
    assert found.synonyms == ("nuclei", "cell nucleus")
    assert found.negatives == ("debris", "vacuole")
    assert found.attributes == ("dark", "round")
    assert found.modality == "CT"
    dock.session.undo()
    assert rows.modality.currentText() == ""
    assert rows.looks.text() == "dark, round"
    dock.session.redo()
    assert dock.session.state.document.text[1] == found
    # A line that nobody touched keeps its words, commas included.
    odd = nf.TextPrompt("cell", synonyms=("cell, round",), name="nucleus")
    dock.session.set_text({1: odd})
    type_in(rows.phrase, "blood cell")
    assert dock.session.state.document.text[1].synonyms == ("cell, round",)
    panel.clear_button.click()
    assert dock.session.state.document.text == {}
    assert not rows.synonyms.text()


def test_fill_in_asks_the_vocabulary(dock):
    panel, rows = dock.text.panel, dock.text.panel.rows
    panel.fill_button.click()
    assert "Type what to look for" in rows.message.text()
    type_in(rows.phrase, "left kidney")
    panel.fill_button.click()
    found = dock.session.state.document.text[1]
    assert found.synonyms or found.attributes
    panel.fill_button.click()
    assert "there already" in rows.message.text()
    dock.session.undo()
    assert dock.session.state.document.text[1].synonyms == ()
    type_in(rows.phrase, "nuclleus")
    panel.fill_button.click()
    assert "Did you mean 'nucleus'?" in rows.message.text()


def test_what_is_no_phrase_is_told_under_it(dock):
    rows = dock.text.panel.rows
    for typed, said in (
        ("x" * 10_000, "10,000 letters"),
        ("<b></b>", "no words"),
        ("\u200e\u202e", "no words"),
    ):
        rows.phrase.setText(typed)
        rows.phrase.editingFinished.emit()
        assert said in rows.message.text()
        assert rows.message.isVisibleTo(dock)
        assert rows.phrase.text() == typed, "nothing is lost"
        assert dock.session.state.document.text == {}
        # The table says it, too, and shows what holds.
        dock.session.set_classes({1: "cell"})
        dock.class_panel.table.item(0, 2).setText(typed)
        assert said in dock.run_panel.message.text()
        assert dock.class_panel.table.item(0, 2).text() == ""
        type_in(rows.phrase, "cell")
        assert not rows.message.isVisibleTo(dock)
        assert dock.minimumSizeHint().width() <= 364
        dock.text.panel.clear_button.click()


def test_any_script_is_a_phrase(reading):
    dock, panel = reading, reading.text.panel
    for typed in ("🔬 cell 🧫", "خلية", "<i>cell</i>", "Δ-клетка", "a" * 390):
        type_in(panel.rows.phrase, typed)
        assert dock.session.state.document.text[1].phrases[0] in (typed, "cell")
        assert ours(dock.viewer) == [], "it was of other words"
        show(dock)
        assert len(ours(dock.viewer)) == 1
        assert all(len(x.name) < 60 for x in ours(dock.viewer))
        assert dock.minimumSizeHint().width() <= 364


def test_two_classes_and_opposites_are_refused(dock):
    panel, rows = dock.text.panel, dock.text.panel.rows
    dock.session.set_classes({1: "cell", 2: "vessel"})
    type_in(rows.phrase, "round cell")
    panel.choose(2)
    type_in(rows.phrase, "Round  cells")
    assert "Classes 1 and 2" in rows.message.text()
    type_in(rows.phrase, "")
    type_in(rows.negatives, "cell")
    assert "only what it is not" in rows.message.text()
    assert set(dock.session.state.document.text) == {1}
    type_in(rows.phrase, "cell")
    assert "both what to look for and what it is not" in rows.message.text()
    panel.heat.show_button.click()
    assert not dock.session.is_running, "first the words must be right"


def test_without_a_model_it_offers_one(dock, viewer):
    panel = dock.text.panel
    assert panel.reading.missing.isVisibleTo(panel)
    assert panel.reading.offer.text() == offer_words()
    assert offer_words() == ("Reading text needs a model: CLIP ViT-B/16 (599 MB, MIT).")
    assert not panel.reading.isVisibleTo(panel)
    type_in(panel.rows.phrase, "cell")
    panel.heat.show_button.click()
    finished(dock)
    assert "No model that reads" in dock.run_panel.message.text()
    opened = []
    panel.reading.wanted.connect(opened.append)
    panel.reading.get_button.click()
    assert opened == ["clip/laion_vit_b_16"]


def test_model_method_and_parameters(reading):
    dock, panel = reading, reading.text.panel
    side = panel.reading
    assert side.line.text() == "Read by tiny-clip"
    assert not side.missing.isVisibleTo(panel)
    side.change.click()
    assert {side.method.itemData(i) for i in range(side.method.count())} >= {
        "text",
        "maskclip",
        "m2ib",
    }
    assert side.method.findData("clipseg") < 0, "needs a model of another kind"
    side.method.setCurrentIndex(side.method.findData("maskclip"))
    side.method.activated.emit(side.method.currentIndex())
    document = dock.session.state.document
    assert (document.reading.method, document.method) == ("maskclip", "pixel")
    assert document.reading.checkpoint is not None
    assert side.line.text() == "Read by tiny-clip, maskclip"
    dock.session.set_text(document.text, params={"cut": "otsu"})
    assert not panel.heat.slider.isEnabled()
    assert "'otsu'" in panel.heat.slider.toolTip()
    side.model.setCurrentIndex(side.model.findData("auto"))
    assert dock.session.state.document.reading.method == "maskclip"


def test_a_stack_and_a_wandering_user(viewer, scene, make_dock, folder):
    stack = np.stack([scene[..., 0], scene[..., 1], scene[::-1, :, 2]])
    layer = viewer.add_image(
        stack, name="stack", scale=(2, 0.5, 0.5), translate=(4, 1, 1)
    )
    dock = make_dock()
    dock.show_tab("text")
    dock.session.set_text({1: PHRASE}, checkpoint=folder)
    dock._go_to(2)
    show(dock)
    heat = ours(viewer)[0]
    assert heat.data.shape == (1, *scene.shape[:2])
    world = layer.data_to_world((2, 7, 9))
    np.testing.assert_allclose(heat.data_to_world((0, 7, 9)), world)
    viewer.layers.remove(heat)
    dock.text.panel.heat.slider.setValue(70)
    assert ours(viewer) == [], "what the user removed does not come back"
    show(dock)
    assert len(ours(viewer)) == 1
    viewer.add_image(np.zeros((32, 32), np.uint8), name="another")
    dock.binding.set_query(viewer.layers["another"])
    assert ours(viewer) == []
    # What a script asks for does not come to the screen.
    dock.binding.set_query(layer)
    dock.session.where(0)
    assert ours(viewer) == []


def test_it_is_kept_with_the_project_and_repeats_as_python(
    reading, viewer, make_dock, tmp_path
):
    dock, panel = reading, reading.text.panel
    type_in(panel.rows.phrase, PHRASE)
    type_in(panel.rows.negatives, "background")
    panel.heat.slider.setValue(60)
    dock.text.flush()
    path = dock.session.save(tmp_path / "project")
    again = nf.Session.load(path, autosave=False)
    assert again.state.document.text == dock.session.state.document.text
    assert again.state.document.reading == dock.session.state.document.reading
    assert dict(again.state.document.reading.params)["level"] == 0.6
    again.close()
    dock.run_panel.segment_button.click()
    finished(dock)
    found = dock.session.prediction
    names: dict[str, object] = {}
    program = dock.session.script("python").replace(
        "autosave=False", "autosave=False, executor=executor"
    )
    exec(program, {"executor": dock.session._executor}, names)
    np.testing.assert_array_equal(names["labels"], found.labels)
    names["session"].close()
    assert "--project" in dock.session.script("cli")


def test_every_control_is_explained_and_the_dock_stays_narrow(reading):
    dock, panel = reading, reading.text.panel
    panel.reading.change.click()
    kinds = (QLineEdit, QComboBox, QPushButton, QSlider)
    for kind in kinds:
        for control in panel.findChildren(kind):
            inner = control.parentWidget()
            is_part = "Spin" in type(inner).__name__
            assert is_part or control.toolTip(), control
    long = "a very long phrase of many words that goes on and on " * 6
    type_in(panel.rows.phrase, long)
    dock.session.set_classes({1: "n" * 80})
    assert dock.minimumSizeHint().width() <= 364
    assert panel.minimumSizeHint().width() <= 340


def test_keys_go_through_the_tab_from_top_to_bottom(reading):
    panel = reading.text.panel
    type_in(panel.rows.phrase, "cell")
    wanted = [
        panel.rows.phrase,
        panel.rows.synonyms,
        panel.rows.negatives,
        panel.rows.looks,
        panel.rows.modality,
        panel.fill_button,
        panel.clear_button,
        panel.heat.show_button,
        panel.heat.slider,
        panel.reading.change,
    ]
    order, widget = [], panel.rows.phrase
    while widget not in order:
        order.append(widget)
        widget = widget.nextInFocusChain()
    places = [order.index(w) for w in wanted]
    assert places == sorted(places)


def test_the_command_opens_the_tab(dock, monkeypatch):
    monkeypatch.setattr("napari_fewshot.viewer._actions.open_dock", lambda _: dock)
    dock.show_tab("supports")
    open_text(dock.viewer)
    assert dock.tabs.currentWidget() is dock.text.panel


def test_methods_that_read_are_known_without_importing_them():
    reads = {n for n in method_names() if get_method(n).spec.reads_text}
    assert set(TEXT_METHODS) == reads


def test_maps_come_back_to_the_scale_of_one_half():
    rng = np.random.default_rng(0)
    odds = rng.uniform(-3, 3, (8, 9)).astype(np.float32)
    for level in (0.1, 0.5, 0.9):
        moved = odds - np.log(level / (1 - level))
        heat = 1 / (1 + np.exp(-moved))
        usual = rescaled(heat.astype(np.float32), level)
        np.testing.assert_allclose(usual, 1 / (1 + np.exp(-odds)), atol=1e-4)
        np.testing.assert_array_equal(usual >= level, heat >= 0.5)


def test_layers_of_users_stay(reading, viewer):
    mine = viewer.add_labels(np.ones((128, 128), int), name="where: mine")
    type_in(reading.text.panel.rows.phrase, PHRASE)
    show(reading)
    reading.text.panel.heat.hide_button.click()
    assert mine in viewer.layers
    assert KEY not in mine.metadata
