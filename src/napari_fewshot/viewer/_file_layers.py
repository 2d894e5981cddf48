"""Files as napari layers, and Labels layers as what a file holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import ClassTable, unit_name
from napari_fewshot.io import Opened, TiledLevel, stem_of
from napari_fewshot.viewer._layers import KEY, class_features, colormap

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

LayerData = tuple[Any, dict[str, Any], str]
# Labels up to this size are read whole, so that they can be painted on.
MAX_PAINTED = 1 << 27
# A volume that is tilted by more (a sine) can't be cut along the world.
MAX_TILT = 1e-6
# Without a class table so many label values are objects, not classes.
MANY_VALUES = 32
# Tiles of slides are read together up to this side (pixels).
BLOCK = 2048


def labels_layer(opened: Opened, path: str | os.PathLike[str]) -> LayerData:
    """Return a labels layer with the class table and place of a file.

    Parameters
    ----------
    opened : Opened
        Labels.
    path : path
        Where they are from; its stem is the name of the layer.
    """
    data: Any = opened.array
    if int(np.prod(data.shape, dtype=np.int64)) * data.dtype.itemsize <= MAX_PAINTED:
        data = np.array(np.asarray(data))
        data = data.astype(np.uint8) if data.dtype.kind not in "ui" else data
    else:
        data = _lazy(opened)
    options = {**_placed(opened), "name": stem_of(path)}
    mark = dict(options.get("metadata", {}).get(KEY, {"role": None}))
    if opened.affine is not None:
        mark["file"] = str(path)
    if opened.classes:
        table = ClassTable.from_names(opened.classes, opened.colours)
        options["features"] = class_features(table, None)[["index", "class"]]
        options["colormap"] = colormap(table.colours)
        mark["classes"] = dict(table.names)
    options["metadata"] = {KEY: mark}
    return data, options, "labels"


def image_layer(opened: Opened, path: str | os.PathLike[str]) -> LayerData:
    """Return an image layer with the place of a file, of all levels if it has some.

    Parameters
    ----------
    opened : Opened
        An image.
    path : path
        Where it is from.
    """
    options = {**_placed(opened), "name": stem_of(path)}
    axes = opened.axes or ""
    if is_rgb(opened):
        options["rgb"] = True
    elif "c" in axes:
        options["channel_axis"] = axes.index("c")
        options["name"] = None
    return _lazy(opened), options, "image"


def is_rgb(opened: Opened) -> bool:
    """Return whether a file holds colours, red, green and blue in every pixel."""
    axes, shape = opened.axes or "", opened.array.shape
    kind = np.dtype(opened.array.dtype)
    return axes.endswith("c") and shape[-1] in (3, 4) and kind in (np.uint8, np.uint16)


def _lazy(opened: Opened) -> Any:
    """Return lazy arrays: napari reads what it shows."""
    import dask.array as da

    axes = opened.axes or "tczyx"[-opened.array.ndim :]

    def one(array: Any) -> Any:
        if isinstance(array, TiledLevel):
            # Tiles of slides are small and many: napari is slow with so many pieces.
            return da.from_array(
                array,
                chunks=blocks_of(array, axes),
                name=False,
                asarray=True,
                fancy=False,
            )
        source = getattr(array, "source", None)
        if source is not None:
            return da.from_zarr(source)
        if isinstance(array, np.ndarray):
            return array
        chunks = (*(1,) * (array.ndim - 2), *array.shape[-2:])
        return da.from_array(array, chunks=chunks, asarray=True, fancy=False)

    if len(opened.levels) > 1:
        return [one(level) for level in opened.levels]
    return one(opened.array)


def blocks_of(array: TiledLevel, axes: str) -> tuple[int, ...]:
    """Return the shape of pieces of whole tiles (or strips) that are read together."""
    together = zip(array.chunks, axes, strict=True)
    return tuple(n * max(1, BLOCK // n) if a in "yx" else n for n, a in together)


def _placed(opened: Opened) -> dict[str, Any]:
    """Return the arguments that put a layer where its file says."""
    axes = "".join(a for a in (opened.axes or "") if a != "c")
    if not axes:
        return {}
    options: dict[str, Any] = {"axis_labels": tuple(axes)}
    if opened.scale is not None:
        options["scale"] = _per_axis(axes, opened.scale, 1.0)
    if opened.unit:
        options["units"] = tuple(opened.unit if a in "zyx" else "pixel" for a in axes)
    if opened.affine is not None and opened.scale is not None:
        options.update(_turned(opened, axes))
    elif opened.origin is not None and any(opened.origin):
        options["translate"] = _per_axis(axes, opened.origin, 0.0)
    return options


def _per_axis(axes: str, values: Any, rest: float) -> tuple[float, ...]:
    given = iter(values)
    return tuple(float(next(given)) if a in "zyx" else rest for a in axes)


def _turned(opened: Opened, axes: str) -> dict[str, Any]:
    """Return the affine of a NIfTI file beside its pixel sizes.

    A volume that was taken askew would be cut askew by the sliders, which napari does
    not support; it stays along its own axes, and the affine is only noted.
    """
    count = len([a for a in axes if a in "zyx"])
    affine = np.asarray(opened.affine)
    note = {"metadata": {KEY: {"role": None, "affine": affine.tolist()}}}
    linear = affine[:3, :3]
    sizes = np.linalg.norm(linear, axis=0)
    turn = linear / np.where(sizes > 0, sizes, 1)
    if np.abs(turn - np.diag(np.diag(turn))).max() > MAX_TILT:
        return note
    matrix = np.eye(len(axes) + 1)
    matrix[-1 - count : -1, -1 - count : -1] = turn[-count:, -count:]
    matrix[-1 - count : -1, -1] = affine[3 - count : 3, 3]
    return {**note, "affine": matrix}


def writable(data: Any, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `save_labels` needs of a labels layer.

    Parameters
    ----------
    data : array or levels
        Of the layer; of levels the finest is written.
    meta : mapping
        The attributes of the layer, as napari hands them to writers.

    Returns
    -------
    dict
        Arguments of `save_labels`, and ``labels``.
    """
    labels = data[0] if meta.get("multiscale") else data
    ndim = len(labels.shape)
    letters = "".join(str(a) for a in meta.get("axis_labels", ()))
    axes = letters if _is_known(letters, ndim) else "tzyx"[-ndim:]
    is_space = np.array([a in "zyx" for a in axes])
    scale = np.asarray(meta.get("scale", np.ones(ndim)), float)
    units = meta.get("units") or ("pixel",) * ndim
    unit = unit_name(units[-1])
    found: dict[str, Any] = {"labels": labels, "axes": axes, "unit": unit}
    if unit or (scale != 1).any():
        found["scale"] = tuple(np.abs(scale[is_space]))
    found["classes"], found["colours"] = class_table(meta)
    matrix = _matrix(meta, ndim)
    keep = np.flatnonzero([*is_space, True])
    found.update(_noted(meta, matrix, _whole(matrix[np.ix_(keep, keep)])))
    turn = matrix[:-1, :-1]
    if np.allclose(turn, np.diag(np.diag(turn))) and (np.diag(turn) > 0).all():
        found["origin"] = tuple(float(v) for v in matrix[:-1, -1][is_space])
    return found


