"""Phrases to numbers of tokens: open_clip's own tokenizer, or one of transformers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

from napari_fewshot.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from napari_fewshot.models.clip._makes import Make

# What a tokenizer of transformers is read from: one of these groups must be there.
FILES = (
    ("tokenizer.json",),
    ("vocab.txt",),
    ("spiece.model",),
    ("sentencepiece.bpe.model",),
    ("tokenizer.model",),
    ("vocab.json", "merges.txt"),
)
SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
# More letters than any model reads: the time of open_clip's tokenizer grows with the
# square of the length of a word.
LONGEST = 2000


class Tokens:
    """A tokenizer.

    Parameters
    ----------
    make : Make
        Of the model.
    folder : Path, optional
        With the files of a tokenizer of transformers.

    Attributes
    ----------
    context_length : int
        Most tokens of a phrase that are read, marks of begin and end among them.
    files : tuple of Path
        What it was read from.

    Raises
    ------
    WeightsError
        If its files are missing or damaged.
    """

    def __init__(self, make: Make, folder: Path | None) -> None:
        text = make.text
        self.context_length = int(text.get("context_length", 77))
        options = dict(text.get("tokenizer_kwargs") or {})
        # Leaving words out by chance is for training.
        options.pop("reduction_mask", None)
        self.files: tuple[Path, ...] = ()
        self._own: Any
        if text.get("hf_tokenizer_name") or text.get("hf_model_name"):
            self.files = _needed(make, folder)
            self._own = _hugging(self.files[0].parent, text, options)
        else:
            self._own = SimpleTokenizer(context_length=self.context_length, **options)

    def __call__(self, phrases: Sequence[str]) -> Tensor:
        """Return numbers of tokens, (n, context_length); what is longer is cut.

        Parameters
        ----------
        phrases : sequence of str
            Not empty.
        """
        found: Tensor = self._own(
            [cleaned(p) for p in phrases], context_length=self.context_length
        )
        return found.long()

    def lengths(self, phrases: Sequence[str]) -> tuple[int, ...]:
        """Return how many tokens phrases have, marks included.

        Parameters
        ----------
        phrases : sequence of str
            Any; of very long ones only the beginning is counted, but they count as
            too long.
        """
        return tuple(
            self._length(cleaned(p)) + (self.context_length if p[LONGEST:] else 0)
            for p in phrases
        )

    def _length(self, text: str) -> int:
        if isinstance(self._own, SimpleTokenizer):
            return 2 + len(self._own.encode(text))
        plain = self._own.clean_fn(text)
        return len(self._own.tokenizer(plain, verbose=False).input_ids)


def cleaned(phrase: str) -> str:
    """Return a phrase that a tokenizer takes.

    What is no letter of Unicode becomes a question mark, the tokenizer's own marks
    become words, and of very long ones the beginning counts.

    Parameters
    ----------
    phrase : str
        As typed.
    """
    text = phrase[:LONGEST].encode("utf-8", "replace").decode("utf-8")
    return re.sub(r"<(start|end)_of_text>", r"\1 of text", text, flags=re.IGNORECASE)


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder has the files of a tokenizer of transformers.

    Parameters
    ----------
    folder : Path
        There or not.
    """
    return any(all((folder / f).is_file() for f in group) for group in FILES)


def _needed(make: Make, folder: Path | None) -> tuple[Path, ...]:
    """Return the files of the tokenizer.

    Raises
    ------
    WeightsError
        If there are none.
    """
    if folder is None or not has_tokenizer(folder):
        raise WeightsError(
            f"The tokenizer of {make.name} is missing. Put tokenizer.json and "
            "tokenizer_config.json (or vocab.txt) of the publisher into one folder "
            "with the weights, and give that folder."
        )
    names = {f for group in FILES for f in group} | set(SETTINGS)
    return tuple(sorted(folder / f for f in names if (folder / f).is_file()))


def _hugging(folder: Path, text: dict[str, Any], options: dict[str, Any]) -> Any:
    """Read a tokenizer of transformers, from this folder only."""
    try:
        return HFTokenizer(
            str(folder),
            context_length=int(text.get("context_length", 77)),
            tokenizer_mode=text.get("tokenizer_mode"),
            local_files_only=True,
            trust_remote_code=False,
            **options,
        )
    except ImportError as error:
        raise WeightsError(
            "The tokenizer of this model needs a package that is not installed "
            f'({error}). Install it with: pip install "napari-fewshot[hf]"'
        ) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        said = str(error).partition("\n")[0][:200]
        raise WeightsError(
            f"The tokenizer in {folder.name} can't be read ({said}). Copy "
            "tokenizer.json and tokenizer_config.json of the publisher again."
        ) from error


def lengths_of(ids: Tensor, padding: int) -> Tensor:
    """Return where the last token of each row that is no padding ends.

    Parameters
    ----------
    ids : tensor (n, L)
        Numbers of tokens.
    padding : int
        Number of the token that fills up.
    """
    used = (ids != padding).long() * torch.arange(1, ids.shape[1] + 1)
    return used.amax(1)
