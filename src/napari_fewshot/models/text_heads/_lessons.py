"""What a head learns from, and how long."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from napari_fewshot.data import Embedding
    from napari_fewshot.models.text_heads._seen import Seen

# Learning rates where none is asked for.
RATE, RATES = 2e-3, {"vlp": 3e-4}


@dataclass(frozen=True)
class HeadSettings:
    """How a head is fitted.

    Attributes
    ----------
    kind : str
        See `KINDS`.
    steps : int
        Of AdamW.
    rate, decay : float
        Learning rate, which rises first and falls as a cosine, 0 is what suits the
        kind; weight decay.
    planes : int
        Per step.
    seed : int
        Of everything random.
    """

    kind: str = "dynamic"
    steps: int = 200
    rate: float = 0.0
    decay: float = 1e-3
    planes: int = 4
    seed: int = 0

    @property
    def peak(self) -> float:
        """The learning rate, chosen or not."""
        return self.rate or RATES.get(self.kind, RATE)


@dataclass(frozen=True, eq=False)
class Lesson:
    """One plane to learn from.

    Attributes
    ----------
    seen : Seen
        Of this plane alone.
    covers : dict of int to tensor (h, w)
        Share of every pixel that a class covers; a class that is missing is nowhere.
    modality : str
        How the image was made; "" is one of them.
    embedding : Embedding, optional
        SAM's, for ``"vlp"``.
    """

    seen: Seen
    covers: Mapping[int, Tensor] = field(repr=False)
    modality: str = ""
    embedding: Embedding | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Phrases:
    """What is asked for while a head learns; all rows are of length one.

    Attributes
    ----------
    classes : dict of (int, str) to tensor (M, E)
        Phrases of a class in a modality.
    absent : tensor (K, E)
        Phrases that are nowhere.
    """

    classes: Mapping[tuple[int, str], Tensor] = field(repr=False)
    absent: Tensor = field(repr=False)

    @property
    def centre(self) -> Tensor:
        """What all phrases have in common, (E,).

        Most of a text vector says only that it is a sentence, so that all are nearly
        alike; heads read what is left. It is the mean of the classes; of a single one
        and the phrases that are nowhere, if there are any.
        """
        means = [
            torch.cat([r for (v, _), r in self.classes.items() if v == value]).mean(0)
            for value in self.values
        ]
        if len(means) < 2 and len(self.absent):
            means.append(self.absent.mean(0))
        if len(means) < 2:
            return torch.zeros_like(means[0])
        return torch.stack(means).mean(0)

    @property
    def values(self) -> tuple[int, ...]:
        """The classes."""
        return tuple(dict.fromkeys(value for value, _ in self.classes))
