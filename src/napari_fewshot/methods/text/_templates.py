"""Sentences that phrases are put into before they are encoded."""

from __future__ import annotations

import re

from napari_fewshot.data import find_modality, with_article, without_article

# Ways to say a phrase; `{a}` is the phrase with its article, `{}` without, `{modality}`
# what one image is called, and `{an image}` the same with its article. The last of the
# medical ones is MulModSeg's, whose modality conditions the classes (WACV 2025).
TEMPLATES = {
    "none": ("{}",),
    "natural": ("a photo of {a}.", "a picture of the {}.", "an image with {a}."),
    "medical": (
        "{}",
        "{an image} of {}",
        "{an image} showing {}",
        "{An image} of {a}.",
    ),
}
# What an image is called if nobody said.
MODALITY = "image"
_FIELD = re.compile(r"\{(|a|modality|an image|An image)\}")


def templates_for(modality: str | None = None, kind: str = "medical") -> list[str]:
    """Return the sentences for a modality, with ``{}`` or ``{a}`` for the phrase.

    Parameters
    ----------
    modality : str, optional
        Any name; those that the vocabulary knows bring sentences of their own.
    kind : str
        A key of `TEMPLATES`; only ``"medical"`` depends on the modality.
    """
    forms = list(TEMPLATES[kind])
    if kind != "medical":
        return forms
    image = image_name(modality)
    known = find_modality(modality) if modality else None
    forms += known.sentences if known else ()
    named = with_article(image)
    words = {
        "modality": image,
        "an image": named,
        "An image": named[:1].upper() + named[1:],
    }

    def fill(match: re.Match[str]) -> str:
        return words.get(match[1], match[0])

    return list(dict.fromkeys(_FIELD.sub(fill, form) for form in forms))


def image_name(modality: str | None) -> str:
    """Return what one image of a modality is called.

    Parameters
    ----------
    modality : str, optional
        What the vocabulary does not know is taken as typed, without an article.
    """
    if not modality:
        return MODALITY
    known = find_modality(modality)
    # What says more than the name of the modality is kept: "chest X-ray".
    plain = without_article(modality)
    exact = known and plain.casefold() == known.name.casefold()
    return known.image if known and exact else plain


def sentence(form: str, phrase: str) -> str:
    """Put a phrase into a sentence, with the article that it needs.

    Parameters
    ----------
    form : str
        From `templates_for`.
    phrase : str
        With or without an article; plurals get none.
    """
    plain = without_article(phrase)
    # A lone template is the phrase as it was typed.
    if form == "{}":
        return phrase
    words = {"": plain, "a": with_article(plain)}
    return _FIELD.sub(lambda m: words.get(m[1], m[0]), form).strip()
