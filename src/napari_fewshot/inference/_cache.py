"""`FitCache`: what was learnt from a set of supports, kept for the next query."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_fewshot._types import FloatArray, LabelArray
    from napari_fewshot.inference._familiar import Familiarity
    from napari_fewshot.inference._light import Light
    from napari_fewshot.methods import (
        FittedMethod,
        PromptableGuide,
        Prompter,
        Reliability,
        ReverseJudge,
    )

MAX_FITS = 4


@dataclass
class Learnt:
    """Everything that follows from the supports alone, and the plane seen last.

    Attributes
    ----------
    fitted : FittedMethod
        The method after its fit.
    reliability : Reliability
        Leave-one-out scores.
    judge : ReverseJudge, optional
        Judges masks on queries.
    guide : Prompter or PromptableGuide, optional
        Follows prompts; made when the first ones come.
    familiarity : Familiarity, optional
        Tells planes that are unlike the supports.
    """

    fitted: FittedMethod
    reliability: Reliability
    judge: ReverseJudge | None = None
    guide: Prompter | PromptableGuide | None = None
    familiarity: Familiarity | None = None
    _plane: str = ""
    _maps: dict[int, FloatArray] = field(default_factory=dict)
    _objects: dict[int, LabelArray] = field(default_factory=dict)
    _lit: tuple[str, Light] | None = None

    def recall(
        self, plane: str
    ) -> tuple[dict[int, FloatArray], dict[int, LabelArray]] | None:
        """Return maps and objects of the plane that was seen last, if it is this one.

        Parameters
        ----------
        plane : str
            Digest of its pixels and position.
        """
        if plane != self._plane:
            return None
        return dict(self._maps), dict(self._objects)

    def remember(
        self, plane: str, maps: dict[int, FloatArray], objects: dict[int, LabelArray]
    ) -> None:
        """Keep what a plane gave: the next click is most often on the same one."""
        self._plane, self._maps, self._objects = plane, dict(maps), dict(objects)

    def light_of(self, planes: str, decide: Callable[[], Light]) -> Light:
        """Return in which light planes are looked at; known of those seen last.

        Parameters
        ----------
        planes : str
            Digest of their pixels and positions.
        decide : callable
            Called where that is not known.
        """
        if self._lit is None or self._lit[0] != planes:
            self._lit = planes, decide()
        return self._lit[1]


@dataclass
class FitCache:
    """The last few fits, by a key that covers supports, method, model and parameters.

    Attributes
    ----------
    max_fits : int
        How many are kept; the least recently used one goes first.
    """

    max_fits: int = MAX_FITS
    _fits: OrderedDict[str, Learnt] = field(default_factory=OrderedDict)

    def get(self, key: str) -> Learnt | None:
        """Return a fit, or None."""
        if key in self._fits:
            self._fits.move_to_end(key)
        return self._fits.get(key)

    def put(self, key: str, fit: Learnt) -> None:
        """Remember a fit."""
        self._fits[key] = fit
        self._fits.move_to_end(key)
        while len(self._fits) > self.max_fits:
            self._fits.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._fits.clear()
