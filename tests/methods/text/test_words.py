import zlib
from types import SimpleNamespace

import numpy as np
import pytest

from napari_fewshot.data import Hooks, TextPrompt
from napari_fewshot.errors import DataError, PromptError
from napari_fewshot.methods.text._base import TextMethod
from napari_fewshot.methods.text._knowledge import chosen_attributes, with_knowledge
from napari_fewshot.methods.text._params import TextParams
from napari_fewshot.methods.text._separation import area_under_curve, separation
from napari_fewshot.methods.text._templates import TEMPLATES, sentence, templates_for
from napari_fewshot.methods.text._words import (
    ClassWords,
    encode_bank,
    ensembled,
    refuse_same,
    unit,
)


class Letters:
    """A reader of words by their checksums; it remembers what it read."""

    context_length = 12
    spec = SimpleNamespace(name="letters", text="clip")

    def __init__(self):
        self.read = []

    def encode_text(self, phrases):
        self.read += phrases
        rows = []
        for phrase in phrases:
            row = np.full(16, 0.1)
            for word in phrase.split():
                seed = zlib.crc32(word.encode("utf-8"))
                row = row + np.random.default_rng(seed).normal(size=16)
            rows.append(row)
        return unit(np.array(rows, np.float32))

    def too_long(self, phrases):
        return tuple(p for p in phrases if len(p.split()) > self.context_length)


@pytest.fixture
def model():
    return Letters()


def test_the_ensemble_is_the_mean_of_unit_rows(model):
    found = ensembled(["kidney"], model, "natural")
    said = [
        "a photo of a kidney.",
        "a picture of the kidney.",
        "an image with a kidney.",
    ]
    assert model.read == said
    rows = Letters().encode_text(said)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    mean = rows.mean(0)
    np.testing.assert_allclose(found[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_no_phrases_are_no_rows(model):
    assert ensembled([], model, "medical").shape == (0, 16)


def test_articles_and_plurals_in_templates():
    last = TEMPLATES["natural"][0]
    assert sentence(last, "the kidney") == "a photo of a kidney."
    assert sentence(last, "nuclei") == "a photo of nuclei."
    assert sentence(last, "aorta") == "a photo of an aorta."
    assert sentence("{}", "the kidney") == "the kidney"
    assert sentence("{}", "{a} {modality}") == "{a} {modality}"


def test_templates_know_the_modality():
    mri = templates_for("mr")
    assert "An MRI scan of {a}." not in mri  # only its own name is replaced
    assert "An MRI scan of {a}." in templates_for("MRI")
    assert "a CT slice with {}" in templates_for("computed tomography")
    assert "A chest X-ray of {a}." in templates_for("a chest X-ray")
    assert "A blorpograph of {a}." in templates_for("blorpograph")
    assert templates_for("CT", "none") == ["{}"]
    assert templates_for("CT", "natural") == templates_for(None, "natural")
    plain = ["{}", "an image of {}", "an image showing {}", "An image of {a}."]
    assert templates_for() == plain
    for modality in (None, "CT", "H&E", "{}", "🙂", "{modality}"):
        for form in templates_for(modality):
            assert "nucleus" in sentence(form, "nucleus")


def test_relations_are_not_encoded(model):
    text = {
        1: TextPrompt("the two largest nuclei on the left"),
        2: TextPrompt("vessel"),
    }
    bank = encode_bank(text, model, "none")
    first, second = bank.classes
    assert first.nouns == ("nuclei",)
    assert first.referring.count == 2
    assert first.referring.position == ("left",)
    assert second.referring is None
    np.testing.assert_array_equal(first.positive, model.encode_text(["nuclei"]))
    typed = encode_bank(text, model, "none", relations=False).classes[0]
    assert typed.nouns == ("the two largest nuclei on the left",)
    assert typed.referring is None


def test_a_plain_phrase_is_encoded_as_typed(model):
    encode_bank({1: TextPrompt("The Left Ventricle ")}, model, "none")
    assert "The Left Ventricle" in model.read


def test_same_nouns_do_not_compete(model):
    text = {
        3: TextPrompt("left kidney"),
        5: TextPrompt("right Kidney"),
        7: TextPrompt("liver"),
    }
    bank = encode_bank(text, model, "none")
    assert [bank.rivals(n) for n in range(3)] == [(2,), (2,), (0, 1)]


def test_the_vocabulary_is_added_only_if_asked(model):
    text = {
        1: TextPrompt("nuclei"),
        2: TextPrompt("karyon of yeast"),
        3: TextPrompt("cytosol"),
    }
    assert encode_bank(text, model, "none").classes[0].nouns == ("nuclei",)
    bank = encode_bank(text, model, "none", vocabulary=True)
    assert "cell nucleus" in bank.classes[0].nouns
    assert len(bank.classes[0].attributes) == len(bank.classes[0].prompt.attributes) > 1
    assert len(bank.classes[0].positive) == len(bank.classes[0].nouns)
    assert len(bank.classes[1].attributes) == 0
    both = {1: TextPrompt("left kidney"), 2: TextPrompt("right kidney")}
    left, right = encode_bank(both, model, "none", vocabulary=True).classes
    assert left.nouns == right.nouns
    rivals = {1: TextPrompt("nucleus"), 2: TextPrompt("blob", ["karyon"])}
    expanded = encode_bank(rivals, model, "none", vocabulary=True).classes[0]
    assert "karyon" not in expanded.nouns


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TextPrompt("nucleus"), TextPrompt("the Nuclei")),
        (TextPrompt("nucleus"), TextPrompt("blob", ["nucleus"])),
        (TextPrompt("left kidney"), TextPrompt("kidney_left")),
        (TextPrompt("🙂"), TextPrompt("<b>🙂</b>")),
    ],
)
def test_the_same_phrase_for_two_classes_is_refused(one, other, model):
    with pytest.raises(PromptError, match="Classes 1 and 4 are both"):
        refuse_same({1: one, 4: other})

    class Method(TextMethod):
        def heat(self, model, plane, bank, params, hooks):
            raise NotImplementedError

    params = TextParams(decoder="map")
    with pytest.raises(PromptError, match="are both"):
        Method().fit_text({1: one, 4: other}, params, model, Hooks())


