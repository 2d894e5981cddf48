import json
import subprocess
import sys

import pytest

from napari_fewshot.data import (
    TextPrompt,
    complete_phrase,
    expand_prompt,
    find_modality,
    find_term,
    nearest_word,
    unknown_words,
    with_article,
    without_article,
)
from napari_fewshot.data._vocabulary import FILES, FOLDER, modalities, terms
from napari_fewshot.data._wordforms import fold, is_plural


def test_it_is_large_and_every_entry_is_complete():
    every = terms()
    assert len(every) >= 250
    assert len({t.name for t in every}) == len(every)
    for term in every:
        assert term.synonyms, term
        assert term.negatives, term
        assert 2 <= len(term.attributes) <= 5, term
        assert term.modalities, term
        assert {m for m in term.modalities if m not in modalities()} == set()
        own = {fold(w) for w in term.words}
        assert not own & {fold(n) for n in term.negatives}, term


def test_every_group_of_the_brief_is_there():
    counts = {}
    for term in terms():
        counts[term.category] = counts.get(term.category, 0) + 1
    assert len(counts) >= 12
    assert min(counts.values()) >= 10


def test_no_word_names_two_things():
    owner = {}
    for term in terms():
        for word in term.words:
            assert owner.setdefault(fold(word), term.name) == term.name, word
    for name in modalities():
        for word in (name, *find_modality(name).synonyms):
            assert find_modality(word).name == name, word


def test_every_word_is_found_again():
    for term in terms():
        for word in term.words:
            assert find_term(word) is term
            assert find_term(f"  The {word.upper()} ") is term


def test_files_have_a_licence_and_one_term_per_line():
    assert "CC0" in (FOLDER / "LICENSE.txt").read_text(encoding="utf-8")
    for name in FILES:
        lines = (FOLDER / f"{name}.json").read_text(encoding="utf-8").splitlines()
        for line in lines[1:-1]:
            assert json.loads(line.rstrip(","))["name"]


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("nuclei", "nucleus"),
        ("Mitochondria", "mitochondrion"),
        ("esophagus", "oesophagus"),
        ("TUMORS", "tumour"),
        ("gray matter", "grey matter"),
        ("hematoma", "haemorrhage"),
        ("foetuses", "fetus"),
        ("islets of Langerhans", "islet of Langerhans"),
        ("Bowman\N{RIGHT SINGLE QUOTATION MARK}s capsule", "Bowman's capsule"),
        ("lymph-nodes", "lymph node"),
        ("metastases", "metastasis"),
        ("lenses of the eye", "lens of the eye"),
        ("testes", "testis"),
        ("abscesses", "abscess"),
        ("vertebrae", "vertebra"),
        ("optic disks", "optic disc"),
        ("RBCs", "red blood cell"),
        ("windpipe", "trachea"),
        ("germinal centers", "lymphoid follicle"),
        ("ovaries", "ovary"),
        ("phalanges", "phalanx"),
    ],
)
def test_forms_of_a_word_are_found(typed, name):
    assert find_term(typed).name == name


@pytest.mark.parametrize(
    "typed", ["", "   ", "blorp", "the", "🙂", "细胞核", "kidney kidney", "x" * 100_000]
)
def test_what_is_unknown_is_not_found(typed):
    assert find_term(typed) is None


def test_ureter_is_not_the_urethra():
    assert find_term("ureter") is not find_term("urethra")
    assert find_term("ilium") is not find_term("ileum")


def test_a_typing_error_is_a_question_not_an_answer():
    assert find_term("kidnye") is None
    assert nearest_word("kidnye") == "kidney"
    assert nearest_word("mitocondria") == "mitochondrion"
    assert nearest_word("qwrt zxv") is None
    assert nearest_word("y" * 1000) is None


def test_completion_ranks_names_first():
    found = complete_phrase("nuc")
    assert found[:2] == ["nucleus", "nucleolus"]
    assert "caudate nucleus" in found
    assert found.index("caudate nucleus") > found.index("nucleolus")
    assert complete_phrase("MITO", 1) == ["mitochondrion"]
    assert "gullet" in complete_phrase("gull")
    assert complete_phrase("oesoph") == complete_phrase("  oesoph ")


