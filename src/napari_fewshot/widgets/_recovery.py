"""The bar that offers a session that was not closed."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_fewshot.session import Session


class RecoveryBar(QFrame):  # type: ignore[misc]
    """Shown only when there is something to bring back.

    Attributes
    ----------
    projects : list of ProjectInfo
        Sessions that were not closed, newest first.
    """

    wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.projects = Session.recoverable()
        self.setVisible(bool(self.projects))
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        newest = self.projects[0].saved if self.projects else ""
        when = newest.replace("T", " ")[:16]
        label = QLabel(f"A session from {when} was not closed.")
        label.setWordWrap(True)
        column.addWidget(label)
        row = QHBoxLayout()
        self.open_button = QPushButton("Open")
        self.open_button.setToolTip("Bring back its supports and classes.")
        self.forget_button = QPushButton("Not now")
        self.forget_button.setToolTip("Keep it on disk and hide this offer.")
        row.addWidget(self.open_button)
        row.addWidget(self.forget_button)
        column.addLayout(row)
        self.open_button.clicked.connect(lambda: self.wanted.emit())
        self.forget_button.clicked.connect(self.hide)
