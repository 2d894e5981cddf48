"""Words and marks of trust: what a score says, which support or plane is odd.

A mark is a sign and a word, never a colour alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QBrush, QColor, QPainter, QPen, QPixmap

if TYPE_CHECKING:
    from napari_fewshot.data import Prediction
    from napari_fewshot.session import SessionState, SupportRow
    from napari_fewshot.session._trust import Expectation

LOW_SCORE = 0.6
DISAGREES, REDUNDANT = "!", "="
# Ground and sign: amber with black, blue with white.
BADGES = {DISAGREES: ("#ffb000", "#000000"), REDUNDANT: ("#2f6fd0", "#ffffff")}
BADGE_SIDE = 18
UNFAMILIAR = "unlike the supports"


def score_words(
    state: SessionState, value: int, expected: Expectation | None
) -> tuple[str, str]:
    """Return what the class table says of a class, and its tooltip.

    Parameters
    ----------
    state : SessionState
        With the result of the last run, if there is one.
    value : int
        The class.
    expected : Expectation, optional
        Of a check, if that is newer than the result.
    """
    prediction = state.prediction
    if expected is not None and value in expected.scores:
        return _of_check(expected, value)
    if prediction is None or value not in prediction.scores:
        return "", "Shown after Check supports, or after the first run."
    return _of_run(prediction, value)


def _of_check(expected: Expectation, value: int) -> tuple[str, str]:
    text, interval = _numbers(expected.scores[value], expected.intervals[value])
    source = "each support was segmented with what the others teach"
    if not expected.support_scores:
        source = "a rough guess: the only support was compared with copies of itself"
    return text, f"Dice to expect of a run: {interval}; {source}."


def _of_run(prediction: Prediction, value: int) -> tuple[str, str]:
    text, interval = _numbers(
        prediction.scores[value], prediction.score_intervals[value]
    )
    if not prediction.present.get(value, True):
        text = "not found"
    return text, f"Expected Dice on this image, from your supports: {interval}."


def _numbers(score: float, interval: tuple[float, float]) -> tuple[str, str]:
    text = f"{score:.2f}" if score >= LOW_SCORE else f"{score:.2f} low"
    low, high = interval
    return text, f"{score:.2f} (80 % between {low:.2f} and {high:.2f})"


def mark_of(row: SupportRow) -> str:
    """Return the sign of a support that is odd; "" for the others."""
    if row.disagrees:
        return DISAGREES
    return REDUNDANT if row.redundant else ""


def support_words(row: SupportRow) -> str:
    """Return the score of a support and what is odd about it, in words."""
    words = "" if row.score is None else f"{row.score:.2f}"
    if row.disagrees:
        return f"{words}  {DISAGREES} disagrees"
    if row.redundant:
        return f"{words}  {REDUNDANT} teaches nothing new"
    return words


def support_tip(row: SupportRow) -> str:
    """Return why a support has its score and mark, and what to do."""
    if row.score is None:
        return (
            f"{row.name}. With two or more supports its score is shown after Check "
            "supports, or after a run."
        )
    text = f"{row.name}. The other supports would segment it with Dice {row.score:.2f}."
    if row.disagrees:
        text += " It disagrees with them: check its mask, or mute it."
    elif row.redundant:
        text += (
            " It teaches nothing new: it looks like an earlier support, and the others "
            "know what is on it. Mute it to save time; an example that looks different "
            "would help more."
        )
    return text


def novelty_tip(novelty: float) -> str:
    """Return what it means that a plane is unlike the supports, and what to do."""
    return (
        "No support looks like this plane: it is "
        f"{novelty:.1f} times as far away as supports usually are from one another. "
        "What was found here is a guess: check it, or correct and accept it, so that "
        "it teaches the next run."
    )


def with_badge(picture: QPixmap, sign: str) -> QPixmap:
    """Return a picture with a sign in its corner; without one the picture itself."""
    if not sign:
        return picture
    ground, ink = BADGES[sign]
    marked = QPixmap(picture)
    where = QRectF(
        marked.width() - BADGE_SIDE - 1,
        marked.height() - BADGE_SIDE - 1,
        BADGE_SIDE,
        BADGE_SIDE,
    )
    painter = QPainter(marked)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setBrush(QBrush(QColor(ground)))
    painter.setPen(QPen(QColor("#ffffff"), 1.0))
    painter.drawEllipse(where)
    font = painter.font()
    font.setBold(True)
    font.setPixelSize(BADGE_SIDE - 5)
    painter.setFont(font)
    painter.setPen(QColor(ink))
    # Letters sit low in their box.
    moved = where.translated(QPointF(0.0, -0.5))
    painter.drawText(moved, Qt.AlignmentFlag.AlignCenter, sign)
    painter.end()
    return marked
