"""Weights over the network: resumed, checked, installed whole.

What has arrived is kept in a ``.part`` file; the next attempt asks for the rest (RFC
9110, range requests) when the server can say that its file is still the same.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from napari_fewshot.errors import WeightsError
from napari_fewshot.io._model_store import (
    CHUNK,
    FileFacts,
    InstalledModel,
    check_space,
    file_sha256,
    install,
    installed_model,
    now,
    stage,
    storage,
)
from napari_fewshot.io._models import downloadable
from napari_fewshot.models import how_to_get
from napari_fewshot.models._places import models_folder

if TYPE_CHECKING:
    from pathlib import Path

    from napari_fewshot.io._model_store import Progress
    from napari_fewshot.models import ModelSpec

TIMEOUT = 30.0
# A connection that ends before the file does.
LOST = (
    urllib.error.URLError,
    http.client.HTTPException,
    ssl.SSLError,
    TimeoutError,
    ConnectionError,
)


def download_model(
    spec: ModelSpec, *, agreed: bool, progress: Progress | None = None
) -> InstalledModel:
    """Download and install the weights of a model.

    Parameters
    ----------
    spec : ModelSpec
        Which, from where.
    agreed : bool
        Whether the user has agreed to the licence; the record says when.
    progress : callable, optional
        Called with bytes arrived and all bytes; may raise to stop, then what has
        arrived is kept for the next time.

    Returns
    -------
    InstalledModel

    Raises
    ------
    ModelError
        If the model comes with the package.
    WeightsError
        If there is no agreement, no address or no network, or the file is not the
        published one, or not the one of the first download.
    StorageError
        If the disk is full or read-only.
    """
    downloadable(spec.name)
    if not agreed:
        raise WeightsError(
            f"The licence of {spec.name} ({spec.licence}) has to be agreed to before "
            "its weights are downloaded."
        )
    if not spec.download_url:
        raise WeightsError(f"There is no direct download. {how_to_get(spec)}")
    folder = models_folder() / ".parts"
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{spec.name.replace('/', '--')}.part"
    with storage(part):
        _fetch(spec, part, progress)
    digest = file_sha256(part)
    _check(spec, digest, part)
    time = now()
    with stage() as place:
        size = part.stat().st_size
        with storage(part):
            part.replace(place / spec.file)
        _note(part).unlink(missing_ok=True)
        record = InstalledModel(
            spec.name,
            {spec.file: FileFacts(digest, size)},
            "download",
            url=spec.download_url,
            licence=spec.licence,
            agreed=time,
            installed=time,
        )
        return install(record, place)


def _check(spec: ModelSpec, digest: str, part: Path) -> None:
    """Refuse a file that is not the published one, or not the one seen first."""
    wanted, whose = spec.sha256, "published"
    before = installed_model(spec.name)
    if not wanted and before is not None and before.url == spec.download_url:
        facts = before.files.get(spec.file)
        wanted, whose = (facts.sha256, "first") if facts else ("", "")
    if wanted and digest != wanted:
        _forget(part)
        again = (
            "If its publisher has changed it, run napari-fewshot models remove "
            f"{spec.name} and download it again."
            if whose == "first"
            else "Download it again."
        )
        raise WeightsError(
            f"{spec.name} was refused: what arrived (SHA-256 {digest[:12]}...) "
            f"is not the {whose} one ({wanted[:12]}...). Nothing was installed. {again}"
        )


def _fetch(spec: ModelSpec, part: Path, progress: Progress | None) -> None:
    """Fill the part file; go on after a cut as long as something arrives."""
    while True:
        begin = _size(part)
        try:
            total = _receive(spec, part, progress)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:
                # The file has become shorter than what is here.
                _forget(part)
                if begin:
                    continue
            raise WeightsError(
                f"{spec.download_url} answered {error.code} ({error.reason}). Look for "
                f"the file at {spec.url}, then run napari-fewshot models import FILE "
                f"--model {spec.name}."
            ) from error
        except LOST as error:
            reason, total = str(getattr(error, "reason", error)), -1
        else:
            reason = "the connection was closed"
        have = _size(part)
        if have == total:
            return
        if have > total >= 0:
            _forget(part)
            reason = "more arrived than was announced"
        if have <= begin:
            raise WeightsError(
                f"{spec.name} could not be downloaded ({reason}). What has arrived is "
                f"kept ({have / 1e6:.1f} MB): try again when there is a network, or "
                "import the file from another machine."
            )


def _receive(spec: ModelSpec, part: Path, progress: Progress | None) -> int:
    """Take what one connection gives; return the size of the whole file."""
    begin, note = _size(part), _read_note(part)
    headers = {"User-Agent": "napari-fewshot", "Accept-Encoding": "identity"}
    if begin and note.get("url") == spec.download_url and note.get("same"):
        headers |= {"Range": f"bytes={begin}-", "If-Range": note["same"]}
    request = urllib.request.Request(spec.download_url, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        found = answer.headers
        if found.get_content_type() == "text/html":
            raise WeightsError(
                f"{spec.download_url} answered with a web page and not with a file. "
                f"{how_to_get(spec)}"
            )
        length = int(found.get("Content-Length") or -1)
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", found.get("Content-Range", ""))
        is_rest = answer.status == 206 and span is not None and int(span[1]) == begin
        begin = begin if is_rest else 0
        total = int(span[2]) if is_rest and span else length
        if not is_rest:
            tag = found.get("ETag", "")
            same = found.get("Last-Modified", "") if tag.startswith("W/") else tag
            note = {"url": spec.download_url, "same": same or found["Last-Modified"]}
            _note(part).write_text(json.dumps(note), encoding="utf-8")
        if total > 0:
            check_space(part.parent, total - begin)
        with part.open("ab" if is_rest else "wb") as file:
            done = begin
            while block := answer.read(CHUNK):
                file.write(block)
                done += len(block)
                if progress is not None:
                    progress(done, max(total, done))
    return total if total >= 0 else done


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _note(part: Path) -> Path:
    return part.with_suffix(".json")


def _read_note(part: Path) -> dict[str, Any]:
    try:
        found = json.loads(_note(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)
