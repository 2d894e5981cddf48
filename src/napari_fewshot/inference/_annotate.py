"""From what a user gives, masks on planes or prompts, to annotated planes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.errors import DataError, PromptError
from napari_fewshot.inference._propagation import PROMPTED
from napari_fewshot.methods.promptable import asks_for_something

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from napari_fewshot._types import AnyArray, LabelArray
    from napari_fewshot.data import Hooks, Image, PromptSet
    from napari_fewshot.inference._propagation import Propagation
    from napari_fewshot.methods.following import Follower


def annotate_masks(
    state: Propagation, painted: Iterable[tuple[int, LabelArray]]
) -> None:
    """Take painted planes over; a painted plane is finished.

    Every object of any painted plane is then annotated on all of them: where it has no
    pixels it is known to be absent.

    Parameters
    ----------
    state : Propagation
        Is changed.
    painted : iterable of (int, array (H, W) int)
        Planes and their labels.

    Raises
    ------
    DataError
        If nothing is painted at all, or a plane can't be used.
    """
    planes = []
    for plane, given in painted:
        labels = checked_labels(state, plane, given)
        planes.append(plane)
        for value in np.unique(labels[labels > 0]).tolist():
            state.annotate(value, plane, labels == value)
    if not state.objects:
        raise DataError(
            "No object is painted on any plane. Paint it on one plane or more, or give "
            "prompts."
        )
    nothing = np.zeros(state.shape, bool)
    for value, known in state.objects.items():
        for plane in set(planes) - set(known):
            state.annotate(value, plane, nothing)


def checked_labels(state: Propagation, plane: int, labels: AnyArray) -> LabelArray:
    """Return the labels of a plane as int32.

    Raises
    ------
    DataError
        If the plane does not exist or its labels do not fit or are no whole numbers.
    """
    if not 0 <= plane < state.n_planes:
        raise DataError(
            f"There is a mask for plane {plane}, but the image has planes 0 to "
            f"{state.n_planes - 1}."
        )
    found = np.asarray(labels)
    if found.shape != state.shape:
        raise DataError(
            f"The mask of plane {plane} has shape {found.shape}, but planes of the "
            f"image have {state.shape}."
        )
    fits = np.isfinite(found).all() and (found >= 0).all()
    if not fits or (found.dtype.kind == "f" and (found != found.round()).any()):
        raise DataError(
            f"The mask of plane {plane} must hold whole numbers: 0 for background, one "
            "number from 1 for each object."
        )
    return found.astype(np.int32)


def annotate_prompts(
    state: Propagation,
    query: Image,
    prompts: Mapping[int, PromptSet],
    follower: Follower,
    hooks: Hooks,
) -> list[tuple[int, int]]:
    """Let the model answer prompts; the answers are annotated planes.

    A plane with negative prompts alone says that the object is not there.

    Parameters
    ----------
    state : Propagation
        Is changed.
    query : Image
        The stack.
    prompts : dict of int to PromptSet
        Per object, with the plane first.
    follower : Follower
        Asks the model.
    hooks : Hooks
        Progress and cancelling.

    Returns
    -------
    list of (int, int)
        Objects and planes whose prompts found nothing; these planes stay unknown.

    Raises
    ------
    PromptError
        If an object has a mask and prompts on one plane, or its prompts found nothing
        anywhere.
    """
    asked = {v: given.planes(query.n_planes) for v, given in prompts.items()}
    _check_clashes(state, asked)
    every = sorted({plane for planes in asked.values() for plane in planes})
    empty = []
    for done, plane in enumerate(every):
        hooks.report("Following the prompts", done, len(every))
        seen = follower.look(query.plane(plane), hooks)
        here = {
            value: prompts[value].on_plane(plane, query.n_planes)
            for value, planes in asked.items()
            if plane in planes
        }
        wanted = [v for v, given in here.items() if asks_for_something(given)]
        for value in set(here) - set(wanted):
            nothing = np.zeros(state.shape, bool)
            state.annotate(value, plane, nothing, PROMPTED)
        answers = follower.follow(seen, [(None, here[v]) for v in wanted], hooks)
        for value, (logits, score) in zip(wanted, answers, strict=True):
            mask = logits > 0
            if mask.any():
                state.annotate(value, plane, mask, PROMPTED, score)
            else:
                empty.append((value, plane))
    for value in asked:
        if not any(state.is_present(value, p) for p in state.annotated(value)):
            raise PromptError(
                f"Nothing was found at the prompts of object {value}. Move them, add "
                "more, or draw a box around the object."
            )
    return empty


def _check_clashes(state: Propagation, asked: Mapping[int, tuple[int, ...]]) -> None:
    for value, planes in asked.items():
        both = sorted(set(planes) & set(state.annotated(value)))
        if both:
            raise PromptError(
                f"Object {value} has both a mask and prompts on plane {both[0]}. Keep "
                "one of them: a mask is taken as finished."
            )
