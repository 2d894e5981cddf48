"""Models of the user: import from a file, check, remove; settings of all models."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from napari_fewshot.errors import ModelError, WeightsError
from napari_fewshot.io._atomic import write_text
from napari_fewshot.io._model_store import (
    STAGE,
    FileFacts,
    InstalledModel,
    check_space,
    copy_hashed,
    file_sha256,
    install,
    installed_model,
    now,
    stage,
    storage,
)
from napari_fewshot.models import (
    Settings,
    get_model_spec,
    load_model,
    recognise,
    settings_file,
)
from napari_fewshot.models._places import RECORD, model_folder, weights_of

if TYPE_CHECKING:
    from napari_fewshot.io._model_store import Progress
    from napari_fewshot.models import ModelSpec

# What a folder of a model in Hugging Face's layout may hold.
FOLDER_SUFFIXES = (".json", ".safetensors", ".txt", ".model")


def import_weights(
    path: str | os.PathLike[str], name: str = "", progress: Progress | None = None
) -> InstalledModel:
    """Install a model from a file of weights that is already here.

    Parameters
    ----------
    path : path
        File, or folder in Hugging Face's layout.
    name : str
        Of the model; "" to recognise it.
    progress : callable, optional
        Called with bytes copied and all bytes; may raise to stop.

    Returns
    -------
    InstalledModel
        Pinned to the hash of the file.

    Raises
    ------
    ModelError
        If there is no such model or it comes with the package.
    WeightsError
        If the file is of no known model, of several, or of another one.
    StorageError
        If it can't be copied.
    """
    source = Path(path)
    if not source.exists():
        raise WeightsError(f"{source} does not exist. Check the path.")
    spec = downloadable(name or recognise(source))
    if not spec.base or weights_of(spec.base) is not None:
        load_model(spec.name, source, device="cpu", precision="fp32")
    with stage() as place:
        files = {}
        for file in _files_of(source):
            with storage(file), file.open("rb") as opened:
                size = file.stat().st_size
                check_space(place, size)
                digest = copy_hashed(opened, place / file.name, size, progress)
            files[file.name] = FileFacts(digest, size)
        record = InstalledModel(
            spec.name, files, "import", licence=spec.licence, installed=now()
        )
        return install(record, place)


def _files_of(source: Path) -> list[Path]:
    if not source.is_dir():
        return [source]
    inside = [f for f in source.iterdir() if f.name != RECORD]
    is_safe = any(f.suffix == ".safetensors" for f in inside)
    # Torch's format only where there is no other: many publishers offer both.
    suffixes = FOLDER_SUFFIXES if is_safe else (*FOLDER_SUFFIXES, ".bin")
    return sorted(f for f in inside if f.suffix in suffixes)


def downloadable(name: str) -> ModelSpec:
    """Return the facts of a model that is installed and removed.

    Raises
    ------
    ModelError
        If there is no such model, or it comes with the package.
    """
    spec = get_model_spec(name)
    if not spec.needs_download:
        raise ModelError(
            f"{spec.name} comes with the package; it is always there and can't be "
            "installed, replaced or removed."
        )
    return spec


def verify_model(name: str, progress: Progress | None = None) -> str:
    """Check the hashes of a model's files, and that it loads.

    Parameters
    ----------
    name : str
        Of a bundled or installed model.
    progress : callable, optional
        Called with bytes read and all bytes; may raise to stop.

    Returns
    -------
    str
        What was found: that all is right, or a warning that the model misses a bright
        disk and may be another one of the same shape.

    Raises
    ------
    WeightsError
        If it is not installed, was changed, or does not load.
    ModelError
        If it gives values that are not finite.
    """
    import numpy as np

    from napari_fewshot.models.sam import Promptable, check_preset

    spec = get_model_spec(name)
    if not spec.needs_download:
        image = np.random.default_rng(0).random((64, 64, 3)).astype(np.float32)
        array = load_model(spec.name).encode(image).array
        if not np.isfinite(array).all():
            raise ModelError(f"The model {name!r} gave values that are not finite.")
        return f"works, embedding {array.shape}"
    record = installed_model(name)
    if record is None:
        raise WeightsError(f"{name} is not installed, or its files are incomplete.")
    for file, facts in record.files.items():
        if file_sha256(model_folder(name) / file, progress) != facts.sha256:
            raise WeightsError(
                f"{name} is damaged: {file} is not the file that was installed. "
                f"Run napari-fewshot models remove {name} and install it again."
            )
    model = load_model(name, device="cpu", precision="fp32")
    warning = check_preset(model) if isinstance(model, Promptable) else ""
    return warning or f"hash and load are right ({record.size / 1e6:.1f} MB)"


def remove_model(name: str) -> int:
    """Remove an installed model.

    Parameters
    ----------
    name : str
        Of the model.

    Returns
    -------
    int
        Bytes that were freed.

    Raises
    ------
    ModelError
        If there is no such model or it comes with the package.
    WeightsError
        If it is not installed.
    StorageError
        If it can't be removed.
    """
    folder = model_folder(downloadable(name).name)
    if not folder.exists():
        raise WeightsError(f"{name} is not installed; there is nothing to remove.")
    size = sum(f.stat().st_size for f in folder.iterdir() if f.is_file())
    with storage(folder):
        gone = folder.with_name(f"{STAGE}old-{folder.name}-{os.getpid()}")
        os.replace(folder, gone)
        shutil.rmtree(gone)
    return size


def save_settings(settings: Settings) -> None:
    """Keep what the user chose for all models.

    Parameters
    ----------
    settings : Settings
        What ``"auto"`` means from now on.

    Raises
    ------
    StorageError
        If it can't be written.
    """
    write_text(settings_file(), json.dumps(asdict(settings), indent=2) + "\n")
