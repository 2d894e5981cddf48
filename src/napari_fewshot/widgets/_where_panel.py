"""Where to run: this computer, or the workers of a cluster."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSettings, Qt, QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QButtonGroup,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QRadioButton,
    QVBoxLayout,
    QWidget,
)

from napari_fewshot.errors import FewShotError
from napari_fewshot.session import get_executor
from napari_fewshot.viewer._qt import Dispatcher
from napari_fewshot.widgets._section import SETTINGS, Section

if TYPE_CHECKING:
    from napari_fewshot.session import Session, SessionState
    from napari_fewshot.session._dask_link import ClusterCheck

KEY = "cluster/address"
EXAMPLE = "tcp://host:8786"
ASK = "Type the address that the scheduler printed, then press Connect."
STAYS = "Runs stay on this computer."


class WherePanel(QWidget):  # type: ignore[misc]
    """Chooses who computes the runs of a session.

    A connection is tested beside the event loop. Until it stands, and whenever it does
    not, runs stay on this computer.

    Parameters
    ----------
    session : Session
        Whose runs; the executor that it has is "this computer".
    """

    connected = Signal(object)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._local = session.place
        self._dispatcher = Dispatcher(self)
        self._attempt = 0
        self.here = QRadioButton("this computer")
        self.here.setToolTip("Segment here, in a process beside napari.")
        self.there = QRadioButton("a cluster")
        self.there.setToolTip(
            "Segment on the workers of a dask scheduler: a computer with a graphics "
            "card, or a cluster. Your images and supports stay as they are."
        )
        self.address = QLineEdit()
        self.address.setPlaceholderText(EXAMPLE)
        self.address.setToolTip(
            f"Address of the scheduler, for example {EXAMPLE}. It is remembered."
        )
        self.address.setText(str(QSettings(SETTINGS, SETTINGS).value(KEY, "") or ""))
        self.connect_button = QPushButton("Connect")
        self.connect_button.setToolTip(
            "Test the connection: is it reachable, has it workers, are the same "
            "versions installed there? Then run there."
        )
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse
        )
        self.dashboard = QPushButton("Open the dashboard")
        self._link = ""
        self._build()

    def _build(self) -> None:
        group = QButtonGroup(self)
        group.addButton(self.here)
        group.addButton(self.there)
        self.here.setChecked(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        choices = QHBoxLayout()
        choices.addWidget(self.here)
        choices.addWidget(self.there)
        choices.addStretch(1)
        layout.addLayout(choices)
        row = QHBoxLayout()
        row.addWidget(self.address, 1)
        row.addWidget(self.connect_button)
        layout.addLayout(row)
        layout.addWidget(self.status)
        layout.addWidget(self.dashboard)
        self.here.clicked.connect(self.go_home)
        self.there.clicked.connect(self.go_there)
        self.address.returnPressed.connect(self.go_there)
        self.connect_button.clicked.connect(self.go_there)
        self.dashboard.clicked.connect(
            lambda: QDesktopServices.openUrl(QUrl(self._link))
        )
        self._tell("")
        self._session.state_changed.connect(self.show_state)

    @property
    def is_connected(self) -> bool:
        """Whether runs go to a cluster."""
        return self._session.place is not self._local

    def go_home(self) -> None:
        """Run on this computer again; what a cluster answers later is not heard."""
        self._attempt += 1
        self.here.setChecked(True)
        self._run_on(self._local)
        self._tell("")

    def go_there(self) -> None:
        """Test the connection to the address, and run there if it stands."""
        address = self.address.text().strip()
        if not address:
            self.here.setChecked(True)
            self.address.setFocus()
            self._tell(ASK)
            return
        if "://" not in address:
            address = f"tcp://{address}"
            self.address.setText(address)
        if not self._run_on(self._local):
            return
        self._attempt += 1
        attempt = self._attempt
        QSettings(SETTINGS, SETTINGS).setValue(KEY, address)
        self.there.setChecked(True)
        self._tell(f"Connecting to {address} ...")
        self.connect_button.setEnabled(False)

        def test() -> None:
            executor: Any = None
            found: Any = None
            try:
                executor = get_executor(address)
                found = executor.check()
            except Exception as error:  # noqa: BLE001 - shown to the user
                found = error
            self._dispatcher(lambda: self._on_answer(attempt, executor, found))

        threading.Thread(target=test, name="napari-fewshot-test", daemon=True).start()

    def show_up(self) -> None:
        """Unfold and ask for the address."""
        section = self.parentWidget()
        if isinstance(section, Section):
            section.header.setChecked(True)
        self.address.setFocus()

    def show_state(self, state: SessionState) -> None:
        """Leave the choice alone while something runs."""
        for part in (self.here, self.there, self.address, self.connect_button):
            part.setEnabled(not state.running)

    def shut_down(self) -> None:
        """Hear no more answers."""
        self._attempt += 1
        self._dispatcher.close()

    def _on_answer(
        self, attempt: int, executor: Any, found: ClusterCheck | Exception
    ) -> None:
        if attempt != self._attempt:
            return
        self.connect_button.setEnabled(True)
        if isinstance(found, Exception):
            self.here.setChecked(True)
            said = str(found) or type(found).__name__
            self._tell(f"\u26a0 Not connected. {said} {STAYS}")
        elif self._run_on(executor):
            notes = "".join(f"\n\u26a0 {note}" for note in found.notes)
            self._tell(
                f"Connected: {found.text}. Segment runs there; clicks are previewed "
                f"here.{notes}",
                found.dashboard,
            )
        self.connected.emit(found)

    def _run_on(self, executor: Any) -> bool:
        """Change who computes; says so if that can't be now."""
        if self._session.place is executor:
            return True
        try:
            self._session.run_on(executor)
        except FewShotError as error:
            (self.there if self.is_connected else self.here).setChecked(True)
            self._tell(f"\u26a0 {error}")
            return False
        return True

    def _tell(self, text: str, dashboard: str = "") -> None:
        self.connect_button.setEnabled(True)
        self.status.setText(text)
        self.status.setToolTip(text)
        self.status.setVisible(bool(text))
        self._link = dashboard
        self.dashboard.setToolTip(f"Watch the workers in a web page: {dashboard}")
        self.dashboard.setVisible(bool(dashboard))
