"""Ways in which the bundled network may look at a plane, as methods.

At the whole image small, where shape and position count; closer, where texture and
small objects count; in detail, on tiles with the answer of the closer look before its
eyes, where structures are thin. What each is worth is for others to judge.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._base import MethodSpec, Reliability
from napari_fewshot.methods._fusion import Candidate, sigmoid
from napari_fewshot.methods._params import CommonParams
from napari_fewshot.models import load_model
from napari_fewshot.models.contexts import decode_tiles
from napari_fewshot.ops import interior_distance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.data import Hooks, Plane, Sample
    from napari_fewshot.methods._base import FittedMethod
    from napari_fewshot.models import Encoder

MODEL = "incontext/small"
# Longest sides at which the network looks at the whole image.
WHOLE, CLOSE = 128, 256
# Least and greatest longest side of the copy that is read in tiles (2 x 2 to 3 x 3).
DETAIL = (512, 736)
# Structures thinner than this (pixels of the close look) are also looked at in detail.
THIN = 8.0
FLIPS = ((1,), (0,))
# What is added to the name of a look when the network has practised.
PRACTISED = " after practice"
# Looks are judged before practice, which was seen to bring more than this (Dice).
PRACTICE_GAIN = 0.03


@dataclass(frozen=True)
class LookParams(CommonParams):
    """One way of looking.

    Attributes
    ----------
    side : int
        Longest side of the network's copy of the image.
    mirrored : bool
        Whether mirrored copies are averaged in.
    """

    side: int = WHOLE
    mirrored: bool = False


@dataclass
class LookFitted:
    """What the supports say to one look.

    Attributes
    ----------
    model : InContextModel
        The network.
    params : LookParams
        How it looks.
    contexts : dict of int to Context
        Per class.
    supports : int
        How many planes the contexts were read from.
    coarse : LookFitted, optional
        Whose answer a look in detail has before its eyes.
    """

    model: Any
    params: LookParams
    contexts: Mapping[int, Any]
    supports: int
    coarse: LookFitted | None = None
    choice: str = ""

    def predict(self, plane: Plane, hooks: Hooks) -> dict[int, FloatArray]:
        """Return a probability map per class."""
        logits = self.logits(plane.image, hooks)
        return {value: sigmoid(found) for value, found in logits.items()}

    def logits(self, image: FloatArray, hooks: Hooks) -> dict[int, FloatArray]:
        """Return mask logits (H, W) of an image (H, W, C) per class."""
        if self.coarse is not None:
            past = self.coarse.logits(image, hooks)
            side = self.params.side
            return decode_tiles(
                self.model, image, side, self.contexts, past, hooks.check
            )
        turns = [(), *FLIPS] if self.params.mirrored else [()]
        shape = (image.shape[0], image.shape[1])
        totals = {value: np.zeros(shape, np.float32) for value in self.contexts}
        for axes in turns:
            hooks.check()
            turned = np.flip(image, axes) if axes else image
            features = self.model.features(turned, self.params.side)
            for value, context in self.contexts.items():
                hooks.check()
                found = self.model.decode(features, context, shape)
                totals[value] += np.flip(found, axes) if axes else found
        return {v: total / np.float32(len(turns)) for v, total in totals.items()}


class LookMethod:
    """One way of looking as a method, so that looks can be judged and fused."""

    spec = MethodSpec("look", "One look of the network.", LookParams, uses_model=True)

    def fit(
        self,
        samples: Sequence[Sample],
        classes: Sequence[int],
        params: LookParams,
        encoder: Encoder | None,
        hooks: Hooks,
    ) -> LookFitted:
        """Encode the supports; see `Method.fit`."""
        model: Any = network_of(encoder)
        stage, count = "Learning from the supports", len(samples)
        contexts = model.contexts(
            samples, classes, params.side, lambda n: hooks.report(stage, n, count)
        )
        coarse = None
        if params.side > CLOSE:
            first = replace(params, side=CLOSE)
            coarse = self.fit(samples, classes, first, encoder, hooks)
        return LookFitted(model, params, contexts, count, coarse)

    def fold_params(self, params: LookParams, fitted: FittedMethod) -> LookParams:
        """Leave-one-out uses the same parameters: encodings are kept."""
        return params

    def assess(
        self,
        samples: Sequence[Sample],
        classes: Sequence[int],
        params: LookParams,
        encoder: Encoder | None,
        hooks: Hooks,
        fitted: FittedMethod,
    ) -> Reliability:
        """Looks are judged by whoever fuses them."""
        return Reliability()


def is_network(encoder: Any) -> bool:
    """Whether an encoder is an in-context network."""
    return hasattr(encoder, "contexts")


def network_of(encoder: Any) -> Any:
    """Return the encoder if it is an in-context network, else the bundled one.

    Raises
    ------
    WeightsError
        If the bundled weights are missing, damaged or altered.
    """
    return encoder if is_network(encoder) else load_model(MODEL)


def network_looks(
    params: CommonParams,
    encoder: Encoder | None,
    samples: Sequence[Sample],
    classes: Sequence[int],
    look: str = "auto",
    mirror: str = "auto",
) -> list[Candidate]:
    """Return the ways in which the network may look, as candidates for a fusion.

    Parameters
    ----------
    params : CommonParams
        Seed, whether anything is judged, and whether the network will practise.
    encoder : Encoder, optional
        An in-context network; default the bundled one.
    samples, classes
        As for `Method.fit`: thin structures are also looked at in detail.
    look, mirror : str
        See `InContextParams`.
    """
    model = network_of(encoder)
    detail = detail_side(samples)
    sides = {"whole": [WHOLE], "close": [CLOSE], "detail": [detail]}.get(look)
    if sides is None:
        # Detail has the closer look before its eyes: both would vote for one thing.
        sides = sorted({detail if is_thin(samples, v) else CLOSE for v in classes})
        sides = [WHOLE, *sides]
    mirrored = {"yes": [True], "no": [False]}.get(mirror, [False, True])
    words = {WHOLE: "network", CLOSE: "network (close)", detail: "network (detail)"}
    headroom = PRACTICE_GAIN if getattr(params, "practise", False) else 0.0
    found = []
    for side in sides:
        for both in mirrored if side <= CLOSE else [False]:
            own = LookParams(
                seed=params.seed,
                leave_one_out=params.leave_one_out,
                side=side,
                mirrored=both,
            )
            name = words[side] + (" mirrored" if both else "")
            found.append(Candidate(name, LookMethod(), own, model, headroom))
    return found


def detail_side(samples: Sequence[Sample]) -> int:
    """Return the longest side at which planes like the supports show all detail."""
    longest = max(max(sample.labels.shape) for sample in samples)
    return int(np.clip(longest, *DETAIL))


def is_thin(samples: Sequence[Sample], value: int) -> bool:
    """Whether the closer look shows most of a class only a few pixels wide."""
    masks = [s.labels == value for s in samples]
    widths = [width(m) * CLOSE / max(m.shape) for m in masks if m.any()]
    return bool(widths) and float(np.median(widths)) < THIN


def width(mask: BoolArray) -> float:
    """Return the typical width of what a mask shows, in pixels.

    The middle of a pixel of a strip is on average a quarter of its width from the rim.
    """
    return 4 * float(interior_distance(mask)[mask].mean() - 0.5)
