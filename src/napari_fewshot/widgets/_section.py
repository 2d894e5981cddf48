"""A titled part of the dock that folds away and remembers it."""

from __future__ import annotations

from qtpy.QtCore import QSettings, Qt
from qtpy.QtWidgets import QFrame, QSizePolicy, QToolButton, QVBoxLayout, QWidget

SETTINGS = "napari-fewshot"


class Section(QWidget):  # type: ignore[misc]
    """A header that shows and hides its content.

    Parameters
    ----------
    title : str
        Text of the header; also the name under which folding is remembered.
    content : QWidget
        What folds.
    is_open : bool
        Whether it is open where nobody has folded it yet.
    """

    def __init__(self, title: str, content: QWidget, *, is_open: bool = True) -> None:
        super().__init__()
        self._key = f"sections/{title}"
        self._content = content
        self.header = QToolButton()
        self.header.setText(title)
        self.header.setCheckable(True)
        self.header.setAutoRaise(True)
        self.header.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.header.setSizePolicy(
            QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed
        )
        self.header.setToolTip(f"Show or hide: {title.lower()}.")
        font = self.header.font()
        font.setBold(True)
        self.header.setFont(font)
        line = QFrame()
        line.setFrameShape(QFrame.Shape.HLine)
        line.setFrameShadow(QFrame.Shadow.Sunken)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(line)
        layout.addWidget(self.header)
        layout.addWidget(content)
        self.header.toggled.connect(self._on_toggled)
        usual = "open" if is_open else "closed"
        is_open = QSettings(SETTINGS, SETTINGS).value(self._key, usual) == "open"
        self.header.setChecked(is_open)
        self._on_toggled(is_open)

    def _on_toggled(self, is_open: bool) -> None:
        self._content.setVisible(is_open)
        arrow = Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow
        self.header.setArrowType(arrow)
        state = "open" if is_open else "closed"
        QSettings(SETTINGS, SETTINGS).setValue(self._key, state)
