import pytest

from napari_fewshot.data import TextPrompt, tidied
from napari_fewshot.errors import PromptError


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("<b>nucleus</b>", "nucleus"),
        ("<i class='x' id=\"y\">dark</i>  <br/>nuclei", "dark nuclei"),
        ("<!-- no --> cell", "cell"),
        ("cells < 10 µm and > 5 µm", "cells < 10 µm and > 5 µm"),
        ("a<b and c>d", "a<b and c>d"),
        ("nucleus\n\tof a\x00cell\u200b", "nucleus of a cell"),
        ("细胞核", "细胞核"),
        ("👩\u200d🔬 cell 🙂", "👩\u200d🔬 cell 🙂"),
        ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u200c\u062e"),
        ("nu\u200dcleus", "nu cleus"),
        ("bad \ud800 half", "bad half"),
        ("e\u0301pithelium", "\u00e9pithelium"),
    ],
)
def test_tidied(typed, shown):
    assert tidied(typed) == (shown,)
    assert shown.encode("utf-8").decode("utf-8") == shown


def test_each_phrase_once():
    assert tidied(["a cell", " a  cell ", "<b>a cell</b>", ""]) == ("a cell",)


@pytest.mark.parametrize("empty", ["", "  ", "\u200b", "<b></b>", [], ["", " "]])
def test_nothing_to_look_for(empty):
    with pytest.raises(PromptError, match="empty"):
        TextPrompt(empty)


def test_only_negatives():
    with pytest.raises(PromptError, match="only what it is not"):
        TextPrompt("", negatives=["cell"])


def test_both_what_it_is_and_is_not():
    with pytest.raises(PromptError, match="both"):
        TextPrompt("Cell", negatives=["<i>cell</i>"])


@pytest.mark.parametrize("wrong", [[3], [None], [["a"]]])
def test_no_text(wrong):
    with pytest.raises(PromptError, match="is a text"):
        TextPrompt(wrong)


def test_very_long_text_is_kept():
    long = "very " * 20_000 + "long cell"
    assert TextPrompt(long).phrases == (long,)


def test_hostile_markup_takes_no_time():

    text = "<a " + "b=c " * 20_000 + "<!--" * 20_000
    assert tidied(text)[0].startswith("<a b=c")