def test_completion_gives_each_term_once_and_no_more_than_asked():
    for prefix in ("a", "b", "c", "s", "le"):
        found = complete_phrase(prefix, 1000)
        names = [find_term(f).name for f in found]
        assert len(set(names)) == len(names)
        assert complete_phrase(prefix, 5) == found[:5]
    assert complete_phrase("a", 0) == []


def test_completion_of_the_last_words():
    assert complete_phrase("left kid")[0] == "left kidney"
    assert complete_phrase("the two largest nuc")[0] == "the two largest nucleus"
    assert complete_phrase("left vent")[0] == "left ventricle"


@pytest.mark.parametrize("prefix", ["", "  ", "🙂", "(((", "zzzz", "\x00", "a" * 9999])
def test_completion_of_nothing(prefix):
    assert complete_phrase(prefix) == []


def test_expanding_adds_but_never_overrides():
    given = TextPrompt("kidneys", ["my word"], ["liver"], modality="CT")
    found = expand_prompt(given)
    assert found.phrases == given.phrases
    assert found.synonyms[0] == "my word"
    assert "renal organ" in found.synonyms
    assert "kidney" not in found.synonyms  # the same word as the phrase
    assert found.negatives == ("liver",)
    assert found.modality == "CT"
    assert "bean-shaped" in found.attributes
    mine = expand_prompt(TextPrompt("kidney", attributes=["pink"]))
    assert mine.attributes == ("pink",)


def test_expanding_reads_the_noun_of_a_relation():
    assert "renal organ" in expand_prompt(TextPrompt("left kidney")).synonyms


def test_expanding_leaves_out_what_is_denied_or_taken():
    denied = expand_prompt(TextPrompt("nucleus", negatives=["Cell nuclei"]))
    assert "cell nucleus" not in denied.synonyms
    taken = expand_prompt(TextPrompt("nucleus"), avoid=["karyon"])
    assert "karyon" not in taken.synonyms
    assert len(expand_prompt(TextPrompt("nucleus"), limit=1).synonyms) == 1


@pytest.mark.parametrize("phrase", ["dark nuclei", "blorp", "细胞核"])
def test_expanding_leaves_other_phrases_alone(phrase):
    given = TextPrompt(phrase)
    assert expand_prompt(given) == given


def test_unknown_words():
    assert unknown_words("the three largest nuclei on the left") == ()
    assert unknown_words("Blorp nuclei, 20 of them") == ("Blorp",)
    assert unknown_words("dark round kidneys") == ()
    assert unknown_words("细胞核 cell") == ("细胞核",)
    assert unknown_words("🙂!?") == ()


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("ct", "CT"),
        ("CAT scan", "CT"),
        ("H&E", "histology"),
        ("MR", "MRI"),
        ("chest x-ray", "X-ray"),
        ("light-sheet microscopy", "light sheet"),
        ("phase-contrast", "phase contrast"),
    ],
)
def test_modalities(typed, name):
    assert find_modality(typed).name == name
    assert find_modality("blorpography") is None


@pytest.mark.parametrize(
    ("plain", "spoken"),
    [
        ("kidney", "a kidney"),
        ("MRI scan", "an MRI scan"),
        ("X-ray image", "an X-ray image"),
        ("CT scan", "a CT scan"),
        ("ultrasound image", "an ultrasound image"),
        ("uterus", "a uterus"),
        ("nuclei", "nuclei"),
        ("kidneys", "kidneys"),
        ("pancreas", "a pancreas"),
        ("Aorta", "an Aorta"),
        ("OCT scan", "an OCT scan"),
    ],
)
def test_articles(plain, spoken):
    assert with_article(plain) == spoken
    assert without_article(spoken) == plain


def test_plurals():
    several = ["nuclei", "cells", "vertebrae", "mitochondria", "carcinomata", "axes"]
    one = ["nucleus", "mass", "iris", "pancreas", "mitochondrion", "lens", "", "pus"]
    assert all(map(is_plural, several))
    assert not any(map(is_plural, one))


def test_nothing_is_read_before_it_is_needed():
    code = (
        "import napari_fewshot.data._vocabulary as v;"
        "assert v._tables.cache_info().currsize == 0;"
        "v.find('kidney'); assert v._tables.cache_info().currsize == 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
