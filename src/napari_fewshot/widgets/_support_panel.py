"""The support list: thumbnails with outlines, where they come from, how they fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QMenu,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_fewshot.data import IGNORED, default_colour
from napari_fewshot.errors import FewShotError
from napari_fewshot.io import SUFFIXES, stem_of, suffix_of
from napari_fewshot.widgets._concept_menu import ConceptMenu
from napari_fewshot.widgets._trust_marks import (
    mark_of,
    support_tip,
    support_words,
    with_badge,
)

if TYPE_CHECKING:
    from napari_fewshot.session import Session, SessionState, SupportRow

THUMB = QSize(56, 42)
EMPTY = (
    "Paint one object class on a plane with the Labels brush, then press "
    '"+ this plane".'
)
MAX_ROWS_SHOWN = 4
# Of pixels that nobody knows.
GREY = 143
MASK_FOLDERS = ("masks", "labels")


class SupportPanel(QWidget):  # type: ignore[misc]
    """The annotated examples.

    Parameters
    ----------
    session : Session
        Its supports are shown and edited.
    """

    from_layers = Signal()
    this_plane = Signal()
    nothing_here = Signal()
    paint = Signal()
    activated = Signal(int)
    ignore = Signal(int)
    failed = Signal(object)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._icons: dict[int, tuple[Any, QPixmap]] = {}
        self.list = QListWidget()
        self.list.setIconSize(THUMB)
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.list.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.list.setToolTip("Your annotated examples. Right-click for more.")
        self.empty = QLabel(EMPTY)
        self.empty.setWordWrap(True)
        self.paint_button = QPushButton("Start painting")
        self.paint_button.setToolTip(
            "Adds a Labels layer over the image and selects the brush."
        )
        self.plane_button = _button("+ this plane", "Use the painted plane you see.")
        self.layers_button = _button(
            "+ layers", "Use every painted plane of the selected Labels layer."
        )
        self.files_button = _button(
            "+ more", "Files, a folder, a concept, or a plane with nothing on it."
        )
        self.concepts = ConceptMenu(session, self)
        self._build()

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.empty)
        layout.addWidget(self.paint_button)
        layout.addWidget(self.list)
        row = QHBoxLayout()
        for button in (self.plane_button, self.layers_button, self.files_button):
            row.addWidget(button)
        layout.addLayout(row)
        self.paint_button.clicked.connect(lambda: self.paint.emit())
        self.plane_button.clicked.connect(lambda: self.this_plane.emit())
        self.layers_button.clicked.connect(lambda: self.from_layers.emit())
        menu = QMenu(self)
        menu.addAction("Image and mask files...", self.ask_files)
        menu.addAction("Folder with images/ and masks/...", self.ask_folder)
        menu.addAction("Nothing on this plane (negative)", self.nothing_here.emit)
        self.concepts.add_to(menu)
        self.concepts.failed.connect(self.failed)
        self.files_button.setMenu(menu)
        self.list.customContextMenuRequested.connect(self._on_menu)
        self.list.itemDoubleClicked.connect(
            lambda item: self.activated.emit(item.data(Qt.ItemDataRole.UserRole))
        )

    def show_state(self, state: SessionState) -> None:
        """Show the supports of a state."""
        has_rows = bool(state.supports)
        self.empty.setVisible(not has_rows)
        self.paint_button.setVisible(not has_rows)
        self.list.setVisible(has_rows)
        selected = self.selected_keys()
        self.list.clear()
        for row in state.supports:
            item = QListWidgetItem(self._icon(row), self._text(row, state))
            item.setData(Qt.ItemDataRole.UserRole, row.key)
            item.setToolTip(support_tip(row))
            item.setSizeHint(QSize(0, THUMB.height() + 6))
            if row.muted:
                font = item.font()
                font.setStrikeOut(True)
                item.setFont(font)
            self.list.addItem(item)
            item.setSelected(row.key in selected)
        shown = min(max(1, len(state.supports)), MAX_ROWS_SHOWN)
        self.list.setFixedHeight(shown * (THUMB.height() + 6) + 6)

    def selected_keys(self) -> list[int]:
        """Return the keys of the selected rows."""
        items = self.list.selectedItems()
        return [int(item.data(Qt.ItemDataRole.UserRole)) for item in items]

    def remove_selected(self) -> None:
        """Remove the selected rows."""
        self._session.edit_supports(dict.fromkeys(self.selected_keys()))

    def mute_selected(self) -> None:
        """Mute the selected rows, or bring them back if all are muted."""
        rows = {r.key: r for r in self._session.state.supports}
        keys = self.selected_keys()
        muted = not all(rows[k].muted for k in keys)
        for key in keys:
            self._session.mute_support(key, muted)

    def add_files(self, pairs: list[tuple[Path, Path]]) -> None:
        """Add pairs of image and mask files; a bad pair is told, the others go in."""
        for image, mask in pairs:
            try:
                self._session.add_support(image, mask, name=image.name)
            except FewShotError as error:
                self.failed.emit(error)

    def ask_files(self) -> None:
        """Ask for an image and its mask."""
        pattern = f"Images ({' '.join(f'*{s}' for s in SUFFIXES)})"
        image, _ = QFileDialog.getOpenFileName(
            self, "Image of the support", "", pattern
        )
        if image:
            mask, _ = QFileDialog.getOpenFileName(self, "Its mask", "", pattern)
            if mask:
                self.add_files([(Path(image), Path(mask))])

    def ask_folder(self) -> None:
        """Ask for a folder of images and masks."""
        folder = QFileDialog.getExistingDirectory(self, "Folder of supports")
        if folder:
            self.add_folder(Path(folder))

    def add_folder(self, folder: Path) -> None:
        """Add images of ``images/`` with the masks of the same name in ``masks/``."""
        pairs = find_pairs(folder)
        if not pairs:
            self.failed.emit(
                FewShotError(
                    f"{folder.name} has no images/ and masks/ with files of the same "
                    "names. Choose another folder."
                )
            )
        self.add_files(pairs)

    def _on_menu(self, position: Any) -> None:
        if not self.selected_keys():
            return
        self.row_menu().exec(self.list.mapToGlobal(position))

    def row_menu(self) -> QMenu:
        """Return what can be done with the selected rows."""
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        menu.addAction("Go there", self._go)
        menu.addAction("Mark pixels to ignore", self._mark).setToolTip(
            "Paint over what you are not sure of: nothing is learnt from there, and no "
            "score counts it."
        )
        menu.addAction("Mute or bring back", self.mute_selected)
        menu.addAction("Remove", self.remove_selected)
        return menu

    def _mark(self) -> None:
        self.ignore.emit(self.selected_keys()[0])

    def _go(self) -> None:
        self.activated.emit(self.selected_keys()[0])

    def _text(self, row: SupportRow, state: SessionState) -> str:
        names = state.classes.names
        classes = ", ".join(names.get(v, str(v)) for v in row.support.label_values)
        words = [row.name, "nothing here" if row.is_negative else classes]
        if row.score is not None:
            words[-1] += f"   {support_words(row)}"
        return "\n".join(words)

    def _icon(self, row: SupportRow) -> QIcon:
        known = self._icons.get(row.key)
        if known is None or known[0] is not row.support:
            known = row.support, thumbnail(row.support)
            self._icons[row.key] = known
        return QIcon(with_badge(known[1], mark_of(row)))


def thumbnail(support: Any) -> QPixmap:
    """Return a small picture of a support with its masks tinted."""
    plane = support.used_planes[0] if support.used_planes else 0
    image = support.source.plane(plane)
    labels = support.label_plane(plane)
    step = max(1, max(labels.shape) // (2 * THUMB.width()))
    image, labels = image[::step, ::step], labels[::step, ::step]
    grey = image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, -1)
    picture = (grey * 255).astype(np.uint8)
    for value in support.label_values:
        colour = default_colour(value)
        rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        inside = labels == value
        picture[inside] = (0.55 * picture[inside] + 0.45 * rgb).astype(np.uint8)
    unknown = labels == IGNORED
    picture[unknown] = (0.35 * picture[unknown] + 0.65 * GREY).astype(np.uint8)
    picture = np.ascontiguousarray(picture)
    height, width = labels.shape
    frame = QImage(
        picture.data, width, height, 3 * width, QImage.Format.Format_RGB888
    ).copy()
    return QPixmap.fromImage(frame).scaled(
        THUMB,
        Qt.AspectRatioMode.KeepAspectRatio,
        Qt.TransformationMode.SmoothTransformation,
    )


def find_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Return images with the mask of the same name."""
    images = folder / "images"
    masks = next((folder / n for n in MASK_FOLDERS if (folder / n).is_dir()), None)
    if masks is None or not images.is_dir():
        return []
    named = {stem_of(p): p for p in masks.iterdir() if suffix_of(p) in SUFFIXES}
    return [
        (p, named[stem_of(p)])
        for p in sorted(images.iterdir())
        if suffix_of(p) in SUFFIXES and stem_of(p) in named
    ]


def _button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    return button
