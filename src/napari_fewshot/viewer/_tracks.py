"""Objects that were linked over time or depth, as a Tracks layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.errors import DataError
from napari_fewshot.viewer._layers import KEY, placement

if TYPE_CHECKING:
    from napari_fewshot.data import Prediction
    from napari_fewshot.viewer._binding import Binding

NONE = (
    "The result has no linked objects. Choose link, such as t for time (How, change), "
    "and segment again."
)
# Tails longer than this hide more than they show.
TAIL = 30


def has_tracks(prediction: Prediction | None) -> bool:
    """Whether the objects of a result were linked.

    Parameters
    ----------
    prediction : Prediction, optional
        The result; None is none.
    """
    tracks = None if prediction is None else prediction.tracks
    return tracks is not None and len(tracks.points) > 0


def show_tracks(binding: Binding) -> Any:
    """Show the tracks of the result over its image; an earlier layer is replaced.

    Parameters
    ----------
    binding : Binding
        Session and viewer.

    Returns
    -------
    napari Tracks layer
        Named after the result, with the scale and units of the image. Axes are those of
        the labels: time (or depth) first.

    Raises
    ------
    DataError
        If nothing was linked, or its tracks can't be drawn.
    """
    prediction, layer = binding.session.prediction, binding.query_layer
    query = binding.session.state.query
    if prediction is None or layer is None or not has_tracks(prediction):
        raise DataError(NONE)
    points = np.asarray(prediction.tracks.points, float)
    shape = tuple(int(n) for n in prediction.labels.shape)
    if points.shape[1] - 1 != len(shape):
        raise DataError(
            "The objects were linked along z at every time by itself, which a Tracks "
            "layer can't show. Link over time, too: link=auto."
        )
    if query is not None and query.label_axes.startswith("zt"):
        raise DataError(
            "A Tracks layer needs time as its first axis, and here it comes after z. "
            "Swap the two axes of the image, then segment again."
        )
    viewer, active = binding.viewer, binding.viewer.layers.selection.active
    result = binding.result_layer
    name = f"{(result or layer).name} - tracks"
    for old in [x for x in viewer.layers if _is_of(x, layer)]:
        name = old.name
        viewer.layers.remove(old)
    order = np.lexsort((points[:, 1], points[:, 0]))
    made = viewer.add_tracks(
        points[order],
        graph=_graph(prediction.tracks),
        name=name,
        metadata={KEY: {"role": "tracks", "query": layer.unique_id}},
        tail_length=min(TAIL, shape[0]),
        **placement(layer, shape),
    )
    if active is not None and active in viewer.layers:
        # Whoever paints or places prompts keeps the tool in hand.
        viewer.layers.selection.active = active
    return made


def _is_of(found: Any, layer: Any) -> bool:
    """Whether a layer shows tracks of an image layer."""
    mark = found.metadata.get(KEY, {})
    is_ours = isinstance(mark, dict) and mark.get("role") == "tracks"
    return is_ours and mark.get("query") == layer.unique_id


def _graph(tracks: Any) -> dict[int, list[int]]:
    """Return who comes from whom, of tracks that have points."""
    there = set(np.unique(tracks.points[:, 0]).astype(int).tolist())
    found = {
        child: [p for p in parents if p in there]
        for child, parents in tracks.graph.items()
        if child in there
    }
    return {child: parents for child, parents in found.items() if parents}
