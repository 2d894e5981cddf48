"""`incontext/small`: the bundled network, ready to use.

Images are floats (H, W, C) in [0, 1]. They are resized so that the longest side has the
wanted working size, which may enlarge small images, and encoded once: supports, queries
and clicks share the encodings.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_fewshot.data import Embedding, as_plane
from napari_fewshot.errors import WeightsError
from napari_fewshot.models._copies import (
    TILE,
    Window,
    cover,
    network_shape,
    resample,
    three_channels,
    working_shape,
)
from napari_fewshot.models._device import resolve_device
from napari_fewshot.models._network import (
    PROMPT_CHANNELS,
    Context,
    Features,
    InContextNetwork,
    standardise,
)
from napari_fewshot.models._recent import Recent, digest
from napari_fewshot.models._registry import INCONTEXT
from napari_fewshot.models.contexts import join_contexts, read_tiles, tiles_each
from napari_fewshot.models.prompt_image import prompt_image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.data import PlanePrompts, Sample
    from napari_fewshot.models._spec import ModelSpec

WEIGHTS = Path(__file__).parent / "weights" / "incontext_small.safetensors"
# Encodings that are kept (6 MB a plane), and what single supports say (1 MB each): of
# 64 supports all of the latter, so that leaving them out in turn encodes nothing anew.
KEPT_BYTES, READ_BYTES = 160 * 2**20, 96 * 2**20
# Answers to earlier clicks: the next click begins with the last of them.
ANSWER_BYTES = 16 * 2**20
EMBEDDING_SIDE = 256
WHOLE: Window = (slice(None), slice(None))


class InContextModel:
    """The network with its weights on a device.

    Parameters
    ----------
    network : InContextNetwork
        With weights.
    device : str
        Where to compute.
    sha256 : str
        Of the weights file.
    kept, read : int
        Bytes of encodings, and of what single supports say, that are kept.
    """

    spec = INCONTEXT

    def __init__(
        self,
        network: InContextNetwork,
        device: str,
        sha256: str,
        kept: int = KEPT_BYTES,
        read: int = READ_BYTES,
    ) -> None:
        self.network = network.eval().to(device)
        self.device = torch.device(device)
        self.sha256 = sha256
        self._kept: Recent[Features] = Recent(kept)
        self._read: Recent[Context] = Recent(read)
        self.answers: Recent[FloatArray] = Recent(ANSWER_BYTES)

    def encode(self, image: Any) -> Embedding:
        """Return the stride-4 features of one plane, at longest side 256.

        Parameters
        ----------
        image : array (H, W) or (H, W, C)
            Floats in [0, 1]; other dtypes are windowed first.
        """
        plane = as_plane(np.asarray(image))
        array = self.features(plane, EMBEDDING_SIDE).maps[1][0].float().cpu().numpy()
        return Embedding(array, (plane.shape[0], plane.shape[1]), self.spec.name)

    @torch.no_grad()
    def features(self, image: FloatArray, side: int) -> Features:
        """Encode a plane (H, W, C), or return what is known of it.

        Parameters
        ----------
        image : array (H, W, C)
            Floats in [0, 1]; one channel is grey, of more than three the first count.
        side : int
            Longest side of the network's copy.
        """
        return self.encoded(image, side, WHOLE)

    @torch.no_grad()
    def encoded(self, image: FloatArray, side: int, window: Window) -> Features:
        """Encode a part of the network's copy of a plane, as `features` all of it.

        The copy is standardised as a whole: a dark part stays dark.
        """
        image = np.ascontiguousarray(image)
        key = f"{digest(image)} {side} {window}"
        found = self._kept.get(key)
        if found is None:
            pixels = three_channels(torch.from_numpy(image))
            shape = working_shape((image.shape[0], image.shape[1]), side)
            small = resample(pixels[None].to(self.device), shape)
            part = standardise(small)[..., window[0], window[1]]
            found = self.network.encode(part.contiguous())
            self._kept.put(key, found)
        return found

    @torch.no_grad()
    def context(self, features: Sequence[Features], masks: Sequence[BoolArray]) -> Any:
        """Join supports of any shapes into what they say about one class.

        Parameters
        ----------
        features : sequence of Features
            One encoded plane each.
        masks : sequence of array (H, W) bool
            In the planes' own size.

        Returns
        -------
        Context
        """
        parts = []
        for one, mask in zip(features, masks, strict=True):
            small = cover(mask, network_shape(one), self.device)
            parts.append(self.network.context(one, small))
        return join_contexts(parts)

    def contexts(
        self,
        samples: Sequence[Sample],
        classes: Sequence[int],
        side: int,
        report: Callable[[int], None] = lambda number: None,
    ) -> dict[int, Context]:
        """Return what labelled planes say about each class.

        One plane is encoded at a time, so that memory grows by its keys alone. What a
        single support says is remembered: subsets of the same supports cost little.

        Parameters
        ----------
        samples : sequence of Sample
            Planes with labels.
        classes : sequence of int
            Label values.
        side : int
            Longest side of the network's copies; large ones are read in tiles.
        report : callable, optional
            Called with the number of every sample before it is encoded.
        """
        parts: dict[int, list[Context]] = {value: [] for value in classes}
        tiles = tiles_each(len(samples)) if side > TILE else 0
        for number, sample in enumerate(samples):
            report(number)
            plane = f"{digest(np.ascontiguousarray(sample.image))} {side} {tiles}"
            for value in classes:
                mask = sample.labels == value
                key = f"{plane} {digest(np.packbits(mask))}"
                said = self._read.get(key)
                if said is None:
                    if tiles:
                        said = read_tiles(self, sample.image, mask, side, tiles)
                    else:
                        said = self.context([self.features(sample.image, side)], [mask])
                    self._read.put(key, said)
                parts[value].append(said)
        return {value: join_contexts(found) for value, found in parts.items()}

    @torch.no_grad()
    def decode(
        self,
        features: Features,
        context: Context | None,
        shape: tuple[int, int],
        prompts: PlanePrompts | None = None,
        past: FloatArray | None = None,
    ) -> FloatArray:
        """Return mask logits of one plane.

        Parameters
        ----------
        features : Features
            The encoded query.
        context : Context, optional
            What the supports say; None without supports.
        shape : (int, int)
            Rows and columns of the plane; the logits get this shape.
        prompts : PlanePrompts, optional
            Clicks and alike, in pixels of the plane.
        past : array (H, W), optional
            Earlier logits, any size.

        Returns
        -------
        array (H, W) float32
        """
        size = network_shape(features)
        channels = torch.zeros((PROMPT_CHANNELS, *size))
        if prompts is not None:
            channels[:3] = torch.from_numpy(prompt_image(prompts, shape, size))
        if past is not None:
            before = torch.from_numpy(np.ascontiguousarray(past))[None, None]
            channels[3] = torch.sigmoid(resample(before, size))[0, 0]
            channels[4] = 1
        given = channels[None, None].to(self.device)
        logits, _ = self.network.decode(features, context, given)
        found: FloatArray = resample(logits.float(), shape)[0, 0].cpu().numpy()
        return found


def load(
    spec: ModelSpec, checkpoint: Any, device: str, precision: str
) -> InContextModel:
    """Load the network.

    Parameters
    ----------
    spec : ModelSpec
        Facts about it.
    checkpoint : path, optional
        Weights of your own for this architecture (safetensors); default the bundled
        ones, which are checked against their known SHA-256.
    device, precision : str
        See `nf.load_model`.

    Raises
    ------
    WeightsError
        If the file is missing, damaged, altered, or of another architecture.
    """
    path = WEIGHTS if checkpoint is None else Path(checkpoint)
    try:
        stamp = path.stat().st_mtime_ns
    except OSError:
        stamp = 0
    return _load(spec, path, checkpoint is None, stamp, resolve_device(device))


@functools.lru_cache(maxsize=2)
def _load(
    spec: ModelSpec, path: Path, bundled: bool, stamp: int, device: str
) -> InContextModel:
    """Load once per file (until it changes) and device: encodings are kept with it."""
    from safetensors import SafetensorError
    from safetensors.torch import load as parse

    advice = (
        "Install napari-fewshot again (pip install --force-reinstall --no-deps "
        "napari-fewshot)."
        if bundled
        else "Choose another file, or leave checkpoint out for the bundled weights."
    )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(
            f"The weights file {path.name} cannot be read ({error.strerror}). {advice}"
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    if bundled and digest != spec.sha256:
        raise WeightsError(
            f"The weights file {path.name} is damaged or was altered: its SHA-256 is "
            f"{digest[:12]}..., not {spec.sha256[:12]}.... {advice}"
        )
    network = InContextNetwork()
    try:
        state = {k: v.float() for k, v in parse(data).items()}
        network.load_state_dict(state)
    except SafetensorError as error:
        raise WeightsError(
            f"The file {path.name} does not hold weights of {spec.name}: it is cut "
            f"short or no safetensors file. {advice}"
        ) from error
    except RuntimeError as error:
        raise WeightsError(
            f"The file {path.name} does not hold weights of {spec.name}. {advice}"
        ) from error
    if not all(bool(torch.isfinite(v).all()) for v in state.values()):
        raise WeightsError(
            f"The weights file {path.name} is damaged: it holds values that are not "
            f"numbers. {advice}"
        )
    return InContextModel(network, device, digest)
