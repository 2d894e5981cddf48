"""Where large images begin: the middle of what the canvas shows."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("napari")
from napari.components import ViewerModel

from napari_fewshot.viewer._layers import open_layer
from napari_fewshot.viewer._view import place_shown


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
