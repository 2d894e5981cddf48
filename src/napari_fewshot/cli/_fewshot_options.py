"""What ``benchmark few-shot`` is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_fewshot.cli._click_plots import check_plot
from napari_fewshot.cli._fewshot_engines import (
    COPY,
    REFERENCES,
    CopyEngine,
    Engine,
    ForestEngine,
    MethodEngine,
)
from napari_fewshot.cli._given import parse_words
from napari_fewshot.errors import DataError, WeightsError
from napari_fewshot.evaluation import VolumeRules
from napari_fewshot.methods import get_method, learning_methods
from napari_fewshot.models import get_model_spec, how_to_get, installed_models

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

PROTOCOLS = ("planes", "instances", "chaos")
ALL = "all"
NO_MODEL = "none"


@dataclass(frozen=True)
class Contender:
    """One method on one model.

    Attributes
    ----------
    method : str
        A method or a reference.
    model : str
        ``"none"`` for what uses no model.
    params : dict
        Parameters that were given.
    """

    method: str
    model: str
    params: Mapping[str, Any]

    @property
    def name(self) -> str:
        """How tables call it."""
        if self.model in (NO_MODEL, "auto"):
            return self.method
        return f"{self.method}, {self.model}"

    def engine(self, device: str) -> Engine:
        """Return it, knowing nothing yet.

        Parameters
        ----------
        device : str
            Where models compute.
        """
        if self.method in REFERENCES:
            return CopyEngine() if self.method == COPY else ForestEngine()
        model = "auto" if self.model == NO_MODEL else self.model
        return MethodEngine(self.method, model, self.params, device)


@dataclass(frozen=True)
class FewShotOptions:
    """How a few-shot benchmark is run.

    Attributes
    ----------
    methods : sequence of str
        Methods, ``"all"`` of them, or a reference: ``"forest"`` (a pixel classifier),
        ``"copy"`` (the support's mask; volumes only).
    models : sequence of str
        Each method that uses a model is run on each of them.
    params : sequence of str
        ``name=value`` for every method, ``method.name=value`` for one.
    datasets : sequence of str
        Only these; default all.
    shots : sequence of int
        Numbers of supports; the volume protocol has one.
    seeds : int
        Draws per number.
    protocol : {"planes", "instances", "chaos"}
    rules : VolumeRules
        Variant of the volume protocol.
    hd95 : bool
        Surface distances of volumes, too.
    device : str
    resume : bool
        Go on with what an interrupted run has left beside ``json_path``.
    json_path, csv_path, plot_path : path, optional
        Write the table, every query, and the plots there.
    """

    methods: Sequence[str] = ("auto",)
    models: Sequence[str] = ("auto",)
    params: Sequence[str] = ()
    datasets: Sequence[str] = ()
    shots: Sequence[int] = (1, 5)
    seeds: int = 3
    protocol: str = "planes"
    rules: VolumeRules = field(default_factory=VolumeRules)
    hd95: bool = False
    device: str = "auto"
    resume: bool = False
    json_path: str | os.PathLike[str] | None = None
    csv_path: str | os.PathLike[str] | None = None
    plot_path: str | os.PathLike[str] | None = None

    def check(self) -> None:
        """Refuse what can't be run, before anything is read.

        Raises
        ------
        DataError
            If an option has no meaning or does not go with another.
        """
        if self.protocol not in PROTOCOLS:
            raise DataError(
                f"There is no protocol {self.protocol!r}; use one of "
                f"{', '.join(PROTOCOLS)}."
            )
        if not self.methods or not self.models:
            raise DataError("Name at least one method and one model.")
        if COPY in self.methods and self.protocol != "chaos":
            raise DataError(
                "copy needs supports of the queries' shape, which only volumes have; "
                "use --protocol chaos or another method."
            )
        if not self.shots or min(self.shots) < 1:
            raise DataError("--shots are numbers of supports: 1 or more, such as 1,5.")
        if self.resume and self.json_path is None:
            raise DataError(
                "--resume goes on with what lies beside --json; give both, with the "
                "same --json as before."
            )
        self.rules.check()
        if self.plot_path is not None:
            check_plot(self.plot_path)

    def contenders(self) -> list[Contender]:
        """Return every method on every model, methods without a model once.

        Raises
        ------
        ModelError
            If there is no such method or model.
        WeightsError
            If a model is not installed.
        DataError
            If a parameter is not of the form ``name=value``.
        """
        asked = [
            n for m in self.methods for n in (learning_methods() if m == ALL else (m,))
        ]
        methods = list(dict.fromkeys(asked))
        for word in self.params:
            owner = word.partition("=")[0].rpartition(".")[0]
            if owner and owner not in methods:
                raise DataError(f"--param {word} is for {owner}, which is not scored.")
        found = []
        for method in methods:
            params: dict[str, Any] = {}
            models: Sequence[str] = (NO_MODEL,)
            if method not in REFERENCES:
                uses_model = get_method(method).spec.uses_model
                params = parse_words(method, self._words(method))
                models = tuple(dict.fromkeys(self.models)) if uses_model else models
            found += [Contender(method, model, params) for model in models]
        for model in {c.model for c in found} - {NO_MODEL, "auto"}:
            _check_installed(model)
        return found

    def _words(self, method: str) -> list[str]:
        """Return the parameters of a method without its name before them."""
        words = []
        for word in self.params:
            owner, _, name = word.partition("=")[0].rpartition(".")
            if owner in ("", method):
                words.append(name + word[len(word.partition("=")[0]) :])
        return words

    @property
    def flags(self) -> dict[str, Any]:
        """What a figure has to be read with, by protocol."""
        if self.protocol == "chaos":
            return self.rules.flags
        if self.protocol == "instances":
            return {"ap": "TP / (TP + FP + FN)", "resized": False}
        return {}


def _check_installed(model: str) -> None:
    spec = get_model_spec(model)
    if spec.name not in installed_models():
        raise WeightsError(f"{model} is not installed. {how_to_get(spec)}")
