"""Values that views render: frozen, made anew after every change."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from napari_fewshot.data import ClassTable, SupportSet, TextChoice

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_fewshot._types import LabelArray
    from napari_fewshot.data import (
        Image,
        Prediction,
        Progress,
        PromptSet,
        Support,
        TextPrompt,
    )
    from napari_fewshot.session._object_rows import ObjectRow, Pending

# A support whose leave-one-out Dice is below this disagrees with the others.
DISAGREES_BELOW = 0.5


@dataclass(frozen=True)
class SupportRow:
    """One row of the support table.

    Attributes
    ----------
    key : int
        Stays the same while the row exists.
    support : Support
    muted : bool
        Left out of the next run, kept in the table.
    accepted_plane : int, optional
        Plane of the query this row was accepted from.
    scores : dict of int to float
        Leave-one-out Dice of the last run, per class.
    redundant : bool
        Whether another support teaches the same.
    """

    key: int
    support: Support
    muted: bool = False
    accepted_plane: int | None = None
    scores: Mapping[int, float] = field(default_factory=dict)
    redundant: bool = False

    @property
    def name(self) -> str:
        """What the row is called."""
        return self.support.name or f"support {self.key}"

    @property
    def is_negative(self) -> bool:
        """Whether it says "nothing here"."""
        return self.support.is_negative

    @property
    def score(self) -> float | None:
        """Lowest score over classes; None before a run."""
        return min(self.scores.values()) if self.scores else None

    @property
    def disagrees(self) -> bool:
        """Whether the other supports would have segmented it badly."""
        return self.score is not None and self.score < DISAGREES_BELOW


@dataclass(frozen=True)
class Document:
    """Everything that edits change and undo brings back.

    Arrays are shared between versions and never written to.
    """

    rows: tuple[SupportRow, ...] = ()
    classes: ClassTable = field(default_factory=ClassTable)
    query: Image | None = None
    query_source: str | None = None
    planes: tuple[int, ...] | None = None
    method: str = "auto"
    model: str = "auto"
    device: str = "auto"
    checkpoint: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    accepted: Mapping[int, LabelArray] = field(default_factory=dict)
    rejected: frozenset[int] = frozenset()
    prompts: Mapping[int, PromptSet] = field(default_factory=dict)
    text: Mapping[int, TextPrompt] = field(default_factory=dict)
    reading: TextChoice = field(default_factory=TextChoice)
    result: Prediction | None = None
    objects: tuple[ObjectRow, ...] = ()
    pending: Pending | None = None
    # Of every object that was carried over the planes: its annotated planes then.
    spread: Mapping[int, Mapping[int, str]] = field(default_factory=dict)

    def support_set(self) -> SupportSet:
        """Return the supports that are not muted."""
        return SupportSet([row.support for row in self.rows if not row.muted])

    def with_rows(self, rows: tuple[SupportRow, ...]) -> Document:
        """Return a version with these supports; new classes join the table."""
        names = SupportSet([row.support for row in rows]).class_names
        return replace(self, rows=rows, classes=self.classes.merged(names))


@dataclass(frozen=True)
class SessionState:
    """What a view shows.

    Attributes
    ----------
    document : Document
        Supports, classes, query, method, accepted planes.
    running : bool
    progress : Progress, optional
        Of the running job.
    can_undo, can_redo : bool
    project : Path, optional
        Where the session is kept.
    unsaved : bool
        Whether the last autosave failed.
    """

    document: Document
    running: bool = False
    progress: Progress | None = None
    can_undo: bool = False
    can_redo: bool = False
    project: Path | None = None
    unsaved: bool = False

    @property
    def supports(self) -> tuple[SupportRow, ...]:
        """Rows of the support table."""
        return self.document.rows

    @property
    def classes(self) -> ClassTable:
        """The class table."""
        return self.document.classes

    @property
    def query(self) -> Image | None:
        """The image to segment."""
        return self.document.query

    @property
    def prediction(self) -> Prediction | None:
        """The result that holds; undo brings the one before back."""
        return self.document.result

    @property
    def objects(self) -> tuple[ObjectRow, ...]:
        """Objects that were committed click by click."""
        return self.document.objects

    @property
    def accepted(self) -> frozenset[int]:
        """Planes that were accepted."""
        return frozenset(self.document.accepted)
