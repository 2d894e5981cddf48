"""`ModelsWidget`: the dock *Models*: what there is, getting it, where it computes."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QSize, Qt, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMessageBox,
    QProgressBar,
    QPushButton,
    QSplitter,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from napari_fewshot.errors import Cancelled, FewShotError
from napari_fewshot.io import (
    download_model,
    import_bundle,
    installed_model,
    is_bundle,
    remove_model,
    save_settings,
)
from napari_fewshot.models import (
    Settings,
    read_settings,
)
from napari_fewshot.models._places import models_folder
from napari_fewshot.models._settings import DEVICES, PRECISIONS
from napari_fewshot.widgets._models_table import ModelsTable
from napari_fewshot.widgets._models_task import Task, run_command
from napari_fewshot.widgets._models_texts import (
    details,
    download_tip,
    size_words,
    terms,
)

if TYPE_CHECKING:
    from napari_fewshot.models import ModelSpec

LINK_ON_DARK, LINK_ON_LIGHT = "#8ab4ff", "#1a4fb3"
FILES = "Weights or bundle (*.pth *.pt *.safetensors *.bin *.ckpt *.zip);;All files (*)"
# Bytes per step of the bar: its numbers have 32 bits.
STEP = 1024
WIDTH = 360


class ModelsWidget(QWidget):  # type: ignore[misc]
    """All models: see, download, import, check and remove them.

    Nothing is downloaded without a click and an agreement to the licence.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.task = Task(self)
        self.dialog: QMessageBox | None = None
        self.search = QLineEdit()
        self.search.setPlaceholderText("Find a model")
        self.search.setClearButtonEnabled(True)
        self.search.setToolTip("Show only models whose name or purpose contains this.")
        self.table = ModelsTable()
        self.details = QTextBrowser()
        self.details.setOpenExternalLinks(True)
        self.details.setToolTip("About the selected model.")
        self.details.setFrameShape(QTextBrowser.Shape.NoFrame)
        self.details.setStyleSheet("background: transparent")
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.bar = QProgressBar()
        self.bar.setToolTip("How much is done.")
        self._make_buttons()
        self.device = _combo(
            DEVICES,
            "Where models compute when nothing else is said; what is not in this "
            "machine is passed over.",
        )
        self.precision = _combo(
            PRECISIONS,
            "Numbers of models: bf16 and fp16 are faster where the processor has them "
            "and change masks a little.",
        )
        self._build()
        self._connect()
        self.refresh()
        self.table.selectRow(0)
        self._say("")
        self._show_busy(is_busy=False)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Wide enough for names, states and sizes."""
        return QSize(WIDTH, 700)

    def _make_buttons(self) -> None:
        def button(text: str, tip: str = "") -> QPushButton:
            found = QPushButton(text)
            found.setToolTip(tip)
            return found

        self.download_button = button("Download")
        self.import_button = button(
            "Import file...", "Install weights or a bundle from this machine."
        )
        self.import_folder_button = button(
            "Import folder...",
            "Install a model that is a folder of files, as models that read text are.",
        )
        self.verify_button = button(
            "Verify", "Check that the file is the one that was installed, and loads."
        )
        self.remove_button = button("Remove", "Delete the weights from this machine.")
        self.folder_button = button("Open folder", "Show where models are kept.")
        self.cancel_button = button("Cancel", "Stop; what has arrived is kept.")

    def _build(self) -> None:
        split = QSplitter(Qt.Orientation.Vertical)
        split.addWidget(self.table)
        split.addWidget(self.details)
        split.setStretchFactor(0, 3)
        split.setStretchFactor(1, 2)
        split.setChildrenCollapsible(False)
        grid = QGridLayout()
        grid.addWidget(self.download_button, 0, 0, 1, 2)
        grid.addWidget(self.import_button, 0, 2, 1, 2)
        grid.addWidget(self.import_folder_button, 0, 4, 1, 2)
        grid.addWidget(self.verify_button, 1, 0, 1, 2)
        grid.addWidget(self.remove_button, 1, 2, 1, 2)
        grid.addWidget(self.folder_button, 1, 4, 1, 2)
        row = QHBoxLayout()
        row.addWidget(self.bar, 1)
        row.addWidget(self.cancel_button)
        form = QFormLayout()
        form.addRow("device", self.device)
        form.addRow("precision", self.precision)
        column = QVBoxLayout(self)
        column.addWidget(self.search)
        column.addWidget(split, 1)
        column.addLayout(grid)
        column.addLayout(row)
        column.addWidget(self.message)
        column.addLayout(form)

    def _connect(self) -> None:
        chosen = read_settings()
        self.device.setCurrentText(chosen.device)
        self.precision.setCurrentText(chosen.precision)
        self.search.textChanged.connect(self.table.search)
        self.table.itemSelectionChanged.connect(self._show_selected)
        self.download_button.clicked.connect(self._ask_download)
        self.import_button.clicked.connect(self._ask_file)
        self.import_folder_button.clicked.connect(self._ask_folder)
        self.verify_button.clicked.connect(self._verify)
        self.remove_button.clicked.connect(self._ask_remove)
        self.folder_button.clicked.connect(self._open_folder)
        self.cancel_button.clicked.connect(self._cancel)
        self.device.currentTextChanged.connect(self._save)
        self.precision.currentTextChanged.connect(self._save)
        self.task.progressed.connect(self._on_progress)
        self.task.done.connect(self._on_done)
        self.task.failed.connect(self._on_failed)
        self.destroyed.connect(self.task.close)

    def refresh(self) -> None:
        """Read again what is installed."""
        self.table.refresh()
        self._show_selected()

    def _show_selected(self) -> None:
        spec = self.table.selected
        if spec is None:
            return
        record = installed_model(spec.name) if spec.needs_download else None
        self.details.setHtml(self._with_links(details(spec, record)))
        is_free = not self.task.is_running
        self.download_button.setEnabled(is_free and bool(spec.download_url))
        self.download_button.setToolTip(download_tip(spec))
        self.download_button.setText("Download" if record is None else "Download again")
        self.verify_button.setEnabled(
            is_free and (record is not None or not spec.needs_download)
        )
        self.remove_button.setEnabled(is_free and record is not None)
        self.import_button.setEnabled(is_free)
        self.import_folder_button.setEnabled(is_free)

    def _with_links(self, text: str) -> str:
        """Give links a colour that can be read on this theme; Qt's blue can't."""
        is_dark = self.palette().color(self.foregroundRole()).lightness() > 128
        colour = LINK_ON_DARK if is_dark else LINK_ON_LIGHT
        return text.replace("<a href", f'<a style="color: {colour}" href')

    def changeEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Follow the theme of the window."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange:
            self._show_selected()

    def _ask_download(self) -> None:
        spec = self.table.selected
        if spec is not None:
            self._ask(terms(spec), "I agree: download", lambda: self._download(spec))

    def _download(self, spec: ModelSpec) -> None:
        self._start(
            f"Downloading {spec.name}...",
            lambda progress: (
                f"{download_model(spec, agreed=True, progress=progress).name} is "
                "installed."
            ),
        )

    def _ask_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Import weights", "", FILES)
        if path:
            self.ask_import(Path(path))

    def _ask_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Import a folder of weights")
        if path:
            self.ask_import(Path(path))

    def ask_import(self, path: Path) -> None:
        """Ask which model a file or folder is, where that is open, and import it."""
        spec = self.table.selected
        if is_bundle(path) or spec is None or not spec.needs_download:
            self.import_file(path)
            return
        self._ask(
            f"Import <b>{html.escape(path.name)}</b> as the selected model, or let its "
            "content tell which model it is?",
            "Recognise it",
            lambda: self.import_file(path),
            (f"As {spec.name}", lambda: self.import_file(path, spec.name)),
        )

    def import_file(self, path: Path, name: str = "") -> None:
        """Install weights or a bundle from a file, or weights from a folder.

        Parameters
        ----------
        path : Path
            The file or folder.
        name : str
            Which model it is; "" to recognise it.
        """
        if is_bundle(path):
            self._start(
                f"Importing {path.name}...",
                lambda progress: (
                    ", ".join(r.name for r in import_bundle(path, progress))
                    + ": installed."
                ),
            )
            return
        words = ["import", str(path), *(["--model", name] if name else [])]
        self._start(
            f"Importing {path.name}...", lambda progress: run_command(words, progress)
        )

    def _verify(self) -> None:
        if self.table.selected is not None:
            words = ["verify", self.table.selected.name]
            self._start(
                f"Checking {words[1]}...", lambda progress: run_command(words, progress)
            )

    def _ask_remove(self) -> None:
        spec = self.table.selected
        if spec is not None:
            self._ask(
                f"Remove <b>{spec.name}</b> ({size_words(spec)}) from this machine?",
                "Remove",
                lambda: self._remove(spec.name),
            )

    def _remove(self, name: str) -> None:
        try:
            freed = remove_model(name)
        except FewShotError as error:
            self._say(str(error))
        else:
            self._say(f"{name} is removed: {freed / 1e6:.1f} MB are free.")
        self.refresh()

    def _open_folder(self) -> None:
        models_folder().mkdir(parents=True, exist_ok=True)
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(models_folder())))

    def _ask(
        self, text: str, yes: str, accept: Any, other: tuple[str, Any] | None = None
    ) -> None:
        """Open a question that blocks this dock's window and not its work."""
        dialog = QMessageBox(self)
        dialog.setWindowTitle("napari-fewshot")
        dialog.setTextFormat(Qt.TextFormat.RichText)
        dialog.setTextInteractionFlags(Qt.TextInteractionFlag.TextBrowserInteraction)
        dialog.setText(self._with_links(text))
        button = dialog.addButton(yes, QMessageBox.ButtonRole.AcceptRole)
        button.clicked.connect(accept)
        if other is not None:
            second = dialog.addButton(other[0], QMessageBox.ButtonRole.ActionRole)
            second.clicked.connect(other[1])
        dialog.setDefaultButton(dialog.addButton(QMessageBox.StandardButton.Cancel))
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.finished.connect(self._forget_dialog)
        self.dialog = dialog
        dialog.open()

    def _forget_dialog(self) -> None:
        self.dialog = None

    def _say(self, text: str) -> None:
        self.message.setText(text)
        self.message.setVisible(bool(text))

    def _start(self, text: str, work: Any) -> None:
        if self.task.is_running:
            return
        self._say(text)
        self.bar.setRange(0, 0)
        self.task.start(work)
        self._show_busy(is_busy=True)

    def _cancel(self) -> None:
        self.task.cancel()
        self._say("Stopping...")

    def _show_busy(self, *, is_busy: bool) -> None:
        self.bar.setVisible(is_busy)
        self.cancel_button.setVisible(is_busy)
        self._show_selected()

    def _on_progress(self, done: int, total: int) -> None:
        if total:
            self.bar.setRange(0, max(1, total // STEP))
            self.bar.setValue(done // STEP)

    def _on_done(self, text: str) -> None:
        self._say(str(text))
        self.refresh()
        self._show_busy(is_busy=False)

    def _on_failed(self, error: Exception) -> None:
        is_ours = isinstance(error, FewShotError | Cancelled)
        self._say(str(error) if is_ours else f"It did not work: {error}")
        self.refresh()
        self._show_busy(is_busy=False)

    def _save(self) -> None:
        chosen = Settings(self.device.currentText(), self.precision.currentText())
        try:
            save_settings(chosen)
        except FewShotError as error:
            self._say(str(error))


def _combo(items: tuple[str, ...], tip: str) -> QComboBox:
    found = QComboBox()
    found.addItems(items)
    found.setToolTip(tip)
    return found
