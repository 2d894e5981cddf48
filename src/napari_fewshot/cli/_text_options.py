"""What ``benchmark text`` is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_fewshot.cli._given import parse_words
from napari_fewshot.errors import DataError, WeightsError
from napari_fewshot.evaluation import GRIDS, HPARAM_MODES, PROMPT_MODES, Leak
from napari_fewshot.methods import get_method, method_names
from napari_fewshot.models import get_model_spec, how_to_get, installed_models

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

ALL, AUTO = "all", "auto"
# Chooses one of the others by the model.
CHOICE = "text"
RANDOM = "random-phrase"
BOXES = ("oracle-box", "oracle-boxes", "whole-box", "centre-box")
BOUNDS = (RANDOM, *BOXES)
# A phrase of more words is a sentence; it is not put into a template.
MOST_WORDS = 7


@dataclass(frozen=True)
class TextContender:
    """One method on one model.

    Attributes
    ----------
    method, model : str
    params : dict
        Parameters that were given.
    grid : dict of str to tuple
        Settings to choose from on labelled images; empty if none are chosen.
    """

    method: str
    model: str
    params: Mapping[str, Any]
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How tables call it."""
        return self.method if self.model == AUTO else f"{self.method}, {self.model}"


@dataclass(frozen=True)
class TextOptions:
    """How a text benchmark is run.

    Attributes
    ----------
    methods : sequence of str
        Methods that read text, or ``"all"`` of them.
    models : sequence of str
        Models that read text; each method runs on those that it can use.
    checkpoint : path, optional
        Weights of one's own for the model.
    params, grid : sequence of str
        ``name=value``, perhaps ``method.name=value``; ``name=a,b,c``.
    datasets : sequence of str
        Only these.
    prompts_path : path, optional
        Phrases, see `read_prompts`.
    prompt_mode, hparams : str
        See `evaluation.PROMPT_MODES` and `evaluation.HPARAM_MODES`.
    seeds : int
        Random phrases per image.
    limit : int, optional
        Images of each class at most.
    original : bool
        Do not resize to longest side 256.
    bounds : sequence of str
        Of `BOUNDS`: what a decoder of boxes can do at best and at worst, and what a
        phrase without meaning gives.
    box_model : str
        Who answers the boxes; ``"auto"`` is the best one installed.
    box_checkpoint : path, optional
        Its weights.
    maps : bool
        Score heat maps, too.
    sensitivity : int
        Images of each class on which phrases are compared with nonsense.
    device : str
        Where models compute.
    resume : bool
        Go on with the ``.jsonl`` beside ``json_path``.
    json_path, csv_path, markdown_path : path, optional
        Write the table, every image, and the table to be read there.
    """

    methods: Sequence[str] = (CHOICE,)
    models: Sequence[str] = (AUTO,)
    checkpoint: Path | None = None
    params: Sequence[str] = ()
    grid: Sequence[str] = ()
    datasets: Sequence[str] = ()
    prompts_path: Path | None = None
    prompt_mode: str = "fixed"
    hparams: str = "fixed"
    seeds: int = 1
    limit: int | None = None
    original: bool = False
    bounds: Sequence[str] = BOUNDS
    box_model: str = AUTO
    box_checkpoint: Path | None = None
    maps: bool = True
    sensitivity: int = 1
    device: str = AUTO
    resume: bool = False
    json_path: Path | None = None
    csv_path: Path | None = None
    markdown_path: Path | None = None

    @property
    def leak(self) -> Leak:
        """What a run knows of the truth."""
        return Leak(self.prompt_mode, self.hparams)

    def check(self) -> None:
        """Refuse what can't be run, before anything is read.

        Raises
        ------
        DataError
            If an option has no meaning or does not go with another.
        """
        _check_word("--prompt-mode", self.prompt_mode, PROMPT_MODES)
        _check_word("--hparams", self.hparams, HPARAM_MODES)
        for bound in self.bounds:
            _check_word("--bounds", bound, BOUNDS)
        if not self.methods or not self.models:
            raise DataError("Name at least one method and one model.")
        if self.checkpoint is not None and len(self.models) > 1:
            raise DataError("--checkpoint holds the weights of one --model; name one.")
        if self.checkpoint is not None and not self.checkpoint.exists():
            raise DataError(f"--checkpoint {self.checkpoint} does not exist.")
        if self.prompt_mode in ("user", "oracle") and self.prompts_path is None:
            raise DataError(
                f"--prompt-mode {self.prompt_mode} needs --prompts FILE.json."
            )
        if self.grid and self.hparams == "fixed":
            raise DataError("--grid is for --hparams val3 or val-full.")
        if self.resume and self.json_path is None:
            raise DataError(
                "--resume goes on with what lies beside --json; give both, with the "
                "same --json as before."
            )

    def contenders(self) -> list[TextContender]:
        """Return every method on every model that it can use.

        Raises
        ------
        ModelError
            If there is no such method or model.
        WeightsError
            If a model is not installed.
        DataError
            If a method does not read text, has no model among those named, or has no
            settings to choose from.
        """
        methods = list(dict.fromkeys(n for m in self.methods for n in _methods(m)))
        for model in set(self.models) - {AUTO}:
            if self.checkpoint is None:
                _check_installed(model)
        found = []
        for method in methods:
            params = parse_words(method, own_words(self.params, method, methods))
            models = [m for m in dict.fromkeys(self.models) if _fits(method, m)]
            if not models and method in self.methods:
                raise DataError(f"{method} can use none of {', '.join(self.models)}.")
            grid = self._grid(method, methods)
            found += [TextContender(method, m, params, grid) for m in models]
        return found

    def _grid(self, method: str, methods: Sequence[str]) -> dict[str, Any]:
        """Return the settings to choose from."""
        if self.hparams == "fixed":
            return {}
        found: dict[str, tuple[Any, ...]] = {}
        for word in own_words(self.grid, method, methods):
            name, _, values = word.partition("=")
            each = [parse_words(method, [f"{name}={v}"]) for v in values.split(",")]
            found[name] = tuple(one[name.strip()] for one in each)
        found = found or dict(GRIDS.get(method, {}))
        if not found:
            raise DataError(
                f"No settings of {method} are known to choose from. Give --grid "
                "name=a,b,c, or use --hparams fixed."
            )
        return found


