"""The live outline of the Prompts tab: prompts in, mask on the screen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer, Signal

from napari_fewshot.data import PromptSet, default_colour
from napari_fewshot.errors import FewShotError
from napari_fewshot.viewer._drawing import NEGATIVE, POSITIVE
from napari_fewshot.viewer._prompting import PromptLayers
from napari_fewshot.widgets._prompt_form import EMPTY, NO_IMAGE, PromptForm, swatch

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

    from napari_fewshot.data import Progress
    from napari_fewshot.session import Preview, SessionState
    from napari_fewshot.viewer._binding import Binding
    from napari_fewshot.viewer._repair import Repair


class OutlinePanel(PromptForm):
    """Outlines what the prompts of the object at hand select.

    Parameters
    ----------
    binding : Binding
        Session and viewer.
    """

    failed = Signal(object)

    def __init__(self, binding: Binding, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._binding = binding
        self._session = binding.session
        self.layers = PromptLayers(binding.viewer, self)
        self._preview: Preview | None = None
        self._guess: Any = None
        self._candidate: int | None = None
        self._repair: Repair | None = None
        self._plane = 0
        self._is_active = False
        self.positive.clicked.connect(lambda: self.set_sign(POSITIVE))
        self.negative.clicked.connect(lambda: self.set_sign(NEGATIVE))
        for name, button in self.tools.items():
            button.clicked.connect(lambda _=False, n=name: self.choose_tool(n))
        self.classes.currentIndexChanged.connect(lambda _: self._ask())
        self.helped.toggled.connect(lambda _: self._ask())
        self.models.activated.connect(lambda _: self._on_model())
        self.live.toggled.connect(lambda _: self._show_status())
        self.outline_button.clicked.connect(lambda: self._ask(now=True))
        self.candidate_button.clicked.connect(self.next_candidate)
        self.add_class.clicked.connect(self._on_add_class)
        self.positive.setChecked(True)
        # Progress only when a preview takes longer than a blink.
        self._slow = QTimer(self)
        self._slow.setSingleShot(True)
        self._slow.setInterval(150)
        self._slow.timeout.connect(lambda: self.status.setText("Looking..."))
        self.layers.edited.connect(self._on_edited)
        self._session.previewed.connect(self._on_previewed)
        self._session.preview_progressed.connect(self._on_progress)

    def _warm(self) -> None:
        """Let a model that takes long read the plane before the first click."""
        if self._is_active and self._session.state.query is not None:
            self._session.warm(self._plane)

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

    def next_candidate(self) -> None:
        """Show the next of the masks that the prompts may mean."""
        preview = self._preview
        if preview is None or preview.candidates is None:
            return
        count = len(preview.candidates)
        self._candidate = ((self._candidate or 0) + 1) % count
        mask = preview.candidates[self._candidate]
        prompts = replace(preview.prompts, candidate=self._candidate)
        self._on_previewed(replace(preview, mask=mask, prompts=prompts))

    def _is_committed(self) -> bool:
        preview = self._preview
        return preview is not None and any(
            row.prompts is preview.prompts for row in self._session.state.objects
        )

    def _on_edited(self) -> None:
        self._plane = self.layers.plane()
        self._ask()

    def prompts(self) -> PromptSet:
        """Return the prompts of the object at hand."""
        prompts = self.layers.read(self._plane)
        if self._guess is not None:
            drawn = prompts.mask
            guess = self._guess if drawn is None else self._guess | drawn
            prompts = replace(prompts, mask=guess)
        return replace(prompts, candidate=self._candidate)

    def _ask(self, *, now: bool = False) -> None:
        """Ask for the outline of the prompts; not live only if that is wanted now."""
        if not self._is_active or self._session.state.query is None:
            return
        prompts = self.prompts()
        self._session.remember_prompts(prompts, self.value, self._plane)
        if not (now or self.live.isChecked() or prompts.is_empty):
            self._show_status()
            return
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
        self.progress.hide()
        self._preview = preview
        colours = self._session.state.classes.colours
        colour = colours.get(preview.value, default_colour(preview.value))
        self.layers.show_preview(preview.plane, preview.mask, colour)
        self._show_status()

    def _on_progress(self, progress: Progress) -> None:
        """Show how far a model is with reading the plane: once per plane."""
        if not self._is_active or not progress.stage.startswith("Encod"):
            return
        if progress.done >= progress.total:
            self.progress.hide()
            self._show_status()
            return
        self.progress.setRange(0, max(progress.total, 1))
        self.progress.setValue(progress.done)
        self.progress.show()
        self.status.setText(f"{progress.stage}; once per plane.")
        self._slow.stop()

    def _on_model(self) -> None:
        """Take another model; what is outlined is outlined anew."""
        try:
            self._session.set_method(model=self.models.currentData())
        except FewShotError as error:
            self.failed.emit(error)
            return
        self._candidate = None
        self._warm()
        self._ask()

    def _show_status(self) -> None:
        preview = self._preview
        self.commit_button.setEnabled(preview is not None)
        self.discard_button.setEnabled(preview is not None)
        self.next_button.setEnabled(preview is not None)
        self.outline_button.setEnabled(not self.live.isChecked())
        self._show_offer(preview)
        if preview is None:
            self.status.setText(EMPTY)
            return
        area = int(preview.mask.sum())
        if area == 0:
            self.status.setText("Nothing found there. Add a click or a scribble.")
        elif self._repair is not None:
            self.status.setText(
                f"Label {self._repair.number} of {self._repair.layer.name!r}, {area} "
                "pixels. Commit writes it back."
            )
        elif (count := count_objects(preview)) > 1:
            self.status.setText(f"{count} objects, {area} pixels. Commit them.")
        elif self._is_committed():
            self.status.setText(f"Committed, {area} pixels. Alt+N begins the next.")
        else:
            self.status.setText(f"{area} pixels. Correct it with clicks, or commit it.")

    def _show_offer(self, preview: Preview | None) -> None:
        """Say which of the masks on offer is shown."""
        several = preview is not None and preview.candidates is not None
        for part in (self.offer, self.candidate_button):
            part.setVisible(several)
        if preview is not None and preview.candidates is not None:
            at = self._candidate or 0
            text = f"Mask {at + 1} of {len(preview.candidates)}"
            if at < len(preview.candidate_scores):
                text += f" ({preview.candidate_scores[at]:.2f})"
            self.offer.setText(text)

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


def count_objects(preview: Preview) -> int:
    """Return how many objects an outline is made of."""
    if preview.instances is None:
        return 1
    return max(1, int(preview.instances.max()))
