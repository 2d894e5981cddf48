"""The Prompts tab: click, see the outline at once, commit, next object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import QListWidgetItem

from napari_fewshot.data import PromptSet
from napari_fewshot.errors import FewShotError
from napari_fewshot.viewer._object_layers import ObjectLayers
from napari_fewshot.viewer._repair import Repair, chosen_label
from napari_fewshot.widgets._prompt_form import (
    EMPTY,
    EVERYTHING,
    NEEDS_SAM,
    NO_IMAGE,
    SHORTCUTS,
    show_models,
)
from napari_fewshot.widgets._prompt_outline import OutlinePanel, count_objects

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

    from napari_fewshot.session import Pending, Preview, SessionState
    from napari_fewshot.viewer._binding import Binding


class PromptPanel(OutlinePanel):
    """Points, boxes and scribbles with a live outline.

    Parameters
    ----------
    binding : Binding
        Session and viewer.
    """

    go_to = Signal(int)

    def __init__(self, binding: Binding, parent: QWidget | None = None) -> None:
        super().__init__(binding, parent)
        self.object_layers = ObjectLayers(binding)
        self._editing: int | None = None
        self.from_labels.clicked.connect(self.start_from_labels)
        self.repair.clicked.connect(self.start_repair)
        self.view.activated.connect(
            lambda _: self.object_layers.choose(self.view.currentData())
        )
        self.everything.clicked.connect(self.find_everything)
        self.spread.clicked.connect(self.follow)
        self.commit_button.clicked.connect(self.commit)
        self.next_button.clicked.connect(self.next_object)
        self.discard_button.clicked.connect(self.discard)
        self.objects.itemClicked.connect(
            lambda item: self.edit(item.data(Qt.ItemDataRole.UserRole))
        )
        self._shortcuts = self._make_shortcuts()
        binding.viewer.dims.events.current_step.connect(self._on_moved)
        self.set_active(False)

    def _make_shortcuts(self) -> list[QShortcut]:
        calls = {
            "toggle": self.toggle_sign,
            "candidate": self.next_candidate,
            "outline": lambda: self._ask(now=True),
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
        self._warm()

    def commit(self) -> None:
        """Write the outlined object into the result; it stays editable."""
        preview = self._preview
        if preview is None:
            self.failed.emit(FewShotError(f"There is nothing to commit yet. {EMPTY}"))
            return
        try:
            if self._repair is not None:
                self._write_repair(self._repair, preview)
            elif self._editing is None and count_objects(preview) > 1:
                self._commit_many(preview)
            else:
                self._editing = self._session.commit(
                    preview.mask,
                    preview.value,
                    preview.plane,
                    preview.prompts,
                    policy=self.policy.currentData(),
                    key=self._editing,
                )
        except FewShotError as error:
            self.failed.emit(error)
            return
        self.failed.emit(None)
        self._session.remember_prompts(None)
        self._show_status()

    def _commit_many(self, preview: Preview) -> None:
        """Commit every object of several boxes by itself, as one step of undo."""
        found: Any = preview.instances
        boxes = preview.prompts.boxes
        numbers = [n for n in range(1, int(found.max()) + 1) if (found == n).any()]
        given = [
            PromptSet(boxes=boxes[n - 1 : n])
            if boxes is not None and n <= len(boxes)
            else PromptSet(mask=found == n)
            for n in numbers
        ]
        self._session.commit_objects(
            [found == n for n in numbers],
            preview.value,
            preview.plane,
            given,
            policy=self.policy.currentData(),
        )
        self._begin()

    def _write_repair(self, repair: Repair, preview: Preview) -> None:
        image = self._session.state.query
        if image is None:
            return
        overwrite = self.policy.currentData() == "overwrite"
        count = repair.write(image, preview.mask, overwrite=overwrite)
        self._begin()
        self.status.setText(
            f"Label {repair.number} of {repair.layer.name!r}: {count} pixels changed. "
            "Ctrl+Z in that layer takes it back."
        )

    def start_from_labels(self) -> None:
        """Take the selected label of a Labels layer as the first guess."""
        self._take_label(write_back=False)

    def start_repair(self) -> None:
        """Correct the selected label of a Labels layer; commit writes it back."""
        self._take_label(write_back=True)

    def find_everything(self) -> None:
        """Commit all objects on the plane that is shown, or within the lasso."""
        if not self._ready():
            return
        region = self.layers.read(self._plane).mask
        policy = self.policy.currentData()
        try:
            self._session.find_everything(
                self._plane,
                self.value,
                region=region,
                policy=policy if policy == "overwrite" else "empty",
                wait=False,
            )
        except FewShotError as error:
            self.failed.emit(error)
            return
        self.failed.emit(None)
        self.layers.clear(self._plane)

    def follow(self) -> None:
        """Carry the committed objects of the class over the other planes."""
        try:
            self._session.propagate(self.value, wait=False)
        except FewShotError as error:
            self.failed.emit(error)
            return
        self.failed.emit(None)

    def _take_label(self, *, write_back: bool) -> None:
        image = self._session.state.query
        try:
            if image is None:
                raise FewShotError(NO_IMAGE)
            plane = self.layers.plane()
            found = chosen_label(self._binding.viewer, image, plane)
        except FewShotError as error:
            self.failed.emit(error)
            return
        self.failed.emit(None)
        if self._ready():
            self._begin()
            self._plane, self._guess = plane, found.mask(image)
            self._repair = found if write_back else None
            self.choose_tool("points")
            self._ask(now=True)

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
        self._candidate, self._guess = row.prompts.candidate, row.prompts.mask
        self._repair = None
        index = self.classes.findData(row.value)
        self.classes.blockSignals(True)
        self.classes.setCurrentIndex(max(index, 0))
        self.classes.blockSignals(False)
        self.layers.load(row.plane, row.prompts)
        self._ask(now=True)

    def resume(self, pending: Pending) -> None:
        """Show prompts of an earlier session that were not committed."""
        if self._ready():
            self.go_to.emit(pending.plane)
            self._plane, self._guess = pending.plane, pending.prompts.mask
            self._candidate = pending.prompts.candidate
            self.classes.setCurrentIndex(max(self.classes.findData(pending.value), 0))
            self.layers.load(pending.plane, pending.prompts)
            self._ask(now=True)

    def start_from(self, plane: int, prompts: Any) -> None:
        """Refine what was found on a plane: its mask is the first guess."""
        if self._ready():
            self.go_to.emit(plane)
            self._begin()
            self._plane = plane
            self._guess = prompts.mask
            self._ask(now=True)

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
        self._session.preview_progressed.disconnect(self._on_progress)
        self._binding.viewer.dims.events.current_step.disconnect(self._on_moved)

    # -- reactions -------------------------------------------------------------------

    def _begin(self) -> None:
        self._session.forget_preview()
        self._preview, self._editing, self._guess = None, None, None
        self._candidate, self._repair = None, None
        self._session.remember_prompts(None)
        self.layers.clear(self._plane)
        self._slow.stop()
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
            self._warm()

    def show_state(self, state: SessionState) -> None:
        """Show classes, models and committed objects."""
        self._show_classes(state)
        show_models(self.models, state.document.model)
        self.object_layers.show_state(state)
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
        many = state.query is not None and state.query.n_planes > 1
        self.spread.setVisible(many)
        self.spread.setEnabled(not state.running)
        # The first entry is the bundled network, which needs prompts.
        has_sam = self.models.count() > 1
        self.everything.setEnabled(has_sam and not state.running)
        self.everything.setToolTip(EVERYTHING if has_sam else NEEDS_SAM)
        if self._editing not in {r.key for r in state.objects}:
            self._editing = None
        self._show_status()

    def _remove_selected(self) -> None:
        for item in self.objects.selectedItems():
            self._session.remove_object(item.data(Qt.ItemDataRole.UserRole))
