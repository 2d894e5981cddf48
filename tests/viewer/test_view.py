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


def test_the_part_in_view_in_pixels_of_the_image():
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((200, 300)))
    layer.corner_pixels = np.array([[20, 30], [70, 90]])
    assert part_shown(viewer, layer, open_layer(layer)) == (20, 30, 70, 90)
    layer.corner_pixels = np.array([[-50, 30], [70, 900]])
    assert part_shown(viewer, layer, open_layer(layer)) == (0, 30, 70, 300)
    layer.corner_pixels = np.array([[300, 30], [400, 90]])
    assert part_shown(viewer, layer, open_layer(layer)) is None
    with pytest.raises(DataError, match="No part of the image is in view"):
        wanted_part(viewer, layer, open_layer(layer), only=True)
    assert wanted_part(viewer, layer, open_layer(layer), only=False)["region"] is None


def test_the_part_in_view_of_levels_stacks_and_sides():
    viewer = ViewerModel()
    levels = [np.zeros((400, 600)), np.zeros((100, 150))]
    layer = viewer.add_image(levels, multiscale=True)
    layer._data_level = 1
    layer.corner_pixels = np.array([[10, 20], [50, 60]])
    assert part_shown(viewer, layer, open_layer(layer)) == (40, 80, 200, 240)
    assert part_shown(viewer, layer, open_layer(layer, level=1)) == (10, 20, 50, 60)
    viewer.layers.clear()
    layer = viewer.add_image(np.zeros((5, 200, 300)))
    layer.corner_pixels = np.array([[0, 20, 30], [0, 70, 90]])
    assert part_shown(viewer, layer, open_layer(layer)) == (20, 30, 70, 90)
    viewer.dims.order = (1, 0, 2)
    # Rows are not shown then.
    assert part_shown(viewer, layer, open_layer(layer)) is None