def _is_known(letters: str, ndim: int) -> bool:
    is_set = len(set(letters)) == len(letters) == ndim and set(letters) <= set("tzyx")
    return is_set and letters.endswith("yx")


def class_table(meta: Mapping[str, Any]) -> tuple[dict[int, str], dict[int, str]]:
    """Return names and colours of the label values of a layer; may be empty."""
    import pandas as pd
    from napari.utils.colormaps.standardize_color import rgb_to_hex

    table = pd.DataFrame(meta.get("features", {}))
    names: dict[int, str] = {}
    if {"index", "class"} <= set(table.columns):
        pairs = zip(table["index"], table["class"], strict=True)
        names = {int(v): str(n) for v, n in pairs if int(v) > 0}
    colours = getattr(meta.get("colormap"), "color_dict", {})
    return names, {
        int(v): str(rgb_to_hex(np.atleast_2d(c))[0])[:7]
        for v, c in colours.items()
        if v is not None and int(v) > 0
    }


def _matrix(meta: Mapping[str, Any], ndim: int) -> Any:
    """Return the matrix of a layer: pixels to world."""
    from napari.utils.transforms import Affine

    inner = Affine(
        scale=meta.get("scale", np.ones(ndim)),
        translate=meta.get("translate", np.zeros(ndim)),
        rotate=meta.get("rotate"),
        shear=meta.get("shear"),
        ndim=ndim,
    ).affine_matrix
    outer = meta.get("affine")
    return inner if outer is None else np.asarray(outer) @ inner


def _noted(meta: Mapping[str, Any], matrix: Any, whole: Any) -> dict[str, Any]:
    """Return affine and header of the file of a layer, unless the layer was moved."""
    mark = (meta.get("metadata") or {}).get(KEY) or {}
    noted = mark.get("affine") if isinstance(mark, dict) else None
    turn = matrix[:-1, :-1]
    is_plain = np.allclose(turn, np.diag(np.diag(turn))) and not matrix[:-1, -1].any()
    if noted is None or np.shape(noted) != (4, 4):
        return {"affine": whole}
    if not is_plain and not np.allclose(noted, whole):
        return {"affine": whole}
    file = Path(str(mark.get("file", "")))
    return {"affine": np.array(noted), "like": file if file.is_file() else None}


def _whole(matrix: Any) -> Any:
    """Return a spatial matrix as one of three axes."""
    count = len(matrix) - 1
    full = np.eye(4)
    full[3 - count : 3, 3 - count : 3] = matrix[:-1, :-1]
    full[3 - count : 3, 3] = matrix[:-1, -1]
    return full
