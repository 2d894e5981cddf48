"""One-shot use: `segment`, `list_methods`, `list_models`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_fewshot.errors import FewShotError
from napari_fewshot.inference import Summary
from napari_fewshot.io import note_array, save_prediction, suffix_of
from napari_fewshot.methods import get_method, method_names
from napari_fewshot.models import installed_models, model_specs
from napari_fewshot.session._asked import request_of
from napari_fewshot.session._collect import Collector
from napari_fewshot.session._estimate import note_speed, refuse_too_large
from napari_fewshot.session._holding import beside_of, held
from napari_fewshot.session._jobs import get_executor
from napari_fewshot.session._volumes import submit

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from napari_fewshot.data import Prediction
    from napari_fewshot.inference import PlaneResult, SegmentRequest
    from napari_fewshot.session._jobs import Executor

# Executors that compute on this machine, whose memory and speed are known.
LOCAL = ("inline", "process")


def segment(
    query: Any,
    support: Any = None,
    text: Any = None,
    prompts: Any = None,
    method: str | None = None,
    model: str | None = None,
    *,
    scale: Any = None,
    axes: str | None = None,
    channels: Any = None,
    device: str = "auto",
    checkpoint: Any = None,
    executor: Any = "inline",
    keep_probabilities: bool | None = None,
    out: str | os.PathLike[str] | None = None,
    region: tuple[int, int, int, int] | None = None,
    inside: Any = None,
    parts: str | os.PathLike[str] | None = None,
    level: Any = "auto",
    text_method: str | None = None,
    text_model: Any = None,
    text_share: str = "learnt",
    **params: Any,
) -> Prediction:
    """Segment a query image by examples, phrases, prompts, or a mix of them.

    Parameters
    ----------
    query : array, path or layer
        What to segment: a plane, a stack, RGB or multichannel.
    support : Support, SupportSet, (image, labels), a list of them, or a concept
        The annotated examples. A `Concept` or a ``.fewshot`` file also brings method,
        model and parameters, where they are not given.
    text : str, TextPrompt, or dict of int to these, optional
        What to look for, per class; a lone phrase is class 1. With supports, both
        decide together, by what either does on the supports.
    prompts : PromptSet, or dict of int to PromptSet, optional
        Points, boxes, scribbles or a first mask; with or without supports and text.
    method, model : str
        See `list_methods` and `list_models`; ``"auto"``, the default, chooses on the
        supports. Methods and models that read text are for the text.
    scale : sequence of float, optional
        Pixel size per spatial axis (z, y, x).
    axes : str, optional
        One letter of ``tzcyx`` per axis of the query.
    channels : int or sequence of int, optional
        Channels of the query to use.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``, for models that use one.
    checkpoint : path, optional
        Weights file of your own, for models that take one.
    executor : str or Executor
        ``"inline"`` (this thread), ``"process"`` (the worker process), or the address
        of a dask scheduler, a client or a cluster object: see `get_executor`.
    keep_probabilities : bool, optional
        Default: kept for a single plane, not for stacks.
    out : path, optional
        Write the labels there: ``.zarr`` plane by plane or tile by tile, other formats
        at the end. If it is interrupted, the same call goes on with the missing tiles
        or planes; one run at a time can write there.
    region : (int, int, int, int), optional
        Segment only this part of every plane: first row and column, last row and column
        (exclusive). Labels are 0 elsewhere.
    inside : array, path or labels layer, optional
        Segment only where this is not 0; of the shape of a plane or of the labels.
    parts : path, optional
        Folder that keeps finished tiles of large planes, and finished planes of stacks,
        until all is done, so that the same call goes on with those that are missing;
        default ``out`` + ``.parts``.
    level : int, "auto", or float
        Which resolution of a multiscale image or layer, 0 is the finest; prompts,
        region and result are in its pixels. ``"auto"`` is the one whose pixels are
        like those of the supports, where both sizes are known and differ by more than
        half; with prompts or a region it is 0. With text, a number with a point, such
        as 0.4, is the parameter ``level`` of text methods: where heat maps are cut.
    text_method : str, optional
        A method that reads text, beside ``method`` for supports.
    text_model : str or path, optional
        A model that reads text or its weights, beside ``model`` for supports.
    text_share : {"learnt", "equal", "gate", "alone"}
        What text counts beside supports: see `TextChoice`.
    **params
        Parameters of the method.

    Returns
    -------
    Prediction
        ``.labels`` is int32 in the query's shape without its channel axis.

    Raises
    ------
    SupportError, PromptError, DataError, ModelError, WeightsError, StorageError
        All are `FewShotError`; the message says what to do next.
    TypeError
        For an unknown parameter; the message names the nearest one.
    """
    request = request_of(
        query,
        support,
        text,
        prompts,
        method,
        model,
        params,
        scale=scale,
        axes=axes,
        channels=channels,
        device=device,
        checkpoint=checkpoint,
        keep_probabilities=keep_probabilities,
        region=region,
        inside=inside,
        level=level,
        text_method=text_method,
        text_model=text_model,
        text_share=text_share,
    )
    like = query if isinstance(query, (str, os.PathLike)) else None
    return _run_and_collect(request, executor, out, like, parts)


def _run_and_collect(
    request: SegmentRequest, executor: Any, out: Any, like: Any, parts: Any
) -> Prediction:
    """Submit a request, wait for it, and write the labels if wanted."""
    image, chosen = request.query, get_executor(executor)
    is_store = out is not None and suffix_of(out) == ".zarr"
    refuse_too_large(request, out, is_local=chosen.name in LOCAL)
    # Beside the result: what is finished of it, should this be interrupted. It is held
    # before the store is made anew, and given up when the result is written.
    beside = None if out is None else beside_of(Path(out))
    folder = beside if parts is None else Path(parts)
    with held(beside), held(None if folder == beside else folder):
        collector = Collector(image, out if is_store else None)
        summary = run_to_end(request, chosen, collector.add, folder)
        prediction = collector.prediction(summary, chosen.name)
        # The time of planes that were there before is not known any more.
        if chosen.name in LOCAL and "resumed_planes" not in prediction.provenance:
            note_speed(request, prediction.provenance)
        if is_store:
            note_array(
                prediction.labels,
                axes=image.label_axes,
                scale=image.scale,
                unit=image.unit,
                classes=prediction.classes,
            )
        elif out is not None:
            save_prediction(out, prediction, image, like)
    return prediction


def run_to_end(
    request: SegmentRequest,
    executor: Executor,
    on_plane: Callable[[PlaneResult], None],
    folder: Path | None = None,
) -> Summary:
    """Submit a request and wait for it; raises what went wrong.

    Parameters
    ----------
    request : SegmentRequest
        What to do.
    executor : Executor
        Who does it.
    on_plane : callable
        Receives every plane.
    folder : path, optional
        Keeps finished tiles and planes; see `submit`.
    """
    job = submit(
        executor,
        request,
        on_plane=on_plane,
        on_progress=lambda _: None,
        on_done=lambda _: None,
        folder=folder,
    )
    try:
        job.wait()
    except KeyboardInterrupt:
        job.cancel()
        raise
    return expect_summary(job.outcome)


def list_methods() -> pd.DataFrame:
    """Return all methods as a table: name, summary, needs_model, citation, licence."""
    import pandas as pd

    specs = [get_method(name).spec for name in method_names()]
    return pd.DataFrame(
        {
            "name": [s.name for s in specs],
            "task": ["text" if s.reads_text else "few-shot" for s in specs],
            "summary": [s.summary for s in specs],
            "licence": [s.licence for s in specs],
            "needs_download": [s.reads_text for s in specs],
            "needs_model": [s.uses_model or s.reads_text for s in specs],
            "citation": [s.citation for s in specs],
        }
    )


def list_models() -> pd.DataFrame:
    """Return all models as a table: name, task, licence, size, needs_download, ..."""
    import pandas as pd

    specs, here = model_specs(), installed_models()
    return pd.DataFrame(
        {
            "name": [s.name for s in specs],
            "task": [s.task for s in specs],
            "licence": [s.licence for s in specs],
            "size": [s.size_mb for s in specs],
            "needs_download": [s.needs_download for s in specs],
            "installed": [s.name in here for s in specs],
            "trained_on": [s.trained_on for s in specs],
            "summary": [s.summary for s in specs],
        }
    )


def expect_summary(outcome: Any) -> Summary:
    """Return the summary of a finished job, or raise what went wrong."""
    if isinstance(outcome, Summary):
        return outcome
    if isinstance(outcome, Exception):
        raise outcome
    raise FewShotError("The job ended without an outcome; please run it again.")
