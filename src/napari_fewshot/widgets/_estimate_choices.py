"""What was chosen for the next run, and what that takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_fewshot.session._api import LOCAL
from napari_fewshot.session._edits import make_request
from napari_fewshot.session._estimate import estimate_request, total
from napari_fewshot.viewer._layers import open_layer

if TYPE_CHECKING:
    from napari_fewshot.data import Region
    from napari_fewshot.inference import SegmentRequest
    from napari_fewshot.session import Estimate
    from napari_fewshot.session._state import Document


@dataclass(frozen=True, eq=False)
class Choices:
    """What is to be run, as it was chosen when it was looked at.

    Attributes
    ----------
    document : Document
        Supports, method and the rest; a new one after every edit.
    planes : tuple of int, optional
        Chosen planes; None is all.
    region : (int, int, int, int), optional
        The part in view, if only that is wanted.
    layers : tuple of layers
        If several images are wanted, these.
    workers : int
        Of a cluster, -1 if that is not known yet; 0 is this computer.
    """

    document: Document
    planes: tuple[int, ...] | None = None
    region: Region | None = None
    layers: tuple[Any, ...] = ()
    workers: int = 0

    def is_like(self, other: Choices | None) -> bool:
        """Whether the same would be run."""
        if other is None or other.document is not self.document:
            return False
        mine, its = vars(self).copy(), vars(other).copy()
        del mine["document"], its["document"]
        return mine == its

    def requests(self) -> list[SegmentRequest]:
        """Return what would be run; nothing without any evidence.

        Raises
        ------
        FewShotError
            If it can't be run at all.
        """
        document = self.document
        if document.query is None or not (
            document.support_set() or document.prompts or document.text
        ):
            return []
        if not self.layers:
            planes = None if self.planes is None else list(self.planes)
            return [make_request(document, planes, region=self.region)]
        # Accepted planes and prompts are those of one image.
        bare = replace(document, planes=None, accepted={}, prompts={})
        images = [open_layer(layer) for layer in self.layers]
        return [make_request(replace(bare, query=image), None) for image in images]

    def look(self) -> Estimate | None:
        """Return what this would take; None if there is nothing to run.

        Only shapes are looked at: may be called in a thread.

        Raises
        ------
        FewShotError, TypeError, ValueError
            If it can't be run at all.
        """
        requests = self.requests()
        if not requests:
            return None
        is_local, workers = not self.workers, max(1, self.workers)
        return total(
            [estimate_request(r, is_local=is_local, workers=workers) for r in requests]
        )


def workers_of(place: Any) -> int:
    """Return how many workers compute: 0 is this computer, -1 not known yet.

    Parameters
    ----------
    place : Executor
        Who computes.
    """
    if place.name in LOCAL:
        return 0
    found = getattr(place, "found", None)
    return len(found.workers) if found is not None and found.workers else -1
