"""The folder of installed models: records, and how files get into it.

A model is installed whole or not at all: its files are gathered in a folder beside and
renamed into place, after the record of their hashes is written.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from napari_fewshot.errors import StorageError
from napari_fewshot.io._atomic import write_text
from napari_fewshot.models import get_model_spec, model_specs
from napari_fewshot.models._places import (
    RECORD,
    model_folder,
    models_folder,
    read_record,
    weights_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    # Called with the bytes done and those of all; may raise to stop.
    Progress = Callable[[int, int], None]

CHUNK = 1 << 20
STAGE = ".installing-"
# Seconds after which what a killed installation has left is removed.
STALE = 86_400


@dataclass(frozen=True)
class FileFacts:
    """What a file must be.

    Attributes
    ----------
    sha256 : str
    size : int
        In bytes.
    """

    sha256: str
    size: int


@dataclass(frozen=True)
class InstalledModel:
    """The record of an installed model, kept beside its weights.

    Attributes
    ----------
    name : str
    files : mapping of str to FileFacts
    source : {"download", "import", "bundle"}
    url : str
        Where it was downloaded from; "" when it was not.
    licence : str
        Of the weights, as the catalogue named it then.
    agreed : str
        When the licence was agreed to, ISO 8601 in UTC; "" when nobody was asked.
    installed : str
        When it was installed.
    """

    name: str
    files: Mapping[str, FileFacts]
    source: str
    url: str = ""
    licence: str = ""
    agreed: str = ""
    installed: str = ""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(facts.size for facts in self.files.values())

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> InstalledModel:
        """Return a record from its JSON form.

        Raises
        ------
        ValueError
            If it is none, or a name in it is no plain file name.
        """
        try:
            files = {
                str(name): FileFacts(str(facts["sha256"]), int(facts["size"]))
                for name, facts in content["files"].items()
            }
            texts = ("name", "source", "url", "licence", "agreed", "installed")
            words = {key: str(content.get(key, "")) for key in texts}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no record of a model ({error})") from error
        bad = [name for name in files if not is_plain(name)]
        if bad or not files:
            raise ValueError(f"file names {bad or 'are missing'}")
        return cls(files=files, **words)


def is_plain(name: str) -> bool:
    """Return whether a name stays in its folder, on every system."""
    return (
        name not in ("", ".", "..", RECORD)
        and not any(c in name for c in '/\\:*?"<>|\0')
        and len(name) < 200
    )


def now() -> str:
    """Return the time, ISO 8601 in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def installed_model(name: str) -> InstalledModel | None:
    """Return the record of a model; None if it is not (or not wholly) installed.

    Raises
    ------
    ModelError
        If there is no such model.
    """
    get_model_spec(name)
    content = read_record(model_folder(name))
    if content is None or weights_of(name) is None:
        return None
    try:
        return InstalledModel.of(content)
    except ValueError:
        return None


def downloaded_models() -> tuple[InstalledModel, ...]:
    """Return the records of all models in the folder, in the catalogue's order."""
    found = (installed_model(s.name) for s in model_specs() if s.needs_download)
    return tuple(record for record in found if record is not None)


def file_sha256(path: Path, progress: Progress | None = None) -> str:
    """Return the SHA-256 of a file.

    Parameters
    ----------
    path : Path
        Of the file.
    progress : callable, optional
        Called with bytes read and all bytes; may raise to stop.

    Raises
    ------
    StorageError
        If it can't be read.
    """
    with storage(path), path.open("rb") as source:
        return copy_hashed(source, None, path.stat().st_size, progress)


def copy_hashed(
    source: IO[bytes],
    target: Path | None,
    size: int,
    progress: Progress | None = None,
) -> str:
    """Copy a stream of known size and return its SHA-256.

    Parameters
    ----------
    source : binary file
        Open for reading.
    target : Path, optional
        None: nothing is written.
    size : int
        Bytes that are read at most; what follows is not touched.
    progress : callable, optional
        Called with bytes done and all bytes; may raise to stop.
    """
    digest, done = hashlib.sha256(), 0
    sink = None if target is None else target.open("wb")
    try:
        while block := source.read(min(CHUNK, size - done)):
            digest.update(block)
            if sink is not None:
                sink.write(block)
            done += len(block)
            if progress is not None:
                progress(done, size)
    finally:
        if sink is not None:
            sink.close()
    return digest.hexdigest()


@contextmanager
def storage(path: Path) -> Iterator[None]:
    """Turn errors of the system into `StorageError` with the path.

    Raises
    ------
    StorageError
        For any OSError inside.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(
            f"{path} can't be read or written ({error.strerror or error}). Check the "
            "path, free space, or set NAPARI_FEWSHOT_HOME to another folder; what was "
            "installed before has not changed."
        ) from error


@contextmanager
def stage() -> Iterator[Path]:
    """Give a folder beside the models; what is left in it afterwards is removed.

    Raises
    ------
    StorageError
        If it can't be made.
    """
    folder = models_folder()
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"{STAGE}*"):
            if time.time() - old.stat().st_mtime > STALE:
                shutil.rmtree(old, ignore_errors=True)
        place = Path(tempfile.mkdtemp(prefix=STAGE, dir=folder))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def check_space(folder: Path, wanted: int) -> None:
    """Stop early when a disk has too little room.

    Parameters
    ----------
    folder : Path
        That exists, on the disk.
    wanted : int
        Bytes.

    Raises
    ------
    StorageError
        If there are fewer bytes free.
    """
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise StorageError(
            f"{wanted / 1e6:.0f} MB are needed in {folder} and {free / 1e6:.0f} MB are "
            "free. Free space or set NAPARI_FEWSHOT_HOME to another folder."
        )


def install(record: InstalledModel, place: Path) -> InstalledModel:
    """Put gathered files into the folder of models, in place of older ones.

    Parameters
    ----------
    record : InstalledModel
        Of the files.
    place : Path
        Folder of nothing else than the files, from `stage` or inside it.

    Raises
    ------
    StorageError
        If it can't be done; the older files are still there then.
    """
    target = model_folder(record.name)
    old = target.with_name(f"{STAGE}old-{target.name}-{os.getpid()}")
    with storage(target):
        write_text(place / RECORD, json.dumps(asdict(record), indent=2) + "\n")
        if target.exists():
            os.replace(target, old)
        try:
            os.replace(place, target)
        except OSError:
            if old.exists():
                os.replace(old, target)
            raise
    shutil.rmtree(old, ignore_errors=True)
    return record
