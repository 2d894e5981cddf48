"""Where large images begin: the middle of what the canvas shows."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("napari")
from napari.components import ViewerModel

from napari_fewshot.errors import DataError
from napari_fewshot.viewer._layers import open_layer
from napari_fewshot.viewer._view import part_shown, place_shown, wanted_part


def look_at(viewer, *centre):
    getattr(viewer, "scene", viewer).camera.center = centre


@pytest.mark.parametrize("scale", [(1, 1), (0.5, 2.0)])
def test_the_middle_of_the_canvas_in_pixels(scale):
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((200, 300)), scale=scale, translate=(7, -3))
    look_at(viewer, 0, 7 + 40 * scale[0], -3 + 250 * scale[1])
    found = place_shown(viewer, layer, open_layer(layer))
    np.testing.assert_allclose(found, (40, 250))


def test_places_beside_the_image_are_moved_onto_it():
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((200, 300)))
    look_at(viewer, 0, -500, 900)
    assert place_shown(viewer, layer, open_layer(layer)) == (0, 299)


def test_stacks_colours_and_coarser_levels():
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((5, 200, 300)), scale=(4, 1, 1))
    look_at(viewer, 0, 60, 70)
    assert place_shown(viewer, layer, open_layer(layer)) == (60, 70)
    viewer.layers.clear()
    layer = viewer.add_image(np.zeros((200, 300, 3), np.uint8), rgb=True)
    look_at(viewer, 0, 60, 70)
    assert place_shown(viewer, layer, open_layer(layer)) == (60, 70)
    viewer.layers.clear()
    levels = [np.zeros((400, 600)), np.zeros((100, 150))]
    layer = viewer.add_image(levels, multiscale=True)
    look_at(viewer, 0, 200, 400)
    assert place_shown(viewer, layer, open_layer(layer, level=1)) == (50, 100)


def show(viewer, top, left, bottom, right, zoom=4.0):
    """Let the canvas show a part of the world."""
    viewer.canvas.size = int(zoom * (bottom - top)), int(zoom * (right - left))
    viewer.scene.camera.zoom = zoom
    look_at(viewer, 0, (top + bottom) / 2, (left + right) / 2)


def test_the_part_in_view_in_pixels_of_the_image():
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((200, 300)))
    show(viewer, 20, 30, 70, 90)
    assert part_shown(viewer, layer, open_layer(layer)) == (20, 30, 70, 90)
    show(viewer, -50, 30, 70, 900)
    assert part_shown(viewer, layer, open_layer(layer)) == (0, 30, 70, 300)
    show(viewer, 300, 30, 400, 90)
    assert part_shown(viewer, layer, open_layer(layer)) is None
    with pytest.raises(DataError, match="No part of the image is in view"):
        wanted_part(viewer, layer, open_layer(layer), only=True)
    assert wanted_part(viewer, layer, open_layer(layer), only=False)["region"] is None


def test_the_part_in_view_of_levels_stacks_and_sides():
    viewer = ViewerModel()
    levels = [np.zeros((400, 600)), np.zeros((100, 150))]
    layer = viewer.add_image(levels, multiscale=True)
    show(viewer, 40, 80, 200, 240)
    assert part_shown(viewer, layer, open_layer(layer)) == (40, 80, 200, 240)
    assert part_shown(viewer, layer, open_layer(layer, level=1)) == (10, 20, 50, 60)
    viewer.layers.clear()
    layer = viewer.add_image(np.zeros((5, 200, 300)), scale=(3, 2, 2))
    show(viewer, 40, 60, 140, 180)
    assert part_shown(viewer, layer, open_layer(layer)) == (20, 30, 70, 90)
    viewer.dims.order = (1, 0, 2)
    # Rows are not shown then.
    assert part_shown(viewer, layer, open_layer(layer)) is None
    viewer.dims.order = (0, 1, 2)
    viewer.dims.ndisplay = 3
    with pytest.raises(DataError, match="only known in 2D"):
        wanted_part(viewer, layer, open_layer(layer), only=True)


def test_chunks_that_were_loaded_are_not_what_is_in_view():
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((4096, 4096), np.uint8))
    show(viewer, 1000, 1100, 1200, 1400)
    # As napari notes it for a layer in chunks of 1024.
    layer.corner_pixels = np.array([[0, 1024], [2047, 2047]])
    assert part_shown(viewer, layer, open_layer(layer)) == (1000, 1100, 1200, 1400)
