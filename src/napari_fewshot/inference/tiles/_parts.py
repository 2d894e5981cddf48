"""`Parts`: what is finished of a run, in memory or in a folder that outlives it.

In a folder every part is a file that is there as a whole or not at all, so that a run
that was killed at any time goes on with what is missing.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_fewshot._types import AnyArray

KEY_FILE, FACTS_FILE = "run.json", "facts.jsonl"
ENDING, BEGUN = ".part", ".new"
# Whoever writes to a folder holds this file in it.
LOCK = "run.lock"
# Folders in it: what is seen of a volume.
VIEWS = ("planes", "y", "x")
OURS = re.compile(
    rf"({KEY_FILE}|{KEY_FILE}{BEGUN}|{FACTS_FILE}|{LOCK}"
    rf"|[a-z]+-\d+-\d+({ENDING}|\.\d+{BEGUN}))"
)
FORMAT = 2
# Masks and maps are mostly flat: the fastest level packs them nearly as well.
LEVEL = 1


class Parts:
    """Arrays by kind, plane and number, packed.

    Parameters
    ----------
    folder : path, optional
        Where they are kept; default in memory.
    key : str
        What the run depends on: a folder with another key is emptied.

    Raises
    ------
    StorageError
        If the folder can't be written.
    """

    def __init__(self, folder: Path | None = None, key: str = "") -> None:
        self.folder = folder
        self._kept: dict[str, bytes] = {}
        self._facts: dict[str, Any] = {}
        if folder is not None:
            try:
                self._open(folder, key)
            except OSError as error:
                raise _trouble(folder, error) from error

    @property
    def facts(self) -> Mapping[str, Any]:
        """What was noted, by name; of two notes the later one counts."""
        return self._facts

    def note(self, name: str, fact: Any) -> None:
        """Keep a small JSON-able fact."""
        self._facts[name] = fact
        if self.folder is None:
            return
        line = json.dumps([name, fact]) + "\n"
        try:
            with (self.folder / FACTS_FILE).open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise _trouble(self.folder, error) from error

    def put(self, kind: str, plane: int, number: int, **arrays: AnyArray) -> None:
        """Keep arrays."""
        packed = _pack(arrays)
        name = _name(kind, plane, number)
        if self.folder is None:
            self._kept[name] = packed
            return
        target = self.folder / f"{name}{ENDING}"
        beside = target.with_name(f"{name}.{os.getpid()}{BEGUN}")
        try:
            beside.write_bytes(packed)
            os.replace(beside, target)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise _trouble(self.folder, error) from error

    def get(self, kind: str, plane: int, number: int) -> dict[str, AnyArray] | None:
        """Return arrays; None if they are not there, or damaged."""
        name = _name(kind, plane, number)
        if self.folder is None:
            packed = self._kept.get(name)
            return None if packed is None else _unpack(packed)
        path = self.folder / f"{name}{ENDING}"
        try:
            return _unpack(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, zlib.error):
            path.unlink(missing_ok=True)
            return None

    def has(self, kind: str, plane: int, number: int) -> bool:
        """Whether arrays are there."""
        name = _name(kind, plane, number)
        if self.folder is None:
            return name in self._kept
        return (self.folder / f"{name}{ENDING}").is_file()

    def drop(self, kind: str, plane: int, number: int) -> None:
        """Forget arrays; nothing happens if they are not there."""
        name = _name(kind, plane, number)
        self._kept.pop(name, None)
        if self.folder is not None:
            (self.folder / f"{name}{ENDING}").unlink(missing_ok=True)

    def numbers(self, kind: str) -> list[tuple[int, int]]:
        """Return plane and number of everything of a kind, in order."""
        names = list(self._kept)
        if self.folder is not None:
            names = [p.stem for p in self.folder.glob(f"{kind}-*{ENDING}")]
        split = (name.split("-") for name in names)
        return sorted((int(p), int(n)) for k, p, n in split if k == kind)

    def remove(self) -> None:
        """Forget everything, the folder too."""
        self._kept.clear()
        self._facts.clear()
        if self.folder is not None:
            with contextlib.suppress(OSError):
                discard(self.folder)
                self.folder.rmdir()

    def _open(self, folder: Path, key: str) -> None:
        """Go on in a folder if it is of the same run, else begin anew."""
        wanted = {"format": FORMAT, "key": key}
        try:
            known = json.loads((folder / KEY_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = None
        if known != wanted:
            folder.mkdir(parents=True, exist_ok=True)
            _check_ours(folder)
            discard(folder)
            beside = folder / f"{KEY_FILE}{BEGUN}"
            beside.write_text(json.dumps(wanted), encoding="utf-8")
            os.replace(beside, folder / KEY_FILE)
            return
        for left in folder.glob(f"*{BEGUN}"):
            left.unlink(missing_ok=True)
        facts = folder / FACTS_FILE
        if facts.is_file():
            whole = facts.read_text(encoding="utf-8", errors="replace")
            for line in whole.splitlines():
                try:
                    name, fact = json.loads(line)
                except ValueError:
                    # The run was killed while it wrote this line.
                    continue
                self._facts[name] = fact
            if whole and not whole.endswith("\n"):
                with facts.open("a", encoding="utf-8") as file:
                    file.write("\n")


def _check_ours(folder: Path) -> None:
    """Refuse to empty a folder that holds anything but parts."""
    strange = [p.name for p in folder.iterdir() if not (_is_ours(p) or _is_part_of(p))]
    if strange:
        raise StorageError(
            f"{folder} is needed for unfinished work, but holds other files "
            f"({strange[0]}). Move it away or choose another output."
        )


def discard(folder: Path) -> None:
    """Remove parts from a folder, also of the several views of a volume.

    Files of others stay, and so does the lock.

    Raises
    ------
    OSError
        If something can't be removed.
    """
    for path in folder.iterdir():
        if _is_part_of(path):
            discard(path)
            path.rmdir()
        elif _is_ours(path) and path.name != LOCK:
            path.unlink(missing_ok=True)


def _is_ours(path: Path) -> bool:
    return bool(OURS.fullmatch(path.name)) and not path.is_dir()


def _is_part_of(path: Path) -> bool:
    """Whether a path is the folder of one of several views."""
    is_view = path.name in VIEWS and path.is_dir() and not path.is_symlink()
    return is_view and all(map(_is_ours, path.iterdir()))


def _name(kind: str, plane: int, number: int) -> str:
    return f"{kind}-{plane}-{number}"


def _pack(arrays: Mapping[str, AnyArray]) -> bytes:
    """Return arrays as bytes: what they are, then all of them packed.

    zlib ends what it packs with a check sum.
    """
    plain = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
    about = [[n, a.dtype.str, list(a.shape)] for n, a in plain.items()]
    head = json.dumps(about).encode()
    body = b"".join(a.tobytes() for a in plain.values())
    size = len(head).to_bytes(4, "little")
    check = zlib.crc32(head).to_bytes(4, "little")
    return size + check + head + zlib.compress(body, LEVEL)


def _unpack(packed: bytes) -> dict[str, AnyArray]:
    size, check = (int.from_bytes(packed[i : i + 4], "little") for i in (0, 4))
    head = packed[8 : 8 + size]
    if len(head) != size or zlib.crc32(head) != check:
        raise ValueError("it does not begin with what it is")
    body = zlib.decompress(packed[8 + size :])
    found, at = {}, 0
    for name, dtype, shape in json.loads(head):
        count = int(np.prod(shape, dtype=int))
        found[name] = np.frombuffer(body, dtype, count, at).reshape(shape)
        at += found[name].nbytes
    return found


def _trouble(folder: Path, error: OSError) -> StorageError:
    return StorageError(
        f"Unfinished work can't be kept in {folder} ({error.strerror or error}). Free "
        "some space or choose another folder; what is there is kept."
    )
