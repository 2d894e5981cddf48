"""Concept files in the dock: two actions of a menu, and a dialog for the words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QObject, Signal
from qtpy.QtGui import QIcon
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFormLayout,
    QLineEdit,
    QTextEdit,
    QWidget,
)

from napari_fewshot.errors import FewShotError

if TYPE_CHECKING:
    import os

    from qtpy.QtWidgets import QMenu

    from napari_fewshot.session import Session

PATTERN = "Concepts (*.fewshot)"
NOTES_HEIGHT = 90


class ConceptMenu(QObject):  # type: ignore[misc]
    """Saves and loads concept files for a session.

    Parameters
    ----------
    session : Session
        Whose supports, classes and method are saved, or added to.
    parent : QWidget
        Of the dialogs.
    """

    failed = Signal(object)

    def __init__(self, session: Session, parent: QWidget) -> None:
        super().__init__(parent)
        self._session = session
        self._window = parent
        self.dialog: WordsDialog | None = None

    def add_to(self, menu: QMenu) -> None:
        """Add the two actions to a menu."""
        menu.setToolTipsVisible(True)
        menu.addSeparator()
        for text, tip, call in (
            (
                "Load concept...",
                "Add supports, classes and method of a .fewshot file; dropping it on "
                "the viewer does the same.",
                self.ask_load,
            ),
            (
                "Save concept...",
                "Save supports, classes and method as one .fewshot file to share.",
                self.ask_save,
            ),
        ):
            menu.addAction(text, call).setToolTip(tip)

    def ask_load(self) -> None:
        """Ask for a file and load it."""
        path, _ = QFileDialog.getOpenFileName(self._window, "Load concept", "", PATTERN)
        if path:
            self.load(path)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Load a concept file; what the user should know is told."""
        try:
            notes = self._session.load_concept(path)
        except FewShotError as error:
            self._tell(error)
        else:
            show_info(" ".join(notes))

    def ask_save(self) -> None:
        """Ask for words and a file name, and save."""
        if self.dialog is None:
            self.dialog = WordsDialog(self._window)
            self.dialog.accepted.connect(self._ask_where)
        self.dialog.open()

    def _ask_where(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self._window, "Save concept", "concept.fewshot", PATTERN
        )
        if path and self.dialog is not None:
            self.save(path, **self.dialog.words())

    def save(self, path: str | os.PathLike[str], **words: Any) -> None:
        """Save a concept file.

        Parameters
        ----------
        path : path
            Of the file.
        **words
            author, licence and notes.
        """
        try:
            found = self._session.save_concept(path, **words)
        except FewShotError as error:
            self._tell(error)
        else:
            show_info(f"{found.name} is saved.")

    def _tell(self, error: Any) -> None:
        self.failed.emit(error)
        show_error(str(error))


class WordsDialog(QDialog):  # type: ignore[misc]
    """Author, licence and notes of a concept; all may stay empty."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Save concept")
        self.author, self.licence = QLineEdit(), QLineEdit()
        self.notes = QTextEdit()
        self.notes.setFixedHeight(NOTES_HEIGHT)
        self.notes.setTabChangesFocus(True)
        self.notes.setAcceptRichText(False)
        form = QFormLayout(self)
        for name, field, tip in (
            ("Author", self.author, "Who made the masks. May stay empty."),
            ("Licence", self.licence, "What others may do with them, e.g. CC BY 4.0."),
            ("Notes", self.notes, "What to know: stain, microscope, what is masked."),
        ):
            field.setToolTip(tip)
            form.addRow(name, field)
        kind = QDialogButtonBox.StandardButton
        buttons = QDialogButtonBox(kind.Save | kind.Cancel)
        for button, text, tip in (
            (buttons.button(kind.Save), "Save...", "Choose a file name next."),
            (buttons.button(kind.Cancel), "Cancel", "Save nothing."),
        ):
            button.setText(text)
            button.setIcon(QIcon())
            button.setToolTip(tip)
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        form.addRow(buttons)

    def words(self) -> dict[str, str]:
        """Return what was typed."""
        return {
            "author": self.author.text().strip(),
            "licence": self.licence.text().strip(),
            "notes": self.notes.toPlainText().strip(),
        }
