"""What a machine has: versions, weights, memory. Asked on workers, compared here."""

from __future__ import annotations

import os
import platform
import socket
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_fewshot.errors import WeightsError, WorkerError
from napari_fewshot.io import installed_model
from napari_fewshot.io._model_store import file_sha256
from napari_fewshot.methods import get_method
from napari_fewshot.models import get_model_spec, installed_text_models

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from napari_fewshot.inference import SegmentRequest

# These must agree in their first two numbers; others are only told of.
MUST_AGREE = ("napari-fewshot", "distributed")
TOLD = ("python", "dask", "numpy", "torch", "scikit-image", "zarr")
GPU = "GPU"


@dataclass(frozen=True)
class Facts:
    """What a worker, the scheduler or this computer says of itself.

    Attributes
    ----------
    address : str
        "" for this computer.
    host : str
    versions : dict of str to str
        Of packages and of Python; "" where a package is missing.
    threads : int
    gpus : float
        Of the resource tag ``GPU``.
    """

    address: str = ""
    host: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    threads: int = 0
    gpus: float = 0.0


def facts_of(dask_worker: Any = None) -> Facts:
    """Return the facts of the worker that this is called on.

    Parameters
    ----------
    dask_worker : distributed.Worker, optional
        Filled in by dask.
    """
    if dask_worker is None:
        return Facts("", socket.gethostname(), versions_here())
    state = dask_worker.state
    return Facts(
        address=str(dask_worker.address),
        host=socket.gethostname(),
        versions=versions_here(),
        threads=int(state.nthreads),
        gpus=float(state.total_resources.get(GPU, 0.0)),
    )


def facts_of_scheduler(dask_scheduler: Any) -> Facts:
    """Return the facts of the scheduler that this is called on.

    Parameters
    ----------
    dask_scheduler : distributed.Scheduler
        Filled in by dask.
    """
    here = Facts("", socket.gethostname(), versions_here())
    return replace(here, address=str(dask_scheduler.address))


def versions_here() -> dict[str, str]:
    """Return versions of Python and of packages, without importing any."""
    found = {"python": platform.python_version()}
    for name in (*MUST_AGREE, *TOLD[1:]):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    return found


def compare_versions(mine: Mapping[str, str], other: Facts, who: str) -> list[str]:
    """Return notes on versions that differ.

    Parameters
    ----------
    mine : mapping of str to str
        Versions on this computer.
    other : Facts
        Of a worker or the scheduler.
    who : str
        For messages: ``"worker"`` or ``"scheduler"``.

    Raises
    ------
    WorkerError
        If napari-fewshot or distributed are of other versions in their first two
        numbers; the message has the command that puts it right.
    """
    where = f"The {who} {other.address} ({other.host})"
    notes = []
    for name, wanted in mine.items():
        found = other.versions.get(name, "")
        if found == wanted:
            continue
        if name in MUST_AGREE and _short(found) != _short(wanted):
            has = f"has {name} {found}" if found else f"has no {name}"
            raise WorkerError(
                f"{where} {has}, this computer has {wanted}. Run there: "
                f'pip install "{name}=={wanted}"; then start it again.'
            )
        notes.append(f"{where} has {name} {found or 'missing'}, not {wanted}.")
    return notes


def models_of(request: SegmentRequest) -> tuple[str, ...]:
    """Return the names of the models of a request that are installed separately."""
    names = []
    if request.model != "auto":
        names.append(request.model)
    if request.text and request.reading.checkpoint is None:
        names.append(request.reading.model)
    found: list[str] = []
    for name in names:
        if name == "auto":
            continue
        spec = get_model_spec(name)
        if spec.needs_download and request.checkpoint is None:
            found += [n for n in (spec.name, spec.base) if n and n not in found]
    return tuple(found)


def checkpoints_of(request: SegmentRequest) -> tuple[str, ...]:
    """Return the paths of weights that the user gave."""
    found: list[str] = []
    given: Any
    for given in (request.checkpoint, request.reading.checkpoint):
        if isinstance(given, (tuple, list)):
            found += [os.fspath(g) for g in given]
        elif given is not None:
            found.append(os.fspath(given))
    return tuple(found)


def weights_here(
    names: Iterable[str], checkpoints: Iterable[str]
) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Return what this machine has of some models.

    Returns
    -------
    dict of str to dict
        ``{model: {file: SHA-256}}``; empty where a model is not installed.
    dict of str to str
        SHA-256 of files by path; "" where there is no file, ``"folder"`` for a folder.
    """
    models: dict[str, dict[str, str]] = {}
    for name in names:
        record = installed_model(name)
        files = {} if record is None else record.files
        models[name] = {file: facts.sha256 for file, facts in files.items()}
    files_given = {}
    for given in checkpoints:
        path = Path(given)
        if path.is_dir():
            files_given[given] = "folder"
        elif path.is_file():
            facts = path.stat()
            files_given[given] = _sha256(given, facts.st_size, facts.st_mtime_ns)
        else:
            files_given[given] = ""
    return models, files_given


def check_weights(
    models: Mapping[str, Mapping[str, str]],
    checkpoints: Mapping[str, str],
    where: str,
) -> None:
    """Refuse to work with other weights than everybody else has.

    Parameters
    ----------
    models, checkpoints : mapping
        As `weights_here` returned them on the computer that asks.
    where : str
        This machine, for messages.

    Raises
    ------
    WeightsError
        If something is missing here or differs; names the command to run.
    """
    found, files = weights_here(models, checkpoints)
    for name, wanted in models.items():
        get = f"Run on it: napari-fewshot models download {name}"
        if not found[name]:
            raise WeightsError(
                f"The worker {where} has no weights of {name}. {get} (or import them)."
            )
        if wanted and dict(wanted) != found[name]:
            raise WeightsError(
                f"The worker {where} has other weights of {name} than the computer "
                f"that asks (another SHA-256). Remove them there, then: {get}."
            )
    for path, digest in checkpoints.items():
        if not files[path]:
            raise WeightsError(
                f"The worker {where} can't find the weights {path}. Copy the file to "
                "the same place there, or put it on a disk that all computers share."
            )
        if digest and files[path] != digest:
            raise WeightsError(
                f"The file {path} on the worker {where} holds other weights than here "
                "(another SHA-256). Copy the file of this computer to it."
            )


def with_text_model(request: SegmentRequest) -> SegmentRequest:
    """Return a request that names the model of its phrases, if one is installed here.

    Otherwise each worker would choose by itself, perhaps another one.
    """
    if not request.text or request.reading.model != "auto":
        return request
    if request.reading.checkpoint is not None:
        return request
    kinds = getattr(get_method(request.reading.method), "model_kinds", ("clip",))
    fitting = (n for n in installed_text_models() if get_model_spec(n).text in kinds)
    name = next(fitting, "auto")
    return replace(request, reading=replace(request.reading, model=name))


def _short(version: str) -> tuple[str, ...]:
    return tuple(version.split(".")[:2])


@lru_cache(maxsize=16)
def _sha256(path: str, size: int, time: int) -> str:
    return file_sha256(Path(path))
