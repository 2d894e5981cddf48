"""`Support` and `SupportSet` accept what users have and refuse what can't teach."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from napari_fewshot.data import Support, SupportSet
from napari_fewshot.errors import SupportError

IMAGE = np.random.default_rng(0).random((16, 20)).astype(np.float32)


def mask(value=1, dtype=np.int32, shape=(16, 20)):
    labels = np.zeros(shape, dtype)
    labels[..., 4:8, 5:9] = value
    return labels


@pytest.mark.parametrize(
    ("labels", "values"),
    [
        pytest.param(mask(), (1,), id="int"),
        pytest.param(mask(True, bool), (1,), id="bool"),
        pytest.param(mask(255, np.uint8), (1,), id="255-is-class-1"),
        pytest.param(mask(3.0, float), (3,), id="whole-floats"),
        pytest.param(mask(0), (), id="negative-support"),
        pytest.param(mask().tolist(), (1,), id="nested-list"),
    ],
)
def test_label_values(labels, values):
    support = Support(IMAGE, labels)
    assert support.label_values == values
    found = support.label_plane(0)
    assert found.dtype == np.int32
    assert set(np.unique(found)) - {0} == set(values)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        pytest.param(mask(shape=(8, 8)), "another size", id="other-shape"),
        pytest.param(mask(0.5, float), "fractions", id="float-mask"),
        pytest.param(mask(np.nan, float), "NaN", id="nan-mask"),
        pytest.param(mask(-1), "negative", id="negative-labels"),
        pytest.param(mask(1, complex), "dtype", id="complex-mask"),
        pytest.param(
            np.arange(320).reshape(16, 20), "object numbers", id="instance-labels"
        ),
    ],
)
def test_bad_labels_are_refused_with_advice(labels, words):
    with pytest.raises(SupportError, match=words):
        Support(IMAGE, labels)


def test_bad_support_images_are_support_errors():
    with pytest.raises(SupportError, match="complex"):
        Support(IMAGE.astype(complex), mask())


def test_only_painted_planes_of_a_stack_teach():
    labels = np.zeros((6, 16, 20), np.int32)
    labels[[1, 4]] = mask()
    support = Support(np.stack([IMAGE] * 6), labels)
    assert support.used_planes == (1, 4)
    assert Support(support.image, labels, planes=[4]).used_planes == (4,)
    with pytest.raises(SupportError, match="0 to 5"):
        Support(support.image, labels, planes=[6])


def test_a_negative_stack_teaches_with_three_planes():
    support = Support(np.stack([IMAGE] * 9), np.zeros((9, 16, 20), int))
    assert support.is_negative
    assert len(support.used_planes) == 3


def test_layers_are_read_by_duck_typing():
    layer = SimpleNamespace(
        data=np.stack([IMAGE] * 3),
        events=None,
        rgb=False,
        multiscale=False,
        scale=np.array([2.0, 0.5, 0.5]),
        axis_labels=("t", "y", "x"),
        name="cells",
    )
    labels = SimpleNamespace(data=mask(shape=(3, 16, 20)), events=None, name="labels")
    support = Support(layer, labels)
    assert support.source.axes == "tyx"
    assert support.source.scale == (0.5, 0.5)
    assert support.name == "cells"


def test_multiscale_layers_give_their_highest_level():
    layer = SimpleNamespace(
        data=[IMAGE, IMAGE[::2, ::2]],
        events=None,
        rgb=False,
        multiscale=True,
        scale=(1.0, 1.0),
        axis_labels=("-2", "-1"),
        name="slide",
    )
    assert Support(layer, mask()).source.shape == (16, 20)


def test_sets_are_made_from_what_users_pass():
    pair = (IMAGE, mask())
    for given in (pair, [pair], Support(*pair), [Support(*pair)], SupportSet([pair])):
        assert len(SupportSet.of(given)) == 1


@pytest.mark.parametrize(
    ("supports", "words"),
    [
        pytest.param([], "no support yet", id="empty"),
        pytest.param([(IMAGE, mask(0))], "any foreground", id="only-negative"),
        pytest.param(
            [(IMAGE, mask()), (np.zeros((16, 20, 3), np.uint8), mask())],
            "numbers of channels",
            id="mixed-channels",
        ),
    ],
)
def test_sets_that_can_not_teach_are_refused(supports, words):
    with pytest.raises(SupportError, match=words):
        SupportSet(supports).check()


def test_something_else_is_not_a_support():
    with pytest.raises(SupportError, match=r"nf\.Support"):
        SupportSet([3])


def test_class_names_first_wins_and_unknown_are_numbered():
    first = Support(IMAGE, mask(), classes={1: "nucleus"})
    second = Support(IMAGE, mask(2), classes={1: "blob"})
    assert SupportSet([first, second]).class_names == {1: "nucleus", 2: "class 2"}


def test_image_and_mask_the_wrong_way_round_are_told():
    image = np.random.default_rng(0).integers(0, 255, (40, 40), dtype=np.uint8)
    painted = (image > 128).astype(np.uint8) * 255
    swapped = SupportSet([Support(painted, image)])
    with pytest.raises(SupportError, match="wrong way round"):
        swapped.check()
    # Many labels on a real image are many classes.
    SupportSet([Support(image, image)]).check()
