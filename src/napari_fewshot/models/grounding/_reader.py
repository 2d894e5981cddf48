"""What every model here has in common: words to tokens, planes to pixels, memory."""

from __future__ import annotations

import re
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_fewshot.errors import DataError, ModelError, PromptError
from napari_fewshot.models._device import autocast
from napari_fewshot.models._ladder import Economical
from napari_fewshot.models._pixels import rgb_bytes
from napari_fewshot.models._recent import digest
from napari_fewshot.models.hf._model import _look, _watched

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_fewshot._types import AnyArray
    from napari_fewshot.models._spec import ModelSpec

    Check = Callable[[int, int], None]

# What a tokenizer would take for its own signs, not for words.
SIGNS = re.compile(r"<\|[^|>]*\|>|\[(?:CLS|SEP|PAD|MASK|UNK)\]", re.IGNORECASE)
# Lists of blocks are called so in the networks of transformers.
BLOCKS = ("layers", "layer", "blocks")
# Examples whose vectors are kept.
EXAMPLES = 64


class Reader(Economical):
    """A network that reads phrases, on a device.

    Parameters
    ----------
    network : torch.nn.Module
        Of transformers, with weights.
    processor : object
        Of transformers: its tokenizer, and how it prepares images.
    spec : ModelSpec
        Facts about it.
    device, precision : str
        Where, and with how many bits images are encoded.
    sha256 : str
        Of the weights.

    Attributes
    ----------
    context_length : int
        Tokens of a phrase that are read.
    size : int
        Pixels of the longer side of what is read.
    """

    context_length: int
    size: int

    def __init__(
        self,
        network: Any,
        processor: Any,
        spec: ModelSpec,
        device: str = "cpu",
        precision: str = "fp32",
        sha256: str = "",
    ) -> None:
        super().__init__(device, precision)
        self.network = network.eval().to(self.device)
        self.processor, self.spec, self.sha256 = processor, spec, sha256
        self._seen: tuple[str, Any] | None = None
        self._examples: OrderedDict[str, Tensor] = OrderedDict()
        _watch_blocks(network)

    def move(self, device: torch.device) -> None:
        """Bring the network to a device."""
        super().move(device)
        self._seen = None
        self._examples.clear()
        self.network.to(device)

    def encode(self, image: Any) -> Any:
        """Refuse: these models find phrases and give no features.

        Raises
        ------
        ModelError
            Always; says what to choose.
        """
        raise ModelError(
            f"{self.spec.name} looks for phrases and gives no features for methods "
            "that learn from supports. Type a phrase, or choose another model."
        )

    def too_long(self, phrases: Sequence[str]) -> tuple[str, ...]:
        """Return the phrases of which only the beginning is read."""
        most = self.context_length
        every = (p for p in dict.fromkeys(phrases) if plain(p))
        return tuple(p for p in every if len(self._ids(plain(p))) > most)

    def unreadable(self, phrases: Sequence[str]) -> tuple[str, ...]:
        """Return the phrases of which the model knows no word.

        A vocabulary of whole words has one token for all that it does not know, such
        as scripts that it was not trained on.
        """
        tokenizer = self.processor.tokenizer
        ignored = {tokenizer.unk_token_id, *tokenizer.all_special_ids}
        found = []
        for phrase in dict.fromkeys(phrases):
            words = plain(phrase)
            if not words or set(self._ids(words)) <= ignored:
                found.append(phrase)
        return tuple(found)

    def _ids(self, text: str) -> list[int]:
        """Return all tokens, with those for beginning and end, however many."""
        found = self.processor.tokenizer(text, truncation=False, verbose=False)
        return [int(i) for i in found["input_ids"]]

    def _words(self, phrases: Sequence[str]) -> list[str]:
        """Return phrases without signs of tokenizers.

        Raises
        ------
        PromptError
            If nothing is left of one, or there is none.
        """
        if not len(phrases):
            raise PromptError("There is no phrase. Type what to look for.")
        found = [plain(phrase) for phrase in phrases]
        if not all(found):
            empty = phrases[found.index("")]
            raise PromptError(
                f"The phrase {empty!r} has no words to look for. Type another."
            )
        return found

    def _padded(self, phrases: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return tokens and their mask on the device, each (n, context_length)."""
        found = self.processor.tokenizer(
            list(phrases),
            padding="max_length",
            max_length=self.context_length,
            truncation=True,
            return_tensors="pt",
        )
        ids, mask = found["input_ids"], found["attention_mask"]
        return ids.to(self.device), mask.to(self.device)

    def _plane(self, image: Any) -> AnyArray:
        """Return a plane as (H, W, 3) uint8.

        Raises
        ------
        DataError
            If it is no plane.
        """
        pixels = np.asarray(image)
        if pixels.ndim not in (2, 3) or 0 in pixels.shape:
            raise DataError(
                f"{self.spec.name} reads one plane (H, W) or (H, W, C); this array has "
                f"the shape {pixels.shape}."
            )
        return rgb_bytes(pixels)

    def _pixels(self, rgb: AnyArray) -> dict[str, Tensor]:
        """Return what the network reads of a plane, as its publishers prepare it."""
        found = self.processor.image_processor(
            rgb, return_tensors="pt", input_data_format="channels_last"
        )
        names = ("pixel_values", "pixel_mask")
        return {name: found[name].to(self.device) for name in names if name in found}

    def _encoded(
        self, rgb: AnyArray, work: Callable[[AnyArray], Any], check: Check | None
    ) -> Any:
        """Return what the image tower makes of a plane; kept for the same plane.

        One phrase after the other is looked for on a plane, so that the last one is
        kept, and no more: features of large models fill memory.
        """
        key = digest(np.ascontiguousarray(rgb))
        if self._seen is None or self._seen[0] != key:
            self._seen = None
            found = self.within_memory(partial(self._watched, work, rgb, check))
            self._seen = key, found
        return self._seen[1]

    def _known(self, rgb: AnyArray, work: Callable[[], Tensor]) -> Tensor:
        """Return the vector of an example; kept, since planes of a stack share it."""
        key = digest(np.ascontiguousarray(rgb))
        if key not in self._examples:
            self._examples[key] = work()
            while len(self._examples) > EXAMPLES:
                self._examples.popitem(last=False)
        self._examples.move_to_end(key)
        return self._examples[key]

    def _watched(
        self, work: Callable[[AnyArray], Any], rgb: AnyArray, check: Check | None
    ) -> Any:
        with _watched(check), autocast(self.device, self.precision):
            return work(rgb)


def plain(phrase: str) -> str:
    """Return a phrase without what a tokenizer would take for its own signs.

    Parameters
    ----------
    phrase : str
        As typed: ``"[SEP]"`` or ``"<|endoftext|>"`` in it would end the sentence.
    """
    return " ".join(SIGNS.sub(" ", str(phrase)).split())


def _watch_blocks(network: nn.Module) -> None:
    """Let every block ask whether to go on: a large network takes many seconds."""
    for name, part in network.named_modules():
        is_list = isinstance(part, nn.ModuleList) and name.split(".")[-1] in BLOCKS
        if is_list and "text" not in name:
            blocks: Any = part
            for number, block in enumerate(blocks):
                block.register_forward_pre_hook(partial(_look, number, len(blocks)))
