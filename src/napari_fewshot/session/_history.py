"""Undo and redo: a list of document versions (their arrays are shared)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_fewshot.session._state import Document


class History:
    """Versions of a document with a cursor.

    Parameters
    ----------
    document : Document
        The first version.
    """

    def __init__(self, document: Document) -> None:
        self._versions = [document]
        self._at = 0

    @property
    def current(self) -> Document:
        """The version that holds."""
        return self._versions[self._at]

    @property
    def can_undo(self) -> bool:
        """Whether there is an older version."""
        return self._at > 0

    @property
    def can_redo(self) -> bool:
        """Whether an undone version can come back."""
        return self._at < len(self._versions) - 1

    def push(self, document: Document) -> None:
        """Add a version; versions that were undone are forgotten."""
        self._versions = [*self._versions[: self._at + 1], document]
        self._at += 1

    def amend(self, document: Document) -> None:
        """Replace the current version: for changes that are not edits of the user."""
        self._versions[self._at] = document

    def undo(self) -> None:
        """Go back one version, if there is one."""
        self._at = max(0, self._at - 1)

    def redo(self) -> None:
        """Go forward one version, if there is one."""
        self._at = min(len(self._versions) - 1, self._at + 1)
