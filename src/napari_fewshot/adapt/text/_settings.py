"""How a CLIP is fine-tuned, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from napari_fewshot.errors import DataError
from napari_fewshot.ops.contrast import HARDNESS, TEMPERATURE


@dataclass(frozen=True)
class FinetuneSettings:
    """How a CLIP is fine-tuned.

    Attributes
    ----------
    epochs, batch : int
        Passes over the training pairs at most, pairs per step.
    rate, weight_decay : float
        Of AdamW; the rate is halved after every epoch that was no better.
    temperature, hardness : float
        Of DHN-NCE; see `ops.contrast.dhn_nce`.
    parts : {"all", "last", "projections"}
        What is trained; see `TrainableClip`.
    blocks : int
        How many last blocks, for ``"last"``.
    validation : float
        Share of the images that is held out.
    patience : int
        Epochs in a row that may be no better before it ends.
    seed : int
        Of the division, the order, and all else that is random.
    """

    epochs: int = 10
    batch: int = 32
    rate: float = 1e-6
    weight_decay: float = 0.01
    temperature: float = TEMPERATURE
    hardness: float = HARDNESS
    parts: str = "all"
    blocks: int = 2
    validation: float = 0.15
    patience: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values without sense."""
        whole = {"epochs": self.epochs, "patience": self.patience}
        wrong = [n for n, v in whole.items() if v < 1]
        above = {"rate": self.rate, "temperature": self.temperature}
        wrong += [n for n, v in above.items() if not 0 < v < float("inf")]
        rest = {"hardness": self.hardness, "weight_decay": self.weight_decay}
        wrong += [n for n, v in rest.items() if not 0 <= v < float("inf")]
        if wrong:
            raise DataError(f"{wrong[0]} must be above 0. Change it.")
        if self.batch < 2:
            raise DataError(
                "A batch of one pair has no negatives to learn from. Use a batch of "
                "two or more."
            )
        if not 0 < self.validation < 1:
            raise DataError("validation is a share of the images, between 0 and 1.")


@dataclass(frozen=True)
class Finetuned:
    """What came of it.

    Attributes
    ----------
    folder : Path or None
        With the best weights, for `load_text_model`; None if no epoch was better than
        the model was before.
    before, after : dict of str to float
        On the held-out pairs: ``"loss"``, and the share of right ones among the
        nearest one and two: ``"text top 1"`` (texts found by images), ``"image top
        1"`` (images found by texts), the same with 2. ``after`` is the best epoch's.
    history : tuple of dict
        Per epoch.
    best : int
        Number of the best epoch; 0 is before training.
    pairs : (int, int)
        For training and held out.
    """

    folder: Path | None
    before: dict[str, float]
    after: dict[str, float]
    history: tuple[dict[str, float], ...] = field(repr=False)
    best: int
    pairs: tuple[int, int]

    @property
    def told(self) -> str:
        """One line for the user."""
        if self.folder is None:
            return (
                f"{len(self.history)} epochs brought nothing on {self.pairs[1]} "
                "held-out pairs: the model stays as it was. More pairs or a higher "
                "rate may help."
            )
        return (
            f"Epoch {self.best} is the best: of {self.pairs[1]} held-out images "
            f"{self.after['text top 1']:.0%} find their caption first, "
            f"{self.before['text top 1']:.0%} did before. {self.folder}"
        )
