"""Levels of an image: their pixel sizes, and which one fits the supports."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

import napari_fewshot as nf
from napari_fewshot.data import (
    Image,
    Support,
    at_level,
    downsampling,
    fit_level,
    make_levels,
    unit_factor,
    unit_name,
)
from napari_fewshot.io import open_image


class Layer:
    """What a napari layer shows of itself."""

    def __init__(self, data, scale, labels, units=("pixel",), **more):
        self.data, self.scale, self.axis_labels = data, scale, labels
        self.units, self.events, self.name = units, None, "slide"
        self.multiscale = isinstance(data, list)
        self.rgb = False
        self.__dict__.update(more)


def pyramid(shape=(64, 96), count=4):
    array = np.random.default_rng(0).integers(0, 200, shape).astype(np.uint8)
    return [array[..., :: 2**i, :: 2**i] for i in range(count)]


def layer(scale=(0.25, 0.25), units=("micrometer", "micrometer"), **more):
    return Layer(pyramid(**more), scale, ("y", "x"), units)


def support(size, unit="", shape=(20, 20)):
    labels = np.zeros(shape, int)
    labels[5:9, 5:9] = 1
    scale = None if size is None else (size, size)
    return Support(np.arange(400).reshape(shape), labels, scale=scale, unit=unit)


@pytest.mark.parametrize(
    ("fine", "coarse", "factor"),
    [
        (100, 50, 2),
        (101, 50, 2),
        (101, 51, 2),
        (101, 26, 4),
        (7, 7, 1),
        (1000, 300, 1000 / 300),
        (5, 1, 5),
    ],
)
def test_downsampling(fine, coarse, factor):
    assert downsampling(fine, coarse) == factor


def test_levels_of_a_layer():
    image = open_image(layer())
    assert [s[0] for s in image.levels.scales] == [0.25, 0.5, 1.0, 2.0]
    assert (image.level, image.unit, image.scale) == (0, "micrometer", (0.25, 0.25))
    third = open_image(layer(), level=2)
    assert (third.level, third.scale, third.label_shape) == (2, (1.0, 1.0), (16, 24))
    assert at_level(third, 0).array is third.levels.arrays[0]
    assert not third.levels.is_auto
    plain = open_image(layer((1, 1), ("pixel", "pixel")))
    assert plain.levels.scales == (None,) * 4


def test_levels_below_four_pixels_are_left_out():
    image = open_image(layer(shape=(16, 64), count=5))
    assert len(image.levels) == 3


@pytest.mark.parametrize(
    ("size", "unit", "level"),
    [
        pytest.param(0.25, "", 0, id="the same"),
        pytest.param(0.35, "", 0, id="near enough"),
        pytest.param(0.5, "", 1, id="twice"),
        pytest.param(0.8, "", 2, id="nearest by ratio"),
        pytest.param(7.0, "", 3, id="coarser than all"),
        pytest.param(0.01, "", 0, id="finer than all"),
        pytest.param(1000.0, "nanometer", 2, id="other unit"),
        pytest.param(0.001, "mm", 2, id="short unit"),
        pytest.param(None, "", 0, id="not known"),
    ],
)
def test_the_level_that_fits(size, unit, level):
    assert fit_level(open_image(layer()), [support(size, unit)]).level == level


def test_many_supports_and_a_level_that_was_chosen():
    image = open_image(layer())
    assert fit_level(image, [support(0.5), support(2.0), support(None)]).level == 2
    chosen = open_image(layer(), level=1)
    assert fit_level(chosen, [support(2.0)]) is chosen
    unknown = open_image(layer((1, 1), ("pixel", "pixel")))
    assert fit_level(unknown, [support(2.0)]) is unknown
    back = fit_level(fit_level(image, [support(2.0)]), [support(0.25)])
    assert (back.level, back.scale) == (0, (0.25, 0.25))


def test_segment_takes_the_level_of_the_supports(blob_pair):
    pixels, labels = blob_pair(0, (64, 80))
    big = np.kron(pixels, np.ones((4, 4), np.uint8))
    levels = [big, big[::2, ::2], big[::4, ::4]]
    query = Layer(levels, (0.5, 0.5), ("y", "x"), ("micrometer",) * 2)
    known = nf.Support(pixels, labels, scale=(2.0, 2.0))
    how = {"method": "prototype", "model": "filters"}
    found = nf.segment(query, known, **how)
    assert found.labels.shape == (64, 80)
    assert found.provenance["inputs"]["query"]["level"] == 2
    assert found.provenance["inputs"]["query"]["scale"] == [2.0, 2.0]
    assert nf.evaluate(found.labels, labels)["dice"][0] > 0.8
    assert nf.segment(query, known, level=1, **how).labels.shape == (128, 160)
    clicked = nf.PromptSet(points=[[40, 40]])
    found = nf.segment(
        query, known, prompts=clicked, method="prototype", model="filters"
    )
    assert found.labels.shape == (256, 320), "clicks lie in pixels of the finest level"
    with pytest.raises(nf.DataError, match="no level 5"):
        nf.segment(query, known, level=5, **how)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_supports_of_multiscale_layers(blob_pair, level):
    pixels, labels = blob_pair(0, (64, 80))
    colour = np.stack([pixels] * 3, axis=-1)
    for plain in (pixels, colour):
        image = Layer(
            [plain, plain[::2, ::2], plain[::4, ::4]],
            (0.5, 0.25),
            ("y", "x"),
            rgb=plain.ndim == 3,
        )
        cut = labels[:: 2**level, :: 2**level]
        size = (0.5 * 2**level, 0.25 * 2**level)
        for mask in (cut, Layer(cut, size, ("y", "x"))):
            found = nf.Support(image, mask)
            assert found.source.label_shape == cut.shape
            assert found.source.scale == size
        both = [labels[::2, ::2], labels[::4, ::4]]
        found = nf.Support(image, Layer(both, (1, 0.5), ("y", "x")))
        assert (found.source.label_shape, found.source.scale) == ((32, 40), (1.0, 0.5))
        np.testing.assert_array_equal(found.label_plane(0), both[0])
    with pytest.raises(nf.SupportError, match="another size"):
        nf.Support(image, labels[:50])


def test_sessions_take_a_level(blob_pair):
    pixels, labels = blob_pair(0, (64, 80))
    levels = [pixels, pixels[::2, ::2], pixels[::4, ::4]]
    query = Layer(levels, (1.0, 1.0), ("y", "x"))
    with nf_session() as session:
        session.add_support(pixels, labels)
        session.set_query(query, level=1)
        assert session.segment().labels.shape == (32, 40)
        session.undo()
        assert session.state.query.level == 1


def test_projects_keep_the_level(blob_pair, tmp_path):
    pixels, labels = blob_pair(0, (64, 80))
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    big = np.kron(pixels, np.ones((4, 4), np.uint8))
    for number in range(3):
        group.create_array(str(number), data=big[:: 2**number, :: 2**number])
    group.attrs["ome"] = {
        "multiscales": [
            {
                "axes": [{"name": n, "unit": "micrometer"} for n in "yx"],
                "datasets": [
                    {
                        "path": str(i),
                        "coordinateTransformations": [
                            {"type": "scale", "scale": [0.25 * 2**i] * 2}
                        ],
                    }
                    for i in range(3)
                ],
            }
        ]
    }
    for level, wanted in (("auto", 2), (1, 1)):
        folder = tmp_path / f"{level}.fewshot-project"
        with nf_session() as session:
            session.add_support(pixels, labels, scale=(1, 1), unit="um")
            session.set_query(tmp_path / "a.zarr", level=level)
            session.segment()
            session.accept()
            session.save(folder)
        again = nf.Session.load(folder, autosave=False)
        query = again.state.query
        assert (query.level, query.levels.is_auto) == (wanted, level == "auto")
        assert query.unit == "micrometer"
        assert again.state.document.accepted[0].shape == query.label_shape
        again.close()


class nf_session:  # noqa: N801
    """A session that is closed at the end."""

    def __enter__(self):
        self.session = nf.Session("filters", "prototype", autosave=False)
        return self.session

    def __exit__(self, *_):
        self.session.close()


def test_levels_must_be_smaller_copies():
    first = np.zeros((8, 8))
    for other in (np.zeros((9, 8)), np.zeros((2, 8, 8)), np.zeros((0, 4))):
        with pytest.raises(nf.DataError, match="Level 1"):
            make_levels([first, other], "yx", None)


@pytest.mark.parametrize("level", [-1, 1, 1.5, True, "fine"])
def test_levels_that_do_not_exist(level):
    with pytest.raises(nf.DataError, match="level"):
        at_level(Image.from_array(np.zeros((8, 8))), level)


def test_units():
    for text in ("um", "µm", "μm", "micron", "Micrometer", "micrometre", "\\u00B5m"):
        assert unit_name(text) == "micrometer"
    for text in ("pixel", "", None, "furlong"):
        assert unit_name(text) == ""
    assert unit_factor("mm", "um") == 1000
    assert unit_factor("mm", "pixel") is None
