"""`segment_many`: a batch from a script."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_fewshot.data import TextPrompt
from napari_fewshot.errors import DataError, FewShotError
from napari_fewshot.methods import get_method, make_params, params_to_dict
from napari_fewshot.models import get_model_spec
from napari_fewshot.session._asked import normalise_prompts, paths_of, resolve_supports
from napari_fewshot.session._batch import Batch
from napari_fewshot.session._batch_files import Names
from napari_fewshot.session._batch_inputs import Asked, Inputs
from napari_fewshot.session._batch_items import items_of
from napari_fewshot.session._batch_rows import columns_of
from napari_fewshot.session._batch_table import read_jobs
from napari_fewshot.session._concepts import taught_by
from napari_fewshot.session._estimate import estimate
from napari_fewshot.session._reading import normalise_text, reading_of, sides

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd

    from napari_fewshot.data import Progress
    from napari_fewshot.session._batch_items import Item


def segment_many(
    queries: Any = (),
    support: Any = None,
    text: Any = None,
    prompts: Any = None,
    method: str | None = None,
    model: str | None = None,
    *,
    out: str | os.PathLike[str],
    jobs: str | os.PathLike[str] | None = None,
    scale: Any = None,
    axes: str | None = None,
    channels: Any = None,
    device: str = "auto",
    checkpoint: Any = None,
    executor: Any = "inline",
    workers: int = 1,
    format: str | None = None,  # noqa: A002 - as on the command line
    measure: bool = False,
    pictures: bool = True,
    overwrite: bool = False,
    region: tuple[int, int, int, int] | None = None,
    inside: Any = None,
    level: int | str = "auto",
    on_progress: Callable[[Progress], None] | None = None,
    text_method: str | None = None,
    text_model: Any = None,
    text_share: str = "learnt",
    **params: Any,
) -> pd.DataFrame:
    """Segment many images into a folder; what was finished before is skipped.

    Parameters
    ----------
    queries : path, pattern, array, layer, or a sequence of them
        Files, folders, patterns (``**`` goes into folders), OME-Zarr plates.
    support, text, prompts, method, model
        As for `segment`; learnt once for all images of one pixel size.
    out : path
        Folder that receives ``<name>_labels`` files, ``provenance.json``,
        ``report.csv`` and ``report.html``. One batch at a time.
    jobs : path, optional
        CSV or JSON with a row per query; see `session._batch_table.read_jobs`.
    scale, axes, channels, device, checkpoint, region, inside, level
        As for `segment`, for queries that have none of their own in ``jobs``.
    executor : str or Executor
        As for `segment`.
    workers : int
        Images at once: on this computer as many processes, each with the model.
    format : str, optional
        ``tif``, ``png``, ``nii``, ``ome-zarr``, ``coco`` or ``geojson``; default that
        of the image.
    measure : bool
        Write tables of objects too: ``<name>_measurements.csv`` and all of them in
        ``measurements.csv``.
    pictures : bool
        Make small pictures for ``report.html``.
    overwrite : bool
        Do finished images again.
    on_progress : callable, optional
        Receives a `Progress` before every image.
    text_method, text_model, text_share
        As for `segment`.
    **params
        Parameters of the method.

    Returns
    -------
    pandas.DataFrame
        A row per image, as in ``report.csv``. ``status`` is ``done``, ``done before``
        or ``failed``; then ``message`` says why.

    Raises
    ------
    FewShotError
        If nothing can be started: no query, bad supports, a folder that can't be
        written. A failing image does not raise. `StorageError` when the disk is full.
    TypeError
        For an unknown parameter.
    """
    import pandas as pd

    support, method, model, params = taught_by(support, method, model, params)
    supports, phrases = resolve_supports(support), normalise_text(text)
    items, has_own = _items(queries, jobs)
    if len(supports) or not (phrases or prompts is not None or has_own):
        supports.check()
    record, reader = _record(
        method,
        model,
        params,
        phrases,
        (text_method, text_model, text_share),
        checkpoint,
        has_support=len(supports) > 0,
    )
    where = where_of(region, inside)
    asked = Asked(
        out=Path(out),
        supports=supports,
        how={
            **reader,
            "method": method,
            "model": model,
            "text": phrases or None,
            "device": device,
            "checkpoint": checkpoint,
            "executor": executor,
        },
        params=params,
        record=[*record, *extras_of(normalise_prompts(prompts), checkpoint, where)],
        options={"axes": axes, "scale": scale, "channels": channels, "level": level},
        where=where,
        prompts=prompts,
        format=format,
        overwrite=overwrite,
        measures=measure,
        pictures=pictures,
        workers=workers,
        read_text=read_phrases,
    )
    batch = Batch(asked)
    batch.run(items, on_progress or (lambda _: None))
    return pd.DataFrame(batch.rows, columns=columns_of(batch.rows))


def _items(queries: Any, jobs: Any) -> tuple[list[Item], bool]:
    """Return what to segment, and whether all of it brings its own supports."""
    found = items_of(queries)
    if jobs is not None:
        found += read_jobs(jobs)
    if not found:
        raise DataError("No image was named. Name files, a folder, or a pattern.")
    return found, all(item.supports for item in found)


def _record(
    method: str,
    model: str,
    params: dict[str, Any],
    phrases: dict[int, TextPrompt],
    reader: tuple[str | None, Any, str],
    checkpoint: Any,
    *,
    has_support: bool,
) -> tuple[list[Any], dict[str, Any]]:
    """Return JSON of what decides the result, and who reads phrases.

    Refuses what does not go together, before any image is opened.
    """
    get_model_spec(model)
    if not phrases:
        known = make_params(get_method(method).spec.params, params)
        return [method, model, params_to_dict(known)], {}
    reading = reading_of(*reader)
    sides(
        method=method,
        model=model,
        checkpoint=paths_of(checkpoint),
        params=params,
        has_support=has_support,
        reading=reading,
    )
    said = {str(v): asdict(t) for v, t in phrases.items()}
    names = ("text_method", "text_model", "text_share")
    record = [method, model, params, said, asdict(reading)]
    return record, dict(zip(names, reader, strict=True))


def read_phrases(words: Sequence[str]) -> dict[int, Any]:
    """Return phrases per class from ``nucleus`` (class 1) or ``2=membrane``.

    Parameters
    ----------
    words : sequence of str
        Of a row of a job file.
    """
    found: dict[int, Any] = {}
    for word in words:
        number, sign, phrase = word.partition("=")
        is_numbered = bool(sign) and number.strip().isdigit()
        value = int(number) if is_numbered else 1
        found[value] = TextPrompt((phrase if is_numbered else word).strip())
    return found


def where_of(region: Any, inside: Any) -> dict[str, Any]:
    """Return what is to be segmented of images; empty for all of them.

    Parameters
    ----------
    region, inside
        As for `segment`.
    """
    found = {"region": region, "inside": inside}
    return {name: value for name, value in found.items() if value is not None}


def estimate_many(asked: Asked, items: Sequence[Item]) -> list[tuple[Item, Any]]:
    """Return an `Estimate` for every image, or the error that it would end with.

    Parameters
    ----------
    asked : Asked
        What is wanted.
    items : sequence of Item
        The images.
    """
    inputs, names = Inputs(asked), Names(asked.out, asked.format)
    found: list[tuple[Item, Any]] = []
    for item in items:
        try:
            how = inputs.arguments(item, None)
            how.pop("executor")
            told: Any = estimate(inputs.open(item), out=names.target(item), **how)
        except (FewShotError, TypeError, ValueError) as error:
            told = error
        found.append((item, told))
    return found


def extras_of(prompts: Any, checkpoint: Any, where: Mapping[str, Any]) -> list[Any]:
    """Return JSON of what else decides a result; empty if there is nothing.

    Parameters
    ----------
    prompts : dict of int to PromptSet
        May be empty.
    checkpoint : path or pair of paths, optional
        Weights of the user.
    where : dict
        From `where_of`.
    """
    found: list[Any] = []
    if prompts:
        said = {str(v): asdict(p) for v, p in prompts.items()}
        found.append(json.loads(json.dumps(said, default=_plain, sort_keys=True)))
    if checkpoint is not None:
        found.append(str(paths_of(checkpoint)))
    if where:
        found.append({name: _plain(value) for name, value in where.items()})
    return found


def _plain(value: Any) -> Any:
    """Return what stands for an array: its shape and a digest."""
    if not hasattr(value, "tobytes"):
        return str(value)
    digest = hashlib.blake2b(value.tobytes(), digest_size=16).hexdigest()
    return [str(value.dtype), list(value.shape), digest]
