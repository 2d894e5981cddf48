"""Concept files: what comes back, and every file that must be refused."""

from __future__ import annotations

import hashlib
import json
import stat
import zipfile
import zlib

import numpy as np
import pytest
from safetensors.numpy import load

import napari_fewshot as nf
from napari_fewshot.data import Concept, SupportSet
from napari_fewshot.io import _archive, read_concept, write_concept

WORDS = {"author": "A. Person", "licence": "CC BY 4.0", "notes": "Two µm sections."}


def stack_support():
    """A long stack of which two planes teach, with channels of which two are used."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 4000, (40, 16, 20, 5)).astype(">u2")
    labels = np.zeros((40, 16, 20), np.int32)
    labels[7, 2:9, 3:9], labels[30, 4:8, 4:8] = 1, 300
    return nf.Support(
        image,
        labels,
        classes={1: "cell", 300: "gap"},
        scale=(2, 0.5, 0.5),
        axes="zyxc",
        channels=(1, 3),
        name="stack",
    )


@pytest.fixture
def concept():
    return Concept(
        support=SupportSet([stack_support()]),
        classes={1: "cell", 300: "gap"},
        colours={1: "#112233"},
        method="pixel",
        params={"trees": 10, "min_area": {1: 4.0, 300: 2.0}},
        weights_sha256="ab" * 32,
        scores={1: 0.9, 300: float("nan")},
        score_intervals={1: (0.8, 0.95)},
        support_scores={"stack, plane 7": {1: 0.9}},
        provenance={"method": "pixel", "inputs": {"query": {"scale": (1.0, None)}}},
        **WORDS,
    )


@pytest.fixture
def path(tmp_path, concept):
    return write_concept(tmp_path / "cells", concept)


def test_everything_comes_back(path, concept):
    found = read_concept(path)
    assert path.name == "cells.fewshot"
    for name in ("classes", "method", "model", "params", *WORDS, "weights_sha256"):
        assert getattr(found, name) == getattr(concept, name), name
    assert found.colours[1] == "#112233"
    assert found.scores == {1: 0.9}, "NaN says nothing"
    assert found.score_intervals == {1: (0.8, 0.95)}
    assert found.support_scores == concept.support_scores
    assert found.version == nf.__version__
    before, after = concept.support[0], found.support[0]
    assert after.used_planes == before.used_planes == (7, 30)
    assert after.label_values == (1, 300)
    assert after.source.scale == before.source.scale
    assert after.source.window == before.source.window
    assert after.source.label_shape == before.source.label_shape
    for plane in before.used_planes:
        assert after.source.raw_plane(plane).dtype == np.uint16
        np.testing.assert_array_equal(
            after.source.plane(plane), before.source.plane(plane)
        )
        np.testing.assert_array_equal(
            after.label_plane(plane), before.label_plane(plane)
        )
        assert after.source.relative_position(plane) == (plane + 0.5) / 40


def test_only_the_planes_that_teach_are_kept_without_a_pickle(path):
    with zipfile.ZipFile(path) as archive:
        assert set(archive.namelist()) == {
            "concept.json",
            "supports.safetensors",
            "thumbnails/0.png",
        }
        arrays = load(archive.read("supports.safetensors"))
        assert archive.read("thumbnails/0.png").startswith(b"\x89PNG")
    assert set(arrays) == {f"0/{w}/{p}" for w in ("image", "labels") for p in (7, 30)}
    assert arrays["0/image/7"].shape == (16, 20, 2)
    assert arrays["0/labels/7"].dtype == np.uint8
    assert arrays["0/labels/30"].dtype == np.uint16


def test_the_same_content_is_the_same_file(path, concept, tmp_path):
    again = write_concept(tmp_path / "again.fewshot", read_concept(path))
    assert again.read_bytes() == path.read_bytes()
    plain = write_concept(tmp_path / "plain", concept, thumbnails=False)
    assert "thumbnails/0.png" not in zipfile.ZipFile(plain).namelist()


@pytest.mark.parametrize(
    "kind", ["negative only", "nothing", "mask of one pixel", "mask of everything"]
)
def test_odd_supports(kind, tmp_path, blob_pair):
    image, labels = blob_pair(1)
    labels = np.zeros_like(labels)
    if kind == "mask of one pixel":
        labels[3, 4] = 1
    if kind == "mask of everything":
        labels[:] = 255
    supports = SupportSet([] if kind == "nothing" else [(image, labels)])
    if kind in ("negative only", "nothing"):
        with pytest.raises(nf.SupportError, match="support"):
            write_concept(tmp_path / "x", Concept(supports))
        assert not list(tmp_path.iterdir())
    else:
        found = read_concept(write_concept(tmp_path / "x", Concept(supports)))
        np.testing.assert_array_equal(found.support[0].label_plane(0), labels > 0)


def test_a_folder_that_can_not_be_written(tmp_path, concept):
    (tmp_path / "file").write_text("")
    with pytest.raises(nf.StorageError, match="can't be written"):
        write_concept(tmp_path / "file" / "x.fewshot", concept)


# -- bad files -------------------------------------------------------------------------


def rewrite(path, change=None, more=(), replaced=None):
    """Write a concept file anew, changed; the hashes of its members are right."""
    with zipfile.ZipFile(path) as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    content = json.loads(members.pop("concept.json"))
    members.update(replaced or {})
    for name, data in members.items():
        content["members"][name] = {
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
    if change is not None:
        change(content)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("concept.json", json.dumps(content))
        for name, data in members.items():
            archive.writestr(name, data)
        for info, data in more:
            archive.writestr(info, data)


def refused(path, words):
    with pytest.raises(nf.DataError, match=words) as found:
        read_concept(path)
    assert path.name in str(found.value)


def test_members_that_are_not_listed_are_ignored(path):
    rewrite(path, more=[("readme.txt", "hello")])
    assert read_concept(path).method == "pixel"


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/etc/evil", "C:\\evil", "a\\..\\..\\evil", "a/../../evil"]
)
def test_names_outside_the_archive(path, name, tmp_path):
    rewrite(path, more=[(name, "evil")])
    refused(path, "not safe")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cells.fewshot"]


def test_a_link(path):
    info = zipfile.ZipInfo("thumbnails/1.png")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    rewrite(path, more=[(info, "/etc/passwd")])
    refused(path, "link")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice(path):
    rewrite(path, more=[("supports.safetensors", b"other")])
    refused(path, "twice")


def test_a_wrong_hash(path):
    def change(content):
        content["members"]["supports.safetensors"]["sha256"] = "0" * 64

    rewrite(path, change)
    refused(path, "SHA-256 differs")


def test_a_changed_byte(path):
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo("supports.safetensors").header_offset + 60
    data = bytearray(path.read_bytes())
    data[at] ^= 255
    path.write_bytes(data)
    refused(path, "damaged")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    refused(path, "damaged")


def test_a_newer_version(path):
    def change(content):
        content.update(version=3, written_by="3.1.4")

    rewrite(path, change)
    refused(path, r"written by napari-fewshot 3\.1\.4.*pip install --upgrade")


def test_a_bomb_is_not_unpacked(path, monkeypatch):
    """The limit counts what is declared; nothing of it is read."""
    monkeypatch.setattr(_archive, "MAX_BYTES", 10_000_000)
    monkeypatch.setattr(_archive, "MAX_MANIFEST", 1_000_000)
    bomb = zipfile.ZipInfo("thumbnails/9.png")
    bomb.compress_type = zipfile.ZIP_DEFLATED
    rewrite(path, more=[(bomb, bytes(20_000_000))])
    assert path.stat().st_size < 100_000
    refused(path, "larger than")


def test_a_bomb_that_lies_about_its_size(path):
    """A member that unpacks to more than it says is cut there, and found out."""
    data = path.read_bytes()
    large = bytes(20_000_000)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("supports.safetensors")
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packed.compress(large) + packed.flush()
    start = info.header_offset + 30 + len(info.filename)
    assert len(body) > info.compress_size
    data = (
        data[:start] + body[: info.compress_size] + data[start + info.compress_size :]
    )
    path.write_bytes(data)
    refused(path, "damaged")


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: c.pop("supports"),
        lambda c: c.update(supports=[]),
        lambda c: c.update(supports="abc"),
        lambda c: c.update(classes=[[0, "background", "#000000"]]),
        lambda c: c.update(params=[1]),
        lambda c: c.update(scores={"one": 1}),
        lambda c: c["members"].pop("supports.safetensors"),
        lambda c: c["members"].update(gone={"size": 1, "sha256": ""}),
        lambda c: c.update(members=3),
        lambda c: c["supports"][0].update(planes=[7, 8]),
        lambda c: c["supports"][0].update(planes=[]),
        lambda c: c["supports"][0].update(planes=[10**30]),
        lambda c: c["supports"][0]["image"].update(shape=[8, 16, 20, 2]),
        lambda c: c["supports"][0]["image"].update(shape=[-1, 16, 20, 2]),
        lambda c: c["supports"][0]["image"].update(shape=[10**30, 16, 20, 2]),
        lambda c: c["supports"][0]["image"].update(shape=[40, 99, 20, 2]),
        lambda c: c["supports"][0]["image"].update(axes="abc"),
        lambda c: c["supports"][0]["image"].update(axes="zyxx"),
        lambda c: c["supports"][0]["image"].update(scale=[0, 0, 0]),
        lambda c: c["supports"][0]["image"].update(window=[5, 5]),
        lambda c: c["supports"][0]["image"].update(window=[float("nan"), 1]),
    ],
)
def test_content_that_does_not_fit_together(path, damage):
    rewrite(path, damage)
    refused(path, "fit together|damaged")


def test_arrays_that_are_none(path):
    rewrite(path, replaced={"supports.safetensors": b"\xff" * 100})
    refused(path, "fit together")


def test_a_manifest_that_is_nested_too_deep(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("concept.json", "[" * 200_000)
    refused(path, "damaged")


def test_files_of_another_kind(tmp_path):
    text = tmp_path / "text.fewshot"
    text.write_text("hello")
    refused(text, "damaged or not one of our files")
    other = tmp_path / "other.fewshot"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("a.txt", "hello")
    refused(other, "holds no concept.json")
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("concept.json", '{"format": "x", "members": {}}')
    refused(other, "no concept file")
    refused(tmp_path / "gone.fewshot", "no file")
    (tmp_path / "folder.fewshot").mkdir()
    refused(tmp_path / "folder.fewshot", "no file")


def test_a_strange_colour_becomes_the_default(path):
    rewrite(path, lambda c: c["classes"][0].__setitem__(2, "url(evil)"))
    assert read_concept(path).colours[1].startswith("#")
