"""Phrases and supports decide together, by what either does on the supports.

The form without training of what VLP-SAM (Sakurai et al., 2025) learns: a map from
images and a map from text become one, see `Blend`. What either side is worth comes from
supports that it has not seen: for those who learn they are left out, and for models
that are shown objects of supports, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Plane, PlanePrompts
from napari_fewshot.methods._base import Reliability
from napari_fewshot.methods._validation import (
    HeldOut,
    altered_copies,
    held_out,
    held_sample,
    split_folds,
    summarise,
)
from napari_fewshot.methods.grid import Explanation
from napari_fewshot.methods.text._blend import MOST_SHARE, Blend, choose_blend
from napari_fewshot.methods.text._exemplars import has_exemplars, without_samples

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks, Sample
    from napari_fewshot.methods._base import FittedMethod, Method
    from napari_fewshot.methods.text._base import TextFitted


@dataclass
class TextFused:
    """Both sides after their fits, with a blend per class; see `FittedMethod`."""

    image: FittedMethod
    text: TextFitted
    blends: dict[int, Blend] = field(default_factory=dict)
    reliability: Reliability = field(default_factory=Reliability)
    choice: str = ""

    @property
    def text_model(self) -> Any:
        """The model that reads the phrases."""
        return self.text.model

    def predict(self, plane: Plane, hooks: Hooks) -> dict[int, FloatArray]:
        """Return a probability map (H, W) per class."""
        seen = self.image.predict(plane, hooks)
        return self._joined(seen, self.text.predict(plane, hooks))

    def show(self, plane: Plane, hooks: Hooks) -> dict[int, dict[str, FloatArray]]:
        """Return the heat maps of the phrases; see `TextFitted.show`."""
        return self.text.show(plane, hooks)

    def explain(self, plane: Plane, hooks: Hooks) -> dict[int, Explanation]:
        """Return every intermediate per class of either side."""
        told = self.text.explain(plane, hooks)
        seen = self.image.predict(plane, hooks)
        maps = self._joined(seen, {v: t.probability for v, t in told.items()})
        found = {}
        for value, probability in maps.items():
            more = dict(told[value].maps) if value in told else {}
            if value in told and value in seen:
                more |= {"by supports": seen[value], "by text": told[value].probability}
            base = told.get(value)
            found[value] = Explanation(
                probability,
                more,
                PlanePrompts() if base is None else base.prompts,
                None if base is None else base.candidates,
                () if base is None else base.scores,
            )
        return found

    def _joined(
        self, seen: Mapping[int, FloatArray], read: Mapping[int, FloatArray]
    ) -> dict[int, FloatArray]:
        found = {**read, **seen}
        for value, blend in self.blends.items():
            if value in seen and value in read:
                found[value] = blend(seen[value], read[value])
        return dict(sorted(found.items()))


def fuse_text(
    learnt: Any,
    text: TextFitted,
    samples: Sequence[Sample],
    *,
    method: Method,
    params: Any,
    encoder: Any,
    share: str,
    hooks: Hooks,
) -> TextFused:
    """Weigh text against supports.

    Parameters
    ----------
    learnt : Learnt
        What the supports taught, its ``fitted`` and ``reliability``.
    text : TextFitted
        The phrases.
    samples : sequence of Sample
        The supports.
    method : Method
        That learnt from them.
    params, encoder
        Its parameters and its model.
    share : {"learnt", "equal", "gate"}
        See `TextChoice`.
    hooks : Hooks
        For progress and cancelling.
    """
    fitted = learnt.fitted
    words = {w.value for w in text.bank.classes}
    present = {int(v) for s in samples for v in np.unique(s.labels) if v}
    both = sorted(words & present)
    if share == "gate" or not both:
        blends = {v: Blend(0.0, gate=True) for v in both}
        first = f"{fitted.choice}; " if fitted.choice else ""
        choice = f"{first}the text decides whether a class is there"
        return TextFused(fitted, text, blends, learnt.reliability, choice)
    if share == "equal" or not params.leave_one_out:
        blends = {v: Blend(0.5 if share == "equal" else MOST_SHARE) for v in both}
        return _told(TextFused(fitted, text, blends, learnt.reliability))
    folds = split_folds(samples, sorted(present))
    is_copy = len(folds) == 1
    judged, planes = judged_planes(
        fitted,
        samples,
        sorted(present),
        method,
        params,
        encoder,
        hooks,
        is_copy=is_copy,
    )
    hooks.report("Weighing text against supports")
    read = read_planes(text, planes, folds, hooks)
    shown = has_exemplars(text.bank)
    blends, mixed = weighed(judged, read, both, is_copy=is_copy, shown=shown)
    reliability = summarise(mixed, sorted(present), is_copy=is_copy)
    return _told(TextFused(fitted, text, blends, reliability))


def weighed(
    judged: Sequence[HeldOut],
    read: Sequence[Mapping[int, FloatArray]],
    classes: Sequence[int],
    *,
    is_copy: bool,
    shown: bool = False,
) -> tuple[dict[int, Blend], list[HeldOut]]:
    """Return a blend per class, and what comes of the supports with it.

    Parameters
    ----------
    judged : sequence of HeldOut
        What the image side said of supports that it had not learnt from.
    read : sequence of dict of int to array (H, W)
        What the text says of the same planes.
    classes : sequence of int
        That both sides know.
    is_copy, shown : bool
        See `choose_blend`.
    """
    blends, mixed = {}, [dict(item.maps) for item in judged]
    for value in classes:
        pairs = [
            (item.labels == value, item.maps[value], _where_known(item, said[value]))
            for item, said in zip(judged, read, strict=True)
        ]
        blends[value] = choose_blend(pairs, is_copy=is_copy, shown=shown)
        for maps, (_, seen, said) in zip(mixed, pairs, strict=True):
            maps[value] = blends[value](seen, said)
    return blends, [
        replace(item, maps=maps) for item, maps in zip(judged, mixed, strict=True)
    ]


def _where_known(item: HeldOut, said: FloatArray) -> FloatArray:
    if item.ignored is None:
        return said
    return np.where(item.ignored, np.float32(0), said)


def judged_planes(
    fitted: Any,
    samples: Sequence[Sample],
    classes: Sequence[int],
    method: Method,
    params: Any,
    encoder: Any,
    hooks: Hooks,
    *,
    is_copy: bool,
) -> tuple[list[HeldOut], list[Plane]]:
    """Return what the image side said of planes it had not learnt from, and these.

    Parameters
    ----------
    fitted, samples, classes, method, params, encoder, hooks
        As for `held_out`.
    is_copy : bool
        Whether there is a single support: then its altered copies are the planes.
    """
    shown = altered_copies(samples[0], params.seed) if is_copy else list(samples)
    planes = [Plane(s.image, s.position, s.pixel_size) for s in shown]
    judged = list(getattr(fitted, "judged", ()))
    same = len(judged) == len(shown) and all(
        np.array_equal(j.labels, held_sample(s, {}).labels)
        for j, s in zip(judged, shown, strict=True)
    )
    if not same:
        judged = held_out(method, samples, classes, params, encoder, hooks, fitted)
    return judged, planes


def read_planes(
    text: TextFitted,
    planes: Sequence[Plane],
    folds: Sequence[Sequence[int]],
    hooks: Hooks,
) -> list[dict[int, FloatArray]]:
    """Return what the text says of supports, each without examples from its own fold.

    Parameters
    ----------
    text : TextFitted
        The phrases, perhaps with examples from these supports.
    planes : sequence of Plane
        The supports, or copies of a single one.
    folds : sequence of sequence of int
        From `split_folds`; with a single one nothing can be left out.
    hooks : Hooks
        For cancelling.

    Returns
    -------
    list of dict of int to array (H, W)
        Probabilities per class, in the order of the planes.
    """
    if len(folds) == 1 or not has_exemplars(text.bank):
        return [text.predict(plane, hooks) for plane in planes]
    found: dict[int, dict[int, FloatArray]] = {}
    for fold in folds:
        part = replace(text, bank=without_samples(text.bank, fold))
        found |= {i: part.predict(planes[i], hooks) for i in fold}
    return [found[i] for i in range(len(planes))]


def _told(fused: TextFused) -> TextFused:
    """Say in words who counts how much."""
    words = []
    for value, blend in fused.blends.items():
        one = len(fused.blends) == 1
        words.append(blend.told if one else f"class {value}: {blend.told}")
    told = f" ({', '.join(words)})" if words else ""
    sides = [c for c in (fused.image.choice, fused.text.choice) if c]
    fused.choice = " + ".join(sides) + told
    return fused
