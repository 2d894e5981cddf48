"""`TextParts`: the Text tab, and what connects it with the other parts of the dock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_fewshot.viewer._actions import models
from napari_fewshot.widgets._text_panel import TextPanel

if TYPE_CHECKING:
    from napari_fewshot.session import SessionState
    from napari_fewshot.widgets.main import FewShotWidget


class TextParts:
    """The Text tab.

    Parameters
    ----------
    dock : FewShotWidget
        Its class table chooses the class, and its button takes over what was typed.
    """

    def __init__(self, dock: FewShotWidget) -> None:
        self._dock = dock
        self.panel = panel = TextPanel(dock.binding)
        dock.class_panel.selected.connect(panel.choose)
        dock.class_panel.phrased.connect(panel.set_phrase)
        panel.chosen.connect(dock.class_panel.select)
        panel.refine.connect(lambda p, v: dock._guard(lambda: self.refine(p, v)))
        panel.keep.connect(lambda p: dock._guard(lambda: dock.accept([p])))
        panel.failed.connect(dock.run_panel.show_error)
        panel.reading.wanted.connect(lambda name: models(dock.viewer, name))
        # Before the dock hears the button.
        dock.run_panel.segment.connect(self.flush)

    def flush(self) -> None:
        """Take over what was typed, and where the threshold is."""
        self.panel.flush()
        self.panel.heat.flush()

    def refine(self, plane: int, value: int) -> None:
        """Correct what was found for a class on a plane, with prompts.

        Parameters
        ----------
        plane, value : int
            Where, and what.
        """
        classes = self._dock.prompt_panel.classes
        classes.setCurrentIndex(max(classes.findData(value), 0))
        self._dock.refine(plane)

    def show_state(self, state: SessionState) -> None:
        """Show a state."""
        self.panel.show_state(state)

    def shut_down(self) -> None:
        """Let go of viewer and session."""
        self.panel.shut_down()
