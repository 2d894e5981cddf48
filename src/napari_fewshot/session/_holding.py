"""Files and folders that one run at a time may write to."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from typing import IO, TYPE_CHECKING

from napari_fewshot.errors import StorageError
from napari_fewshot.inference.tiles import LOCK, discard

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A folder may be removed by its last user between two steps of the next one.
TRIES = 20
# Of a name, on nearly all disks.
MOST_BYTES = 255


def beside_of(out: Path) -> Path:
    """Return the folder for unfinished work on a result; its name fits on any disk."""
    name = f"{out.name}.parts"
    if len(os.fsencode(name)) > MOST_BYTES:
        name = f"{hashlib.blake2b(os.fsencode(name), digest_size=16).hexdigest()}.parts"
    return out.parent / name


@contextlib.contextmanager
def held(folder: Path | None) -> Iterator[None]:
    """Hold a folder of unfinished work; what is in it goes when the block succeeds.

    Parameters
    ----------
    folder : path, optional
        It is made, and removed again unless there is something left in it. Files that
        are no parts of a run stay as they are.

    Raises
    ------
    StorageError
        If it can't be written, or another run holds it.
    """
    if folder is None:
        yield
        return
    try:
        file, is_held = _open(folder)
    except OSError as error:
        raise StorageError(
            f"Unfinished work can't be kept in {folder} ({error.strerror or error}). "
            "Choose another output or another folder."
        ) from error
    if not is_held:
        file.close()
        raise StorageError(
            f"Another run uses {folder}. Wait until it is done, or choose another "
            "output."
        )
    try:
        yield
        with contextlib.suppress(OSError):
            discard(folder)
    finally:
        # Windows removes no file that is open, others none that may be taken over.
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink(missing_ok=True)
        file.close()
        with contextlib.suppress(OSError):
            if sys.platform == "win32":
                (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()


def _open(folder: Path) -> tuple[IO[bytes], bool]:
    for attempt in range(TRIES):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return hold(folder / LOCK)
        except FileNotFoundError:
            if attempt + 1 == TRIES:
                raise
    raise AssertionError("unreachable")


def hold(path: Path) -> tuple[IO[bytes], bool]:
    """Open a file to append, and hold it until it is closed or the process ends.

    Parameters
    ----------
    path : Path
        It is made; it may vanish in between.

    Returns
    -------
    file, bool
        Whether it is held; False if another has it.
    """
    while True:
        file = path.open("a+b")
        if not _lock(file):
            return file, False
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file, True
        file.close()


def _lock(file: IO[bytes]) -> bool:
    """Lock a file until it is closed or the process ends; False if another has."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # Some network folders know no locks: then nobody is kept out.
        return sys.platform != "win32"
    return True
