"""The Prompts tab: click, see the outline at once, commit, next object."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import (
    QListWidgetItem,
    QWidget,
)

from napari_fewshot.data import default_colour
from napari_fewshot.errors import FewShotError
from napari_fewshot.viewer._prompting import NEGATIVE, POSITIVE, PromptLayers
from napari_fewshot.widgets._prompt_form import (
    EMPTY,
    NO_IMAGE,
    SHORTCUTS,
    PromptForm,
    swatch,
)

if TYPE_CHECKING:
    from napari_fewshot.session import Preview, SessionState
    from napari_fewshot.viewer._binding import Binding


class PromptPanel(PromptForm):
    """Points, boxes and scribbles with a live outline.

    Parameters
    ----------
    binding : Binding
        Session and viewer.
    """

    failed = Signal(object)
    go_to = Signal(int)

    def __init__(self, binding: Binding, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._binding = binding
        self._session = binding.session
        self.layers = PromptLayers(binding.viewer, self)
        self._preview: Preview | None = None
        self._editing: int | None = None
        self._guess: Any = None
        self._plane = 0
        self._is_active = False
        self._connect()
        self._shortcuts = self._make_shortcuts()
        self.layers.edited.connect(self._on_edited)
        self._session.previewed.connect(self._on_previewed)
        binding.viewer.dims.events.current_step.connect(self._on_moved)
        self.set_active(False)

    def _connect(self) -> None:
        self.positive.clicked.connect(lambda: self.set_sign(POSITIVE))
        self.negative.clicked.connect(lambda: self.set_sign(NEGATIVE))
        for name, button in self.tools.items():
            button.clicked.connect(lambda _=False, n=name: self.choose_tool(n))
        self.classes.currentIndexChanged.connect(lambda _: self._ask())
        self.helped.toggled.connect(lambda _: self._ask())
        self.add_class.clicked.connect(self._on_add_class)
        self.commit_button.clicked.connect(self.commit)
        self.next_button.clicked.connect(self.next_object)
        self.discard_button.clicked.connect(self.discard)
        self.objects.itemClicked.connect(
            lambda item: self.edit(item.data(Qt.ItemDataRole.UserRole))
        )
        self.positive.setChecked(True)
        # Progress only when a preview takes longer than a blink.
        self._slow = QTimer(self)
        self._slow.setSingleShot(True)
        self._slow.setInterval(150)
        self._slow.timeout.connect(lambda: self.status.setText("Looking..."))

    def _make_shortcuts(self) -> list[QShortcut]:
        calls = {
            "toggle": self.toggle_sign,
            "commit": self.commit,
            "next": self.next_object,
            "discard": self.discard,
            "previous_plane": lambda: self.step_plane(-1),
            "next_plane": lambda: self.step_plane(1),
        }
        made = []
        for name, call in calls.items():
            shortcut = QShortcut(QKeySequence(SHORTCUTS[name][0]), self)
            shortcut.setContext(Qt.ShortcutContext.WindowShortcut)
            shortcut.activated.connect(call)
            made.append(shortcut)
        remove = QShortcut(QKeySequence("Delete"), self.objects)
        remove.setContext(Qt.ShortcutContext.WidgetShortcut)
        remove.activated.connect(self._remove_selected)
        return made

    # -- verbs -----------------------------------------------------------------------

    def set_active(self, is_active: bool) -> None:
        """Enter or leave the tab: layers are made, keys begin or cease to work."""
        self._is_active = is_active
        for shortcut in self._shortcuts:
            shortcut.setEnabled(is_active)
        if not is_active:
            return
        self._ready()
        if not any(b.isChecked() for b in self.tools.values()):
            self.tools["points"].setChecked(True)
            self.layers.choose_tool("points")

    def _ready(self) -> bool:
        """Make sure that there is a query and layers for it."""
        query, image = self._binding.query_layer, self._session.state.query
        if query is None or image is None:
            self.status.setText(NO_IMAGE)
            return False
        self.layers.ensure(query, image)
        self._plane = self.layers.plane()
        return True

    @property
    def value(self) -> int:
        """The class that is chosen."""
        found = self.classes.currentData()
        return 1 if found is None else int(found)

    def choose_tool(self, name: str) -> None:
        """Take points, boxes or scribbles in hand."""
        if self._ready():
            self.tools[name].setChecked(True)
            self.layers.choose_tool(name)

    def set_sign(self, sign: str) -> None:
        """Make the next prompts positive or negative."""
        self.positive.setChecked(sign == POSITIVE)
        self.negative.setChecked(sign == NEGATIVE)
        self.layers.set_sign(sign)

    def toggle_sign(self) -> None:
        """Switch between positive and negative."""
        self.set_sign(NEGATIVE if self.layers.sign == POSITIVE else POSITIVE)

    def commit(self) -> None:
        """Write the outlined object into the result; it stays editable."""
        preview = self._preview
        if preview is None:
            self.failed.emit(FewShotError(f"There is nothing to commit yet. {EMPTY}"))
            return
        try:
            self._editing = self._session.commit(
                preview.mask,
                preview.value,
                preview.plane,
                preview.prompts,
                overwrite=self.overwrite.isChecked(),
                key=self._editing,
            )
        except FewShotError as error:
            self.failed.emit(error)
            return
        self.failed.emit(None)
        self._show_status()

    def next_object(self) -> None:
        """Commit what is outlined, then begin the next object."""
        if self._preview is not None and not self._is_committed():
            self.commit()
        self._begin()

    def discard(self) -> None:
        """Remove outline and prompts; a committed object stays as it was."""
        self._begin()

    def edit(self, key: int) -> None:
        """Go to a committed object and show its prompts again."""
        rows = [r for r in self._session.state.objects if r.key == key]
        if not rows or not self._ready():
            return
        row = rows[0]
        self.go_to.emit(row.plane)
        self._editing, self._plane = key, row.plane
        index = self.classes.findData(row.value)
        self.classes.blockSignals(True)
        self.classes.setCurrentIndex(max(index, 0))
        self.classes.blockSignals(False)
        self.layers.load(row.plane, row.prompts)
        self._ask()

    def start_from(self, plane: int, prompts: Any) -> None:
        """Refine what was found on a plane: its mask is the first guess."""
        if self._ready():
            self.go_to.emit(plane)
            self._begin()
            self._plane = plane
            self._guess = prompts.mask
            self._ask()

    def step_plane(self, step: int) -> None:
        """Go to the previous or next plane that has an object."""
        planes = sorted({r.plane for r in self._session.state.objects})
        here = self.layers.plane()
        found = [p for p in planes if (p - here) * step > 0]
        if found:
            self.go_to.emit(found[0] if step > 0 else found[-1])

    def shut_down(self) -> None:
        """Let go of the viewer."""
        self.set_active(False)
        self._session.previewed.disconnect(self._on_previewed)
        self._binding.viewer.dims.events.current_step.disconnect(self._on_moved)

    # -- reactions -------------------------------------------------------------------

    def _begin(self) -> None:
        self._session.forget_preview()
        self._preview, self._editing, self._guess = None, None, None
        self.layers.clear(self._plane)
        self._slow.stop()
        self._show_status()

    def _is_committed(self) -> bool:
        preview = self._preview
        return preview is not None and any(
            row.prompts is preview.prompts for row in self._session.state.objects
        )

    def _on_edited(self) -> None:
        self._plane = self.layers.plane()
        self._ask()

    def _ask(self) -> None:
        """Ask for the outline of the prompts as they are now."""
        if not self._is_active or self._session.state.query is None:
            return
        prompts = self.layers.read(self._plane)
        if self._guess is not None:
            prompts = replace(prompts, mask=self._guess)
        if prompts.is_empty:
            self._session.forget_preview()
            self._preview = None
            self.layers.show_preview(self._plane, None)
            self._slow.stop()
            self._show_status()
            return
        self._slow.start()
        try:
            helped = self.helped.isChecked()
            self._session.preview(prompts, self.value, self._plane, supports=helped)
        except FewShotError as error:
            self._slow.stop()
            self.failed.emit(error)

    def _on_previewed(self, preview: Preview) -> None:
        if not self._is_active:
            return
        self._slow.stop()
        self._preview = preview
        colours = self._session.state.classes.colours
        colour = colours.get(preview.value, default_colour(preview.value))
        self.layers.show_preview(preview.plane, preview.mask, colour)
        self._show_status()

    def _on_moved(self, event: Any = None) -> None:
        """On another plane another object begins; the old one is not lost."""
        if not self._is_active or self.layers.layer("points") is None:
            return
        plane = self.layers.plane()
        if plane != self._plane:
            if self._preview is not None and not self._is_committed():
                self.commit()
            self._begin()
            self._plane = plane

    def _show_status(self) -> None:
        preview = self._preview
        self.commit_button.setEnabled(preview is not None)
        self.discard_button.setEnabled(preview is not None)
        self.next_button.setEnabled(preview is not None)
        if preview is None:
            self.status.setText(EMPTY)
            return
        area = int(preview.mask.sum())
        if area == 0:
            self.status.setText("Nothing found there. Add a click or a scribble.")
        elif self._is_committed():
            self.status.setText(f"Committed, {area} pixels. Alt+N begins the next.")
        else:
            self.status.setText(
                f"{area} pixels. Correct it with more clicks, or commit it."
            )

    def show_state(self, state: SessionState) -> None:
        """Show classes and committed objects."""
        self._show_classes(state)
        self.objects.clear()
        for number, row in enumerate(state.objects, 1):
            name = state.classes.names.get(row.value, f"class {row.value}")
            where = ""
            if state.query is not None and state.query.n_planes > 1:
                where = f", plane {row.plane}"
            item = QListWidgetItem(f"{number}  {name}{where}, {row.area} pixels")
            item.setData(Qt.ItemDataRole.UserRole, row.key)
            self.objects.addItem(item)
            item.setSelected(row.key == self._editing)
        self.objects.setVisible(bool(state.objects))
        self.helped.setVisible(bool(state.supports))
        if self._editing not in {r.key for r in state.objects}:
            self._editing = None
        self._show_status()

    def _show_classes(self, state: SessionState) -> None:
        names = dict(state.classes.names) or {1: "object"}
        shown = {
            self.classes.itemData(i): self.classes.itemText(i)
            for i in range(self.classes.count())
        }
        if shown == names:
            return
        chosen = self.value
        self.classes.blockSignals(True)
        self.classes.clear()
        colours = state.classes.colours
        for value, name in names.items():
            icon = swatch(colours.get(value, default_colour(value)))
            self.classes.addItem(icon, name, value)
        self.classes.setCurrentIndex(max(self.classes.findData(chosen), 0))
        self.classes.blockSignals(False)

    def _on_add_class(self) -> None:
        names = dict(self._session.state.classes.names) or {1: "object"}
        value = max(names) + 1
        self._session.set_classes({**names, value: f"class {value}"})
        self.classes.setCurrentIndex(self.classes.findData(value))

    def _remove_selected(self) -> None:
        for item in self.objects.selectedItems():
            self._session.remove_object(item.data(Qt.ItemDataRole.UserRole))
