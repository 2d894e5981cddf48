"""`TrustParts`: what the dock says before and after a run, put into its panels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_fewshot.session import Pending
from napari_fewshot.widgets._how_layers import HowBar
from napari_fewshot.widgets._trust_bar import TrustBar

if TYPE_CHECKING:
    from napari_fewshot.data import PromptSet
    from napari_fewshot.session import SessionState
    from napari_fewshot.widgets.main import FewShotWidget


class TrustParts:
    """Check supports and Show how.

    Parameters
    ----------
    dock : FewShotWidget
        Gets the button of the check into its Supports tab, and Show how into *How*.
    """

    def __init__(self, dock: FewShotWidget) -> None:
        self._dock = dock
        self.bar = TrustBar(dock.session)
        self.how = HowBar(dock.binding)
        dock.support_panel.layout().addWidget(self.bar)
        # Under the line that says how, above the form.
        dock.how_panel.layout().insertWidget(1, self.how)
        self.bar.check.connect(lambda: dock._guard(self.check))
        self.how.run_from.connect(self.run_from)
        for part in (self.bar, self.how):
            part.failed.connect(dock.run_panel.show_error)

    def check(self) -> None:
        """Check the supports as they are painted now, in the background."""
        dock = self._dock
        dock.run_panel.show_error(None)
        dock.binding.flush()
        dock.session.check_supports(wait=False)

    def run_from(self, plane: int, value: int, prompts: PromptSet) -> None:
        """Continue in the Prompts tab with prompts that a method made.

        Parameters
        ----------
        plane, value : int
            Where, and for which class.
        prompts : PromptSet
            In pixels of the plane.
        """
        dock = self._dock
        dock.show_tab("prompts")
        # What is outlined there is committed first, as on every change of objects.
        dock.prompt_panel.next_object()
        dock.prompt_panel.resume(Pending(plane, value, prompts))

    def show_state(self, state: SessionState) -> None:
        """Show a state in all parts."""
        self.bar.show_state(state)
        self.how.show_state(state)

    def shut_down(self) -> None:
        """Let go of viewer and session."""
        self.how.shut_down()
