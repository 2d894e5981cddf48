"""From prompts to masks: SAM, the bundled network, or levels of a similarity map.

Methods that think in prompts (PerSAM, Matcher, GF-SAM, ...) ask a decoder and never
know which one answers, so that they also run with nothing downloaded.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.errors import ModelError
from napari_fewshot.methods.grid._levels import MapDecoder, NetworkDecoder
from napari_fewshot.methods.grid._tokens import embed
from napari_fewshot.models import (
    PROMPTABLE,
    get_model_spec,
    installed_models,
    load_model,
)
from napari_fewshot.ops import mask_to_grid, resize_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid._asks import Ask, Decoder
    from napari_fewshot.methods.grid._tokens import GridPlane
    from napari_fewshot.models import Encoder

# Logits are held within this, as SAM's mask prompts are in training.
MOST_ODDS = 10.0


@dataclass(frozen=True, eq=False)
class SamDecoder:
    """A promptable model; it encodes the plane itself unless the features are its own.

    Attributes
    ----------
    model : Promptable
        Of the SAM family.
    encoder : Encoder
        The same model, perhaps with a cache of embeddings.
    """

    model: Any
    encoder: Any

    @property
    def name(self) -> str:
        """Name of the model."""
        return str(self.model.spec.name)

    def decode(
        self,
        query: GridPlane,
        odds: FloatArray,
        asks: Sequence[Ask],
        hooks: Hooks,
        *,
        several: bool = False,
        **guidance: Any,
    ) -> tuple[FloatArray, FloatArray]:
        """See `Decoder.decode`; prompts of one kind go as one batch."""
        embedding = self._embedding(query)
        more = self._guidance(query, **guidance)
        found: list[Any] = [None] * len(asks)
        kinds: dict[Any, list[int]] = {}
        for number, ask in enumerate(asks):
            alone = number if ask.mask is not None else -1
            kinds.setdefault((len(ask.points), ask.box is None, alone), []).append(
                number
            )
        most = self.model.batch_for(embedding) if len(asks) > 1 else 1
        for numbers in kinds.values():
            for begin in range(0, len(numbers), most):
                hooks.check()
                part = numbers[begin : begin + most]
                logits, scores = self._decode(
                    embedding, [asks[i] for i in part], several=several, more=more
                )
                for i, one, score in zip(part, logits, scores, strict=True):
                    found[i] = one, score
        return np.stack([f[0] for f in found]), np.stack([f[1] for f in found])

    def _decode(
        self, embedding: Any, asks: list[Ask], *, several: bool, more: dict[str, Any]
    ) -> tuple[FloatArray, FloatArray]:
        first = asks[0]
        box = None if first.box is None else np.stack([np.asarray(a.box) for a in asks])
        points = np.stack([a.points for a in asks]) if len(first.points) else None
        labels = np.stack([a.labels for a in asks]) if len(first.points) else None
        mask = first.mask if self.model.preset.takes_mask else None
        if len(asks) == 1:
            points = None if points is None else points[0]
            labels = None if labels is None else labels[0]
            box = None if box is None else box[0]
        if not self.model.preset.points:
            box, points, labels = self._boxes_only(asks, box), None, None
        logits, scores = self.model.decode(
            embedding,
            points=points,
            point_labels=labels,
            boxes=None if box is None else box - 0.5,
            mask=mask,
            multimask=several,
            **more,
        )
        return logits, scores

    def _guidance(
        self,
        query: GridPlane,
        attention: FloatArray | None = None,
        target: FloatArray | None = None,
    ) -> dict[str, Any]:
        """Return PerSAM's guidance as the model takes it; {} if it takes none.

        The similarity (h, w) becomes standard scores on the padded grid: stretched
        over the padding it would point beside the object. The target is a vector of
        this model, else it is left out.
        """
        if "attention_bias" not in inspect.signature(self.model.decode).parameters:
            return {}
        more: dict[str, Any] = {}
        embedding = self._embedding(query)
        if attention is not None:
            side = embedding.array.shape[1:]
            rows, columns = embedding.cells.shape[1:]
            frame = np.full(side, float(attention.min()), np.float32)
            frame[:rows, :columns] = resize_image(
                attention.astype(np.float32), (rows, columns)
            )
            spread = float(frame.std()) or 1.0
            more["attention_bias"] = (frame - frame.mean()) / spread
        if target is not None and query.embedding.model == self.model.spec.name:
            more["target"] = target
        return more

    def _boxes_only(self, asks: list[Ask], box: FloatArray | None) -> FloatArray:
        """Return boxes for models that take nothing else."""
        if box is not None:
            return box
        corners = []
        for ask in asks:
            inside = ask.positive if len(ask.positive) else ask.points
            corners.append(np.concatenate([inside.min(0) - 2, inside.max(0) + 3]))
        every = np.stack(corners)
        return every[0] if len(asks) == 1 else every

    def as_mask(self, query: GridPlane, odds: FloatArray) -> FloatArray:
        """See `Decoder.as_mask`; the padding of the frame is background."""
        side = self.model.mask_side
        embedding = self._embedding(query)
        rows, columns = (max(1, round(side * share)) for share in embedding.valid)
        frame = np.full((side, side), -MOST_ODDS, np.float32)
        small = resize_image(odds.astype(np.float32), (rows, columns))
        frame[:rows, :columns] = np.clip(small, -MOST_ODDS, MOST_ODDS)
        return frame

    def to_grid(self, query: GridPlane, logits: FloatArray) -> FloatArray:
        """See `Decoder.to_grid`."""
        valid = self._embedding(query).valid
        rows, columns = (
            max(1, round(n * share))
            for n, share in zip(logits.shape[-2:], valid, strict=True)
        )
        shown = logits[:, :rows, :columns] > 0
        return np.stack([mask_to_grid(one, query.grid) for one in shown])

    def restore(self, query: GridPlane, logits: FloatArray) -> FloatArray:
        """See `Decoder.restore`."""
        full: FloatArray = self.model.restore(logits, query.shape)
        return full

    def _embedding(self, query: GridPlane) -> Any:
        if query.embedding.model == self.model.spec.name:
            return query.embedding
        return embed(self.encoder, query.plane.image)


def decoder_for(choice: str, encoder: Encoder) -> Decoder:
    """Return the decoder that parameters ask for.

    Parameters
    ----------
    choice : str
        ``"sam"``, ``"network"``, ``"map"``, or ``"auto"``: SAM if the embeddings are
        its own, or are downloaded ones and a SAM is installed, else the map.
    encoder : Encoder
        Whose embeddings are used.

    Raises
    ------
    ModelError
        If SAM is asked for and none is there.
    """
    model: Any = getattr(encoder, "model", encoder)
    if choice == "network":
        return NetworkDecoder(load_model("incontext/small"))
    if choice in ("auto", "sam"):
        if is_promptable(model):
            return SamDecoder(model, encoder)
        wanted = choice == "sam" or model.spec.needs_download
        names = [n for n in installed_models() if get_model_spec(n).task == PROMPTABLE]
        if wanted and names:
            found: Any = load_model(names[0])
            return SamDecoder(found, found)
        if choice == "sam":
            raise ModelError(
                "No model of the SAM family is installed to draw the masks. Choose "
                "decoder=auto, or get one: napari-fewshot models list."
            )
    return MapDecoder()


def is_promptable(model: Any) -> bool:
    """Whether a model answers to clicks and boxes by itself."""
    return getattr(model.spec, "task", "") == PROMPTABLE and not model.classes
