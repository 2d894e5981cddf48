"""OWLv2: boxes for phrases, and for what looks like an example.

Minderer et al., Scaling open-vocabulary object detection, NeurIPS 2023.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from napari_fewshot.errors import PromptError
from napari_fewshot.models.grounding._boxes import (
    BoxModel,
    Detections,
    corners,
    kept_boxes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray
    from napari_fewshot.models.grounding._reader import Check

# Boxes less like an example than this share of the best one are dropped.
LEAST = 0.1


class Owl(BoxModel):
    """OWLv2 with weights; see the module.

    Planes are padded to a square at the bottom and the right; every patch of it is a
    box with a vector, which is compared with phrases or with a box of an example.
    """

    threshold: ClassVar[float] = 0.1

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        config = self.network.config
        self.context_length = int(config.text_config.max_position_embeddings)
        self.size = int(config.vision_config.image_size)

    @torch.inference_mode()
    def boxes_like(
        self,
        image: Any,
        exemplars: Any,
        threshold: float = 0.6,
        *,
        overlap: float = 0.3,
        largest: float = 1.0,
        check: Check | None = None,
    ) -> Detections:
        """Find what looks like an example.

        Parameters
        ----------
        image : array (H, W) or (H, W, C)
            The plane to search.
        exemplars : array (h, w[, C]) or sequence of these
            Crops that show one object each; of several the vectors are averaged.
        threshold : float
            Least score.
        overlap, largest, check
            As for `detect`.

        Returns
        -------
        Detections
            ``phrases`` are all 0.

        Raises
        ------
        PromptError
            If there is no example.
        DataError
            If it is no plane.
        """
        crops = [exemplars] if isinstance(exemplars, np.ndarray) else list(exemplars)
        if not crops:
            raise PromptError("There is no example. Give a crop that shows the object.")
        # The plane last, so that its features are kept for the next example.
        wanted = torch.stack([self._example(self._plane(c), check) for c in crops])
        rgb = self._plane(image)
        features = self._encoded(rgb, self._features, check)
        mean = wanted.mean(0)[None, None]
        every, _ = self.network.class_predictor(features.flatten(1, 2), mean)
        scores = every[0].max(-1).values.sigmoid().cpu().numpy()
        found = Detections(
            self._places(features, rgb), scores, np.zeros(len(scores), int)
        )
        fits = scores >= max(threshold, LEAST * float(scores.max()))
        return kept_boxes(
            found[fits], (int(rgb.shape[0]), int(rgb.shape[1])), overlap, largest
        )

    def _example(self, rgb: AnyArray, check: Check | None) -> Tensor:
        """Return the vector (E,) of the box that is surest to be an object."""

        def work() -> Tensor:
            features = self._encoded(rgb, self._features, check)
            found = self.network.embed_image_query(features.flatten(1, 2), features)
            vector: Tensor = found[0][0, 0]
            return vector

        return self._known(rgb, work)

    def _found(
        self,
        rgb: AnyArray,
        words: Sequence[str],
        threshold: float,
        check: Check | None,
        **more: float,
    ) -> Detections:
        features = self._encoded(rgb, self._features, check)
        ids, mask = self._padded(words)
        text = self.network.owlv2.get_text_features(ids, attention_mask=mask)
        vectors = text.pooler_output.float()
        vectors = vectors / vectors.norm(dim=-1, keepdim=True)
        logits, _ = self.network.class_predictor(features.flatten(1, 2), vectors[None])
        best = logits[0].max(-1)
        scores = best.values.sigmoid().cpu().numpy()
        fits = scores > threshold
        phrases = best.indices.cpu().numpy()
        return Detections(self._places(features, rgb), scores, phrases)[fits]

    def _features(self, rgb: AnyArray) -> Tensor:
        """Return the vectors of patches, (1, h, w, D)."""
        found: Tensor = self.network.image_embedder(**self._pixels(rgb))[0].float()
        return found

    def _places(self, features: Tensor, rgb: AnyArray) -> Any:
        boxes = self.network.box_predictor(features.flatten(1, 2), features)[0]
        longest = float(max(rgb.shape[:2]))
        return corners(boxes, longest, longest)
