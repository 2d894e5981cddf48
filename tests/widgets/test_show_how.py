"""Show how in a real window: layers, prompts to drag, and nothing else touched."""

from __future__ import annotations

import numpy as np
import pytest

from napari_fewshot.data import PromptSet
from napari_fewshot.inference import Evidence
from napari_fewshot.viewer._actions import show_how
from napari_fewshot.viewer._evidence import EvidenceLayers
from napari_fewshot.viewer._layers import KEY, image_layers, labels_layers, role
from napari_fewshot.viewer._prompting import COLOURS, NEGATIVE, POSITIVE, SYMBOLS

from .conftest import until

pytestmark = pytest.mark.gui

SHAPE = (96, 112)


@pytest.fixture
def grid_dock(dock):
    """A dock whose method makes maps, points and candidates."""
    dock.session.set_method("persam", "filters", params={"decoder": "map"})
    dock.session.set_method(params={"decoder": "map", "leave_one_out": False})
    return dock


def ours(viewer):
    return [x.name for x in viewer.layers if role(x) == "how"]


def users(viewer):
    return [
        (
            x.name,
            x.visible,
            x.opacity,
            x.affine.affine_matrix.tolist(),
            x.data.tobytes(),
        )
        for x in viewer.layers
        if KEY not in x.metadata
    ]


def press(dock, button):
    button.click()
    until(lambda: not dock.session.is_running, "the explanation")


def made_up(seed=0):
    """Evidence with everything in it."""
    rng = np.random.default_rng(seed)
    maps = {
        "probability": rng.random(SHAPE, np.float32),
        "uncertainty": rng.random(SHAPE, np.float32),
        "similarity": rng.normal(0, 3, SHAPE).astype(np.float32),
    }
    masks = np.zeros((3, *SHAPE), bool)
    masks[0, 10:30, 10:30], masks[1, 12:20, 12:20] = True, True
    masks[2, :60, :60] = True
    prompts = PromptSet(
        points=[[20, 30], [70, 80]], point_labels=[1, 0], boxes=[[5, 6, 40, 50]]
    )
    return Evidence(maps, prompts, masks, (0.9, 0.7, 0.2))


@pytest.fixture
def layers(dock):
    found = EvidenceLayers(dock.binding)
    found.show(2, made_up())
    return found


def test_maps_and_candidates_lie_on_their_plane_of_the_image(layers, dock, viewer):
    query, layer = dock.binding.query_layer, viewer.layers["how: similarity"]
    wanted = query.data_to_world((2, 7, 9))
    np.testing.assert_allclose(layer.data_to_world((0, 7, 9)), wanted)
    assert layer.units == query.units
    np.testing.assert_array_equal(layer.data[0], made_up().maps["similarity"])
    low, high = layer.contrast_limits
    assert (low, high) == (layer.data.min(), layer.data.max())
    assert tuple(viewer.layers["how: probability"].contrast_limits) == (0, 1)
    assert layer.opacity == 0.6
    seen = [n for n in layers.names if viewer.layers[f"how: {n}"].visible]
    assert seen == ["similarity"]
    layers.bring_to_front("candidates")
    assert layers.front == "candidates"
    # They are no images or masks of the user.
    assert [x.name for x in image_layers(viewer)] == ["cells"]
    assert [x.name for x in labels_layers(viewer)] == ["masks"]
    # Candidates are numbered by rank, small ones in front.
    found = viewer.layers["how: candidates"]
    assert [found.data[0][p] for p in ((15, 15), (25, 25), (50, 50))] == [2, 1, 3]
    assert list(found.features["score"]) == [0.9, 0.7, 0.2]


def test_points_and_boxes_are_signed_and_can_be_dragged(layers, viewer):
    points, boxes = viewer.layers["how: points"], viewer.layers["how: boxes"]
    np.testing.assert_allclose(points.data, [[2, 20, 30], [2, 70, 80]])
    assert [str(s) for s in points.symbol] == [SYMBOLS[POSITIVE], SYMBOLS[NEGATIVE]]
    found = points.face_color[1][:3] * 255
    wanted = [int(COLOURS[NEGATIVE][i : i + 2], 16) for i in (1, 3, 5)]
    np.testing.assert_allclose(found, wanted, atol=1)
    assert len(boxes.data) == 1
    points.data = points.data + np.array([0, 5, 0])
    moved = layers.read_prompts()
    np.testing.assert_allclose(moved.points, [[25, 30], [75, 80]])
    np.testing.assert_array_equal(moved.point_labels, [1, 0])
    np.testing.assert_allclose(moved.boxes, [[5, 6, 40, 50]])


