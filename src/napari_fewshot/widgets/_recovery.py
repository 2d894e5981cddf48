"""A session that was not closed: the bar that offers it, and bringing it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_fewshot.session import ProjectInfo, Session

if TYPE_CHECKING:
    from pathlib import Path

    from napari_fewshot.data import Image
    from napari_fewshot.session import SessionState
    from napari_fewshot.widgets.main import FewShotWidget


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
        self.open_button.setToolTip(
            "Bring back its supports, classes, objects and prompts."
        )
        self.forget_button = QPushButton("Not now")
        self.forget_button.setToolTip("Keep it on disk and hide this offer.")
        row.addWidget(self.open_button)
        row.addWidget(self.forget_button)
        column.addLayout(row)
        self.open_button.clicked.connect(lambda: self.wanted.emit())
        self.forget_button.clicked.connect(self.hide)

    def bring(self, project: Path) -> None:
        """Ask for a project folder of the user's choice to be brought back."""
        self.projects = [ProjectInfo(project, "", 0, ""), *self.projects]
        self.wanted.emit()


def bring_back(dock: FewShotWidget, project: Path) -> None:
    """Bring supports, classes, painting, objects and prompts of a project back.

    Parameters
    ----------
    dock : FewShotWidget
        Receives them.
    project : Path
        Folder of the session.
    """
    loaded = Session.load(project, autosave=False)
    document = loaded.state.document
    dock.session.edit_supports({}, [row.support for row in document.rows])
    dock.session.set_classes(document.classes.names, document.classes.colours)
    dock.session.set_method(
        document.method,
        document.model,
        params=document.params,
        checkpoint=document.checkpoint,
    )
    for name, draft in loaded.drafts.items():
        dock.viewer.add_labels(draft, name=name)
    _bring_objects(dock, loaded.state)
    loaded.close()


def _bring_objects(dock: FewShotWidget, state: SessionState) -> None:
    """Bring back what was clicked: as objects where the same image is open."""
    document, image, query = state.document, dock.session.state.query, state.query
    if image is not None and query is not None and is_same_image(image, query):
        if document.objects:
            dock.session.restore_objects(document.objects)
        if document.pending is not None:
            dock.show_tab("prompts")
            dock.prompt_panel.resume(document.pending)
    elif document.objects and document.result is not None:
        name = f"{query.name if query else ''} - recovered"
        dock.viewer.add_labels(document.result.labels, name=name)


def is_same_image(one: Image, other: Image) -> bool:
    """Whether two images have the same shape and the same first plane."""
    same = one.label_shape == other.label_shape
    return same and one.plane_digest(0) == other.plane_digest(0)
