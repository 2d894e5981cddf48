"""The question about a pixel size that is not known, and its three answers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QHBoxLayout,
    QInputDialog,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_fewshot.errors import FewShotError
from napari_fewshot.inference._scale import is_known

if TYPE_CHECKING:
    from napari_fewshot.data import Image, Support
    from napari_fewshot.session import Session, SessionState, SupportRow

SMALLEST, LARGEST, DECIMALS = 1e-6, 1e6, 6


class ScaleQuestion(QWidget):  # type: ignore[misc]
    """Asks where either the supports or the query have no pixel size.

    Parameters
    ----------
    session : Session
        Every answer is one edit of it.
    """

    failed = Signal(object)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self.line = QLabel()
        self.line.setWordWrap(True)
        self.set_button = QPushButton("Set...")
        self.set_button.setToolTip(
            "Type the size of a pixel, in the unit of the other image. Your layers "
            "stay as they are."
        )
        self.same_button = QPushButton()
        self.same_button.setToolTip(
            "They were taken at the same magnification: take over the known size."
        )
        self.pixels_button = QPushButton("In pixels")
        self.pixels_button.setToolTip(
            "Compare sizes in pixels, whatever their size is (match_scale off)."
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.line)
        row = QHBoxLayout()
        for button in (self.set_button, self.same_button, self.pixels_button):
            row.addWidget(button)
        layout.addLayout(row)
        self.set_button.clicked.connect(self._ask)
        self.same_button.clicked.connect(self.use_known)
        self.pixels_button.clicked.connect(self.use_pixels)

    def show_state(self, state: SessionState) -> bool:
        """Ask, if there is something to ask; returns whether there is."""
        unknown = _unknown_rows(state)
        query = state.query
        if query is None or not (unknown or _query_is_unknown(state)):
            self.hide()
            return False
        if unknown:
            whose = unknown[0].name
            whose = whose if len(unknown) == 1 else f"{len(unknown)} supports"
            self.same_button.setText("As the query")
        else:
            whose = query.name or "the image"
            self.same_button.setText("As the supports")
        self.line.setText(
            f"Pixel size of {whose} is not known. Objects may then be looked for at "
            "the wrong size."
        )
        for button in (self.set_button, self.same_button, self.pixels_button):
            button.setEnabled(not state.running)
        self.show()
        return True

    def set_size(self, size: tuple[float, float]) -> None:
        """Give a pixel size (y, x) to what has none; one step of undo."""
        state = self._session.state
        query, unknown = state.query, _unknown_rows(state)
        if query is None:
            return
        try:
            if unknown:
                self._session.edit_supports(
                    {row.key: _with_size(row.support, size) for row in unknown}
                )
            else:
                scale = _scale(query, size)
                planes = state.document.planes
                self._session.set_query(replace(query, scale=scale), planes=planes)
        except FewShotError as error:
            self.failed.emit(error)

    def use_known(self) -> None:
        """Take over the size that is known; one step of undo."""
        known = _known_size(self._session.state)
        if known is not None:
            self.set_size(known)

    def use_pixels(self) -> None:
        """Compare in pixels from now on; one step of undo."""
        params = self._session.state.document.params
        self._session.set_method(params={**params, "match_scale": False})

    def _ask(self) -> None:
        known = _known_size(self._session.state)
        start = 1.0 if known is None else known[1]
        size, is_given = QInputDialog.getDouble(
            self,
            "Pixel size",
            "Side of a pixel, in the unit of the other image:",
            start,
            SMALLEST,
            LARGEST,
            DECIMALS,
        )
        if is_given:
            self.set_size((size, size))


def _rows(state: SessionState) -> list[SupportRow]:
    return [row for row in state.supports if not row.muted]


def _matches_scale(state: SessionState) -> bool:
    return bool(state.document.params.get("match_scale", True))


def _unknown_rows(state: SessionState) -> list[SupportRow]:
    """Return the supports without a pixel size, where that of the query is known."""
    query = state.query
    if query is None or not _matches_scale(state) or not is_known(query.pixel_size):
        return []
    return [r for r in _rows(state) if not is_known(r.support.source.pixel_size)]


def _query_is_unknown(state: SessionState) -> bool:
    """Whether only the supports have a pixel size."""
    query = state.query
    if query is None or not _matches_scale(state) or is_known(query.pixel_size):
        return False
    return any(is_known(r.support.source.pixel_size) for r in _rows(state))


def _known_size(state: SessionState) -> tuple[float, float] | None:
    query = state.query
    sizes = [None if query is None else query.pixel_size]
    sizes += [row.support.source.pixel_size for row in _rows(state)]
    return next((s for s in sizes if is_known(s)), None)


def _scale(image: Image, size: tuple[float, float]) -> tuple[float, ...]:
    """Return a scale with a new size of pixels; that of z, if any, stays."""
    depth = (1.0,) * ("z" in image.axes)
    known = depth if image.scale is None else image.scale[:-2]
    return (*known, *size)


def _with_size(support: Support, size: tuple[float, float]) -> Support:
    return replace(support, scale=_scale(support.source, size))
