"""What a model gives up, step by step, when memory runs out.

Free what is not needed; decode fewer objects at a time; compute with 16 bits; leave the
card for the processor. A step that was taken stays taken for as long as the model is
loaded, is logged, and is told in ``notes``.
"""

from __future__ import annotations

import gc
import logging
import traceback
from typing import TYPE_CHECKING, TypeVar

import torch

from napari_fewshot.errors import FewShotError, ModelError
from napari_fewshot.models._device import half_of

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

logger = logging.getLogger(__name__)

# More objects than are ever decoded at a time.
UNLIMITED = 2**31
# What torch and its parts say in plain `RuntimeError`s.
SIGNS = (
    "not enough memory",
    "out of memory",
    "allocate memory",
    "bad_alloc",
    "alloc_failed",
    # oneDNN, which names no reason.
    "could not create a primitive",
    "could not create a memory",
)


class Economical:
    """Where and how a model computes; may give things up.

    Parameters
    ----------
    device, precision : str
        Where, and with how many bits the encoder computes.

    Attributes
    ----------
    device : torch.device
    precision : str
        Of the encoder.
    decoding : str
        Precision of the decoder: full as long as memory suffices, since 16 bits there
        change masks.
    at_once : int
        Most objects that are decoded at a time.
    notes : list of str
        What was given up, in sentences for the user.
    """

    def __init__(self, device: str, precision: str) -> None:
        self.device, self.precision = torch.device(device), precision
        self.decoding, self.at_once = "fp32", UNLIMITED
        self.notes: list[str] = []

    def move(self, device: torch.device) -> None:
        """Bring the network to a device.

        Parameters
        ----------
        device : torch.device
            What computes from now on.
        """
        self.device = device

    def note(self, sentence: str) -> None:
        """Tell the user what is otherwise than wanted: in ``notes`` and in the log.

        Parameters
        ----------
        sentence : str
            Complete.
        """
        self.notes.append(sentence)
        logger.warning("%s", sentence)

    def within_memory(
        self, work: Callable[[], T], *, decoder: bool = False, objects: int = 1
    ) -> T:
        """Return what work returns; when memory runs out give something up and repeat.

        Parameters
        ----------
        work : callable
            Reads ``device``, ``precision``, ``decoding`` and ``at_once`` at each call.
        decoder : bool
            Whether it is work of the decoder.
        objects : int
            How many there are to decode.

        Raises
        ------
        ModelError
            If there is nothing left to give up.
        """
        freed = False
        while True:
            try:
                return work()
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                said = str(error).partition("\n")[0][:200] or "out of memory"
                # Its frames hold what filled the memory.
                traceback.clear_frames(error.__traceback__)
            if freed:
                self._give_up(said, decoder=decoder, objects=objects)
            release(self.device)
            freed = True

    def _give_up(self, reason: str, *, decoder: bool, objects: int) -> None:
        """Take the next step.

        Raises
        ------
        ModelError
            If there is none.
        """
        place, objects = self.device, min(objects, self.at_once)
        if objects > 1:
            self.at_once = max(1, objects // 4)
            said = f"objects are decoded in groups of at most {self.at_once}"
        elif (self.decoding if decoder else self.precision) == "fp32":
            half, part = half_of(place), "decoder" if decoder else "encoder"
            if decoder:
                self.decoding = half
            else:
                self.precision = half
            said = f"the {part} computes with {half}, which may change masks slightly"
        elif place.type != "cpu":
            with torch.inference_mode(mode=False), torch.no_grad():
                self.move(torch.device("cpu"))
            # Processors have memory enough for all bits, and are slow with fp16.
            self.precision = self.decoding = "fp32"
            said = "the processor computes, which takes longer"
        else:
            raise ModelError(
                f"There is not enough memory for this model ({reason}). Close other "
                "programs, or choose a smaller model."
            )
        self.note(f"Memory ran out on {place}: from now on {said}.")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of a card or of the computer.

    Parameters
    ----------
    error : Exception
        Of torch, numpy or Python.
    """
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    if isinstance(error, FewShotError):
        return False
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in said for sign in SIGNS)


def release(device: torch.device) -> None:
    """Give memory back that nothing uses.

    Parameters
    ----------
    device : torch.device
        Whose.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps" and torch.backends.mps.is_available():
        torch.mps.empty_cache()
