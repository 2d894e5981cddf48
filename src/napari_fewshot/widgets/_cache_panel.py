"""Embeddings that are kept: how many, how large, where; off, limit, clear."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMessageBox,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_fewshot.errors import StorageError
from napari_fewshot.inference._embeddings import (
    ON,
    QUOTA_GB,
    CacheSettings,
    fixed_by_environment,
    get_cache,
    read_settings,
    settings_path,
    stored_settings,
)
from napari_fewshot.inference._store import GB, Usage
from napari_fewshot.io import write_text
from napari_fewshot.viewer._qt import Dispatcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtGui import QHideEvent, QShowEvent

    from napari_fewshot.inference._embeddings import EmbeddingCache

# A window that is open while planes are encoded counts again this often.
REFRESH_MS = 5000
STEPS = 1000
KEEPS = "A plane is encoded once; the next visit is instant."
MOST_GB = 100_000.0


class CachePanel(QWidget):  # type: ignore[misc]
    """The embedding cache of this user.

    Folders are counted and cleared beside the event loop: there may be thousands of
    files.
    """

    failed = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._dispatcher = Dispatcher(self)
        self._pool = ThreadPoolExecutor(1, "embeddings")
        self._waiting = 0
        self._is_filling = False
        self._usage: Usage | None = None
        self.is_on = QCheckBox("Keep embeddings of planes")
        self.is_on.setToolTip(KEEPS)
        self.bar = QProgressBar()
        self.bar.setRange(0, STEPS)
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(8)
        self.used = QLabel()
        self.used.setWordWrap(True)
        self.models = QLabel()
        self.models.setWordWrap(True)
        self.folder = QLineEdit()
        self.folder.setReadOnly(True)
        self.folder.setToolTip("Where they are kept.")
        self.quota = QDoubleSpinBox()
        self.quota.setRange(0.0, MOST_GB)
        self.quota.setDecimals(1)
        self.quota.setSuffix(" GB")
        self.quota.setKeyboardTracking(False)
        self.clear = QPushButton("Clear...")
        self.clear.setToolTip("Remove all kept embeddings, after a question.")
        self.status = QLabel()
        self.status.setWordWrap(True)
        self._timer = QTimer(self)
        self._timer.setInterval(REFRESH_MS)
        self._build()

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.is_on)
        layout.addWidget(self.bar)
        layout.addWidget(self.used)
        layout.addWidget(self.models)
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("at most", self.quota)
        form.addRow("folder", self.folder)
        layout.addLayout(form)
        row = QHBoxLayout()
        row.addStretch(1)
        row.addWidget(self.clear)
        layout.addLayout(row)
        layout.addWidget(self.status)
        self.is_on.toggled.connect(lambda on: self._set(is_on=on))
        self.quota.valueChanged.connect(lambda gb: self._set(quota_gb=gb))
        self.clear.clicked.connect(self._on_clear)
        self._timer.timeout.connect(self._on_timer)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        """Count while somebody looks."""
        super().showEvent(event)
        self._timer.start()
        self.refresh()

    def hideEvent(self, event: QHideEvent) -> None:  # noqa: N802 - Qt's name
        """Stop counting."""
        self._timer.stop()
        super().hideEvent(event)

    def refresh(self) -> None:
        """Show the settings now, and what is kept as soon as it is counted."""
        self._fill(read_settings())
        self._beside(lambda cache: None)

    def _beside(self, work: Callable[[EmbeddingCache], None]) -> None:
        """Do something with the cache, then count it, beside the event loop."""
        cache = get_cache()

        def run() -> None:
            error = None
            try:
                work(cache)
            except OSError as problem:
                error = problem
            usage, status = cache.usage(), cache.status
            self._dispatcher(lambda: self._show(usage, status, error))

        self._waiting += 1
        self._pool.submit(run)

    def _show(self, usage: Usage, status: str, error: OSError | None) -> None:
        """Show what was counted."""
        self._waiting -= 1
        self._usage = usage
        self.clear.setEnabled(usage.planes > 0)
        share = min(1.0, usage.bytes / usage.quota) if usage.quota else 0.0
        self.bar.setValue(round(STEPS * share))
        planes = "1 plane" if usage.planes == 1 else f"{usage.planes} planes"
        self.used.setText(
            f"{_size(usage.bytes)} of {_size(usage.quota)} used by {planes}"
        )
        self.models.setText(", ".join(f"{m}: {n}" for m, n in usage.models.items()))
        self.models.setVisible(bool(usage.models))
        self.folder.setText(str(usage.folder))
        self.folder.setToolTip(str(usage.folder))
        # Unless somebody chose it, it follows the free disk.
        self._fill(replace(read_settings(), quota_gb=usage.quota / GB))
        self.status.setText(status)
        self.status.setVisible(bool(status))
        if error is not None:
            self.failed.emit(StorageError(f"Not everything was removed ({error})."))

    def _fill(self, settings: CacheSettings) -> None:
        self._is_filling = True
        self.is_on.setChecked(settings.is_on)
        if settings.quota_gb is not None and not self.quota.hasFocus():
            self.quota.setValue(settings.quota_gb)
        tips = (
            (self.is_on, ON, KEEPS),
            (
                self.quota,
                QUOTA_GB,
                "What was not used for longest is removed beyond this size.",
            ),
        )
        for control, variable, tip in tips:
            fixed = fixed_by_environment(variable)
            control.setEnabled(not fixed)
            control.setToolTip(f"{variable} decides." if fixed else tip)
        self._is_filling = False

    def _on_timer(self) -> None:
        if not self._waiting:
            self.refresh()

    def _set(self, **choice: bool | float) -> None:
        """Keep a choice; every process reads it before it encodes."""
        if self._is_filling:
            return
        settings = replace(stored_settings(), **choice)  # type: ignore[arg-type]
        try:
            write_text(settings_path(), json.dumps(asdict(settings)))
        except StorageError as error:
            self.failed.emit(error)
        self.refresh()

    def _on_clear(self) -> None:
        if self._usage is None:
            return
        answer = QMessageBox.question(
            self,
            "Clear the cache",
            f"Remove the embeddings of {self._usage.planes} planes "
            f"({_size(self._usage.bytes)})? They are computed again when they "
            "are needed; images and annotations stay.",
        )
        if answer == QMessageBox.StandardButton.Yes:
            self._beside(lambda cache: cache.clear())


def _size(count: int) -> str:
    """Return a number of bytes as people read it."""
    return f"{count / 1e6:.0f} MB" if count < GB else f"{count / GB:.1f} GB"
