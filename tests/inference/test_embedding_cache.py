"""The embedding cache: exact second visits, quota, bad folders, other processes."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import multiprocessing
import os
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file

import napari_fewshot as nf
from napari_fewshot.data import Embedding
from napari_fewshot.inference._embeddings import (
    EmbeddingCache,
    get_cache,
    key_of,
    settings_path,
)
from napari_fewshot.models import ModelSpec, load_model

SPEC = ModelSpec("toy/one", "embedding", "Adds noise.", "BSD-3-Clause")


class Toy:
    """An encoder that counts its calls; values depend on pixels."""

    def __init__(self, factor=1.0, cells=6, **facts):
        self.spec, self.calls, self.factor, self.cells = SPEC, 0, factor, cells
        vars(self).update(facts)

    def encode(self, image, check=None):
        self.calls += 1
        if check is not None:
            check(1, 2)
        rng = np.random.default_rng(int(1000 * np.sum(image)))
        sizes = (2, 8, self.cells, self.cells)
        maps = self.factor * rng.normal(size=sizes).astype(np.float32)
        shape = np.shape(image)[:2]
        return Embedding(maps[0], shape, SPEC.name, (1.0, 0.5), {"early": maps[1]})


@pytest.fixture
def plane():
    return np.random.default_rng(1).random((40, 56, 3)).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "embeddings"


def files(folder):
    return sorted(folder.rglob("*.safetensors"))


def bytes_of(embedding):
    return embedding.array.tobytes(), {
        n: a.tobytes() for n, a in embedding.extras.items()
    }


def test_first_and_later_visits_are_equal_to_the_byte(folder, plane):
    model, cache = Toy(), EmbeddingCache(folder)
    first = cache.encode(model, plane)
    assert first.array.dtype == np.float32
    assert not np.array_equal(first.array, Toy().encode(plane).array), "not rounded"
    np.testing.assert_allclose(first.array, Toy().encode(plane).array, rtol=1e-3)
    again = EmbeddingCache(folder).encode(model, plane)
    for found in (cache.encode(model, plane), again):
        assert bytes_of(found) == bytes_of(first)
        assert (found.image_shape, found.valid, found.model) == (
            (40, 56),
            (1.0, 0.5),
            "toy/one",
        )
        assert found.array.dtype == np.float32
    assert model.calls == 1
    assert cache.status == ""


@pytest.mark.parametrize("name", ["filters", "incontext/small"])
def test_real_encoders(folder, plane, name):
    model, cache = load_model(name), EmbeddingCache(folder)
    assert not cache.holds(model, plane)
    first = cache.encode(model, plane)
    assert EmbeddingCache(folder).holds(model, plane)
    assert bytes_of(EmbeddingCache(folder).encode(model, plane)) == bytes_of(first)
    np.testing.assert_allclose(
        first.array, model.encode(plane).array, rtol=1e-3, atol=1e-4
    )


def test_whatever_changes_an_embedding_changes_the_key(plane):
    keys = [
        key_of(model, pixels)
        for model, pixels in (
            (Toy(), plane),
            (Toy(), plane + 1),
            (Toy(), plane.astype(np.float64)),
            (Toy(), plane.reshape(56, 40, 3)),
            (Toy(sha256="ab"), plane),
            (Toy(preset="squash"), plane),
            (Toy(side=256), plane),
            (Toy(precision="bf16"), plane),
            (load_model("filters"), plane),
        )
    ]
    assert len(set(keys)) == len(keys)
    apart = np.asfortranarray(plane)
    assert key_of(Toy(device="cuda"), apart) == keys[0]


def test_memory_is_bounded_and_the_disk_holds_the_rest(folder):
    model = Toy()
    cache = EmbeddingCache(folder, memory=3000)
    planes = [np.full((8, 8), i / 10, np.float32) for i in range(4)]
    for pixels in (*planes, *planes):
        cache.encode(model, pixels)
    assert model.calls == 4
    cache.clear()
    assert cache.usage().planes == 0
    cache.encode(model, planes[3])
    assert model.calls == 5, "memory was cleared, too"


def test_check_may_cancel_and_nothing_is_kept(folder, plane):
    def stop(done, total):
        raise nf.Cancelled("stop")

    cache = EmbeddingCache(folder)
    with pytest.raises(nf.Cancelled):
        cache.encode(Toy(), plane, stop)
    assert not cache.holds(Toy(), plane)
    # An encoder that can't be interrupted is not asked to.
    cache.encode(load_model("filters"), plane, stop)


def test_only_planes(folder):
    with pytest.raises(nf.DataError, match="One plane"):
        EmbeddingCache(folder).encode(Toy(), np.zeros((2, 3, 8, 8)))


def test_values_beyond_float16_are_not_kept(folder, plane, caplog):
    model, cache = Toy(factor=1e6), EmbeddingCache(folder)
    for _ in range(2):
        found = cache.encode(model, plane)
        assert bytes_of(found) == bytes_of(Toy(factor=1e6).encode(plane))
    assert not files(folder)
    assert "float16" in cache.status
    assert len(caplog.records) == 1


def test_least_recently_used_goes_first(folder):
    planes = [np.full((8, 8), i / 10, np.float32) for i in range(6)]
    cache = EmbeddingCache(folder)
    cache.encode(Toy(), planes[0])
    each = cache.usage().bytes
    small = EmbeddingCache(folder, quota=int(3.5 * each))
    for number in (1, 2):
        small.encode(Toy(), planes[number])
    for age, path in enumerate(sorted(files(folder), key=os.path.getmtime)):
        past = time.time() - 1000 + age
        os.utime(path, (past, past))
    assert small.holds(Toy(), planes[0]), "now it is the one used last"
    small.encode(Toy(), planes[3])
    assert [small.holds(Toy(), p) for p in planes[:4]] == [True, False, True, True]
    assert small.usage().bytes <= small.usage().quota
    assert small.usage().models == {"toy/one": 3}


def test_two_programs_share_a_quota(folder):
    """What the other one wrote is counted, and what it removed is no error."""
    EmbeddingCache(folder).encode(Toy(), np.ones((8, 8)))
    each = files(folder)[0].stat().st_size
    one, other = (EmbeddingCache(folder, quota=4 * each) for _ in "ab")
    for number in range(12):
        (one, other)[number % 2].encode(Toy(), np.full((8, 8), number / 10))
    assert EmbeddingCache(folder).usage().bytes <= 2 * 4 * each
    one.encode(Toy(), np.full((8, 8), 5.0))
    assert one.usage().bytes <= 4 * each
    other.clear()
    assert one.encode(Toy(), np.full((8, 8), 5.0)).array.shape == (8, 6, 6)


def test_a_quota_of_nothing(folder, plane):
    model, cache = Toy(), EmbeddingCache(folder, quota=0)
    assert bytes_of(cache.encode(model, plane)) == bytes_of(cache.encode(model, plane))
    assert model.calls == 1
    assert "quota is 0" in cache.status
    tiny = EmbeddingCache(folder, quota=100)
    tiny.encode(model, plane)
    assert "larger than the quota" in tiny.status
    assert not files(folder)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


def other_shape(path):
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        words = file.metadata()
    save_file({"array": np.zeros((3, 2), np.float16)}, path, words)


def of_another_plane(path):
    cache = EmbeddingCache(path.parents[1])
    cache.encode(Toy(), np.ones((9, 9)))
    (other,) = set(files(path.parents[1])) - {path}
    other.replace(path)


@pytest.mark.parametrize(
    "damage", [truncate, flip, empty, other_shape, of_another_plane]
)
def test_a_damaged_file_is_replaced(folder, plane, damage, caplog):
    first = EmbeddingCache(folder).encode(Toy(), plane)
    (path,) = files(folder)
    good = path.read_bytes()
    damage(path)
    assert path.read_bytes() != good
    model, cache = Toy(), EmbeddingCache(folder)
    assert bytes_of(cache.encode(model, plane)) == bytes_of(first)
    assert model.calls == 1
    assert path.read_bytes() == good
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert "damaged" in caplog.text


@pytest.fixture
def read_only(tmp_path):
    """A folder without rights; an administrator would have them all the same."""
    import safetensors.numpy  # noqa: F401 - while files may be read

    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    yield folder
    if is_root:
        os.seteuid(0)


def check_falls_back(cache, plane, caplog):
    model = Toy()
    first = cache.encode(model, plane)
    assert bytes_of(cache.encode(model, plane)) == bytes_of(first), "from memory"
    cache.encode(model, plane + 1)
    assert model.calls == 2
    assert "can't be written" in cache.status
    assert len(caplog.records) == 1, "logged once"


def test_a_folder_that_is_a_file(tmp_path, plane, caplog):
    (tmp_path / "embeddings").write_text("not a folder")
    cache = EmbeddingCache(tmp_path / "embeddings")
    assert "can't be written" in cache.status, "known before anything is computed"
    check_falls_back(cache, plane, caplog)
    assert cache.usage().planes == 0


@pytest.mark.skipif(os.name == "nt", reason="rights work otherwise on Windows")
def test_a_folder_that_may_not_be_written(read_only, plane, caplog):
    cache = EmbeddingCache(read_only / "embeddings")
    check_falls_back(cache, plane, caplog)


@pytest.fixture
def full_disk():
    """A real limit on the length of files stands for a full disk."""
    resource = pytest.importorskip("resource", reason="no such limit on Windows")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    @contextlib.contextmanager
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


def test_a_full_disk(folder, plane, full_disk, caplog):
    cache = EmbeddingCache(folder)
    with full_disk():
        check_falls_back(cache, plane, caplog)
    assert not [p for p in folder.rglob("*") if p.is_file()], "nothing is left over"
    cache.encode(Toy(), plane + 2)
    assert cache.status == "", "there is space again"
    assert len(files(folder)) == 1


def encode_all(folder, barrier, answers):
    """Encode the same planes at the same moment as others, each from disk once more."""
    found, said = [], []
    log = logging.getLogger("napari_fewshot.inference")
    log.addHandler(logging.StreamHandler(SimpleNamespace(write=said.append)))
    for number in range(30):
        barrier.wait(60)
        cache = EmbeddingCache(folder, memory=0)
        for _ in range(2):
            plane = np.full((8, 8), number / 40)
            found.append(cache.encode(Toy(cells=128), plane).array.tobytes())
    answers.put(
        ("".join(said) + cache.status, hashlib.sha256(b"".join(found)).hexdigest())
    )


# Forked children start at once; torch, whose threads do not survive it, is not used.
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on Windows")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_processes_write_the_same_planes_at_once(folder):
    fork = multiprocessing.get_context("fork")
    barrier, answers = fork.Barrier(3), fork.Queue()
    some = [
        fork.Process(target=encode_all, args=(folder, barrier, answers))
        for _ in range(3)
    ]
    for process in some:
        process.start()
    said = {answers.get(timeout=60) for _ in some}
    for process in some:
        process.join()
    assert [trouble for trouble, _ in said] == [""], "all agree and none had trouble"
    assert EmbeddingCache(folder).usage().models == {"toy/one": 30}
    assert len([p for p in folder.rglob("*") if p.is_file()]) == 30


def test_what_a_program_left_that_died_is_removed(folder, plane):
    cache = EmbeddingCache(folder)
    cache.encode(Toy(), plane)
    place = files(folder)[0].parent
    old, new = place / ".writing-old", place / ".writing-new"
    for path in (old, new):
        path.write_bytes(b"half")
    past = time.time() - 7200
    os.utime(old, (past, past))
    EmbeddingCache(folder).encode(Toy(), plane + 1)
    assert not old.exists()
    assert new.exists()


def test_settings_come_from_a_file_then_from_the_environment(monkeypatch, plane):
    cache = get_cache()
    assert get_cache() is cache
    assert cache.folder == Path(os.environ["NAPARI_FEWSHOT_HOME"], "cache/embeddings")
    cache.encode(Toy(), plane)
    assert 0 < cache.usage().quota <= 10 * 10**9
    settings_path().parent.mkdir(parents=True, exist_ok=True)
    settings_path().write_text('{"is_on": true, "quota_gb": 1.5}')
    assert get_cache().usage().quota == 1_500_000_000
    assert get_cache().holds(Toy(), plane)
    monkeypatch.setenv("NAPARI_FEWSHOT_CACHE_GB", "0.25")
    assert get_cache().usage().quota == 250_000_000
    monkeypatch.setenv("NAPARI_FEWSHOT_CACHE_GB", "plenty")
    settings_path().write_text("{")
    assert get_cache().usage().quota not in (250_000_000, 1_500_000_000)
    monkeypatch.setenv("NAPARI_FEWSHOT_CACHE", "0")
    off, model = get_cache(), Toy()
    assert not off.holds(model, plane)
    assert bytes_of(off.encode(model, plane)) == bytes_of(Toy().encode(plane))
    off.encode(model, plane)
    assert model.calls == 2
    assert "turned off" in off.status
