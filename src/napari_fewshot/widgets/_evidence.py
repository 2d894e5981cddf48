"""The tabs of evidence: supports, text and prompts, one session behind all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSize
from qtpy.QtWidgets import QSizePolicy, QTabWidget, QWidget

if TYPE_CHECKING:
    from napari_fewshot.widgets._prompt_panel import PromptPanel
    from napari_fewshot.widgets._support_panel import SupportPanel
    from napari_fewshot.widgets._text_panel import TextPanel

MARGIN = 6


class EvidenceTabs(QTabWidget):  # type: ignore[misc]
    """What the user gives, a tab for each kind.

    Parameters
    ----------
    supports : SupportPanel
    text : TextPanel
    prompts : PromptPanel
        Told when its tab comes to the front and leaves it.
    """

    def __init__(
        self,
        supports: SupportPanel,
        text: TextPanel,
        prompts: PromptPanel,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._panels = {"supports": supports, "text": text, "prompts": prompts}
        self.setDocumentMode(True)
        self.tabBar().setDrawBase(False)
        self.addTab(supports, "Supports")
        self.setTabToolTip(0, "Images with masks of what to find.")
        self.addTab(text, "Text")
        self.setTabToolTip(1, "Words for what to find.")
        self.addTab(prompts, "Prompts")
        self.setTabToolTip(2, "Points, boxes and scribbles on this image.")
        self.currentChanged.connect(lambda _: prompts.set_active(self.is_prompting))
        self.currentChanged.connect(lambda _: self.updateGeometry())
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)

    @property
    def is_prompting(self) -> bool:
        """Whether the Prompts tab is in front."""
        return bool(self.currentWidget() is self._panels["prompts"])

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """As high as the tab in front, not as the highest one."""
        return self._of_front(super().sizeHint())

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """As high as the tab in front needs."""
        return self._of_front(super().minimumSizeHint())

    def _of_front(self, size: QSize) -> QSize:
        front: QWidget = self.currentWidget()
        height = front.sizeHint().height()
        if front.hasHeightForWidth():
            # Long lines are wrapped: how high that is depends on the width.
            height = front.heightForWidth(max(self.width(), front.minimumWidth()))
        bar = self.tabBar().sizeHint().height()
        return QSize(size.width(), bar + height + MARGIN)

    def hasHeightForWidth(self) -> bool:  # noqa: N802 - Qt's name
        """Never: Qt would reserve what the highest tab needs."""
        return False

    def resizeEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Wrap lines anew."""
        super().resizeEvent(event)
        if event.oldSize().width() != event.size().width():
            self.updateGeometry()

    def show_tab(self, name: str) -> None:
        """Bring a tab to the front: ``"supports"``, ``"text"`` or ``"prompts"``."""
        self.setCurrentWidget(self._panels[name])
