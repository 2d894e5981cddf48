"""What ``benchmark clicks`` is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from napari_fewshot.cli._click_plots import check_plot
from napari_fewshot.cli._click_report import Scale
from napari_fewshot.errors import DataError
from napari_fewshot.evaluation import KINDS

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

MAX_CLICKS = 10
# After how many steps tables report, and how many there are unless told otherwise.
SHOWN = (0, 1, 2, 3, 5, 10)
SHOWN_B = (1, 3, 5)
TURNS = {"A": 20, "D": 7, "F": 5}
PROTOCOLS = ("A", "B", "D", "F", "G")
NOISES = (0.0, 0.05, 0.1, 0.2)
LABELS = {
    "A": "clicks on the thickest error",
    "B": "clicks on the largest error",
    "D": "pairs of clicks",
    "F": "scribbles",
    "G": "noise of the box in % of its sides",
}


@dataclass(frozen=True)
class ClickOptions:
    """How a click benchmark is run.

    Attributes
    ----------
    datasets : sequence of str
        Only these; default all.
    protocol : {"A", "B", "D", "F", "G"}
        The robot.
    clicks : sequence of int, optional
        After how many steps Dice and IoU are reported; default 1, 3, 5 for B, else 0,
        1, 2, 3, 5, 10 as far as there are so many.
    max_clicks : int, optional
        Steps at most; default 20 for A, 7 for D, 5 for F, for B what is reported.
    supports : sequence of int
        With how many accepted images; 0 is interactions alone.
    whole : bool
        Without supports, too, work on everything of a class instead of one object.
    box : bool
        Begin with a tight box.
    seeds : int
        Draws of images, and of everything random in a robot.
    limit : int, optional
        Objects of each data set and draw at most.
    original : bool
        On the pixels as they are, not at longest side 256.
    method, model : str
        What to score. ``"random-walker"`` is the reference; a promptable model such as
        ``"sam/vit_b"`` is asked directly.
    checkpoint, device : str, optional
        Weights of the model, and where it computes.
    jitter : bool
        Click like a person instead of a robot (A and B).
    scribble : {"centre", "line", "contour"}
        Kind of the first scribbles (F).
    iou, dice : sequence of float
        Thresholds of the number of clicks and of failures.
    json_path, csv_path, plot_path : path, optional
        Write the table, every step of every object, and curves there.
    """

    datasets: Sequence[str] = ()
    protocol: str = "B"
    clicks: Sequence[int] | None = None
    max_clicks: int | None = None
    supports: Sequence[int] = (0,)
    whole: bool = False
    box: bool = False
    seeds: int = 1
    limit: int | None = None
    original: bool = False
    method: str = "incontext"
    model: str = "auto"
    checkpoint: str | None = None
    device: str = "auto"
    jitter: bool = False
    scribble: str = "centre"
    iou: Sequence[float] = (0.8, 0.85, 0.9)
    dice: Sequence[float] = (0.8, 0.9)
    json_path: str | os.PathLike[str] | None = None
    csv_path: str | os.PathLike[str] | None = None
    plot_path: str | os.PathLike[str] | None = None

    @property
    def turns(self) -> int:
        """Steps at most, not counting the one before the first correction."""
        if self.protocol == "G":
            return len(NOISES) - 1
        if self.max_clicks is not None:
            return self.max_clicks
        if self.protocol in TURNS:
            return TURNS[self.protocol]
        shown = self.clicks or SHOWN_B
        wide = self.whole or any(self.supports)
        return max(*shown, MAX_CLICKS) if wide else max(shown)

    @property
    def scale(self) -> Scale:
        """What the steps are called and which of them are reported."""
        if self.protocol == "G":
            names = tuple(f"{100 * n:g}" for n in NOISES)
            steps = tuple(range(len(names)))
            return Scale(LABELS["G"], names, steps, is_effort=False)
        shown = self.clicks or (SHOWN_B if self.protocol == "B" else SHOWN)
        # Before the first click there is an answer only if something was given.
        first = 0 if self.box or self.protocol == "D" or any(self.supports) else 1
        steps = tuple(n for n in shown if first <= n <= self.turns)
        names = tuple(str(n) for n in range(self.turns + 1))
        return Scale(LABELS[self.protocol], names, steps)

    def check(self) -> None:
        """Refuse what can't be run, before anything is read.

        Raises
        ------
        DataError
            If an option has no meaning or does not go with another.
        """
        if self.protocol not in PROTOCOLS:
            raise DataError(
                f"There is no protocol {self.protocol!r}; use one of "
                f"{', '.join(PROTOCOLS)}."
            )
        if self.scribble not in KINDS:
            raise DataError(
                f"There is no scribble {self.scribble!r}; use one of "
                f"{', '.join(KINDS)}."
            )
        for name, value in (("--max-clicks", self.max_clicks), ("--limit", self.limit)):
            if value is not None and value < 1:
                raise DataError(f"{name} is {value}; give 1 or more.")
        wrong = [t for t in (*self.iou, *self.dice) if not 0 < t <= 1]
        if wrong:
            raise DataError(
                f"A threshold of --iou and --dice is above 0 and at most 1; "
                f"{wrong[0]:g} is not."
            )
        if min(self.clicks or (0,)) < 0 or min(self.supports, default=0) < 0:
            raise DataError("--clicks and --supports are 0 or more.")
        if max(self.clicks or (0,)) > self.turns:
            raise DataError(
                f"--clicks asks for {max(self.clicks or ())} steps, but there are "
                f"{self.turns}; give a larger --max-clicks or fewer steps."
            )
        if self.plot_path is not None:
            check_plot(self.plot_path)


Number = TypeVar("Number", int, float)


def numbers(option: str, text: str, kind: type[Number]) -> list[Number]:
    """Return the numbers of ``1,3,5``.

    Raises
    ------
    DataError
        If one is none.
    """
    try:
        return [kind(word) for word in text.split(",") if word.strip()]
    except ValueError as error:
        raise DataError(
            f"{option} holds numbers with commas between, such as 1,3,5; "
            f"{text!r} is none of these."
        ) from error
