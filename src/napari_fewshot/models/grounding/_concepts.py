"""SAM 3: every object of a concept, told by a phrase, by boxes, or by both.

Carion et al., SAM 3: segment anything with concepts, 2025. The same for SAM3-LiteText
and for weights that were trained further.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from napari_fewshot.errors import PromptError
from napari_fewshot.models.grounding._boxes import corners
from napari_fewshot.models.grounding._canvas import canvas_of, checked_boxes
from napari_fewshot.models.grounding._reader import Reader, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray, BoolArray, FloatArray
    from napari_fewshot.models.grounding._reader import Check

# Tokens of a phrase that the model was trained with.
TOKENS = 32
# The phrase of boxes without one, as in training.
VISUAL = "visual"
# Phrases whose features are kept.
KEPT = 512


@dataclass(frozen=True, eq=False)
class Concepts:
    """All objects of a concept on a plane, best first.

    Attributes
    ----------
    masks : array (M, H, W) bool
    scores : array (M,) float32
        How sure an object is, times ``presence``.
    boxes : array (M, 4) float32
        (y0, x0, y1, x1) in pixels, inclusive-exclusive.
    presence : float
        How sure it is that the concept is on the plane at all, in [0, 1].
    region : array (h, w) float32
        Probability of every place to belong to the concept; the grid covers the plane.
    """

    masks: BoolArray = field(repr=False)
    scores: FloatArray
    boxes: FloatArray = field(repr=False)
    presence: float
    region: FloatArray = field(repr=False)

    def __len__(self) -> int:
        """Return how many objects there are."""
        return len(self.scores)


class ConceptModel(Reader):
    """SAM 3's detector with weights; see the module.

    The plane is encoded once for all phrases, a phrase once for all planes.
    """

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        positions = int(self.network.config.text_config.max_position_embeddings)
        self.context_length = min(TOKENS, positions)
        self.size = int(self.processor.image_processor.size["height"])
        self._phrases: OrderedDict[str, tuple[Tensor, Tensor]] = OrderedDict()

    def move(self, device: torch.device) -> None:
        """Bring the network to a device."""
        super().move(device)
        self._phrases.clear()

    @torch.inference_mode()
    def concepts(
        self,
        image: Any,
        phrase: str = "",
        boxes: Any = None,
        labels: Any = None,
        exemplars: Sequence[tuple[Any, Any]] = (),
        threshold: float = 0.3,
        mask_threshold: float = 0.5,
        *,
        check: Check | None = None,
    ) -> Concepts:
        """Find all objects of a concept.

        Parameters
        ----------
        image : array (H, W) or (H, W, C)
            uint8, floats in [0, 1], or numbers that are windowed. It is squashed to
            the square that the network reads.
        phrase : str
            A short noun phrase; may be empty if there are boxes or exemplars.
        boxes : array (4,) or (N, 4), optional
            (y0, x0, y1, x1) of examples on this plane.
        labels : array (N,), optional
            1 such as this, 0 not such as this; default all 1.
        exemplars : sequence of (image, box), optional
            Examples on other planes: pieces of them are put beside the query, see
            `canvas_of`.
        threshold : float
            Least score of an object.
        mask_threshold : float
            Least probability of a pixel of an object.
        check : callable, optional
            Called with the number of the block and of all blocks; may raise to cancel.

        Returns
        -------
        Concepts

        Raises
        ------
        PromptError
            If there is nothing to look for, or a box does not fit its plane.
        DataError
            If it is no plane.
        """
        rgb = self._plane(image)
        shape = (int(rgb.shape[0]), int(rgb.shape[1]))
        places, signs = _marked(boxes, labels, shape)
        column = 0
        if len(exemplars):
            others = [(self._plane(plane), box) for plane, box in exemplars]
            canvas = canvas_of(rgb, others)
            rgb, column = canvas.pixels, canvas.column
            beside = places + np.array([0, column, 0, column], np.float32)
            places = np.concatenate([canvas.boxes, beside])
            signs = np.concatenate([np.ones(len(others), np.int64), signs])
        words = plain(phrase)
        if not words and not signs.any():
            raise PromptError(
                "There is nothing to look for. Type a phrase, or draw a box around an "
                "example."
            )
        seen = self._encoded(rgb, self._look, check)
        answer = partial(self._answer, seen, words or VISUAL, places, signs, rgb.shape)
        found = self.within_memory(answer, decoder=True)
        return self._read(found, rgb, column, shape, threshold, mask_threshold)

    def _look(self, rgb: AnyArray) -> Any:
        found = self.network.get_vision_features(**self._pixels(rgb))
        # Hidden states of all blocks are not needed again.
        found.last_hidden_state = None
        found.fpn_hidden_states = tuple(t.float() for t in found.fpn_hidden_states)
        return found

    def _text(self, words: str) -> tuple[Tensor, Tensor]:
        """Return features (1, T, D) of a phrase and their mask; kept."""
        if words not in self._phrases:
            ids, mask = self._padded([words])
            found = self.network.get_text_features(ids, attention_mask=mask)
            self._phrases[words] = found.pooler_output.float(), mask
            while len(self._phrases) > KEPT:
                self._phrases.popitem(last=False)
        self._phrases.move_to_end(words)
        return self._phrases[words]

    def _answer(
        self,
        seen: Any,
        words: str,
        places: FloatArray,
        signs: AnyArray,
        shape: tuple[int, ...],
    ) -> Any:
        """Return what the detector answers on an encoded plane."""
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        features, mask = self._text(words)
        more: dict[str, Any] = {}
        if len(places):
            scale = np.array([*shape[:2], *shape[:2]], np.float32)
            y0, x0, y1, x1 = (places / scale).T
            middles = np.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], 1)
            more["input_boxes"] = torch.from_numpy(middles)[None].to(self.device)
            more["input_boxes_labels"] = torch.from_numpy(signs)[None].to(self.device)
        # The network asks for the whole output and reads this one part of it.
        text = BaseModelOutputWithPooling(pooler_output=features)
        return self.network(
            vision_embeds=seen, text_embeds=text, attention_mask=mask, **more
        )

    def _read(
        self,
        found: Any,
        rgb: AnyArray,
        column: int,
        shape: tuple[int, int],
        threshold: float,
        mask_threshold: float,
    ) -> Concepts:
        """Return the objects of an answer that lie on the query."""
        height, width = int(rgb.shape[0]), int(rgb.shape[1])
        presence = float(found.presence_logits[0].float().sigmoid().item())
        scores = (found.pred_logits[0].float().sigmoid() * presence).cpu().numpy()
        ends = found.pred_boxes[0].float()
        # The network gives (x0, y0, x1, y1).
        middles = torch.cat(
            [(ends[:, :2] + ends[:, 2:]) / 2, ends[:, 2:] - ends[:, :2]], 1
        )
        boxes = corners(middles, height, width) - np.array([0, column, 0, column])
        here = (boxes[:, 1] + boxes[:, 3]) / 2 >= 0
        kept = np.flatnonzero((scores > threshold) & here)
        kept = kept[np.argsort(-scores[kept], kind="stable")]
        masks = np.zeros((len(kept), *shape), bool)
        for number, which in enumerate(kept):
            # One by one: at the size of the plane all of them fill memory.
            soft = found.pred_masks[0, int(which)].float().sigmoid()[None, None]
            full = functional.interpolate(soft, (height, width), mode="bilinear")[0, 0]
            masks[number] = (full[:, column:] > mask_threshold).cpu().numpy()
        region = found.semantic_seg[:1].float().sigmoid()
        if column:
            # The supports end within a cell.
            region = functional.interpolate(region, (height, width), mode="bilinear")
        limits = np.array([*shape, *shape], np.float32)
        return Concepts(
            masks,
            scores[kept],
            np.clip(boxes[kept], 0, limits).astype(np.float32),
            presence,
            region[0, 0, :, column:].cpu().numpy(),
        )


def _marked(
    boxes: Any, labels: Any, shape: tuple[int, int]
) -> tuple[FloatArray, AnyArray]:
    """Return boxes (N, 4) on a plane and their signs (N,)."""
    if boxes is None or not np.size(boxes):
        if labels is not None and np.size(labels):
            raise PromptError("There are labels of boxes, and no boxes.")
        return np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    places = checked_boxes(boxes, shape)
    signs = np.ones(len(places), int) if labels is None else np.ravel(labels)
    if len(signs) != len(places) or not np.isin(signs, (0, 1)).all():
        raise PromptError(
            f"{len(places)} boxes need as many labels, each 1 (such as this) or 0 (not "
            f"such as this), and not {len(signs)}."
        )
    return places, signs.astype(np.int64)