def template_of(mode: str, phrases: Sequence[str]) -> str | None:
    """Return the templates that a prompt mode asks for; None is the method's own.

    Parameters
    ----------
    mode : str
        ``"name"``: none at all. ``"template"``: those for medical images.
    phrases : sequence of str
        Whole sentences are not put into templates.
    """
    if mode == "template":
        return "medical"
    is_sentence = any(len(p.split()) > MOST_WORDS or p.endswith(".") for p in phrases)
    return "none" if mode == "name" or is_sentence else None


def own_words(words: Sequence[str], method: str, methods: Sequence[str]) -> list[str]:
    """Return the parameters of a method without its name before them.

    Parameters
    ----------
    words : sequence of str
        ``name=value`` or ``method.name=value``.
    method : str
        Whose.
    methods : sequence of str
        All that are scored.

    Raises
    ------
    DataError
        If one is for a method that is not scored.
    """
    found = []
    for word in words:
        name, sign, value = word.partition("=")
        owner, _, plain = name.rpartition(".")
        if owner and owner not in methods:
            raise DataError(f"{word} is for {owner}, which is not scored.")
        if owner in ("", method):
            found.append(plain + sign + value)
    return found


def _methods(asked: str) -> list[str]:
    reading = [n for n in method_names() if get_method(n).spec.reads_text]
    if asked == ALL:
        return [name for name in reading if name != CHOICE]
    if not get_method(asked).spec.reads_text:
        raise DataError(
            f"The method {asked} does not read text. Those that do: "
            f"{', '.join(reading) or 'none'}."
        )
    return [asked]


def _fits(method: str, model: str) -> bool:
    """Whether a method can use a model; ``"auto"`` is left to the method."""
    kinds = getattr(get_method(method), "model_kinds", None)
    if model == AUTO or kinds is None:
        return True
    return get_model_spec(model).text in kinds


def _check_installed(model: str) -> None:
    spec = get_model_spec(model)
    if spec.name not in installed_models():
        raise WeightsError(f"{model} is not installed. {how_to_get(spec)}")


def _check_word(option: str, word: str, known: Sequence[str]) -> None:
    if word not in known:
        raise DataError(f"{option} has no {word!r}; use one of {', '.join(known)}.")