def test_other_relations_are_other_classes():
    refuse_same({1: TextPrompt("left kidney"), 2: TextPrompt("right kidney")})
    refuse_same({n: TextPrompt(f"phrase number{n}") for n in range(200)})


def notes_of(model, *prompts):
    return encode_bank(dict(enumerate(prompts, 1)), model, "none").notes


def test_known_words_need_no_note(model):
    assert notes_of(model, TextPrompt("left kidney"), TextPrompt("dark nuclei")) == ()


def test_notes(model):
    (note,) = notes_of(model, TextPrompt("blorp"))
    assert note == "'blorp' is not in the vocabulary; it is used as typed."
    (note,) = notes_of(model, TextPrompt("kidnye"))
    assert note.endswith("Did you mean 'kidney'?")
    (note,) = notes_of(model, TextPrompt("cells inside the gland"))
    assert "'inside' is not resolved" in note
    (note,) = notes_of(model, TextPrompt(["left kidney", "right kidney"]))
    assert "only 'left kidney' counts" in note
    (note,) = notes_of(model, TextPrompt("kidney", negatives=["left kidney"]))
    assert "not resolved there" in note
    (note,) = notes_of(model, TextPrompt("dark " * 13 + "cell"))
    assert "only the beginning (12 tokens)" in note


def test_a_very_long_text_is_told_briefly(model):
    notes = notes_of(model, TextPrompt("zqx" * 30_000 + " " + "blorp zap " * 500))
    assert any("12 tokens" in n for n in notes)
    assert any("not in the vocabulary" in n for n in notes)
    assert max(map(len, notes)) < 250


def words_of(positive, attributes):
    none = np.zeros((0, positive.shape[1]), np.float32)
    return ClassWords(1, TextPrompt("x"), positive, none, ("x",), attributes)


