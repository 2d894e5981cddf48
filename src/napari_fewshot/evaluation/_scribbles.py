"""Robot users that draw: scribbles along the middle, straight, and along the contour.

The three kinds are those of ScribblePrompt (Wong et al. 2024); each is one stroke, a
path of pixels inside a mask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.evaluation._robots import Interaction
from napari_fewshot.ops import interior_distance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray, BoolArray

KINDS = ("centre", "line", "contour")
# The negative scribble runs within this share of the diagonal of the object's box.
RING = 0.1
# A contour is drawn at a depth between these shares of the greatest depth.
CONTOUR_DEPTH = (0.2, 0.6)
# Nearer to the outside than half a pixel, a contour would be rounded out of the mask.
SHALLOWEST = 0.51


def draw_scribbles(
    found: BoolArray,
    truth: BoolArray,
    before: Sequence[Interaction],
    rng: np.random.Generator,
    *,
    first: str = "centre",
) -> list[Interaction]:
    """Draw on the object and beside it, then on the largest error (protocol F).

    Parameters
    ----------
    found, truth : array (H, W) bool
        The present mask and what is wanted.
    before : sequence of Interaction
        What was done so far.
    rng : Generator
        Draws places, and the kind of every correction.
    first : {"centre", "line", "contour"}
        Kind of the first scribbles.

    Returns
    -------
    list of Interaction
        At first a positive scribble in the largest part of the object and a negative
        one in the ring of background around it, later one in the largest error.
    """
    if np.array_equal(found, truth):
        return []
    # As long as a side of the image: 128 pixels at 128 x 128.
    longest = float(max(truth.shape))
    if not any(done.kind == "scribble" for done in before):
        drawn = [Interaction("scribble", stroke(truth, first, rng, longest))]
        ring = background_ring(truth)
        if ring.any():
            path = stroke(ring, first, rng, longest)
            drawn.append(Interaction("scribble", path, positive=False))
        return drawn
    region, positive = _error_region(found, truth)
    kind = KINDS[int(rng.integers(len(KINDS)))]
    return [Interaction("scribble", stroke(region, kind, rng, longest), positive)]


def _error_region(found: BoolArray, truth: BoolArray) -> tuple[BoolArray, bool]:
    """Return the largest error as far as it has the sign of its deepest pixel."""
    part, window = _largest_part(found ^ truth)
    depth = interior_distance(part)
    wanted = truth[window]
    positive = bool(wanted.ravel()[int(depth.argmax())])
    region = np.zeros_like(truth)
    region[window] = part & (wanted == positive)
    return region, positive


def background_ring(truth: BoolArray) -> BoolArray:
    """Return the background near an object: within 10 % of its box's diagonal.

    Parameters
    ----------
    truth : array (H, W) bool
        The object, not empty.
    """
    from scipy import ndimage

    places = np.argwhere(truth)
    diagonal = float(np.hypot(*(places.max(0) + 1 - places.min(0))))
    away = ndimage.distance_transform_edt(~truth)
    ring: BoolArray = (away > 0) & (away <= max(RING * diagonal, 1.0))
    return ring


def stroke(
    mask: BoolArray, kind: str, rng: np.random.Generator, longest: float
) -> AnyArray:
    """Draw one scribble into the largest part of a mask.

    Parameters
    ----------
    mask : array (H, W) bool
        Not empty.
    kind : {"centre", "line", "contour"}
        Along the middle, straight, or along the contour.
    rng : Generator
        Draws the places of lines and contours.
    longest : float
        Longer scribbles are cut to their middle, in pixels.

    Returns
    -------
    array (N, 2) int
        Rows and columns inside the mask, in the order of drawing; N is at least 1.
    """
    part, window = _largest_part(mask)
    if kind == "centre":
        path = _centre_line(part)
    elif kind == "line":
        path = _line(part, rng)
    else:
        path = _contour(part, rng)
    path = _longest_run(path, part)
    if not len(path):
        # Of tiny parts nothing is left to draw along.
        deepest = int(interior_distance(part).argmax())
        path = np.array(np.unravel_index(deepest, part.shape))[None]
    drawn: AnyArray = _cut(path, longest) + [w.start for w in window]
    return drawn


def _largest_part(mask: BoolArray) -> tuple[BoolArray, tuple[slice, slice]]:
    """Return the largest 8-connected part in its window, and the window."""
    from scipy import ndimage

    parts, _ = ndimage.label(mask, np.ones((3, 3)))
    largest = int(np.bincount(parts.ravel())[1:].argmax()) + 1
    window = ndimage.find_objects(parts, largest)[largest - 1]
    return parts[window] == largest, window


def _centre_line(part: BoolArray) -> AnyArray:
    """Return the longest way along the skeleton, by two sweeps of Dijkstra."""
    from scipy.sparse.csgraph import dijkstra
    from skimage.graph import pixel_graph
    from skimage.morphology import skeletonize

    skeleton = skeletonize(np.pad(part, 1))[1:-1, 1:-1]
    places = np.argwhere(skeleton)
    if len(places) < 2:
        return places
    graph, nodes = pixel_graph(skeleton, connectivity=2)
    one = int(_reached(dijkstra(graph, indices=0)).argmax())
    far, back = dijkstra(graph, indices=one, return_predecessors=True)
    at = int(_reached(far).argmax())
    path = [at]
    while at != one:
        at = int(back[at])
        path.append(at)
    return np.stack(np.unravel_index(nodes[path], part.shape), axis=1)


def _reached(far: AnyArray) -> AnyArray:
    return np.where(np.isfinite(far), far, -1)


def _line(part: BoolArray, rng: np.random.Generator) -> AnyArray:
    """Return the pixels between two pixels of a mask."""
    from skimage.draw import line

    places = np.argwhere(part)
    one, other = places[rng.integers(len(places), size=2)]
    return np.stack(line(*one, *other), axis=1)


def _contour(part: BoolArray, rng: np.random.Generator) -> AnyArray:
    """Return a way round at one depth, from a random start."""
    from skimage.measure import find_contours

    depth = np.pad(interior_distance(part), 1)
    level = max(rng.uniform(*CONTOUR_DEPTH) * float(depth.max()), SHALLOWEST)
    ways = find_contours(depth, level)
    path = np.rint(max(ways, key=len)).astype(int) - 1
    path = np.roll(path[:-1], int(rng.integers(len(path))), axis=0)
    repeated = np.zeros(len(path), bool)
    repeated[1:] = (np.diff(path, axis=0) == 0).all(1)
    way: AnyArray = path[~repeated]
    return way


def _longest_run(path: AnyArray, part: BoolArray) -> AnyArray:
    """Return the longest piece of a path (N, 2) that stays inside the mask."""
    inside = np.zeros(len(path) + 2, bool)
    size = np.array(part.shape)
    valid = ((path >= 0) & (path < size)).all(1)
    inside[1:-1][valid] = part[tuple(path[valid].T)]
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    if not len(edges):
        return path[:0]
    begins, ends = edges[::2], edges[1::2]
    longest = int((ends - begins).argmax())
    run: AnyArray = path[begins[longest] : ends[longest]]
    return run


def _cut(path: AnyArray, longest: float) -> AnyArray:
    """Return the middle of a path (N, 2), no longer than so many pixels."""
    steps = np.hypot(*np.diff(path, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    spare = (along[-1] - longest) / 2
    if spare <= 0:
        return path
    middle: AnyArray = path[(along >= spare) & (along <= along[-1] - spare)]
    return middle
