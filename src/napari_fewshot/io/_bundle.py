"""Bundles: one zip of installed models for machines without a network."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_fewshot.errors import ModelError, StorageError, WeightsError
from napari_fewshot.io._atomic import atomic_write
from napari_fewshot.io._model_store import (
    InstalledModel,
    check_space,
    copy_hashed,
    downloaded_models,
    file_sha256,
    install,
    installed_model,
    now,
    stage,
    storage,
)
from napari_fewshot.io._models import downloadable
from napari_fewshot.models import get_model_spec
from napari_fewshot.models._places import model_folder

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from napari_fewshot.io._model_store import Progress

MANIFEST = "napari-fewshot-models.json"
# Bytes of a manifest that is read at most; a real one has some hundred per model.
MANIFEST_SIZE = 1_000_000


def bundle_models(
    path: str | os.PathLike[str], names: Sequence[str] = ()
) -> tuple[InstalledModel, ...]:
    """Write installed models into one zip file, uncompressed.

    Parameters
    ----------
    path : path
        Of the zip file; it is complete or not there.
    names : sequence of str
        Which; default all that are installed.

    Returns
    -------
    tuple of InstalledModel
        What is in it.

    Raises
    ------
    ModelError
        If there is no such model.
    WeightsError
        If one is not installed or damaged, or nothing is.
    StorageError
        If it can't be written.
    """
    records = downloaded_models() if not names else tuple(map(_expect, names))
    if not records:
        raise WeightsError(
            "No model is installed, so there is nothing to bundle. Download or import "
            "one first."
        )
    content = {"format": 1, "models": [asdict(record) for record in records]}
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        archive.writestr(MANIFEST, json.dumps(content, indent=2))
        for record in records:
            folder = model_folder(record.name)
            for file, facts in record.files.items():
                if file_sha256(folder / file) != facts.sha256:
                    raise WeightsError(
                        f"{record.name} is damaged: {file} is not the file that was "
                        "installed. Remove it, install it again, then bundle."
                    )
                archive.write(folder / file, _member(record.name, file))
    return records


def _expect(name: str) -> InstalledModel:
    record = installed_model(downloadable(name).name)
    if record is None:
        raise WeightsError(f"{name} is not installed. Download or import it first.")
    return record


def _member(name: str, file: str) -> str:
    return f"models/{name.replace('/', '--')}/{file}"


def is_bundle(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is (or claims to be) a bundle, and not weights.

    Parameters
    ----------
    path : path
        Files of ``torch.save`` are zip files too, but not named so.
    """
    file = Path(path)
    if not file.is_file() or not zipfile.is_zipfile(file):
        return False
    if file.suffix.lower() == ".zip":
        return True
    try:
        with zipfile.ZipFile(file) as archive:
            return MANIFEST in archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return False


def import_bundle(
    path: str | os.PathLike[str], progress: Progress | None = None
) -> tuple[InstalledModel, ...]:
    """Install all models of a bundle, or none.

    Parameters
    ----------
    path : path
        What `bundle_models` wrote.
    progress : callable, optional
        Called with bytes copied and all bytes; may raise to stop.

    Returns
    -------
    tuple of InstalledModel

    Raises
    ------
    WeightsError
        If it is no bundle, damaged, or a file in it is not what its record says.
    ModelError
        If it holds a model that is not known here.
    StorageError
        If the disk is full or read-only.
    """
    source = Path(path)
    try:
        with storage(source), zipfile.ZipFile(source) as archive:
            records = _manifest(archive, source.name)
            _check_members(archive, records, source.name)
            return _unpack(archive, records, progress)
    except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
        if isinstance(error, WeightsError | ModelError | StorageError):
            raise
        raise WeightsError(
            f"The bundle {source.name} is damaged ({error}). Copy it again; nothing "
            "was installed."
        ) from error


def _manifest(archive: zipfile.ZipFile, name: str) -> list[InstalledModel]:
    if MANIFEST not in archive.namelist():
        raise WeightsError(
            f"{name} is no bundle of models or not whole: it holds no {MANIFEST}. Make "
            "one with napari-fewshot models bundle, or import the weights file itself."
        )
    info = archive.getinfo(MANIFEST)
    if info.file_size > MANIFEST_SIZE:
        raise WeightsError(
            f"{name} was refused: its list of models is {info.file_size / 1e6:.0f} MB "
            "large. Make the bundle again."
        )
    try:
        content: Any = json.loads(archive.read(MANIFEST))
        records = [InstalledModel.of(item) for item in content["models"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{name} was refused: its list of models can't be used ({error}). Make the "
            "bundle again; nothing was installed."
        ) from error
    if not records or len({r.name for r in records}) != len(records):
        raise WeightsError(
            f"{name} was refused: it lists no models, or one twice. Make it again."
        )
    return records


def _check_members(
    archive: zipfile.ZipFile, records: list[InstalledModel], name: str
) -> None:
    """Compare what the zip says of its members with the records, before unpacking."""
    members = {info.filename: info for info in archive.infolist()}
    for record in records:
        downloadable(record.name)
        for file, facts in record.files.items():
            info = members.get(_member(record.name, file))
            is_right = (
                info is not None
                and info.file_size == facts.size
                and info.compress_type == zipfile.ZIP_STORED
            )
            if not is_right:
                raise WeightsError(
                    f"{name} was refused: {file} of {record.name} is missing, "
                    "compressed, or not of the size that is listed. Make the bundle "
                    "again; nothing was installed."
                )


def _unpack(
    archive: zipfile.ZipFile,
    records: list[InstalledModel],
    progress: Progress | None,
) -> tuple[InstalledModel, ...]:
    """Copy and check everything, then install it."""
    with stage() as place:
        check_space(place, sum(record.size for record in records))
        for number, record in enumerate(records):
            folder = place / str(number)
            folder.mkdir()
            for file, facts in record.files.items():
                with archive.open(_member(record.name, file)) as opened:
                    found = copy_hashed(opened, folder / file, facts.size, progress)
                _compare(record, file, found)
        return tuple(
            install(replace(record, source="bundle", installed=now()), place / str(i))
            for i, record in enumerate(records)
        )


def _compare(record: InstalledModel, file: str, found: str) -> None:
    spec = get_model_spec(record.name)
    wanted = {record.files[file].sha256}
    if spec.sha256 and file == spec.file and record.source != "import":
        wanted.add(spec.sha256)
    if wanted != {found}:
        raise WeightsError(
            f"The bundle was refused: {file} of {record.name} is not the file that is "
            "listed. Copy the bundle again; nothing was installed."
        )
