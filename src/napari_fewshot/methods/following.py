"""Who follows objects from plane to plane: any promptable model behind three calls.

`learn` what annotated planes teach, `look` at a plane once, then `follow` its objects;
boxes of several are decoded as one batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_fewshot.data import Sample
from napari_fewshot.errors import ModelError
from napari_fewshot.methods._fusion import sigmoid
from napari_fewshot.methods._looks import is_network
from napari_fewshot.methods.projection import MODES, is_thin
from napari_fewshot.methods.promptable import PromptableGuide, is_box_alone
from napari_fewshot.methods.prompting import Prompter
from napari_fewshot.ops import soft_dice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.data import Embedding, Hooks, PlanePrompts

    # What annotated planes taught about an object, and where to look for it.
    Ask = tuple[Any, PlanePrompts]
    # Logits (H, W) and the expected quality in [0, 1] of an object.
    Answer = tuple[FloatArray, float]


class Follower(Protocol):
    """Follows objects with a model.

    Attributes
    ----------
    model : Encoder
        The model.
    projects, corrects : str
        Modes of `project` in which it goes on from the plane before, and in which it
        corrects an interpolated shape.
    takes_mask : bool
        Whether masks may be prompts.
    """

    model: Any
    projects: str
    corrects: str
    takes_mask: bool

    def learn(self, images: Sequence[FloatArray], masks: Sequence[BoolArray]) -> Any:
        """Return what annotated planes (H, W, C) teach about an object, or None."""

    def look(self, image: FloatArray, hooks: Hooks) -> Any:
        """Return what is seen on a plane (H, W, C) of values in [0, 1]."""

    def follow(self, seen: Any, asks: Sequence[Ask], hooks: Hooks) -> Iterator[Answer]:
        """Yield logits (H, W) and the expected quality in [0, 1] of every object."""


class NetworkFollower:
    """The bundled network: annotated planes are its supports.

    Parameters
    ----------
    model : InContextModel
        The network.
    """

    # The supports show what is meant; where it was is all that is missing.
    projects = corrects = "mask"
    takes_mask = True

    def __init__(self, model: Any) -> None:
        self.model = model

    def learn(self, images: Sequence[FloatArray], masks: Sequence[BoolArray]) -> Any:
        """Encode the annotated planes as supports of class 1."""
        samples = [
            Sample(image, labels=mask.astype(np.int32))
            for image, mask in zip(images, masks, strict=True)
        ]
        return Prompter.fit(self.model, samples, [1])

    def look(self, image: FloatArray, hooks: Hooks) -> Any:
        """Keep the plane: the network remembers its encodings by itself."""
        hooks.check()
        return image

    def follow(self, seen: Any, asks: Sequence[Ask], hooks: Hooks) -> Iterator[Answer]:
        """Look with the supports and the prompts, object by object."""
        for lesson, prompts in asks:
            prompter = lesson or Prompter(self.model)
            logits = prompter.refine(seen, 1, prompts, None, hooks)
            yield logits, soft_dice(sigmoid(logits))


class PromptableFollower:
    """Segment Anything and its kin.

    Parameters
    ----------
    model : SamModel or like it
        With ``encode``, ``decode`` and ``restore``.
    encode : callable
        Takes a plane (H, W, C) and hooks, returns its embedding, most often a kept one.
    """

    projects = "box"

    def __init__(
        self, model: Any, encode: Callable[[FloatArray, Hooks], Embedding]
    ) -> None:
        self.model, self._encode = model, encode
        preset = getattr(model, "preset", None)
        takes = getattr(preset, "mask", "logits") != "none"
        self.takes_mask = bool(getattr(model, "takes_mask", takes))
        self.corrects = "box+mask" if self.takes_mask else "box"

    def learn(self, images: Sequence[FloatArray], masks: Sequence[BoolArray]) -> Any:
        """Learn nothing: these models know prompts only."""
        return None

    def look(self, image: FloatArray, hooks: Hooks) -> Any:
        """Encode the plane for all of its objects."""
        hooks.check()
        embedding = self._encode(image, hooks)
        return image, PromptableGuide(self.model, lambda image, hooks: embedding)

    def follow(self, seen: Any, asks: Sequence[Ask], hooks: Hooks) -> Iterator[Answer]:
        """Decode; the quality is the model's own estimate of its overlap.

        Objects that are asked for with a box alone are decoded as one batch.
        """
        image, guide = seen
        boxes = {i: p for i, (_, p) in enumerate(asks) if is_box_alone(p)}
        embedding = guide.encode(image, hooks)
        decoded = self._decoded(embedding, boxes, hooks) if len(boxes) > 1 else {}
        for number, (_, prompts) in enumerate(asks):
            if number in decoded:
                low, score = decoded[number]
                odds = self.model.restore(low[None], embedding.image_shape)[0]
            else:
                answer = guide.answer(image, prompts, None, hooks)
                odds, score = answer.odds, max(answer.scores)
            yield odds, float(np.clip(score, 0, 1))

    def _decoded(
        self, embedding: Embedding, boxes: dict[int, PlanePrompts], hooks: Hooks
    ) -> dict[int, Answer]:
        """Return low-resolution logits (h, w) and the score of every box."""
        numbers, found = list(boxes), {}
        size = self.model.batch_for(embedding)
        for begin in range(0, len(numbers), size):
            hooks.check()
            some = numbers[begin : begin + size]
            logits, scores = self.model.decode(
                embedding,
                boxes=np.concatenate([boxes[i].boxes for i in some]) - 0.5,
                multimask=self.model.wants_candidates(0, boxes=True),
            )
            for number, low, quality in zip(some, logits, scores, strict=True):
                order = np.argsort(-quality, kind="stable")
                chosen = min(boxes[number].candidate or 0, len(order) - 1)
                found[number] = low[order[chosen]], float(quality.max())
        return found


def follower_of(
    model: Any, encode: Callable[[FloatArray, Hooks], Embedding]
) -> Follower:
    """Return who follows objects with a model.

    Parameters
    ----------
    model : Encoder
        From `nf.load_model`.
    encode : callable
        As for `PromptableFollower`.

    Raises
    ------
    ModelError
        If the model takes no prompts.
    """
    if is_network(model):
        return NetworkFollower(model)
    if hasattr(model, "decode"):
        return PromptableFollower(model, encode)
    raise ModelError(
        f"{model.spec.name} does not follow prompts. Choose the model "
        "incontext/small or one of the Segment Anything family."
    )


def projection_mode(mode: str, follower: Follower, mask: BoolArray) -> str:
    """Return how to go on from a mask: as asked, or as the model does it best.

    Parameters
    ----------
    mode : str
        What was asked for; taken if it is one of `projection.MODES`.
    follower : Follower
        Who will be asked.
    mask : array (H, W) bool
        The object on the plane before; not empty.
    """
    if mode in MODES:
        return mode
    return "mask" if follower.takes_mask and is_thin(mask) else follower.projects
