"""A model with weights on a device: planes and phrases to one space."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from napari_fewshot.data import Embedding
from napari_fewshot.errors import DataError
from napari_fewshot.models._device import autocast
from napari_fewshot.models._ladder import Economical
from napari_fewshot.models._recent import Recent
from napari_fewshot.models.clip._kept import TextStore, is_on
from napari_fewshot.models.clip._tokens import lengths_of
from napari_fewshot.models.clip._towers import tower_of
from napari_fewshot.models.dense._frame import Preset, prepared

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from napari_fewshot._types import AnyArray, FloatArray
    from napari_fewshot.models._spec import ModelSpec
    from napari_fewshot.models.clip._makes import Make
    from napari_fewshot.models.clip._tokens import Tokens

# Phrases that are read at a time.
BATCH = 64
# Lengths of phrases are rounded up to whole ones of these, so that what a phrase gives
# does not depend on the others of its batch.
STEP = 16
# Bytes of vectors in memory: some 8,000 phrases.
MEMORY = 16 * 2**20
# Raise it when phrases are read otherwise: what was kept before is then not found.
FORMAT = 1


@dataclass(frozen=True)
class _Squashed:
    """A plane resized to a square, whatever its shape; see `dense._frame.Fitting`."""

    shape: tuple[int, int]
    inner: tuple[int, int]

    @property
    def grid(self) -> tuple[int, int]:
        """Pixels instead of patches: nothing is filled up."""
        return self.inner


class ClipModel(Economical):
    """A model that compares images with phrases.

    Parameters
    ----------
    network : Module
        CLIP or CustomTextCLIP of open_clip, with weights.
    tokens : Tokens
        Its tokenizer.
    make : Make
        How it was built and how it sees.
    spec : ModelSpec
        Facts about it.
    device, precision : str
        Where, and with how many bits it computes.
    sha256 : str
        Of the weights file.

    Attributes
    ----------
    tower : NativeTower or TimmTower
        The image tower, taken apart; computes with the precision of the model.
    size : int
        Pixels along both sides of what the tower reads.
    context_length : int
        Tokens of a phrase that are read.
    logit_scale : float
        What cosines are multiplied with.
    preset : str
        What tells models with the same weights apart that compute otherwise.

    Raises
    ------
    ModelError
        If the image tower is of a kind that can't be taken apart.
    """

    def __init__(
        self,
        network: Any,
        tokens: Tokens,
        make: Make,
        spec: ModelSpec,
        device: str = "cpu",
        precision: str = "fp32",
        sha256: str = "",
    ) -> None:
        super().__init__(device, precision)
        self.network, self.spec, self.make = network, spec, make
        self.sha256, self._tokens = sha256, tokens
        network.eval().requires_grad_(requires_grad=False).to(self.device)
        self.tower = tower_of(network.visual)
        self.tower.context = lambda: autocast(self.device, self.precision)
        self.size = self.side = _side(network.visual)
        self.context_length = tokens.context_length
        self.logit_scale = float(network.logit_scale.detach().exp().max())
        self.preset = _told(make)
        self._reading = _told(make, *(path.read_bytes() for path in tokens.files))
        self._recent: Recent[FloatArray] = Recent(MEMORY)

    def move(self, device: torch.device) -> None:
        """Bring the network to a device."""
        super().move(device)
        self.network.to(device)

    def encode(
        self, image: Any, check: Callable[[int, int], None] | None = None
    ) -> Embedding:
        """Return the embedding of one plane, in the space of words.

        The plane is squashed to a square: all of it is seen, whatever its shape.

        Parameters
        ----------
        image : array (H, W) or (H, W, C)
            uint8 is divided by 255, floats in [0, 1] are taken as they are, other
            numbers are windowed by their percentiles.
        check : callable, optional
            Called with the number of the block and of all blocks; may raise to cancel.

        Returns
        -------
        Embedding
            (E, rows, columns) of the tower's grid, over the whole plane: patch tokens
            of the last block, projected; not of length one.

        Raises
        ------
        DataError
            If it is no plane.
        ModelError
            If memory runs out and nothing is left to give up; see ``notes``.
        """
        pixels = self._plane(image)
        array = self.within_memory(partial(self._features, pixels, check))
        shape = (int(pixels.shape[0]), int(pixels.shape[1]))
        return Embedding(array, shape, self.spec.name)

    def prepared(self, image: AnyArray) -> Tensor:
        """Return what the tower reads of a plane, (1, 3, size, size), on the device.

        Parameters
        ----------
        image : array (H, W) or (H, W, C)
            See `encode`.

        Raises
        ------
        DataError
            If it is no plane.
        """
        pixels = self._plane(image)
        fitting: Any = _Squashed(pixels.shape[:2], (self.size, self.size))
        preset = Preset(1, self.make.mean, self.make.deviation)
        return prepared(pixels, fitting, preset).to(self.device)

    def encode_text(self, phrases: Sequence[str]) -> FloatArray:
        """Return phrases in the space of words.

        What was read before is found in memory or, unless the cache is turned off, on
        disk.

        Parameters
        ----------
        phrases : sequence of str
            Of any script and length; see `too_long`. Empty ones are read, too.

        Returns
        -------
        array (n, E) float32
            Rows of length one.
        """
        phrases = (phrases,) if isinstance(phrases, str) else tuple(phrases)
        store = TextStore() if is_on() else None
        found: dict[str, FloatArray] = {}
        for phrase in dict.fromkeys(phrases):
            vector = self._kept(phrase, store)
            if vector is not None:
                found[phrase] = vector
        missing = [p for p in dict.fromkeys(phrases) if p not in found]
        for numbers, group in self._groups(missing):
            rows = self.within_memory(partial(self._read, numbers))
            for phrase, row in zip(group, rows, strict=True):
                found[phrase] = row
                self._recent.put(self._key(phrase), row)
                if store is not None:
                    store.write(self._key(phrase), row)
        empty = np.zeros((0, self._length), np.float32)
        return np.stack([found[p] for p in phrases]) if phrases else empty

    def too_long(self, phrases: Sequence[str]) -> tuple[str, ...]:
        """Return the phrases of which only the beginning is read.

        Parameters
        ----------
        phrases : sequence of str
            In any order, which is kept.
        """
        counts = self._tokens.lengths(phrases)
        return tuple(
            p
            for p, count in zip(phrases, counts, strict=True)
            if count > self.context_length
        )

    @property
    def _length(self) -> int:
        """Numbers of a vector."""
        return int(self.make.config["embed_dim"])

    def _plane(self, image: Any) -> AnyArray:
        pixels = np.asarray(image)
        if pixels.ndim not in (2, 3) or 0 in pixels.shape:
            raise DataError(
                f"{self.spec.name} encodes one plane (H, W) or (H, W, C); this array "
                f"has the shape {pixels.shape}."
            )
        return pixels

    @torch.inference_mode()
    def _features(
        self, pixels: AnyArray, check: Callable[[int, int], None] | None
    ) -> FloatArray:
        tower = self.tower
        tokens = tower.begin(self.prepared(pixels))
        for block in range(tower.depth):
            if check is not None:
                check(block, tower.depth)
            tokens = tower.run(tokens, block, block + 1)
        words = tower.project(tokens)[0, tower.prefix :]
        array: FloatArray = words.T.reshape(-1, *tower.grid).cpu().numpy()
        return np.ascontiguousarray(array)

    @torch.inference_mode()
    def _read(self, numbers: Tensor) -> FloatArray:
        with autocast(self.device, self.precision):
            found = self.network.encode_text(numbers.to(self.device))
        rows: FloatArray = F.normalize(found.float(), dim=-1).cpu().numpy()
        return rows

    def _groups(self, phrases: Sequence[str]) -> list[tuple[Tensor, list[str]]]:
        """Return tokens of phrases and the phrases, in groups that are read at once.

        Where padding is masked it is cut off, as far as all lengths in a group allow.
        """
        if not phrases:
            return []
        numbers = self._tokens(phrases)
        ends = torch.full((len(phrases),), numbers.shape[1])
        reader = getattr(getattr(self.network, "text", None), "config", None)
        if reader is not None and reader.model_type == "bert":
            used = lengths_of(numbers, reader.pad_token_id)
            ends = (-(-used // STEP) * STEP).clamp(STEP, numbers.shape[1])
        groups = []
        for end in ends.unique().tolist():
            places = (ends == end).nonzero()[:, 0].tolist()
            for first in range(0, len(places), BATCH):
                some = places[first : first + BATCH]
                groups.append((numbers[some, :end], [phrases[i] for i in some]))
        return groups

    def _key(self, phrase: str) -> str:
        return json.dumps([FORMAT, self.sha256, self._reading, self.precision, phrase])

    def _kept(self, phrase: str, store: TextStore | None) -> FloatArray | None:
        """Return a vector from memory or disk."""
        key = self._key(phrase)
        found = self._recent.get(key)
        if found is None and store is not None:
            found = store.read(key, self._length)
            if found is not None:
                self._recent.put(key, found)
        return found


def _side(visual: Any) -> int:
    """Return the pixels along both sides of what a tower reads."""
    trunk = getattr(visual, "trunk", None)
    size = visual.image_size if trunk is None else trunk.patch_embed.img_size
    return int(size[0])


def _told(make: Make, *files: bytes) -> str:
    """Return a digest of how a model computes, besides its weights."""
    words = [make.config, make.mean, make.deviation]
    found = hashlib.sha256(json.dumps(words, sort_keys=True, default=str).encode())
    for content in files:
        found.update(hashlib.sha256(content).digest())
    return found.hexdigest()[:16]
