"""SAM, ready to use: planes to embeddings, prompts on them to masks."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_fewshot.data import Embedding
from napari_fewshot.errors import DataError, ModelError, PromptError, WeightsError
from napari_fewshot.models._device import autocast, resolve_device, resolve_precision
from napari_fewshot.models.sam._decoder import MaskDecoder
from napari_fewshot.models.sam._files import VITS, fill, read_state, vit_config
from napari_fewshot.models.sam._frame import Frame
from napari_fewshot.models.sam._presets import PRESETS, Preset
from napari_fewshot.models.sam._prompts import PromptEncoder
from napari_fewshot.models.sam._vit import ImageEncoderVit, VitConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.models._spec import ModelSpec

# Which of the four masks answer an ambiguous and an unambiguous prompt.
CANDIDATES, SINGLE = (1, 2, 3), (0,)
# Boxes that are decoded at a time.
BATCH = 8


class SamNetwork(nn.Module):
    """The three parts under Meta's names."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.image_encoder = ImageEncoderVit(config)
        self.prompt_encoder = PromptEncoder(config.side)
        self.mask_decoder = MaskDecoder()


class SamModel:
    """A network with weights on a device.

    Parameters
    ----------
    network : SamNetwork
        With weights.
    spec : ModelSpec
        Facts about it.
    preset : Preset
        How it wants its images.
    device, precision : str
        Where, and with how many bits the encoder computes.
    sha256 : str
        Of the weights file.
    """

    def __init__(
        self,
        network: SamNetwork,
        spec: ModelSpec,
        preset: Preset,
        device: str = "cpu",
        precision: str = "fp32",
        sha256: str = "",
    ) -> None:
        self.network = network.eval().to(device)
        self.spec, self.preset, self.sha256 = spec, preset, sha256
        self.device, self.precision = torch.device(device), precision
        self.side = network.image_encoder.config.side
        with torch.no_grad():
            grid = network.image_encoder.config.grid
            self._code = network.prompt_encoder.pe_layer.grid(grid)

    @torch.inference_mode()
    def encode(
        self, image: Any, check: Callable[[int, int], None] | None = None
    ) -> Embedding:
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
            (256, G, G), of which the share ``valid`` shows the plane.

        Raises
        ------
        DataError
            If it is no plane.
        """
        pixels = np.asarray(image)
        if pixels.ndim not in (2, 3) or 0 in pixels.shape:
            raise DataError(
                f"SAM encodes one plane (H, W) or (H, W, C); this array has the shape "
                f"{pixels.shape}."
            )
        shape = (int(pixels.shape[0]), int(pixels.shape[1]))
        frame = Frame(shape, self.side, self.preset)
        x = frame.image(pixels).to(self.device)
        with autocast(self.device, self.precision):
            found = self.network.image_encoder(x, check)
        array = found[0].float().cpu().numpy()
        return Embedding(array, shape, self.spec.name, frame.valid)

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
        mask : array (4 G, 4 G), optional
            Earlier logits, to be corrected.
        multimask : bool
            Three candidates, for ambiguous prompts, or the one for clear prompts.

        Returns
        -------
        masks : array (M, H, W) or (B, M, H, W) bool
        scores : array (M,) or (B, M) float32
            Predicted intersection over union.
        logits : array (M, 4 G, 4 G) or (B, M, 4 G, 4 G) float32

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
        for begin in range(0, count, BATCH):
            part = boxes[begin : begin + BATCH] if many else boxes
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
            As for `predict`.

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
        self._check(embedding)
        frame = Frame(embedding.image_shape, self.side, self.preset)
        given = None if points is None else frame.points(points, point_labels)
        given = None if given is None or not given[0].shape[1] else given
        corners = None if boxes is None else frame.boxes(boxes)
        corners = None if corners is None or not len(corners) else corners
        before = self._past(mask)
        if given is None and corners is None and before is None:
            raise PromptError("There is no prompt: give points, a box or a mask.")
        counts = {
            len(t) for t in (given and given[0], corners, before) if t is not None
        }
        if len(counts) > 1:
            raise PromptError(
                f"Prompts of {max(counts)} and of {min(counts)} objects do not go "
                "together; give as many of each."
            )
        wanted = CANDIDATES if multimask and self.preset.multimask else SINGLE
        image = torch.from_numpy(embedding.array)[None].to(self.device)
        places, labels, corners, before = (
            None if t is None else t.to(self.device)
            for t in (*(given or (None, None)), corners, before)
        )
        tokens, dense = self.network.prompt_encoder(places, labels, corners, before)
        logits, quality = self.network.mask_decoder(
            image, self._code, tokens, dense, wanted
        )
        return logits.float().cpu().numpy(), quality.float().cpu().numpy()

    @torch.inference_mode()
    def restore(self, logits: Any, shape: tuple[int, int]) -> FloatArray:
        """Return low-resolution logits (M, 4 G, 4 G) at the size of a plane.

        Parameters
        ----------
        logits : array (M, 4 G, 4 G)
            From `decode` or `predict`.
        shape : (int, int)
            Rows and columns of the plane.

        Returns
        -------
        array (M, H, W) float32
        """
        frame = Frame(shape, self.side, self.preset)
        low = torch.from_numpy(np.array(logits, np.float32)).to(self.device)
        found: FloatArray = frame.restore(low[None])[0].cpu().numpy()
        return found

    def _past(self, mask: Any) -> Tensor | None:
        if mask is None:
            return None
        if not self.preset.takes_mask:
            raise PromptError(
                f"{self.spec.name} takes no mask as a prompt; give a box instead."
            )
        side = self.side // 4
        logits = torch.from_numpy(np.array(mask, np.float32))
        if logits.shape not in ((side, side), (1, side, side)):
            raise PromptError(
                f"A mask prompt holds low-resolution logits ({side}, {side}), such as "
                f"predict returns; this one has the shape {tuple(logits.shape)}."
            )
        return logits.reshape(1, 1, side, side)

    def _check(self, embedding: Embedding) -> None:
        name, grid = self.spec.name, self.side // 16
        if embedding.model != name or embedding.array.shape[1:] != (grid, grid):
            raise ModelError(
                f"This embedding is of {embedding.model} with the shape "
                f"{embedding.array.shape}; encode the plane with {name} first."
            )


def load(spec: ModelSpec, checkpoint: Any, device: str, precision: str) -> SamModel:
    """Load SAM or weights of the same make from a file.

    Parameters
    ----------
    spec : ModelSpec
        Which of them.
    checkpoint : path, optional
        Weights; there are no bundled ones.
    device, precision : str
        See `nf.load_model`.

    Raises
    ------
    WeightsError
        If there is no file, or it holds other weights.
    """
    if checkpoint is None:
        raise WeightsError(
            f"{spec.name} needs its weights ({spec.size_mb:.0f} MB, {spec.licence}): "
            f"download them from {spec.url} and pass their path as checkpoint."
        )
    path = Path(checkpoint)
    try:
        stamp = path.stat().st_mtime_ns
    except OSError:
        stamp = 0
    place = resolve_device(device)
    return _load(spec, path, stamp, place, resolve_precision(place, precision))


@functools.lru_cache(maxsize=1)
def _load(
    spec: ModelSpec, path: Path, stamp: int, device: str, precision: str
) -> SamModel:
    """Load once per file (until it changes), device and precision."""
    state = read_state(path)
    config = vit_config(state, path.name)
    family, size = spec.name.split("/")
    found = VITS[config.dim][0]
    if found != size:
        raise WeightsError(
            f"{path.name} holds weights of {family}/{found}, not of {spec.name}. "
            f"Choose the model {family}/{found} or another file."
        )
    with torch.device("meta"):
        network = SamNetwork(config)
    fill(network, state, path.name)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return SamModel(network, spec, PRESETS[family], device, precision, sha256)
