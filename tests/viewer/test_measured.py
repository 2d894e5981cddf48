"""What is measured in a viewer: which layers, which objects, and where they are."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("napari")
from napari.components import ViewerModel

import napari_fewshot as nf
from napari_fewshot.data import Prediction
from napari_fewshot.errors import DataError
from napari_fewshot.viewer._layers import KEY
from napari_fewshot.viewer._measured import (
    NUMBERS,
    PIECES,
    RUN,
    Marker,
    gather,
    has_many_values,
    image_of,
    measurable,
)

PLACE = {"scale": (0.5, 0.25), "translate": (7.0, -3.0)}


@pytest.fixture
def cells():
    """Four discs, two of each class."""
    labels = np.zeros((60, 80), np.int32)
    rows, columns = np.ogrid[:60, :80]
    for number, (y, x) in enumerate([(12, 15), (12, 60), (45, 20), (44, 62)]):
        labels[(rows - y) ** 2 + (columns - x) ** 2 <= 36] = 1 + number % 2
    return labels


@pytest.fixture
def viewer():
    return ViewerModel()


def test_labels_of_users_and_of_runs_are_measured(viewer, cells):
    first = viewer.add_labels(cells)
    result = viewer.add_labels(cells, metadata={KEY: {"role": "result"}})
    viewer.add_labels(cells, metadata={KEY: {"role": "preview"}})
    viewer.add_image(cells)
    assert measurable(viewer) == [result, first]


def test_the_image_of_labels_is_the_one_that_was_segmented(viewer, cells):
    image = viewer.add_image(cells.astype(float))
    viewer.add_image(cells.astype(float))
    viewer.add_image(np.zeros((10, 10)))
    mark = {"role": "result", "query": image.unique_id}
    assert image_of(viewer, viewer.add_labels(cells, metadata={KEY: mark})) is image
    assert image_of(viewer, viewer.add_labels(cells)) is viewer.layers[1]
    assert image_of(viewer, viewer.add_labels(np.zeros((5, 6), int))) is None


def test_scale_unit_and_intensity_come_from_the_image(viewer, cells):
    light = cells * 10.0
    image = viewer.add_image(light, units=("micrometer",) * 2, **PLACE)
    wanted = gather(viewer.add_labels(cells), image)
    assert (wanted.scale, wanted.unit) == ((0.5, 0.25), "micrometer")
    table, how = wanted.table()
    assert how == PIECES
    reference = nf.measure(cells, light, (0.5, 0.25))
    np.testing.assert_allclose(table["area"], reference["area"])
    assert sorted(table["mean_0"]) == [10, 10, 20, 20]


def test_without_an_image_the_layer_tells_the_scale(viewer, cells):
    wanted = gather(viewer.add_labels(cells, units=("um",) * 2, scale=(2, 2)))
    assert (wanted.scale, wanted.unit) == ((2.0, 2.0), "micrometer")
    table, _ = wanted.table()
    assert (table["area"] == 4 * table["pixels"]).all()
    assert not any("mean" in c for c in table.columns)
    assert gather(viewer.add_labels(cells)).scale is None
    # With a unit, one is a size as any other.
    wanted = gather(viewer.add_labels(cells, units=("mm",) * 2))
    assert (wanted.scale, wanted.unit) == ((1.0, 1.0), "millimeter")


def test_another_size_is_refused(viewer, cells):
    image = viewer.add_image(np.zeros((10, 10)), name="small")
    with pytest.raises(DataError, match="small has another size than cells"):
        gather(viewer.add_labels(cells, name="cells"), image)


def test_numbers_or_classes(viewer, cells):
    many = np.arange(12).repeat(20).reshape(12, 20)
    assert has_many_values(many)
    assert not has_many_values(cells)
    table, how = gather(viewer.add_labels(many)).table()
    assert how == NUMBERS
    assert sorted(table["label"]) == list(range(1, 12))
    # Whoever says what the numbers are is believed.
    _, how = gather(viewer.add_labels(many), how=PIECES).table()
    assert how == PIECES
    committed = viewer.add_labels(cells, metadata={KEY: {"role": "objects"}})
    table, how = gather(committed).table()
    assert how == NUMBERS
    assert len(table) == 2


def test_class_names_come_from_the_layer(viewer, cells):
    layer = viewer.add_labels(cells)
    layer.features = {"index": [0, 1, 2], "class": ["background", "tumour", "stroma"]}
    table, how = gather(layer).table()
    assert how == PIECES
    assert dict(table["class"].value_counts()) == {"tumour": 2, "stroma": 2}


def test_objects_of_the_run_hold_until_it_is_corrected(viewer, cells):
    numbers = np.where(cells > 0, 1 + (np.arange(80) > 40)[None], 0).astype(np.int32)
    prediction = Prediction(cells, {1: "a", 2: "b"}, instances=numbers)
    layer = viewer.add_labels(cells, metadata={KEY: {"role": "result"}})
    table, how = gather(layer, None, "auto", prediction).table()
    assert (how, len(table)) == (RUN, 2)
    table, how = gather(layer, None, "auto", prediction, is_edited=True).table()
    assert (how, len(table)) == (PIECES, 4)
    with pytest.raises(DataError, match="no objects of a run"):
        gather(layer, None, RUN)


def test_a_coarser_level_is_measured_in_the_unit_of_the_image(viewer, cells):
    fine = np.kron(cells, np.ones((4, 4), int)).astype(np.float32)
    image = viewer.add_image([fine, fine[::4, ::4]], multiscale=True, scale=(0.1, 0.1))
    table, _ = gather(viewer.add_labels(cells), image).table()
    np.testing.assert_allclose(table["area"], table["pixels"] * 0.16)


def test_large_labels_are_read_in_parts():
    asked = []

    class Store:
        shape, dtype, ndim = (3, 20_000, 30_000), np.dtype("i4"), 3

        def __getitem__(self, key):
            rows = key[-1]
            asked.append(key)
            count = min(rows.stop, 20_000) - rows.start
            assert count * 30_000 <= 1 << 23
            return np.zeros((count, 30_000), np.int32)

    assert not has_many_values(Store())
    assert len(asked) < 30


@pytest.mark.parametrize("kind", ["yx", "zyx", "tyx", "tzyx"])
def test_going_to_an_object(viewer, cells, kind):
    lead = {"yx": (), "zyx": (5,), "tyx": (4,), "tzyx": (4, 5)}[kind]
    labels = np.zeros((*lead, 60, 80), np.int32)
    index = (2,) * len(lead)
    if kind.endswith("zyx"):
        index = (*index[:-1], slice(1, 4))
    labels[(*index, slice(40, 50), slice(55, 70))] = 3
    scale = tuple(range(2, 2 + labels.ndim))
    layer = viewer.add_labels(labels, scale=scale, axis_labels=kind)
    active = viewer.add_image(np.zeros((4, 4)))
    wanted = gather(layer)
    table, _ = wanted.table()
    assert len(table) == 1
    viewer.scene.camera.zoom = 1
    marker = Marker(viewer)
    for _ in range(2):
        marker.show(layer, wanted, table.iloc[0].to_dict())
    centre = layer.data_to_world((*(2,) * len(lead), 44.5, 62))
    np.testing.assert_allclose(viewer.scene.camera.center[-2:], centre[-2:])
    np.testing.assert_allclose(
        np.array(viewer.dims.point)[: len(lead)], centre[: len(lead)]
    )
    boxes = [x for x in viewer.layers if x.name == "measured object"]
    assert len(boxes) == 1
    corners = np.array(boxes[0].data)
    assert len(corners) == (3 if "z" in kind else 1)
    assert corners[..., -2].min() == 39.5
    assert corners[..., -1].max() == 69.5
    if "z" in kind:
        assert sorted(corners[:, 0, -3]) == [1, 2, 3]
    assert viewer.layers.selection.active is active
    assert viewer.scene.camera.zoom == 1
    viewer.scene.camera.zoom = 1e-3
    marker.show(layer, wanted, table.iloc[0].to_dict())
    assert viewer.scene.camera.zoom > 0.5, "too small to be seen"
    marker.remove()
    marker.remove()
    assert "measured object" not in viewer.layers


def test_a_table_of_a_coarser_level_leads_to_the_same_place(viewer, cells):
    fine = np.kron(cells, np.ones((4, 4), int))
    layer = viewer.add_labels([fine, fine[::4, ::4]], multiscale=True)
    image = viewer.add_image(cells.astype(float))
    wanted = gather(layer, image)
    assert wanted.labels.shape == cells.shape
    table, _ = wanted.table()
    Marker(viewer).show(layer, wanted, table.iloc[0].to_dict())
    row, column = viewer.scene.camera.center[-2:]
    assert fine[round(row), round(column)] == table["class_value"][0]
