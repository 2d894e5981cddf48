"""One contender on one class, image by image, so that a benchmark can go on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_fewshot import __version__
from napari_fewshot.cli._text_data import digest_of, few
from napari_fewshot.cli._text_engines import (
    CUT,
    TextEngine,
    box_mask,
    resized,
    score_heat,
    score_mask,
)
from napari_fewshot.cli._text_options import BOXES, RANDOM, template_of
from napari_fewshot.errors import DataError
from napari_fewshot.evaluation import (
    VAL_LEVEL,
    EpisodeScore,
    choose_phrases,
    choose_point,
    dice_at,
    grid_points,
    plain_name,
    random_phrase,
    validation_draw,
)
from napari_fewshot.methods import get_method
from napari_fewshot.models import best_for_prompts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_fewshot.cli._fewshot_journal import Journal
    from napari_fewshot.cli._text_data import Case, TextSet
    from napari_fewshot.cli._text_options import TextContender, TextOptions

TYPED, VAL = "typed", "val"


@dataclass(frozen=True, eq=False)
class TextResult:
    """What a contender, or a bound, gave on one class.

    Attributes
    ----------
    found : TextSet
        What was looked for.
    name, method, model : str
        Who did, for tables.
    cases : sequence of Case
        What was scored.
    scores : sequence of EpisodeScore
        One per case; of random phrases, one per case and draw.
    phrases : tuple of str
        What was typed, if it was the same for all images.
    params : dict
        Of the method, settings that were chosen among them.
    chosen : dict
        How settings were chosen; empty if they were not.
    nonsense : sequence of EpisodeScore
        The same with random phrases.
    used : dict
        What the runs say of the model.
    bound : str
        Which bound; "" for a contender.
    """

    found: TextSet
    name: str
    method: str
    model: str
    cases: Sequence[Case]
    scores: Sequence[EpisodeScore]
    phrases: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    chosen: Mapping[str, Any] = field(default_factory=dict)
    nonsense: Sequence[EpisodeScore] = ()
    used: Mapping[str, Any] = field(default_factory=dict)
    bound: str = ""


@dataclass
class TextRuns:
    """Works on classes, and keeps what was done.

    Attributes
    ----------
    root : path
        Of the data.
    options : TextOptions
    journal : Journal
    """

    root: Path
    options: TextOptions
    journal: Journal

    def split(self, found: TextSet) -> tuple[list[Case], list[Case]]:
        """Return the cases to score and those on which settings are chosen.

        Without a split of their own, three labelled images are drawn and, with all of
        their group, not scored.

        Parameters
        ----------
        found : TextSet
            The class.

        Raises
        ------
        DataError
            If all val images are asked for and there are none.
        """
        mode = self.options.hparams
        if mode == "fixed":
            return few(found.cases, self.options.limit), []
        if mode == "val-full" and not found.val:
            raise DataError(
                f"{found.dataset} has no val images, which --hparams val-full needs. "
                "Use --hparams val3, which draws three."
            )
        if mode == "val-full":
            return few(found.cases, self.options.limit), list(found.val)
        pool = found.val or found.cases
        at = validation_draw([c.name for c in pool], [c.group for c in pool])
        drawn = [pool[i] for i in at]
        groups = set() if found.val else {c.group for c in drawn}
        rest = [c for c in found.cases if c.group not in groups]
        if not rest:
            raise DataError(
                f"{found.dataset} has too few images to choose settings on some and "
                "score others. Use --hparams fixed."
            )
        return few(rest, self.options.limit), drawn

    def run(self, found: TextSet, contender: TextContender) -> TextResult:
        """Let a contender look for a class in all of its images.

        Parameters
        ----------
        found : TextSet
            What to look for.
        contender : TextContender
            Who looks.
        """
        engine = TextEngine(contender.method, contender.model, self.options)
        cases, val = self.split(found)
        params, chosen = self._choose(found, contender, engine, val)
        typed = [self._phrases(found, case) for case in cases]
        scores = [
            self._score(found, case, engine, params, phrases, TYPED)
            for case, phrases in zip(cases, typed, strict=True)
        ]
        draws = range(self.options.seeds) if RANDOM in self.options.bounds else ()
        nonsense = [
            self._score(found, case, engine, params, _nonsense(at, seed), RANDOM)
            for seed in draws
            for at, case in enumerate(cases)
        ]
        return TextResult(
            found,
            contender.name,
            contender.method,
            engine.used.get("model", contender.model),
            cases,
            scores,
            typed[0] if len(set(typed)) == 1 else (),
            self._with_templates(contender.method, params, typed[0]),
            chosen,
            nonsense,
            dict(engine.used),
        )

    def bound(self, found: TextSet, kind: str) -> TextResult:
        """Let the model that answers boxes draw from boxes of a kind.

        Parameters
        ----------
        found : TextSet
            What to draw.
        kind : str
            See `evaluation.bound_boxes`.
        """
        cases, _ = self.split(found)
        asked = self.options.box_model
        model = best_for_prompts() if asked == "auto" else asked
        scores = []
        for case in cases:
            key = self._key(found, case, kind, "boxes", model, {}, ())

            def draw(case: Case = case) -> tuple[dict[str, float], float]:
                image, truth = case.read()
                mask, seconds = box_mask(image, kind, truth, self.options)
                return score_mask(mask, truth), seconds

            scores.append(self._kept(found, case, kind, key, draw))
        return TextResult(found, kind, kind, model, cases, scores, bound=kind)

    def sensitivity(
        self, found: TextSet, contender: TextContender, result: TextResult
    ) -> list[dict[str, Any]]:
        """Compare maps of phrases with maps of nonsense on the first images.

        Parameters
        ----------
        found : TextSet
            The class.
        contender : TextContender
            Who looks.
        result : TextResult
            What it gave: its parameters are used.
        """
        rows: list[dict[str, Any]] = []
        engine = TextEngine(contender.method, contender.model, self.options)
        for case in few(result.cases, self.options.sensitivity):
            image, _ = case.read()
            rows += engine.check(image, found, result.params)
        return rows

    def _choose(
        self,
        found: TextSet,
        contender: TextContender,
        engine: TextEngine,
        val: Sequence[Case],
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return parameters with the settings that do best on labelled images."""
        params = dict(contender.params)
        if not contender.grid:
            return params, {}
        points = grid_points(contender.grid)
        # A fixed cut puts 0.5 of the shown map at this share of the map's range.
        cut = {"cut": "fixed", "level": VAL_LEVEL}
        scores: list[list[float]] = [[] for _ in points]
        for case in val:
            phrases = self._val_phrases(found, case)
            for at, point in enumerate(points):
                given = {**params, **point, **cut}
                score = self._try(found, case, engine, given, phrases)
                scores[at].append(score.mean())
        best, mean = choose_point(points, scores)
        chosen = {
            "images": [case.name for case in val],
            "settings": len(points),
            "dice": mean,
            **best,
        }
        return {**params, **best}, chosen

    def _try(
        self,
        found: TextSet,
        case: Case,
        engine: TextEngine,
        params: Mapping[str, Any],
        phrases: tuple[str, ...],
    ) -> EpisodeScore:
        """Return the Dice of a heat map where it is cut."""
        given = self._with_templates(engine.method, params, phrases)

        def look() -> tuple[dict[str, float], float]:
            image, truth = case.read()
            heat = engine.heat(image, phrases, given)
            return {"dice": dice_at(resized(heat, truth.shape), truth, CUT)}, 0.0

        key = self._key(found, case, VAL, engine.method, engine.model, given, phrases)
        return self._kept(found, case, VAL, key, look)

    def _phrases(self, found: TextSet, case: Case) -> tuple[str, ...]:
        return choose_phrases(
            self.options.prompt_mode,
            found.class_name,
            found.phrases,
            found.by_image,
            Path(case.name).name,
        )

    def _val_phrases(self, found: TextSet, case: Case) -> tuple[str, ...]:
        """Return what is typed for a labelled image, which may have no own phrase."""
        own = Path(case.name).name in found.by_image
        if self.options.prompt_mode != "oracle" or own:
            return self._phrases(found, case)
        return found.phrases[:1] or (plain_name(found.class_name),)

    def _with_templates(
        self, method: str, params: Mapping[str, Any], phrases: Sequence[str]
    ) -> dict[str, Any]:
        known = {f.name for f in fields(get_method(method).spec.params)}
        wanted = template_of(self.options.prompt_mode, phrases)
        if wanted is None or "templates" not in known or "templates" in params:
            return dict(params)
        return {**params, "templates": wanted}

    def _score(
        self,
        found: TextSet,
        case: Case,
        engine: TextEngine,
        params: Mapping[str, Any],
        phrases: tuple[str, ...],
        what: str,
    ) -> EpisodeScore:
        """Score one image; nonsense by its mask alone."""
        given = self._with_templates(engine.method, params, phrases)
        key = self._key(found, case, what, engine.method, engine.model, given, phrases)

        def look() -> tuple[dict[str, float], float]:
            image, truth = case.read()
            mask, seconds = engine.mask(image, phrases, given)
            figures = score_mask(mask, truth)
            if self.options.maps and what == TYPED:
                heat = engine.heat(image, phrases, given)
                order = engine.order(image, phrases, given, heat)
                figures |= score_heat(heat, order, truth)
            return figures, seconds

        return self._kept(found, case, what, key, look)

    def _kept(
        self,
        found: TextSet,
        case: Case,
        what: str,
        key: dict[str, Any],
        work: Callable[[], tuple[dict[str, float], float]],
    ) -> EpisodeScore:
        """Return what is known of an image, or work and keep it."""
        score = self.journal.get(key)
        if score is None:
            figures, seconds = work()
            score = EpisodeScore(
                found.dataset,
                found.class_name,
                0,
                what,
                (case.name,),
                {name: (value,) for name, value in figures.items()},
                query_seconds=seconds,
            )
            self.journal.put(key, score)
        return replace(score, queries=(case.name,))

    def _key(
        self,
        found: TextSet,
        case: Case,
        what: str,
        method: str,
        model: str,
        params: Mapping[str, Any],
        phrases: Sequence[str],
    ) -> dict[str, Any]:
        """Return everything that the figures of an image depend on."""
        options = self.options
        own = options.box_checkpoint if what in BOXES else options.checkpoint
        return {
            "version": __version__,
            "protocol": "text",
            "class": [found.dataset, found.class_name, found.value],
            "files": [digest_of(path) for path in case.files],
            "image": case.name,
            "original": options.original,
            "maps": options.maps and what == TYPED,
            "what": what,
            "method": method,
            "model": model,
            "checkpoint": _stamp(own),
            "params": json.loads(json.dumps(dict(params))),
            "phrases": list(phrases),
        }


def _nonsense(image: int, seed: int) -> tuple[str, ...]:
    return (random_phrase(1000 * seed + image),)


def _stamp(checkpoint: Path | None) -> list[Any]:
    """Return what changes when weights of one's own do."""
    if checkpoint is None:
        return []
    files = sorted(checkpoint.rglob("*")) if checkpoint.is_dir() else [checkpoint]
    facts = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return [str(checkpoint.resolve()), [list(fact) for fact in facts]]
