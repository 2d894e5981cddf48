"""Draw the curves of the run behind the bundled weights from its log."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

HERE = Path(__file__).parent
WINDOW = 5


def main() -> None:
    log = pd.read_csv(HERE / "training-log.csv").set_index("step")
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    left.plot(log.loss, color="0.8", linewidth=1)
    left.plot(log.loss.rolling(WINDOW, center=True).mean(), color="#1f77b4")
    left.set(xlabel="step", ylabel="loss", title="Training loss", ylim=(0.7, 1.7))
    right.plot(log.dice, color="0.8", linewidth=1)
    right.plot(log.dice.rolling(WINDOW, center=True).mean(), color="#2ca02c")
    right.set(xlabel="step", ylabel="Dice", title="Supports alone, first answer")
    right.set_ylim(0.3, 0.75)
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(HERE / "images" / "training-curve.png", dpi=110)


if __name__ == "__main__":
    main()