def test_a_rerun_replaces_and_clear_removes_exactly_these(layers, dock, viewer):
    before, count = users(viewer), len(ours(viewer))
    viewer.add_points(np.zeros((1, 3)), name="how: similarity of mine")
    viewer.layers.remove(viewer.layers["how: probability"])
    layers.show(1, made_up(1))
    assert len(ours(viewer)) == count
    at = viewer.layers["how: similarity"].data_to_world((0, 0, 0))
    np.testing.assert_allclose(at, dock.binding.query_layer.data_to_world((1, 0, 0)))
    layers.show(1, made_up(1), only="uncertainty")
    assert ours(viewer) == ["how: uncertainty"]
    assert layers.front == "uncertainty"
    layers.clear()
    assert ours(viewer) == []
    assert "how: similarity of mine" in viewer.layers
    viewer.layers.remove("how: similarity of mine")
    assert users(viewer) == before


def test_show_how_then_drag_then_run_from_there(grid_dock, viewer):
    dock, bar = grid_dock, grid_dock.trust.how
    before = users(viewer)
    dock._go_to(2)
    press(dock, bar.show_button)
    assert dock.session.prediction is None, "nothing was segmented"
    assert {"how: similarity", "how: uncertainty", "how: points"} <= set(ours(viewer))
    assert bar.maps.currentText() == "similarity"
    assert bar.line.text().startswith("Plane 2: ")
    bar.maps.setCurrentText("certainty")
    bar.maps.activated.emit(bar.maps.currentIndex())
    assert bar.layers.front == "certainty"
    points = viewer.layers["how: points"]
    points.data = np.array(points.data) + np.array([0, 1, 0])
    bar.run_button.click()
    assert dock.is_prompting
    panel = dock.prompt_panel
    mine = viewer.layers["prompts: points"]
    np.testing.assert_allclose(mine.data, points.data)
    assert not points.visible
    until(lambda: panel._preview is not None, "the outline")
    panel.commit_button.click()
    assert dock.session.state.objects[0].plane == 2
    bar.hide_button.click()
    assert ours(viewer) == []
    assert not bar.maps.isVisibleTo(dock)
    assert users(viewer) == before


def test_uncertainty_and_another_image(dock, viewer):
    show_bar = dock.trust.how
    # Every method has it; what a script asks for does not come to the screen.
    dock.session.explain()
    assert ours(viewer) == []
    press(dock, show_bar.unsure_button)
    assert ours(viewer) == ["how: uncertainty"]
    assert "amber is undecided" in show_bar.line.text()
    assert not show_bar.run_button.isVisibleTo(dock)
    viewer.add_image(np.random.default_rng(0).random((64, 64)), name="another")
    dock.binding.set_query(viewer.layers["another"])
    assert ours(viewer) == []


def test_without_supports_it_says_what_to_do(dock, viewer):
    session = dock.session
    session.edit_supports({row.key: None for row in session.state.supports})
    assert not dock.trust.how.show_button.isEnabled()
    dock.trust.how.show_how()
    assert "no support yet" in dock.run_panel.message.text()
    _, other = viewer.window.add_plugin_dock_widget("napari-fewshot", "Segment")
    other.session.edit_supports({r.key: None for r in other.session.state.supports})
    show_how(viewer)
    assert "no support yet" in other.run_panel.message.text()
    other.shut_down()


def test_closing_the_dock_takes_the_layers_with_it(dock, viewer):
    dock.trust.how.layers.show(0, made_up())
    assert ours(viewer)
    dock.shut_down()
    assert ours(viewer) == []


def test_forms_say_what_the_lowest_number_means(grid_dock):
    form = grid_dock.how_panel.form
    area = form._controls["target_area"]
    assert area.text() == "as found"
    area.setValue(12.5)
    assert area.text() == "12.50"
    assert grid_dock.session.state.document.params["target_area"] == 12.5
    assert form._controls["max_area"].text() == "no limit"


def test_every_control_has_a_tooltip(dock):
    bar = dock.trust.how
    parts = (bar.show_button, bar.unsure_button, bar.hide_button, bar.run_button)
    for part in (*parts, bar.maps, bar.classes):
        assert part.toolTip()
    assert dock.minimumSizeHint().width() <= 364
