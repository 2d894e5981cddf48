"""Forms of a word: case, accents, plural, British and American spelling.

`fold` maps all forms of a phrase to one key. Keys are for comparing only: they cut
more than grammar does, but the same from both sides.
"""

from __future__ import annotations

import functools
import re
import unicodedata

ARTICLES = ("a", "an", "the")
# A number, or letters of any script with the marks and joiners that belong to them.
WORD = re.compile(r"(?:[^\W_]|[\u0300-\u036f\u200c\u200d])+")
# Plurals that follow no rule below.
IRREGULAR = {
    "alga": "alga",
    "algae": "alga",
    "atria": "atrium",
    "axes": "axis",
    "bacilli": "bacillus",
    "bacteria": "bacterium",
    "calves": "calf",
    "cerebella": "cerebellum",
    "cilia": "cilium",
    "corpora": "corpus",
    "crania": "cranium",
    "diverticula": "diverticulum",
    "endothelia": "endothelium",
    "epithelia": "epithelium",
    "feet": "foot",
    "filopodia": "filopodium",
    "flagella": "flagellum",
    "foci": "focus",
    "foramina": "foramen",
    "ganglia": "ganglion",
    "halves": "half",
    "irides": "iris",
    "lamellipodia": "lamellipodium",
    "leaves": "leaf",
    "loci": "locus",
    "lumina": "lumen",
    "matrices": "matrix",
    "mice": "mouse",
    "mitochondria": "mitochondrion",
    "mitoses": "mitosis",
    "ova": "ovum",
    "phalanges": "phalanx",
    "sacra": "sacrum",
    "septa": "septum",
    "spermatozoa": "spermatozoon",
    "stomata": "stoma",
    "teeth": "tooth",
    "testes": "testis",
    "varices": "varix",
    "viscera": "viscus",
}
# Singular, although they end in s.
SINGULAR = frozenset(
    ["lens", "pancreas", "biceps", "triceps", "gas", "atlas", "herpes", "rabies"]
)
_PLURALS = (
    (re.compile(r"(?<=[a-z]{3})ies$"), "y"),
    (re.compile(r"omata$"), "oma"),
    (re.compile(r"(?<=ss|ch|sh)es$|(?<=[xz])es$"), ""),
    (re.compile(r"(?:ses|sis|se)$"), "s"),
    (re.compile(r"(?:ices|ice|ix|ex)$"), "ic"),
    (re.compile(r"ae$"), "a"),
    (re.compile(r"(?<=[a-z]{3})i$"), "us"),
    (re.compile(r"(?<=[a-z]{2})(?<![sui])s$"), ""),
)
_SPELLINGS = (
    (re.compile(r"ae|oe"), "e"),
    (re.compile(r"our"), "or"),
    (re.compile(r"([tb])re$"), r"\1er"),
    (re.compile(r"grey"), "gray"),
    (re.compile(r"is(?=ation|ed$|ing$)"), "iz"),
    (re.compile(r"leuco"), "leuko"),
    (re.compile(r"(?<=dis|dic)k$|(?<=dis)c$"), ""),
)


def spoken(text: str) -> str:
    """Return a phrase in small letters, without accents, marks and signs.

    Parameters
    ----------
    text : str
        As typed.
    """
    apart = unicodedata.normalize("NFKD", text.casefold())
    apart = re.sub(r"['\u2019]s\b", "", apart)
    bare = "".join(c for c in apart if not unicodedata.combining(c))
    return " ".join(WORD.findall(unicodedata.normalize("NFC", bare)))


@functools.lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """Return what all forms of one word have in common.

    Parameters
    ----------
    word : str
        From `spoken`.
    """
    if word in IRREGULAR:
        word = IRREGULAR[word]
    for pattern, end in () if word in SINGULAR else _PLURALS:
        shorter, cut = pattern.subn(end, word)
        if cut:
            word = shorter
            break
    for pattern, other in _SPELLINGS:
        word = pattern.sub(other, word)
    return word


def fold(text: str) -> str:
    """Return the key of a phrase; articles at its beginning do not count.

    Parameters
    ----------
    text : str
        As typed.
    """
    words = spoken(text).split()
    while len(words) > 1 and words[0] in ARTICLES:
        words = words[1:]
    return " ".join(map(stem, words))


def is_plural(word: str) -> bool:
    """Guess whether an English word means several.

    Parameters
    ----------
    word : str
        The last word of a noun.
    """
    words = spoken(word).split()
    if not words or words[-1] in SINGULAR:
        return False
    last = words[-1]
    if last in IRREGULAR:
        return IRREGULAR[last] != last
    if last.endswith(("ss", "us", "is", "ous")) or len(last) < 3:
        return False
    return last.endswith(("s", "omata", "ae")) or (len(last) > 4 and last[-1] == "i")


def without_article(text: str) -> str:
    """Return a phrase without an article at its beginning.

    Parameters
    ----------
    text : str
        As typed.
    """
    head, _, rest = text.partition(" ")
    return rest.lstrip() if rest and head.casefold() in ARTICLES else text


def with_article(text: str) -> str:
    """Return a phrase after "a" or "an", as it is spoken; nothing before plurals.

    Parameters
    ----------
    text : str
        Without an article.
    """
    first = text.split(" ", 1)[0]
    if not first or is_plural(text):
        return text
    return f"{'an' if _vowel(first) else 'a'} {text}"


def _vowel(word: str) -> bool:
    """Return whether a word is spoken with a vowel first."""
    if re.match(r"[A-Z](?:[A-Z0-9&-]|$)", word):
        spelled = word.isupper() and not re.match(r"[A-Z][AEIOU]", word)
        spelled = spelled or word[1:2] in ("", "-")
        return word[0] in ("AEFHILMNORSX" if spelled else "AEIO")
    small = word.casefold()
    if re.match(r"uni(?!n)|ur[aei]|ut[ei]|eu|one\b|once", small):
        return False
    return small[0] in "aeiou"
