"""Prompts in a run: which planes they are on, and what they change there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.methods import Prompter, log_odds, network_of, sigmoid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks, Plane, PromptSet, Sample
    from napari_fewshot.inference._cache import Learnt
    from napari_fewshot.inference._request import SegmentRequest
    from napari_fewshot.models import Encoder


@dataclass(frozen=True)
class Prompting:
    """Everything needed to follow the prompts of a request.

    Attributes
    ----------
    prompter : Prompter
        Network and supports.
    prompts : dict of int to PromptSet
        As the user gave them.
    n_planes : int
        Planes of the query.
    """

    prompter: Prompter
    prompts: Mapping[int, PromptSet]
    n_planes: int

    def apply(
        self,
        index: int,
        plane: Plane,
        maps: Mapping[int, FloatArray],
        hooks: Hooks,
    ) -> dict[int, FloatArray]:
        """Return probability maps in which the prompts of a plane are followed.

        Parameters
        ----------
        index : int
            Number of the plane.
        plane : Plane
            Its pixels.
        maps : dict of int to array (H, W)
            What was found without prompts; classes known from prompts alone are added.
        hooks : Hooks
            For cancelling.
        """
        found = dict(maps)
        shape = plane.image.shape[:2]
        for value, prompts in self.prompts.items():
            here = prompts.on_plane(index, self.n_planes)
            if here.is_empty:
                found.setdefault(value, np.zeros(shape, np.float32))
                continue
            start = log_odds(maps[value]) if value in maps else None
            odds = self.prompter.refine(plane.image, value, here, start, hooks)
            found[value] = sigmoid(odds)
        return found


def prepare_prompting(
    request: SegmentRequest,
    learnt: Learnt,
    samples: Sequence[Sample],
    classes: Sequence[int],
    encoder: Encoder | None,
) -> Prompting | None:
    """Return what follows the prompts, or None when there are none.

    The encoded supports stay in ``learnt``, so that the next click finds them.

    Raises
    ------
    WeightsError
        If the bundled network cannot be loaded.
    """
    if not request.prompts:
        return None
    if learnt.prompter is None:
        learnt.prompter = Prompter.fit(network_of(encoder), samples, classes)
    return Prompting(learnt.prompter, dict(request.prompts), request.query.n_planes)


def prompted_planes(prompts: Mapping[int, PromptSet], n_planes: int) -> tuple[int, ...]:
    """Return the planes that have prompts of any class, in order."""
    found = {i for p in prompts.values() for i in p.planes(n_planes)}
    return tuple(sorted(found))