def test_knowledge_by_brute_force():
    rng = np.random.default_rng(1)
    for cells, k in ((4, 3), (1, 1), (100, 20), (7, 5)):
        tokens = unit(rng.normal(size=(30, 8)))
        bank = unit(rng.normal(size=(12, 8)))
        words = words_of(unit(rng.normal(size=(2, 8))), bank)
        target = words.positive.mean(0) / np.linalg.norm(words.positive.mean(0))
        nearest = sorted(range(30), key=lambda i: -float(tokens[i] @ target))[:cells]
        score = [max(float(tokens[i] @ row) for i in nearest) for row in bank]
        best = sorted(range(12), key=lambda j: -score[j])[:k]
        expected = target + np.mean([bank[j] for j in best], axis=0)
        expected /= np.linalg.norm(expected)
        found = with_knowledge(tokens, words, k=k, cells=cells)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert found.dtype == np.float32
        assert list(chosen_attributes(tokens, target, bank, k, cells)) == best


def test_knowledge_of_what_is_seen_is_chosen():
    axes = np.eye(4, dtype=np.float32)
    tokens = unit(np.array([axes[0] + axes[1], axes[3], axes[3]]))
    words = words_of(axes[:1], axes[1:4])
    found = with_knowledge(tokens, words, k=1, cells=1)
    np.testing.assert_allclose(found, unit(axes[0] + axes[1]), atol=1e-6)


def test_without_attributes_the_phrase_stays():
    rng = np.random.default_rng(2)
    words = ClassWords(
        1, TextPrompt("x"), unit(rng.normal(size=(2, 8))), np.zeros((0, 8))
    )
    tokens = unit(rng.normal(size=(5, 8)))
    np.testing.assert_allclose(with_knowledge(tokens, words), words.mean, atol=1e-6)
    bank = unit(rng.normal(size=(3, 8)))
    np.testing.assert_allclose(
        with_knowledge(tokens, words, bank, 0), words.mean, atol=1e-6
    )


def test_area_under_curve_by_brute_force():
    rng = np.random.default_rng(3)
    for _ in range(20):
        values = rng.integers(0, 6, 25).astype(float)
        cover = rng.random(25)
        wins = total = 0.0
        for i in range(25):
            for j in range(25):
                weight = cover[i] * (1 - cover[j])
                total += weight
                wins += weight * (
                    (values[i] > values[j]) + 0.5 * (values[i] == values[j])
                )
        assert np.isclose(area_under_curve(values, cover), wins / total)


def test_separation_with_a_mask():
    mask = np.zeros((8, 8), bool)
    mask[:4] = True
    warm = np.zeros((4, 4))
    warm[:2] = 1
    rows = separation(
        ["flat", "wrong", "right"], np.stack([warm * 0, -warm, warm]), mask
    )
    assert [(r.phrase, r.score, r.kind) for r in rows] == [
        ("right", 1.0, "auc"),
        ("flat", 0.5, "auc"),
        ("wrong", 0.0, "auc"),
    ]


def test_separation_without_a_mask():
    maps = np.zeros((2, 10, 10))
    maps[0, 0, :5] = 0.5
    maps[1, 0, :5] = 0.2
    flat, sharp = np.full((1, 10, 10), 0.1), ["sharp", "faint"]
    rows = separation(sharp, maps)
    assert [(r.phrase, r.kind) for r in rows] == [("sharp", "gap"), ("faint", "gap")]
    assert np.allclose([r.score for r in rows], [0.5, 0.2])
    rows = separation(sharp, maps, background=np.concatenate([flat, -flat]))
    assert np.allclose([r.score for r in rows], [0.4, 0.1])
    assert separation(["x"], np.ones((1, 1, 1)))[0].score == 0.0


def test_separation_of_wrong_input():
    with pytest.raises(DataError, match="as many maps"):
        separation(["a", "b"], np.zeros((1, 4, 4)))
    for mask in (np.zeros((4, 4), bool), np.ones((4, 4), bool)):
        with pytest.raises(DataError, match="empty or covers everything"):
            separation(["a"], np.zeros((1, 4, 4)), mask)
