"""``encode``: the planes a run will ask for, resumable, within the quota."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import typer
from typer.testing import CliRunner

import napari_fewshot as nf
from napari_fewshot.cli._clean import clean_folders
from napari_fewshot.cli._encode import encode
from napari_fewshot.inference._embeddings import EmbeddingCache, get_cache
from napari_fewshot.io import open_image
from napari_fewshot.models import load_model

app = typer.Typer()
app.command()(encode)


def call(*words):
    """Return exit code, what was said, and what was raised."""
    result = CliRunner().invoke(
        app, [str(w) for w in words], env={"COLUMNS": "200"}, input=""
    )
    error = None if isinstance(result.exception, SystemExit) else result.exception
    return result.exit_code, " ".join(result.output.split()), error


@pytest.fixture
def folder(tmp_path, blob_pair):
    """A picture, and a series of three with a blank plane, two channels each."""
    folder = tmp_path / "images"
    folder.mkdir()
    tifffile.imwrite(folder / "one.tif", blob_pair(0)[0])
    planes = np.stack([blob_pair(n)[0] // (n + 1) for n in range(3)])
    planes[1] = 7
    np.save(folder / "series.npy", np.stack([planes, planes[::-1]], axis=1))
    return folder


def encoded():
    return get_cache().usage().planes


def test_exactly_the_planes_of_a_run(folder, monkeypatch):
    words = [folder, "--model", "filters", "--axes", "tcyx", "--channels", "1"]
    code, said, _ = call(*words, "--yes")
    assert code == 3, "one.tif has other axes"
    assert "one.tif" in said
    assert "2 planes to encode with filters; 0 are in the cache already, 1 are" in said
    assert "2 planes encoded" in said
    image = open_image(folder / "series.npy", axes="tcyx", channels=[1])
    model = load_model("filters")
    held = [EmbeddingCache().holds(model, image.plane(i)) for i in range(3)]
    assert held == [True, False, True]
    assert encoded() == 2


def test_the_same_command_goes_on_where_it_was_stopped(folder, monkeypatch):
    blank = folder / "blank.tif"
    tifffile.imwrite(blank, np.full((32, 32), 3, np.uint8))
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32), np.uint8)
        tifffile.imwrite(folder / f"n{number}.tif", pixels)
    encode_plane = EmbeddingCache.encode

    def stop_at_third(self, model, pixels, check=None):
        if self.usage().planes == 2:
            raise KeyboardInterrupt
        return encode_plane(self, model, pixels, check)

    words = [folder / "*.tif", "--model", "filters"]
    with monkeypatch.context() as patch:
        patch.setattr(EmbeddingCache, "encode", stop_at_third)
        code, said, _ = call(*words)
    assert code == 130
    assert "2 encoded planes are kept" in said
    assert encoded() == 2
    code, said, _ = call(*words)
    assert code == 0
    assert "2 planes to encode" in said
    assert "2 are in the cache already, 1 are blank" in said
    assert encoded() == 4
    code, said, _ = call(*words)
    assert code == 0
    assert said.startswith("Looking")
    assert "0 planes to encode" in said


def test_beyond_the_quota_it_asks(folder, monkeypatch):
    monkeypatch.setenv("NAPARI_FEWSHOT_CACHE_GB", "0.0015")
    words = [folder / "series.npy", "--model", "filters", "--axes", "tcyx"]
    words += ["--channels", "0"]
    asked = []
    monkeypatch.setattr("typer.confirm", lambda words: bool(asked.append(words)))
    code, said, _ = call(*words)
    assert (code, len(asked)) == (0, 1)
    assert "more than the quota" in said
    assert "planes encoded" not in said
    code, said, _ = call(*words, "--yes")
    assert (code, len(asked)) == (0, 1)
    assert "1 planes encoded" in said
    assert get_cache().usage().bytes <= get_cache().usage().quota == 1_500_000


def test_it_does_not_compute_what_cannot_be_kept(folder, monkeypatch, home):
    words = [folder / "one.tif", "--model", "filters"]
    monkeypatch.setenv("NAPARI_FEWSHOT_CACHE", "0")
    code, _, error = call(*words)
    assert code == 1
    assert isinstance(error, nf.StorageError)
    assert "turned off" in str(error)
    monkeypatch.delenv("NAPARI_FEWSHOT_CACHE")
    (home / "cache").write_text("no folder")
    _, _, error = call(*words)
    assert "can't be written" in str(error)


def test_a_disk_that_fills_up(folder):
    """A limit on the length of files: the long thin plane fits, the other does not."""
    resource = pytest.importorskip("resource", reason="no such limit on Windows")
    pixels = np.random.default_rng(0).integers(0, 255, (16, 256), np.uint8)
    tifffile.imwrite(folder / "a_thin_one.tif", pixels)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        code, said, _ = call(folder / "*one.tif", "--model", "filters")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 3
    assert "can't be written" in said
    assert "1 encoded planes are kept" in said
    assert encoded() == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        pytest.param(["nowhere.tif"], "nowhere.tif", id="missing"),
        pytest.param(["{}/one.tif", "--channels", "a"], "--channels a", id="channels"),
        pytest.param(["{}/one.tif", "--model", "filtres"], "'filters'", id="model"),
    ],
)
def test_bad_words(folder, words, text):
    code, _, error = call(*[w.format(folder) for w in words])
    assert code == 1
    assert isinstance(error, nf.FewShotError)
    assert text in str(error)


def test_all_files_bad(tmp_path):
    (tmp_path / "bad.tif").write_bytes(b"no image")
    assert call(tmp_path / "bad.tif", "--model", "filters")[0] == 1


def test_clean_tells_of_embeddings(folder, capsys):
    call(folder / "one.tif", "--model", "filters")
    clean_folders(everything=False, yes=True)
    assert "embeddings of 1 planes (filters: 1)" in capsys.readouterr().out
    assert encoded() == 0
