import dataclasses

import pytest

from napari_fewshot.data import Referring, meaning, parse_phrase


def said(phrase):
    """Return the noun and all relations that are not as by default."""
    found = parse_phrase(phrase)
    plain = Referring("", "")
    return found.noun, {
        f.name: getattr(found, f.name)
        for f in dataclasses.fields(found)
        if f.name not in ("phrase", "noun")
        and getattr(found, f.name) != getattr(plain, f.name)
    }


@pytest.mark.parametrize(
    ("phrase", "noun", "relations"),
    [
        ("kidney", "kidney", {}),
        ("left kidney", "kidney", {"side": "left"}),
        ("Kidney_left", "Kidney", {"side": "left"}),
        ("kidney (right)", "kidney", {"side": "right"}),
        ("the kidney on the left", "kidney", {"position": ("left",)}),
        (
            "right kidney on the left side",
            "kidney",
            {"side": "right", "position": ("left",)},
        ),
        ("left and right kidneys", "kidneys", {}),
        ("upper left nucleus", "nucleus", {"position": ("upper", "left")}),
        ("upper-left nucleus", "nucleus", {"position": ("upper", "left")}),
        (
            "nuclei in the lower right corner of the image",
            "nuclei",
            {"position": ("lower", "right"), "reach": 1 / 3},
        ),
        (
            "cells in the left third of the picture",
            "cells",
            {"position": ("left",), "reach": 1 / 3},
        ),
        ("nuclei in the lower right", "nuclei", {"position": ("lower", "right")}),
        ("nuclei of the left half", "nuclei", {"position": ("left",)}),
        ("nucleus in the middle", "nucleus", {"position": ("central",)}),
        (
            "nuclei in the corners",
            "nuclei",
            {"position": ("corner",), "reach": 1 / 4},
        ),
        (
            "upper pole of the left kidney",
            "kidney",
            {"side": "left", "part": ("upper",), "share": 1 / 3},
        ),
        ("kidney's lower pole", "kidney", {"part": ("lower",), "share": 1 / 3}),
        ("kidney upper pole", "kidney", {"part": ("upper",), "share": 1 / 3}),
        (
            "the lower two thirds of the femur",
            "femur",
            {"part": ("lower",), "share": 2 / 3},
        ),
        ("top of the heart", "heart", {"part": ("upper",), "share": 1 / 3}),
        ("left side of the liver", "liver", {"part": ("left",)}),
        ("the leftmost cell", "cell", {"order": "leftmost"}),
        ("left-most cell", "cell", {"order": "leftmost"}),
        ("lowest rib", "rib", {"order": "lowermost"}),
        ("largest nucleus", "nucleus", {"order": "largest"}),
        ("the largest one", "object", {"order": "largest"}),
        ("largest nuclei", "nuclei", {"size": "large"}),
        ("small dark nuclei", "dark nuclei", {"size": "small"}),
        (
            "second largest nucleus",
            "nucleus",
            {"order": "largest", "ordinal": 2},
        ),
        ("two largest cells", "cells", {"order": "largest", "count": 2}),
        ("the largest 3 cells", "cells", {"order": "largest", "count": 3}),
        (
            "the three smallest nuclei on the right",
            "nuclei",
            {"order": "smallest", "count": 3, "position": ("right",)},
        ),
        (
            "third nucleus from the left",
            "nucleus",
            {"order": "leftmost", "ordinal": 3},
        ),
        ("all nuclei", "nuclei", {"everything": True}),
        ("single nucleus", "nucleus", {"count": 1}),
        ("both kidneys", "kidneys", {"count": 2}),
        ("2 kidneys", "kidneys", {"count": 2}),
        ("nuclei near the border", "nuclei", {"border": "near"}),
        ("cells touching the edge", "cells", {"border": "touching"}),
        ("cells not touching the border", "cells", {"border": "apart"}),
        (
            "nuclei on the left edge",
            "nuclei",
            {"position": ("left",), "border": "near"},
        ),
        ("liver in the picture", "liver", {}),
    ],
)
def test_phrases(phrase, noun, relations):
    assert said(phrase) == (noun, relations)


@pytest.mark.parametrize(
    "name",
    [
        *("left ventricle", "right atrium", "upper lobe", "large intestine"),
        *("small bowel", "central vein", "third ventricle", "lower jaw", "middle ear"),
        *("right coronary artery", "large bowel", "inner ear", "dark corner"),
    ],
)
def test_names_are_kept_whole(name):
    assert said(name) == (name, {})
    assert said(f"the {name.upper()}")[1] == {}


def test_names_are_split_only_if_asked():
    assert said("the ventricle on the left") == ("ventricle", {"position": ("left",)})
    assert said("left upper lobe") == ("upper lobe", {"side": "left"})
    assert said("largest large intestine") == (
        "large intestine",
        {"order": "largest"},
    )


def test_sides_of_a_body_and_of_the_viewer():
    assert parse_phrase("left lung nodule").side == "left"
    assert parse_phrase("nodule in the left lung").side == "left"
    assert parse_phrase("left nucleus").side is None
    assert parse_phrase("left nucleus").position == ("left",)
    assert parse_phrase("leftmost kidney").side is None


@pytest.mark.parametrize(
    ("phrase", "unresolved"),
    [
        ("vessel left of the heart", "left of"),
        ("cells inside the gland", "inside"),
        ("mitochondria near the nucleus", "near"),
        ("stone in the lower pole of the kidney", "the lower pole of"),
        ("top left and bottom right nuclei", "and"),
        ("largest nucleus and smallest nucleus", "and"),
    ],
)
def test_relations_to_other_things_stay_words(phrase, unresolved):
    found = parse_phrase(phrase)
    assert found.noun == phrase
    assert found.plain
    assert found.unresolved == (unresolved,)


@pytest.mark.parametrize(
    "phrase",
    [
        *("nuclei except the largest", "not the left kidney", "nuclei on the edge of"),
        *("nuclei on the edge of the gland", "10 µm beads", "2 photon image", "left"),
        *("the", "细胞核", "noyau gauche", "🙂", "a<b", "...", "left " * 20),
    ],
)
def test_what_is_not_understood_is_left_as_typed(phrase):
    found = parse_phrase(phrase)
    assert found.plain
    assert found.noun == phrase.strip()


def test_other_scripts_and_emoji_keep_their_noun():
    assert said("largest 细胞核") == ("细胞核", {"order": "largest"})
    assert said("🙂 on the left") == ("🙂", {"position": ("left",)})
    assert said("🙂 cells on the left")[0] == "🙂 cells"


@pytest.mark.parametrize("phrase", ["", " ", "\x00\x01", "s's's", "left" * 999])
def test_hostile_text_is_survived(phrase):
    assert isinstance(parse_phrase(phrase), Referring)


def test_meaning():
    assert meaning("Nuclei") == meaning("the nucleus")
    assert meaning("two largest nuclei") == meaning("The TWO biggest nuclei")
    assert meaning("left kidney") != meaning("right kidney")
    assert meaning("🙂") != meaning("🙃")
