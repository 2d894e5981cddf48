"""Networks of `transformers` that answer prompts as every SAM does here."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from napari_fewshot.data import Embedding
from napari_fewshot.errors import ModelError
from napari_fewshot.models._device import autocast
from napari_fewshot.models.hf._pixels import NORMS, squashed
from napari_fewshot.models.sam._presets import Preset
from napari_fewshot.models.sam._promptable import Promptable
from napari_fewshot.models.sam._prompts import NOTHING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_fewshot._types import FloatArray
    from napari_fewshot.models._spec import ModelSpec

    Check = Callable[[int, int], None]

# Planes fill the frame, whatever their shape.
SQUASH = Preset(fit="squash")
# The finer maps that the decoder reads.
FINE = ("stride4", "stride8")
# What watches the encoder that runs in this thread.
_WATCHER: ContextVar[Check | None] = ContextVar("watcher", default=None)


class HfModel(Promptable):
    """A network with weights on a device.

    Parameters
    ----------
    network : torch.nn.Module
        Of transformers, with weights.
    spec : ModelSpec
        Facts about it.
    device, precision : str
        Where, and with how many bits the encoder computes.
    sha256 : str
        Of the weights.
    """

    def __init__(
        self,
        network: Any,
        spec: ModelSpec,
        device: str = "cpu",
        precision: str = "fp32",
        sha256: str = "",
    ) -> None:
        side = int(network.prompt_encoder.input_image_size)
        super().__init__(spec, SQUASH, side, device, precision, sha256)
        self.network = network.eval().to(device)
        self.grid = int(network.prompt_encoder.image_embedding_size[0])
        blocks = _blocks(network.vision_encoder)
        for number, block in enumerate(blocks):
            block.register_forward_pre_hook(partial(_look, number, len(blocks)))
        with torch.no_grad():
            self._code = network.get_image_wide_positional_embeddings()

    @property
    def classes(self) -> int:
        """None are found without a prompt."""
        return 0

    @property
    def embedding_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of an embedding."""
        return int(self.network.prompt_encoder.hidden_size), self.grid, self.grid

    @property
    def mask_side(self) -> int:
        """Side of the low-resolution logits that may be given as a mask."""
        return 4 * self.grid

    @torch.inference_mode()
    def encode(self, image: Any, check: Check | None = None) -> Embedding:
        """Return the embedding of one plane.

        Parameters
        ----------
        image : array (H, W) or (H, W, C)
            uint8 is taken as it is, floats in [0, 1] times 255, other numbers are
            windowed by their percentiles.
        check : callable, optional
            Called with the number of the block and of all blocks; may raise to cancel.

        Returns
        -------
        Embedding
            (256, G, G), with the maps ``extras["stride4"]`` (32, 4 G, 4 G) and
            ``extras["stride8"]`` (64, 2 G, 2 G).

        Raises
        ------
        DataError
            If it is no plane.
        """
        pixels, frame = self._plane(image)
        norm = NORMS[self.spec.name.split("/")[0]]
        x = squashed(pixels, self.side, *norm).to(self.device)
        with _watched(check), autocast(self.device, self.precision):
            maps = self.network.get_image_embeddings(x)
        *fine, array = (t[0].float().cpu().numpy() for t in maps)
        extras = dict(zip(FINE, fine, strict=True))
        return Embedding(array, frame.shape, self.spec.name, frame.valid, extras)

    @torch.inference_mode()
    def decode(
        self,
        embedding: Embedding,
        points: Any = None,
        point_labels: Any = None,
        boxes: Any = None,
        mask: Any = None,
        multimask: bool = True,
    ) -> tuple[FloatArray, FloatArray]:
        """Return low-resolution logits of one or many objects, decoded at once.

        Parameters
        ----------
        embedding : Embedding
            From this model.
        points : array (N, 2) or (B, N, 2), optional
            As for `predict`; with three axes one object per row.
        point_labels : array (N,) or (B, N), optional
            As for `predict`.
        boxes : array (4,) or (B, 4), optional
            As for `predict`.
        mask : array (4 G, 4 G), optional
            For one object only.
        multimask : bool
            Three candidates; or the one for clear prompts, for which an unstable one
            is replaced by the best candidate, as SAM 2 does.

        Returns
        -------
        logits : array (B, M, 4 G, 4 G) float32
        scores : array (B, M) float32
            Predicted intersection over union.

        Raises
        ------
        PromptError
            If there is no prompt, or it does not fit the plane or the model.
        """
        given = self._prompts(embedding, points, point_labels, boxes, mask)
        places, labels = given.points, given.labels
        if places is None and given.boxes is None:
            # The network expects a token: no point.
            places = torch.zeros((1, 1, 2), device=self.device)
            labels = torch.full((1, 1), NOTHING, device=self.device)
        # One image, of which every object is a row.
        sparse, dense = self.network.prompt_encoder(
            input_points=None if places is None else places[None],
            input_labels=None if labels is None else labels[None],
            input_boxes=None if given.boxes is None else given.boxes[None],
            input_masks=given.mask,
        )
        *fine, coarse = self.maps(embedding)
        logits, quality, *_ = self.network.mask_decoder(
            image_embeddings=coarse,
            image_positional_embeddings=self._code,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            high_resolution_features=fine,
        )
        return logits[0].float().cpu().numpy(), quality[0].float().cpu().numpy()

    def maps(self, embedding: Embedding) -> list[Tensor]:
        """Return the maps of an embedding on the device, (1, C, h, w), finest first.

        Parameters
        ----------
        embedding : Embedding
            From this model.

        Raises
        ------
        ModelError
            If it is of another model.
        """
        self._check(embedding)
        every = (*(embedding.extras.get(name) for name in FINE), embedding.array)
        if any(array is None for array in every):
            raise ModelError(
                f"This embedding lacks the finer maps of {self.spec.name}; encode the "
                "plane again."
            )
        return [
            torch.from_numpy(np.array(array, np.float32))[None].to(self.device)
            for array in every
        ]


def _blocks(encoder: Any) -> Any:
    """Return the blocks of an encoder, whatever transformers calls them."""
    trunk = getattr(encoder, "backbone", encoder)
    return getattr(trunk, "blocks", None) or trunk.layers


def _look(number: int, count: int, *_: Any) -> None:
    check = _WATCHER.get()
    if check is not None:
        check(number, count)


@contextmanager
def _watched(check: Check | None) -> Iterator[None]:
    token = _WATCHER.set(check)
    try:
        yield
    finally:
        _WATCHER.reset(token)
