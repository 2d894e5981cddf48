"""What every model that answers prompts on an encoded plane has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from napari_fewshot.errors import DataError, ModelError, PromptError
from napari_fewshot.models._ladder import Economical
from napari_fewshot.models._measure import (
    CARD_SIZES,
    SIZES,
    batch_times,
    best_size,
    measured,
)
from napari_fewshot.models.sam._frame import Frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_fewshot._types import AnyArray, BoolArray, FloatArray
    from napari_fewshot.data import Embedding
    from napari_fewshot.models._spec import ModelSpec
    from napari_fewshot.models.sam._presets import Preset

# Least intersection over union of a model with the right preset on a simple task.
SELF_TEST = 0.7
# (model, SHA-256 of its weights, side) -> warning that this process knows; "": none.
_tested: dict[tuple[str, str, int], str] = {}


@dataclass(frozen=True)
class Prompts:
    """Checked prompts of B objects in the frame; ``None`` where there are none.

    Attributes
    ----------
    points : tensor (B, N, 2)
        As x, y.
    labels : tensor (B, N)
    boxes : tensor (B, 4)
        As x0, y0, x1, y1.
    mask : tensor (1, 1, M, M)
    """

    points: Tensor | None
    labels: Tensor | None
    boxes: Tensor | None
    mask: Tensor | None

    @property
    def counts(self) -> set[int]:
        """Numbers of objects that the kinds are for; more than one do not fit."""
        return {len(t) for t in (self.points, self.boxes, self.mask) if t is not None}

    def part(self, begin: int, end: int, device: torch.device) -> Prompts:
        """Return those of some of the objects, on a device.

        Parameters
        ----------
        begin, end : int
            Numbers of the first object and of the one after the last.
        device : torch.device
            For the tensors.
        """
        every = (self.points, self.labels, self.boxes, self.mask)
        return Prompts(*(None if t is None else t[begin:end].to(device) for t in every))


class Promptable(Economical, ABC):
    """A model on a device; ``encode`` and ``decode`` are its own.

    Parameters
    ----------
    spec : ModelSpec
        Facts about it.
    preset : Preset
        How it wants its images and prompts.
    side : int
        Of the frame in pixels.
    device, precision : str
        Where, and with how many bits the encoder computes.
    sha256 : str
        Of the weights file.
    """

    def __init__(
        self,
        spec: ModelSpec,
        preset: Preset,
        side: int,
        device: str = "cpu",
        precision: str = "fp32",
        sha256: str = "",
    ) -> None:
        super().__init__(device, precision)
        self.spec, self.preset, self.side, self.sha256 = spec, preset, side, sha256

    @property
    @abstractmethod
    def classes(self) -> int:
        """How many classes are found without a prompt, background first; 0: none."""

    @property
    @abstractmethod
    def embedding_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of an embedding."""

    @property
    @abstractmethod
    def mask_side(self) -> int:
        """Side of the low-resolution logits that may be given as a mask."""

    @abstractmethod
    def encode(
        self, image: Any, check: Callable[[int, int], None] | None = None
    ) -> Embedding:
        """Return the embedding of one plane."""

    @abstractmethod
    def decode(
        self,
        embedding: Embedding,
        points: Any = None,
        point_labels: Any = None,
        boxes: Any = None,
        mask: Any = None,
        multimask: bool = True,
    ) -> tuple[FloatArray, FloatArray]:
        """Return low-resolution logits (B, M, h, w) and scores (B, M)."""

    def predict(
        self,
        embedding: Embedding,
        points: Any = None,
        point_labels: Any = None,
        boxes: Any = None,
        mask: Any = None,
        multimask: bool = True,
    ) -> tuple[BoolArray, FloatArray, FloatArray]:
        """Return masks for prompts on an encoded plane.

        Parameters
        ----------
        embedding : Embedding
            From this model.
        points : array (N, 2), optional
            As (y, x) in pixels of the plane; whole numbers are centres of pixels.
        point_labels : array (N,), optional
            1 inside, 0 outside; default all 1.
        boxes : array (4,) or (B, 4), optional
            As (y0, x0, y1, x1): one object, or one object each.
        mask : array (h, w), optional
            Earlier logits, to be corrected.
        multimask : bool
            Three candidates, for ambiguous prompts, or the one for clear prompts; see
            `wants_candidates`.

        Returns
        -------
        masks : array (M, H, W) or (B, M, H, W) bool
            Candidates, or classes (background first).
        scores : array (M,) or (B, M) float32
            Predicted intersection over union.
        logits : array (M, h, w) or (B, M, h, w) float32

        Raises
        ------
        PromptError
            If there is no prompt, or it does not fit the plane or the model.
        """
        many = boxes is not None and np.ndim(boxes) == 2
        if many and (mask is not None or (points is not None and np.size(points))):
            raise PromptError(
                "Many boxes are one object each and take no points or mask; give one "
                "box of four numbers to combine them."
            )
        shown, every, lows = [], [], []
        count = len(boxes) if many else 1
        size = self.batch_for(embedding) if count > 1 else 1
        for begin in range(0, count, size):
            part = boxes[begin : begin + size] if many else boxes
            low, quality = self.decode(
                embedding, points, point_labels, part, mask, multimask
            )
            # Object by object: full-size logits are large.
            shown += [self.restore(one, embedding.image_shape) > 0 for one in low]
            every.append(quality)
            lows.append(low)
        masks, scores, logits = np.stack(shown), *map(np.concatenate, (every, lows))
        return (masks, scores, logits) if many else (masks[0], scores[0], logits[0])

    @torch.inference_mode()
    def restore(self, logits: Any, shape: tuple[int, int]) -> FloatArray:
        """Return low-resolution logits at the size of a plane; above 0 is inside.

        Parameters
        ----------
        logits : array (M, h, w)
            From `decode` or `predict`.
        shape : (int, int)
            Rows and columns of the plane.

        Returns
        -------
        array (M, H, W) float32
            For classes: by how much each is above the best of the others.
        """
        frame = Frame(shape, self.side, self.preset)
        low = torch.from_numpy(np.array(logits, np.float32)).to(self.device)
        full = frame.restore(low[None])[0]
        if self.classes > 1 and len(full) == self.classes:
            best, second = full.topk(2, dim=0).values
            full = full - torch.where(full == best, second, best)
        found: FloatArray = full.cpu().numpy()
        return found

    def wants_candidates(
        self, n_points: int, *, boxes: bool = False, mask: bool = False
    ) -> bool:
        """Whether ``multimask`` serves these prompts as in the family's training.

        Parameters
        ----------
        n_points : int
            Of one object.
        boxes, mask : bool
            Whether there are a box and an earlier mask.
        """
        if self.preset.multimask == "first":
            return n_points == 1 and not boxes and not mask
        return self.preset.multimask == "always"

    def batch_for(self, embedding: Embedding) -> int:
        """Return how many objects to decode at a time: what is fastest per object.

        Parameters
        ----------
        embedding : Embedding
            Any of this model: the decoder is tried on it the first time that a machine
            asks, for about a second.
        """
        if not self.preset.boxes:
            return 1
        what = f"decode {self.spec.name} {self.side} {self.decoding}"
        times = measured(what, self.device, partial(self._decoding_times, embedding))
        return min(best_size(times), self.at_once)

    def _decoding_times(self, embedding: Embedding) -> dict[str, float]:
        """Measure boxes around the whole plane, milliseconds each by their number."""
        rows, columns = embedding.image_shape
        whole = np.array([[-0.5, -0.5, rows - 0.5, columns - 0.5]])
        return batch_times(
            lambda n: self.decode(embedding, boxes=whole.repeat(n, 0), multimask=False),
            SIZES if self.device.type == "cpu" else CARD_SIZES,
        )

    def self_test(self) -> float:
        """Return the intersection over union for a bright disk in a box.

        Weights with the right preset find it; see `check_preset`.
        """
        rows, columns = np.mgrid[:240, :300]
        disk = (rows - 110) ** 2 + (columns - 170) ** 2 <= 55**2
        noise = np.random.default_rng(0).normal(0, 12, disk.shape)
        image = np.clip(np.where(disk, 190, 50) + noise, 0, 255).astype(np.uint8)
        box = [54.5, 114.5, 165.5, 225.5]
        masks, scores, _ = self.predict(
            self.encode(image),
            boxes=None if self.classes else box,
            multimask=self.wants_candidates(0, boxes=True),
        )
        found = masks[int(scores.argmax())]
        return float((found & disk).sum() / (found | disk).sum())

    def _plane(self, image: Any) -> tuple[AnyArray, Frame]:
        """Check a plane and say how it lies in the frame."""
        pixels = np.asarray(image)
        if pixels.ndim not in (2, 3) or 0 in pixels.shape:
            raise DataError(
                f"SAM encodes one plane (H, W) or (H, W, C); this array has the shape "
                f"{pixels.shape}."
            )
        shape = (int(pixels.shape[0]), int(pixels.shape[1]))
        return pixels, Frame(shape, self.side, self.preset)

    def _prompts(
        self, embedding: Embedding, points: Any, labels: Any, boxes: Any, mask: Any
    ) -> Prompts:
        """Check prompts and bring them to the frame and the device."""
        self._check(embedding)
        frame = Frame(embedding.image_shape, self.side, self.preset)
        given = None if points is None else frame.points(points, labels)
        given = None if given is None or not given[0].shape[1] else given
        corners = None if boxes is None else frame.boxes(boxes)
        corners = None if corners is None or not len(corners) else corners
        self._check_kinds(points=given is not None, boxes=corners is not None)
        before = self._past(mask)
        prompts = Prompts(
            *(
                None if t is None else t.to(self.device)
                for t in (*(given or (None, None)), corners, before)
            )
        )
        if not prompts.counts and not self.classes:
            raise PromptError("There is no prompt: give points, a box or a mask.")
        if len(prompts.counts) > 1:
            raise PromptError(
                f"Prompts of {max(prompts.counts)} and of {min(prompts.counts)} "
                "objects do not go together; give as many of each."
            )
        return prompts

    def _check_kinds(self, *, points: bool, boxes: bool) -> None:
        name, preset = self.spec.name, self.preset
        if not preset.boxes and (points or boxes):
            raise PromptError(
                f"{name} finds its classes without a prompt; give none of them."
            )
        if points and not preset.points:
            raise PromptError(f"{name} takes boxes only; draw a box around the object.")

    def _past(self, mask: Any) -> Tensor | None:
        if mask is None:
            return None
        if not self.preset.takes_mask:
            instead = "give a box instead" if self.preset.boxes else "leave it out"
            raise PromptError(f"{self.spec.name} takes no mask as a prompt; {instead}.")
        side = self.mask_side
        logits = torch.from_numpy(np.array(mask, np.float32))
        if logits.shape not in ((side, side), (1, side, side)):
            raise PromptError(
                f"A mask prompt holds low-resolution logits ({side}, {side}), such as "
                f"predict returns; this one has the shape {tuple(logits.shape)}."
            )
        logits = logits.reshape(1, 1, side, side)
        return logits.sigmoid() if self.preset.mask == "sigmoid" else logits

    def _check(self, embedding: Embedding) -> None:
        name = self.spec.name
        if embedding.model != name or embedding.array.shape != self.embedding_shape:
            raise ModelError(
                f"This embedding is of {embedding.model} with the shape "
                f"{embedding.array.shape}; encode the plane with {name} first."
            )


def check_preset(model: Promptable) -> str:
    """Return a warning if a model fails a simple task, else "".

    Parameters
    ----------
    model : Promptable
        Weights of the same shapes want different images; with a wrong preset they work
        badly and say nothing.
    """
    if model.classes:
        return ""
    found = model.self_test()
    if found >= SELF_TEST:
        return ""
    return (
        f"{model.spec.name} misses a bright disk in its box (overlap {found:.2f}, "
        f"expected at least {SELF_TEST}). The file may be weights of another model of "
        "the same shape: choose that model."
    )


def note_preset(model: Promptable) -> None:
    """Note on a model that it fails a simple task; tried once per file and process.

    Parameters
    ----------
    model : Promptable
        Its ``notes`` get the warning of `check_preset`, if there is one.
    """
    key = (model.spec.name, model.sha256, model.side)
    if key not in _tested:
        _tested[key] = check_preset(model)
    if _tested[key] and _tested[key] not in model.notes:
        model.note(_tested[key])
