"""SAM, ready to use: planes to embeddings, prompts on them to masks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_fewshot.data import Embedding
from napari_fewshot.errors import ModelError, PromptError
from napari_fewshot.models._device import (
    PRECISIONS,
    autocast,
    compile_parts,
    is_compile_error,
    restore_parts,
)
from napari_fewshot.models.sam._decoder import Guidance, MaskDecoder
from napari_fewshot.models.sam._hq import HqMaskDecoder
from napari_fewshot.models.sam._promptable import Promptable
from napari_fewshot.models.sam._prompts import DIM, PromptEncoder
from napari_fewshot.models.sam._refine import RefineDecoder, refined
from napari_fewshot.models.sam._tiny_vit import TinyConfig, TinyVit
from napari_fewshot.models.sam._vit import ImageEncoderVit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_fewshot._types import AnyArray, FloatArray
    from napari_fewshot.models._spec import ModelSpec
    from napari_fewshot.models.sam._configs import SamConfig
    from napari_fewshot.models.sam._frame import Frame
    from napari_fewshot.models.sam._presets import Preset
    from napari_fewshot.models.sam._promptable import Prompts

# Which of the four masks answer an ambiguous and an unambiguous prompt.
CANDIDATES, SINGLE = (1, 2, 3), (0,)


class SamNetwork(nn.Module):
    """The parts under Meta's names.

    Parameters
    ----------
    config : SamConfig
        Their make-up.
    """

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        self.config = config
        encoder, decoder = config.encoder, config.decoder
        self.image_encoder = (
            TinyVit(encoder)
            if isinstance(encoder, TinyConfig)
            else ImageEncoderVit(encoder)
        )
        self.prompt_encoder = PromptEncoder(encoder.side, encoder.grid)
        self.mask_decoder = (HqMaskDecoder if decoder.early else MaskDecoder)(decoder)
        self.mask_decoder2: RefineDecoder | None = None
        if decoder.refined:
            self.mask_decoder2 = RefineDecoder(decoder.masks)


class SamModel(Promptable):
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
    compiled : bool
        Whether torch compiles the encoder at its first call; if it can't, that is told
        in ``notes``.
    """

    def __init__(
        self,
        network: SamNetwork,
        spec: ModelSpec,
        preset: Preset,
        device: str = "cpu",
        precision: str = "fp32",
        sha256: str = "",
        *,
        compiled: bool = False,
    ) -> None:
        side = network.image_encoder.side
        super().__init__(spec, preset, side, device, precision, sha256)
        self.network = network.eval().to(device)
        self.grid = network.image_encoder.grid
        with torch.no_grad():
            self._code = network.prompt_encoder.pe_layer.grid(self.grid)
        self.compiled = compiled
        if compiled:
            compile_parts(_parts(network.image_encoder))

    def move(self, device: torch.device) -> None:
        """Bring the network to a device."""
        super().move(device)
        self.network.to(device)
        self._code = self._code.to(device)

    @property
    def classes(self) -> int:
        """How many classes are found without a prompt, background first; 0: none."""
        first = self.preset.classes
        return 0 if first is None else self.network.config.decoder.masks - first

    @property
    def embedding_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of an embedding."""
        return DIM, self.grid, self.grid

    @property
    def mask_side(self) -> int:
        """Side of the low-resolution logits that may be given as a mask."""
        return 4 * self.grid

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
            (256, G, G), of which the share ``valid`` shows the plane. For HQ-SAM with
            the map ``extras["early"]`` (C, G, G).

        Raises
        ------
        DataError
            If it is no plane.
        ModelError
            If memory runs out and nothing is left to give up; see ``notes``.
        """
        pixels, frame = self._plane(image)
        found, *early = self.within_memory(partial(self._encode, pixels, frame, check))
        extras = {"early": early[0]} if early else {}
        return Embedding(found, frame.shape, self.spec.name, frame.valid, extras)

    def _encode(
        self, pixels: AnyArray, frame: Frame, check: Callable[[int, int], None] | None
    ) -> tuple[FloatArray, ...]:
        """Return the embedding of a plane, and early features if there are any."""
        encoder, x = self.network.image_encoder, frame.image(pixels).to(self.device)
        keep = (encoder.early,) if self.network.config.decoder.early else ()
        if isinstance(encoder, ImageEncoderVit) and encoder.packed is not None:
            # The precision may have been given up since the last plane.
            encoder.pack(PRECISIONS[self.precision])
        try:
            with autocast(self.device, self.precision):
                found = encoder(x, check, keep)
        except RuntimeError as error:
            if not self.compiled or not is_compile_error(error):
                raise
            self.compiled = False
            restore_parts(_parts(encoder))
            self.note(
                f"The encoder can't be compiled ({type(error).__name__}) and computes "
                "as it is. Leave compile out to save the attempt."
            )
            return self._encode(pixels, frame, check)
        if not keep:
            return (_array(found[0]),)
        image, (early,) = found
        return _array(image[0]), _array(early[0].permute(2, 0, 1))

    @torch.inference_mode()
    def decode(
        self,
        embedding: Embedding,
        points: Any = None,
        point_labels: Any = None,
        boxes: Any = None,
        mask: Any = None,
        multimask: bool = True,
        attention_bias: FloatArray | None = None,
        target: FloatArray | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """Return low-resolution logits of one or many objects, decoded at once.

        Where memory is short they are decoded in groups.

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
        attention_bias : array (G, G), optional
            Standardised similarity on the padded grid; its sigmoid makes the prompts
            look there (PerSAM, Zhang et al., ICLR 2024).
        target : array (256,), optional
            Mean embedding of the object on a support, from this model (PerSAM).

        Returns
        -------
        logits : array (B, M, 4 G, 4 G) float32
            Of H-SAM (1, M, 16 G, 16 G).
        scores : array (B, M) float32
            Predicted intersection over union.

        Raises
        ------
        PromptError
            If there is no prompt, or it does not fit the plane or the model.
        ModelError
            If the embedding is of another model, or memory runs out and nothing is left
            to give up.
        """
        prompts = self._prompts(embedding, points, point_labels, boxes, mask)
        if self.network.config.decoder.early and "early" not in embedding.extras:
            raise ModelError(
                f"This embedding lacks the early features that {self.spec.name} reads; "
                "encode the plane again."
            )
        guidance = self._guidance(attention_bias, target)
        count, done = max(prompts.counts, default=1), 0
        found: list[tuple[FloatArray, FloatArray]] = []
        while done < count:
            work = partial(
                self._decode, embedding, prompts, done, guidance, multimask=multimask
            )
            found.append(self.within_memory(work, decoder=True, objects=count - done))
            done += len(found[-1][0])
        logits, quality = zip(*found, strict=True)
        return np.concatenate(logits), np.concatenate(quality)

    def _decode(
        self,
        embedding: Embedding,
        prompts: Prompts,
        begin: int,
        guidance: Guidance | None,
        *,
        multimask: bool,
    ) -> tuple[FloatArray, FloatArray]:
        """Decode as many objects at once as memory has let, from number ``begin``."""
        network, wanted = self.network, self._wanted(multimask=multimask)
        part = prompts.part(begin, begin + self.at_once, self.device)
        early = embedding.extras.get("early")
        with autocast(self.device, self.decoding):
            tokens, dense = network.prompt_encoder(
                part.points, part.labels, part.boxes, part.mask
            )
            given = (self._tensor(embedding.array), self._code, tokens, dense, wanted)
            if network.mask_decoder2 is not None:
                logits, quality = refined(
                    network.mask_decoder, network.mask_decoder2, *given
                )
            else:
                read = None if early is None else self._tensor(early)
                logits, quality = network.mask_decoder(*given, read, guidance)
        return _array(logits), _array(quality)

    def _guidance(
        self, bias: FloatArray | None, target: FloatArray | None
    ) -> Guidance | None:
        """Check guidance and bring it to the device."""
        if bias is None and target is None:
            return None
        given = {"attention_bias": bias, "target": target}
        shapes = {"attention_bias": (self.grid, self.grid), "target": (DIM,)}
        for name, array in given.items():
            if array is not None and np.shape(array) != shapes[name]:
                raise PromptError(
                    f"{name} has the shape {np.shape(array)}; {self.spec.name} needs "
                    f"{shapes[name]}."
                )
        if self.classes:
            raise PromptError(
                f"{self.spec.name} finds its classes by itself; leave out "
                "attention_bias and target."
            )
        near, wanted = (
            None if a is None else torch.from_numpy(np.array(a, np.float32))
            for a in (bias, target)
        )
        return Guidance(
            None if near is None else near.sigmoid().flatten().to(self.device),
            None if wanted is None else wanted.to(self.device),
        )

    def _wanted(self, *, multimask: bool) -> Sequence[int]:
        """Which masks of the decoder are asked for."""
        if self.preset.classes is not None:
            return range(self.preset.classes, self.network.config.decoder.masks)
        return CANDIDATES if multimask and self.preset.multimask != "never" else SINGLE

    def _tensor(self, array: FloatArray) -> Tensor:
        return torch.from_numpy(array)[None].to(self.device)


def _parts(encoder: ImageEncoderVit | TinyVit) -> nn.ModuleList:
    """Return what an encoder computes one after the other."""
    return encoder.layers if isinstance(encoder, TinyVit) else encoder.blocks


def _array(tensor: Tensor) -> FloatArray:
    found: FloatArray = tensor.float().cpu().numpy()
    return found
