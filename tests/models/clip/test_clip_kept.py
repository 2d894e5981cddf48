"""Vectors of phrases: read once, kept in memory and on disk, never a wrong one."""

import json
import os
import time

import numpy as np
import pytest
from tests.models.clip import tiny

from napari_fewshot.models import load_text_model
from napari_fewshot.models.clip import ClipModel
from napari_fewshot.models.clip._kept import ON, QUOTA_GB, TextStore, is_on


@pytest.fixture
def fresh(native):
    """Return what gives a model that remembers nothing, and counts its readings."""

    def fresh(folder=native, precision="fp32"):
        loaded = load_text_model("biomedclip", folder, device="cpu")
        model = ClipModel(
            loaded.network,
            loaded._tokens,
            loaded.make,
            loaded.spec,
            precision=precision,
            sha256=loaded.sha256,
        )
        model.read = []
        read = model.network.encode_text

        def counted(numbers):
            model.read.append(len(numbers))
            return read(numbers)

        model.network = Counting(model.network, counted)
        return model

    return fresh


class Counting:
    """A network whose readings of phrases are counted."""

    def __init__(self, network, encode_text):
        self._network, self.encode_text = network, encode_text

    def __getattr__(self, name):
        return getattr(self._network, name)


def files(home):
    return sorted((home / "cache" / "text").rglob("*.vec"))


def test_hundred_phrases_for_hundred_images_are_read_once(fresh, monkeypatch):
    monkeypatch.setenv(ON, "0")
    model = fresh()
    phrases = [f"a photo of blob {n}" for n in range(100)]
    first = model.encode_text(phrases)
    for _ in range(99):
        np.testing.assert_array_equal(model.encode_text(phrases), first)
    assert sum(model.read) == 100
    assert len(model.read) == 2
    model.encode_text([*phrases, "one more", "one more"])
    assert model.read[2:] == [1]


def test_found_again_on_disk_to_the_last_bit(fresh, home):
    first = fresh()
    wanted = first.encode_text(["cell", "nucleus"])
    assert len(files(home)) == 2
    second = fresh()
    np.testing.assert_array_equal(second.encode_text(["nucleus", "cell"])[::-1], wanted)
    assert second.read == []


@pytest.mark.parametrize(("name", "value"), [(ON, "0"), (ON, "off"), (QUOTA_GB, "0")])
def test_turned_off_nothing_is_written_or_read(fresh, home, monkeypatch, name, value):
    fresh().encode_text(["cell"])
    monkeypatch.setenv(name, value)
    model = fresh()
    model.encode_text(["cell", "new"])
    assert model.read == [2]
    assert len(files(home)) == 1


def test_the_users_choice_counts_unless_the_environment_says_otherwise(
    home, monkeypatch
):
    assert is_on()
    path = home / "data" / "embeddings.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"is_on": False, "quota_gb": None}))
    assert not is_on()
    monkeypatch.setenv(ON, "1")
    assert is_on()
    monkeypatch.delenv(ON)
    path.write_text("{")
    assert is_on()


def test_other_weights_words_or_bits_are_other_vectors(fresh, tmp_path):
    fresh().encode_text(["cell"])
    other = fresh(tiny.write_native(tmp_path / "other", seed=1))
    other.encode_text(["cell"])
    half = fresh(precision="bf16")
    half.encode_text(["cell"])
    quick = fresh(tiny.write_native(tmp_path / "quick", quick_gelu=True))
    quick.encode_text(["cell"])
    assert other.read == half.read == quick.read == [1]
    again = fresh()
    again.encode_text(["cell "])
    assert again.read == [1]


def test_another_tokenizer_is_another_model(biomed, copied, fresh):
    fresh(biomed).encode_text(["cell"])
    folder = copied(biomed)
    path = folder / "tokenizer_config.json"
    path.write_text(path.read_text().replace("{", '{"why": 1, ', 1))
    model = fresh(folder)
    model.encode_text(["cell"])
    assert model.read == [1]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda b: b"",
        lambda b: b[:-1],
        lambda b: b + b"x",
        lambda b: b[:40] + bytes([b[40] ^ 1]) + b[41:],
        lambda b: b"x" * len(b),
    ],
)
def test_damaged_files_are_computed_again(fresh, home, spoil):
    wanted = fresh().encode_text(["cell"])
    (file,) = files(home)
    file.write_bytes(spoil(file.read_bytes()))
    model = fresh()
    np.testing.assert_array_equal(model.encode_text(["cell"]), wanted)
    assert model.read == [1]
    healed = fresh()
    healed.encode_text(["cell"])
    assert healed.read == []


def test_a_file_in_the_way_only_warns(fresh, home, caplog):
    place = home / "cache" / "text"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("in the way")
    model = fresh()
    assert np.isfinite(model.encode_text(["cell", "nucleus"])).all()
    assert "can't be written" in caplog.text


def test_quota_drops_what_was_not_read_for_longest(tmp_path):
    vector = np.ones(10, np.float32)
    size = 8 + 16 + 40
    store = TextStore(tmp_path, quota=10 * size)
    for n in range(10):
        store.write(str(n), vector * n)
        os.utime(store._path(str(n)), (n, n))
    assert store.read("0", 10) is not None
    store.write("new", vector)
    left = [n for n in range(10) if store._path(str(n)).exists()]
    assert 0 in left
    assert 1 not in left
    assert 9 in left
    assert sum(f.stat().st_size for f in tmp_path.rglob("*.vec")) <= 10 * size
    np.testing.assert_array_equal(store.read("9", 10), vector * 9)


def test_what_a_killed_process_left_is_swept(tmp_path):
    store = TextStore(tmp_path)
    store.write("a", np.ones(3, np.float32))
    (folder,) = [p for p in tmp_path.iterdir() if p.is_dir()]
    old, new = folder / ".writing-old", folder / ".writing-new"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 9999,) * 2)
    TextStore(tmp_path).write("b", np.ones(3, np.float32))
    assert not old.exists()
    assert new.exists()
    assert TextStore(tmp_path).read("a", 3) is not None
    assert TextStore(tmp_path).read("a", 4) is None
