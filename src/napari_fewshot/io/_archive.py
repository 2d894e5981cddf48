"""Zip files that are safe to open: nothing is unpacked, everything is checked.

An archive holds a JSON manifest that names every other member with its size and
SHA-256. Members are read into memory, never more of them than they declare.
"""

from __future__ import annotations

import hashlib
import json
import stat
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

from napari_fewshot.errors import DataError
from napari_fewshot.io._atomic import atomic_write

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_MANIFEST = 16 * 1024**2
MAX_BYTES = 2 * 1024**3
MAX_MEMBERS = 10_000
CHUNK = 1024**2
# The same content is the same file, whenever it is written.
DATE = (1980, 1, 1, 0, 0, 0)
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    # zipfile's own words for encryption and unknown compression.
    RuntimeError,
    NotImplementedError,
    # A manifest that is nested too deep, or no JSON.
    RecursionError,
    ValueError,
)


def write_archive(
    path: Path, manifest: str, content: Mapping[str, Any], members: Mapping[str, bytes]
) -> None:
    """Write an archive; it is complete or not there.

    Parameters
    ----------
    path : Path
        Of the archive.
    manifest : str
        Name of the manifest's member.
    content : mapping
        JSON-able; the list of members is added.
    members : mapping of str to bytes
        Everything else.

    Raises
    ------
    DataError
        If it is larger than what is read again.
    StorageError
        If it can't be written.
    """
    facts = {
        name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in members.items()
    }
    head = json.dumps({**content, "members": facts}, indent=1, allow_nan=False)
    total = sum(len(data) for data in members.values())
    if total > MAX_BYTES or len(head.encode()) > MAX_MANIFEST:
        raise DataError(
            f"{path.name} would hold {total / 1e9:.1f} GB; {MAX_BYTES / 1e9:.1f} GB is "
            "the limit. Use fewer supports or fewer planes of them."
        )
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, data in {manifest: head.encode(), **members}.items():
            info = zipfile.ZipInfo(name, DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, data)


def read_archive(path: Path, manifest: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read what an archive lists, checked; members that it does not list are ignored.

    Parameters
    ----------
    path : Path
        Of the archive.
    manifest : str
        Name of the manifest's member.

    Returns
    -------
    content : dict
        The manifest.
    members : dict of str to bytes

    Raises
    ------
    DataError
        If it is missing, damaged, not safe, too large, or not what it lists.
    """
    if not path.is_file():
        raise DataError(f"{path} is no file. Check the name and the folder.")
    try:
        with zipfile.ZipFile(path) as archive:
            known = _check_members(archive, path.name)
            if manifest not in known:
                raise DataError(
                    f"{path.name} holds no {manifest}, so it is none of our files or "
                    "not whole. Ask for it again."
                )
            head = _read(archive, known[manifest], path.name, MAX_MANIFEST)
            content = json.loads(head)
            if not isinstance(content, dict):
                raise ValueError(f"{manifest} is no table")
            return content, _read_members(archive, known, content, path.name)
    except DataError:
        raise
    except DAMAGE as error:
        raise DataError(
            f"{path.name} is damaged or not one of our files ({error}). Copy or "
            "download it again."
        ) from error
    except OSError as error:
        raise DataError(
            f"{path} can't be read ({error.strerror or error}). Check the disk and "
            "your rights."
        ) from error


def _check_members(archive: zipfile.ZipFile, name: str) -> dict[str, zipfile.ZipInfo]:
    """Refuse names that leave the folder, links, bombs and double members."""
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        raise _unsafe(name, f"it holds {len(infos)} members")
    known: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        problem = _problem(info)
        if info.filename in known:
            problem = "a member is in it twice"
        if problem:
            raise _unsafe(name, f"{problem}: {info.filename[:80]!r}")
        known[info.filename] = info
    if sum(info.file_size for info in infos) > MAX_BYTES + MAX_MANIFEST:
        raise _unsafe(name, f"unpacked it is larger than {MAX_BYTES / 1e9:.1f} GB")
    return known


def _problem(info: zipfile.ZipInfo) -> str:
    parts = info.orig_filename.replace("\\", "/").split("/")
    if parts[0] == "" or ".." in parts or ":" in info.orig_filename:
        return "a member is outside the archive"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "a member is a link"
    if info.flag_bits & 0x1:
        return "a member is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "a member is compressed in an unknown way"
    return ""


def _unsafe(name: str, problem: str) -> DataError:
    return DataError(
        f"{name} was refused because it is not safe to open ({problem}). Ask for it "
        "again, from somebody you trust."
    )


def _read(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, limit: int
) -> bytes:
    """Read a member, never more than it declares."""
    if info.file_size > limit:
        raise _unsafe(name, f"{info.filename} is {info.file_size / 1e6:.0f} MB large")
    found = bytearray()
    with archive.open(info) as member:
        while chunk := member.read(CHUNK):
            found += chunk
            if len(found) > info.file_size:
                raise _unsafe(name, f"{info.filename} is larger than it says")
    if len(found) != info.file_size:
        raise EOFError(f"{info.filename} ends too early")
    return bytes(found)


def _read_members(
    archive: zipfile.ZipFile,
    known: Mapping[str, zipfile.ZipInfo],
    content: Mapping[str, Any],
    name: str,
) -> dict[str, bytes]:
    listed = content.get("members")
    if not isinstance(listed, dict):
        raise ValueError("it lists no members")
    members = {}
    for member, facts in listed.items():
        if not isinstance(facts, dict) or member not in known:
            raise ValueError(f"{member} is missing")
        data = _read(archive, known[member], name, MAX_BYTES)
        if hashlib.sha256(data).hexdigest() != facts.get("sha256"):
            raise DataError(
                f"{name} was refused: {member} is not what was saved (its SHA-256 "
                "differs). Copy or download it again."
            )
        members[member] = data
    return members
