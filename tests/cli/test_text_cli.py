"""Text on the command line: segment --text, where, where --rank."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from tests import tiny_clip

from napari_fewshot.cli import main
from napari_fewshot.cli._phrases import parse_for_both, parse_text
from napari_fewshot.errors import DataError, PromptError

if TYPE_CHECKING:
    from pathlib import Path


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(w) for w in words])
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    folder = tmp_path_factory.mktemp("scene")
    one, phrase = tiny_clip.asked(1)[0]
    image = np.rint(np.clip(one.image, 0, 1) * 255).astype(np.uint8)
    iio.imwrite(folder / "one.png", image)
    iio.imwrite(folder / "mask.png", one.mask(phrase).astype(np.uint8) * 255)
    return folder / "one.png", tiny_clip.write(folder / "clip"), phrase.text


def test_phrases_are_read_as_typed() -> None:
    found = parse_text(
        ["1=nucleus: a dark nucleus | cell nucleus | not cytoplasm | looks round"],
        modality="histology",
    )[1]
    assert found.name == "nucleus"
    assert found.phrases == ("a dark nucleus",)
    assert found.synonyms == ("cell nucleus",)
    assert found.negatives == ("cytoplasm",)
    assert found.attributes == ("round",)
    assert found.modality == "histology"
    assert parse_text(["ring"])[1].phrases == ("ring",)
    assert set(parse_text(["2=ring", "5=disk"])) == {2, 5}
    assert parse_text(["a=b"])[1].phrases == ("a=b",)
    with pytest.raises(DataError, match="Two --text"):
        parse_text(["ring", "disk"])
    with pytest.raises(PromptError, match="only what it is not"):
        parse_text(["1=not ring"])
    with pytest.raises(PromptError, match="empty"):
        parse_text(["  "])


def test_parameters_go_to_who_knows_them() -> None:
    words = ["cut=otsu", "neighbours=no"]
    found = parse_for_both("auto", "text", words, has_support=True)
    assert found == {"cut": "otsu", "neighbours": False}
    with pytest.raises(TypeError, match="neighbours"):
        parse_for_both("auto", "text", words, has_support=False)


def test_a_file_is_segmented_by_a_phrase(
    scene: tuple[Path, Path, str], tmp_path: Path
) -> None:
    query, clip, phrase = scene
    words = ["segment", query, "--text", f"3=thing: {phrase}", "--checkpoint", clip]
    assert run(*words, "--out", tmp_path) == 0
    labels = iio.imread(tmp_path / "one_labels.png")
    assert set(np.unique(labels)) <= {0, 3}
    record = json.loads((tmp_path / "provenance.json").read_text())["one_labels.png"]
    assert record["text"]["phrases"]["3"]["phrases"] == [phrase]
    assert run(*words, "--out", tmp_path) == 0
    assert "done before" in (tmp_path / "report.csv").read_text()
    other = ["segment", query, "--text", f"3=thing: bright {phrase}"]
    assert run(*other, "--checkpoint", clip, "--out", tmp_path) == 0
    assert "done before" not in (tmp_path / "report.csv").read_text()


def test_where_writes_maps_and_says_what_is_understood(
    scene: tuple[Path, Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query, clip, phrase = scene
    code = run(
        "where", query, "--text", phrase, "--checkpoint", clip, "--out", tmp_path
    )
    assert code == 0
    heat = tifffile.imread(tmp_path / "one_class1_heat-map.tif")
    assert heat.shape == iio.imread(query).shape[:2]
    assert "understood" in capsys.readouterr().out


def test_phrases_are_ranked_on_a_mask(
    scene: tuple[Path, Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    query, clip, phrase = scene
    words = ["where", query, "--rank", "--text", "wqzk", "--text", phrase]
    mask = query.parent / "mask.png"
    assert run(*words, "--mask", mask, "--checkpoint", clip) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert phrase in first
    assert "(auc)" in first


def test_text_and_a_support_on_the_command_line(
    scene: tuple[Path, Path, str], tmp_path: Path
) -> None:
    query, clip, phrase = scene
    code = run(
        *("segment", query, "--support", query, query.parent / "mask.png"),
        *("--text", phrase, "--text-model", clip, "--method", "panet"),
        *("--param", "cut=otsu", "--out", tmp_path),
    )
    assert code == 0
    record = json.loads((tmp_path / "provenance.json").read_text())["one_labels.png"]
    assert record["method"] == "panet"
    assert record["text"]["params"] == {"cut": "otsu"}


def test_bad_words_are_refused(
    scene: tuple[Path, Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query, clip, _ = scene
    assert run("segment", query, "--text", "", "--checkpoint", clip) == 1
    assert "empty" in capsys.readouterr().err
    assert run("segment", query, "--text", "ring", "--out", tmp_path) == 1
    assert "models download" in capsys.readouterr().err
    words = ["segment", query, "--text", "ring", "--checkpoint", clip]
    assert run(*words, "--param", "cutt=otsu", "--out", tmp_path) == 2
    assert "cut" in capsys.readouterr().err
