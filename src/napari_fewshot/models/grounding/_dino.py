"""Grounding DINO: boxes for phrases that are read together.

Liu et al., Grounding DINO: marrying DINO with grounded pre-training for open-set object
detection, ECCV 2024.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from napari_fewshot.models.grounding._boxes import BoxModel, Detections, corners

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray
    from napari_fewshot.models.grounding._reader import Check

# Signs that end a phrase for this model.
STOPS = str.maketrans({".": " ", "?": " "})


class GroundingDino(BoxModel):
    """Grounding DINO with weights; see the module.

    Phrases become one sentence, ``"a cell. a nucleus."``, and every box says how well
    each token fits; a phrase fits as well as its best token.
    """

    threshold: ClassVar[float] = 0.3

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        config, tokenizer = self.network.config, self.processor.tokenizer
        positions = int(config.text_config.max_position_embeddings)
        self.context_length = min(int(config.max_text_len), positions)
        size = self.processor.image_processor.size
        self.size = int(size.get("longest_edge") or max(size.values()))
        stop = tokenizer.convert_tokens_to_ids(".")
        self._marks = (
            int(tokenizer.cls_token_id),
            int(stop),
            int(tokenizer.sep_token_id),
        )

    def sentences(
        self, phrases: Sequence[str]
    ) -> list[tuple[list[int], list[tuple[int, int, int]]]]:
        """Return tokens of sentences that hold all phrases.

        Parameters
        ----------
        phrases : sequence of str
            As many as fit go into one sentence.

        Returns
        -------
        list of (tokens, spans)
            A span is the number of a phrase and its first token and the one after its
            last.
        """
        first, stop, last = self._marks
        room = self.context_length - 2
        done: list[tuple[list[int], list[tuple[int, int, int]]]] = []
        tokens: list[int] = [first]
        spans: list[tuple[int, int, int]] = []
        for number, phrase in enumerate(phrases):
            words = self._ids(_lower(phrase))[1:-1][: room - 1]
            if spans and len(tokens) - 1 + len(words) + 1 > room:
                done.append(([*tokens, last], spans))
                tokens, spans = [first], []
            spans.append((number, len(tokens), len(tokens) + len(words)))
            tokens += [*words, stop]
        done.append(([*tokens, last], spans))
        return done

    def _words(self, phrases: Sequence[str]) -> list[str]:
        """Return phrases without full stops, which would end them."""
        return super()._words([_lower(phrase) for phrase in phrases])

    def _found(
        self,
        rgb: AnyArray,
        words: Sequence[str],
        threshold: float,
        check: Check | None,
        **more: float,
    ) -> Detections:
        """See `BoxModel`; ``text_threshold`` is the least score of a phrase's token."""
        least = float(more.get("text_threshold", 0.25))
        parts = []
        for tokens, spans in self.sentences(words):
            logits, boxes = self.within_memory(
                partial(self._watched, partial(self._answer, tokens), rgb, check)
            )
            every = logits.float().sigmoid().cpu().numpy()
            scores = every.max(1)
            named = np.stack([every[:, a:b].max(1) for _, a, b in spans], 1)
            phrase = np.array([number for number, _, _ in spans])[named.argmax(1)]
            fits = (scores > threshold) & (named.max(1) > least)
            places = corners(boxes, *map(float, rgb.shape[:2]))
            parts.append(Detections(places, scores, phrase)[fits])
        names = ("boxes", "scores", "phrases")
        return Detections(
            *(np.concatenate([getattr(p, n) for p in parts]) for n in names)
        )

    def _answer(self, tokens: list[int], rgb: AnyArray) -> Any:
        """Return logits (Q, T) of tokens and boxes (Q, 4) of one plane."""
        ids = torch.tensor([tokens], device=self.device)
        found = self.network(
            **self._pixels(rgb),
            input_ids=ids,
            token_type_ids=torch.zeros_like(ids),
            attention_mask=torch.ones_like(ids),
        )
        return found.logits[0], found.pred_boxes[0]


def _lower(phrase: str) -> str:
    return " ".join(phrase.translate(STOPS).lower().split())
