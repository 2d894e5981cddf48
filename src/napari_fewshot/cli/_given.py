"""What is given on a command line: pairs, parameters, supports, phrases."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from napari_fewshot.cli._pairs import support_from
from napari_fewshot.cli._phrases import parse_for_both, parse_text, split_params
from napari_fewshot.data import SupportSet, TextChoice
from napari_fewshot.errors import DataError
from napari_fewshot.io import resolve_support
from napari_fewshot.methods import get_method, params_to_dict, parse_params
from napari_fewshot.session import Session
from napari_fewshot.session._reading import reading_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot.cli._segment import BatchOptions
    from napari_fewshot.data import Concept, TextPrompt


@dataclass(frozen=True)
class Given:
    """The evidence of a batch.

    Attributes
    ----------
    supports : SupportSet
    query : Image, optional
        That a project holds.
    text : dict of int to TextPrompt
    reading : TextChoice
        How the text is read.
    params : dict
        Of the methods.
    """

    supports: SupportSet
    query: Any = None
    text: Mapping[int, TextPrompt] = field(default_factory=dict)
    reading: TextChoice = field(default_factory=TextChoice)
    params: Mapping[str, Any] = field(default_factory=dict)
    method: str = "auto"

    def reader(self) -> dict[str, Any]:
        """Return who reads the text, as `segment` takes it."""
        if not self.text:
            return {}
        reading = self.reading
        named = None if reading.model == "auto" else reading.model
        return {
            "text_method": reading.method,
            "text_model": reading.checkpoint or named,
            "text_share": reading.share,
        }

    def record(self) -> list[Any]:
        """Return all but the supports as JSON: another record, another result."""
        cls = get_method(self.method).spec.params
        if not self.text:
            return [params_to_dict(cls(**self.params))]
        phrases = {str(v): asdict(t) for v, t in self.text.items()}
        return [dict(self.params), phrases, asdict(self.reading)]


def open_given(
    options: BatchOptions, concept: Concept | None, params: Mapping[str, Any]
) -> Given:
    """Open everything but the queries.

    Parameters
    ----------
    options : BatchOptions
        As typed, with a method.
    concept : Concept, optional
        Its supports come first.
    params : dict
        Parameters that hold unless typed.
    """
    names = {int(k): v[0] for k, v in parse_pairs(options.classes, "--class").items()}
    given = [
        resolve_support(support_from(image, mask, classes=names or None, axes=None))
        for image, mask in options.supports
    ]
    given = [*(() if concept is None else concept.support), *given]
    text = parse_text(options.text, options.modality)
    reading = reading_of(options.text_method, options.text_model, options.text_share)
    query = None
    if options.project is not None:
        document = Session.load(options.project, autosave=False).state.document
        given = [*document.support_set(), *given]
        query = document.query
        if not text and document.text:
            text, reading = dict(document.text), document.reading
    method = options.method or "auto"
    if not text:
        values = {**params, **parse_words(method, options.params)}
        return Given(SupportSet(given), query, params=values, method=method)
    if get_method(method).spec.reads_text:
        reading = replace(reading, method=method)
    typed = parse_for_both(
        method, reading.method, options.params, has_support=len(given) > 0
    )
    values = {**params, **reading.params, **typed}
    return Given(SupportSet(given), query, text, reading, values, method)


def parse_words(method: str, words: Sequence[str]) -> dict[str, Any]:
    """Return parameters from ``name=value`` words, checked for a method.

    Raises
    ------
    DataError
        For a word without an equals sign.
    """
    texts = split_params(words)
    cls = get_method(method).spec.params
    values = parse_params(cls, texts)
    return {name: getattr(values, name) for name in texts}


def parse_pairs(words: Sequence[str], flag: str) -> dict[int, list[str]]:
    """``1=nucleus: a dark nucleus | cell nucleus`` to ``{1: [phrases]}``."""
    found = {}
    for word in words:
        number, sign, phrases = word.partition("=")
        if not sign or not number.strip().isdigit():
            raise DataError(f"{flag} {word} is not of the form 1=words.")
        parts = phrases.split(":", 1)[-1].split("|")
        found[int(number)] = [p.strip() for p in parts if p.strip()]
    return found
