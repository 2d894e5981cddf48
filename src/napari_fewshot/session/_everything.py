"""`segment_everything`: all objects of an image, without prompts or examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Hooks
from napari_fewshot.inference._everything import (
    EverythingRequest,
    checked_params,
    run_everything,
)
from napari_fewshot.io import open_image, open_labels
from napari_fewshot.session._collect import Collector

if TYPE_CHECKING:
    from napari_fewshot.data import Prediction


def segment_everything(
    image: Any,
    model: str = "auto",
    *,
    checkpoint: Any = None,
    region: Any = None,
    scale: Any = None,
    axes: str | None = None,
    channels: Any = None,
    device: str = "auto",
    hooks: Hooks | None = None,
    **params: Any,
) -> Prediction:
    """Find all objects of an image with a model that answers to points.

    A grid of points is asked for, and of the masks those are kept that the model is
    sure of, that are stable, and that no better one covers (Kirillov et al., Segment
    Anything, ICCV 2023). A stack is done plane by plane.

    Parameters
    ----------
    image : array, path or layer
        A plane, a stack, RGB or multichannel.
    model : str
        See `list_models`; ``"auto"`` is the one whose weights ``checkpoint`` holds, or
        the first promptable one on this machine.
    checkpoint : path, optional
        Weights file of your own.
    region : array, path or layer, optional
        Not 0 where objects are wanted, of the shape of a plane or of all planes.
    scale : sequence of float, optional
        Pixel size per spatial axis (z, y, x).
    axes : str, optional
        One letter of ``tzcyx`` per axis of the image.
    channels : int or sequence of int, optional
        Channels to use.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    hooks : Hooks, optional
        Progress and cancelling.
    **params
        Fields of `methods.everything.EverythingParams`: ``points_per_side`` (32),
        ``predicted_iou`` (0.88), ``stability`` (0.95), ``overlap`` (0.7),
        ``min_area``, ``max_area`` (0), ``tile`` (0), ``crop_layers`` (0), and more.

    Returns
    -------
    Prediction
        ``.instances`` numbers the objects, small ones in front of large ones;
        ``.labels`` is 1 where any is; ``.provenance["objects"]`` lists them, one dict
        each, ready for `pandas.DataFrame`.

    Raises
    ------
    DataError, PromptError, ModelError, WeightsError
        All are `FewShotError`; the message says what to do next.
    Cancelled
        If the hooks say so.
    TypeError, ValueError
        For an unknown parameter (naming the nearest one) or a value outside its limits.
    """
    checked_params(params)
    query = open_image(image, axes=axes, scale=scale, channels=channels)
    request = EverythingRequest(
        query=query,
        region=None if region is None else _with_shape(open_labels(region)),
        model=model,
        checkpoint=checkpoint,
        device=device,
        params=params,
    )
    collector = Collector(query)
    summary = run_everything(request, hooks or Hooks(), collector.add)
    return collector.prediction(summary, "inline")


def _with_shape(region: Any) -> Any:
    """Return a region as an array, untouched if it is one, however lazy."""
    return region if hasattr(region, "shape") else np.asarray(region)
