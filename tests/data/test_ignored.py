"""Supports that are annotated in part: what is accepted, kept and refused."""

from __future__ import annotations

import numpy as np
import pytest

import napari_fewshot as nf
from napari_fewshot.data import IGNORED, SparsePlanes
from napari_fewshot.errors import SupportError
from napari_fewshot.io import relabelled, resolve_support
from napari_fewshot.session import load_concept, save_concept

IMAGE = np.random.default_rng(0).random((12, 16))


@pytest.fixture
def labels() -> np.ndarray:
    found = np.zeros((12, 16), np.uint8)
    found[3:7, 2:10] = 1
    return found


@pytest.fixture
def off() -> np.ndarray:
    found = np.zeros((12, 16), bool)
    found[:, 8:] = True
    return found


@pytest.mark.parametrize("kind", [bool, np.uint8, float, list])
def test_ignored_pixels_have_a_label_of_their_own(labels, off, kind) -> None:
    ignore = off.tolist() if kind is list else off.astype(kind)
    support = nf.Support(IMAGE, labels, ignore=ignore)
    plane = support.label_plane(0)
    assert (plane[off] == IGNORED).all()
    assert np.array_equal(plane[~off], labels[~off])
    assert support.label_values == (1,)
    assert not support.is_negative


def test_classes_that_are_ignored_everywhere_do_not_occur(labels, off) -> None:
    labels[8:10, 10:14] = 2
    assert nf.Support(IMAGE, labels).label_values == (1, 2)
    assert nf.Support(IMAGE, labels, ignore=off).label_values == (1,)


def test_only_255_is_class_1_beside_what_is_ignored(labels, off) -> None:
    plane = nf.Support(IMAGE, labels * 255, ignore=off).label_plane(0)
    assert set(np.unique(plane)) == {-1, 0, 1}


def test_a_negative_support_may_be_known_in_part(labels, off) -> None:
    support = nf.Support(IMAGE, 0 * labels, ignore=off)
    assert support.is_negative
    assert (support.label_plane(0)[off] == IGNORED).all()


def test_planes_of_stacks_are_found_without_what_is_ignored(labels, off) -> None:
    stack = np.stack([IMAGE, IMAGE, IMAGE])
    masks = np.stack([labels, 0 * labels, np.where(off, labels, 0)])
    ignore = np.stack([off] * 3)
    support = nf.Support(stack, masks, ignore=ignore)
    assert support.used_planes == (0,)
    sparse = SparsePlanes((3, 12, 16), 1, {0: off})
    again = nf.Support(stack, masks, ignore=sparse)
    assert again.used_planes == (0, 2)


def test_paths_are_opened(labels, off, tmp_path) -> None:
    names = {}
    for name, array in {"image": IMAGE, "labels": labels, "off": off}.items():
        names[name] = tmp_path / f"{name}.npy"
        np.save(names[name], array)
    support = nf.Support(names["image"], names["labels"], ignore=names["off"])
    assert support.is_path
    found = resolve_support(support)
    assert np.array_equal(found.label_plane(0) == IGNORED, off)
    mixed = resolve_support(nf.Support(IMAGE, labels, ignore=names["off"]))
    assert np.array_equal(mixed.label_plane(0), found.label_plane(0))


@pytest.mark.parametrize(
    ("ignore", "words"),
    [
        (np.zeros((12, 15), bool), "12 x 15.*12 x 16"),
        (np.zeros((1, 12, 16), bool), "another size"),
        (np.ones((12, 16), bool), "All of 'mine' is ignored"),
        (5, "another size"),
    ],
)
def test_what_cannot_be_ignored_is_refused(labels, ignore, words) -> None:
    with pytest.raises(SupportError, match=words):
        nf.Support(IMAGE, labels, ignore=ignore, name="mine")


def test_negative_labels_are_refused_with_advice(labels) -> None:
    with pytest.raises(SupportError, match="ignore=mask < 0"):
        nf.Support(IMAGE, labels.astype(int) - 1)


def test_renumbering_keeps_what_is_ignored(labels, off) -> None:
    support = relabelled(nf.Support(IMAGE, labels, ignore=off), {1: 4})
    plane = support.label_plane(0)
    assert set(np.unique(plane)) == {-1, 0, 4}
    assert np.array_equal(plane == IGNORED, off)


def test_concept_files_keep_it_and_say_so_to_older_versions(
    labels, off, tmp_path
) -> None:
    import json
    import zipfile

    def version(path) -> int:
        with zipfile.ZipFile(path) as archive:
            return int(json.loads(archive.read("concept.json"))["version"])

    plain = save_concept(tmp_path / "plain", nf.Support(IMAGE, labels), assess=False)
    part = save_concept(
        tmp_path / "part", nf.Support(IMAGE, labels, ignore=off), assess=False
    )
    assert (version(plain), version(part)) == (1, 2)
    plane = load_concept(part).support[0].label_plane(0)
    assert np.array_equal(plane == IGNORED, off)
    assert np.array_equal(plane[~off], labels[~off])
    assert (load_concept(plain).support[0].label_plane(0) == labels).all()


def test_projects_keep_it(labels, off, tmp_path) -> None:
    session = nf.Session(autosave=False)
    session.add_support(IMAGE, labels, ignore=off)
    session.save(tmp_path / "mine.fewshot-project")
    session.close()
    again = nf.Session.load(tmp_path / "mine.fewshot-project", autosave=False)
    (row,) = again.state.document.rows
    assert np.array_equal(row.support.label_plane(0) == IGNORED, off)
    again.close()
