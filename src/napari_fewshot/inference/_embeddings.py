"""`EmbeddingCache`: encode a plane once, use it for every prompt and support after.

Two tiers: a few embeddings in memory, all the others on disk (`EmbeddingStore`). The
cache never makes a run fail: what it can't keep is computed again, and `status` says
why.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import os
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.errors import DataError
from napari_fewshot.inference._store import GB, EmbeddingStore, Usage
from napari_fewshot.models import Recent
from napari_fewshot.models._places import cache_folder, data_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_fewshot._types import AnyArray, FloatArray
    from napari_fewshot.data import Embedding
    from napari_fewshot.models import Encoder

# Raise it when an encoder, or the way it prepares an image, gives other values: what
# was kept before is then not found any more.
FORMAT = 1
# Bytes of embeddings in memory: about 60 of SAM.
MEMORY = 256 * 2**20
ON, QUOTA_GB = "NAPARI_FEWSHOT_CACHE", "NAPARI_FEWSHOT_CACHE_GB"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Held:
    embedding: Embedding
    nbytes: int


class EmbeddingCache:
    """Embeddings of planes, found again by their pixels and the model.

    Values are rounded to float16 before their first use, so that the first and the
    second visit of a plane agree exactly. Nothing of an `Embedding` may be changed in
    place: the next visit gets the same one.

    Parameters
    ----------
    folder : path, optional
        Of the disk tier; default ``embeddings`` in the user's cache folder.
    quota : int, optional
        Bytes on disk; default 10 GB or 10 % of the free disk, the smaller. 0 keeps
        nothing on disk.
    memory : int
        Bytes in memory.
    is_on : bool
        Off, `encode` only asks the model, and nothing is rounded.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        quota: int | None = None,
        memory: int = MEMORY,
        is_on: bool = True,
    ) -> None:
        self.folder = default_folder() if folder is None else Path(folder)
        self.memory, self.is_on = memory, is_on
        self._store = EmbeddingStore(self.folder, quota)
        self._recent: Recent[_Held] = Recent(memory)
        self._trouble = ""

    @property
    def status(self) -> str:
        """Why nothing is kept on disk, as a sentence; "" when all is well."""
        if not self.is_on:
            return "The cache is turned off; every plane is computed again."
        if not self._store.quota:
            return "The quota is 0: nothing is kept when the program ends."
        if self._trouble or self._store.is_writable:
            return self._trouble
        return self._sentence("it is read-only, or no folder")

    def encode(
        self,
        model: Encoder,
        pixels: AnyArray,
        check: Callable[[int, int], None] | None = None,
    ) -> Embedding:
        """Return the embedding of a plane: from memory, from disk, or computed.

        Parameters
        ----------
        model : Encoder
            Who encodes.
        pixels : array (H, W) or (H, W, C)
            One plane or tile exactly as the model gets it: axes, the choice of channels
            and the intensity window are applied already. Never a whole lazy stack.
        check : callable, optional
            Handed to a model that takes one; may raise to cancel.

        Raises
        ------
        DataError
            If it is no plane.
        """
        if not self.is_on:
            return _encode(model, pixels, check)
        plane, name = _plane(pixels), model.spec.name
        key = key_of(model, plane)
        held = self._recent.get(key)
        if held is not None:
            return held.embedding
        found = self._store.read(key, name)
        if found is None:
            encoded = _encode(model, plane, check)
            # Where memory ran out the model may compute with fewer bits from now on.
            key = key_of(model, plane)
            found = rounded(encoded)
            if found is None:
                self._tell(f"The values of {name} do not fit float16 and are not kept.")
                return encoded
            self._write(key, found)
        arrays = (found.array, *found.extras.values())
        self._recent.put(key, _Held(found, sum(a.nbytes for a in arrays)))
        return found

    def holds(self, model: Encoder, pixels: AnyArray) -> bool:
        """Whether the disk tier has a plane; it then counts as used.

        Parameters
        ----------
        model, pixels
            As for `encode`.
        """
        if not self.is_on:
            return False
        return self._store.has(key_of(model, _plane(pixels)), model.spec.name)

    def usage(self) -> Usage:
        """Count what is on disk; thousands of files take a moment."""
        return self._store.usage()

    def clear(self) -> None:
        """Forget everything, in memory and on disk.

        Raises
        ------
        OSError
            If a file can't be removed.
        """
        self._recent = Recent(self.memory)
        self._store.clear()

    def _write(self, key: str, embedding: Embedding) -> None:
        """Keep an embedding on disk if that works."""
        if not self._store.quota:
            return
        try:
            self._store.write(key, embedding)
        except OSError as error:
            self._tell(self._sentence(error.strerror or str(error)))
        else:
            self._trouble = ""

    def _tell(self, trouble: str) -> None:
        """Note a trouble; log it once."""
        if trouble != self._trouble:
            logger.warning("%s", trouble)
        self._trouble = trouble

    def _sentence(self, reason: str) -> str:
        return (
            f"{self.folder} can't be written ({reason}): planes are computed again in "
            "the next session. Free space or choose another folder with "
            "NAPARI_FEWSHOT_HOME."
        )


def key_of(model: Encoder, plane: AnyArray) -> str:
    """Return the SHA-256 of all that an embedding depends on.

    Parameters
    ----------
    model : Encoder
        Its name, weights, input side, preset and precision count, not its device.
    plane : array (H, W) or (H, W, C)
        Its bytes, shape and dtype count.
    """
    words = [
        FORMAT,
        model.spec.name,
        getattr(model, "sha256", "") or model.spec.sha256,
        getattr(model, "side", None),
        repr(getattr(model, "preset", None)),
        getattr(model, "precision", None),
        plane.shape,
        plane.dtype.str,
    ]
    found = hashlib.sha256(json.dumps(words).encode())
    found.update(np.ascontiguousarray(plane).data)
    return found.hexdigest()


def rounded(embedding: Embedding) -> Embedding | None:
    """Return an embedding with the values that float16 has; None if some do not fit.

    Parameters
    ----------
    embedding : Embedding
        float32.
    """
    extras = {n: _rounded(a) for n, a in embedding.extras.items()}
    array = _rounded(embedding.array)
    if not all(np.isfinite(a).all() for a in (array, *extras.values())):
        return None
    return replace(embedding, array=array, extras=extras)


def _rounded(array: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        found: FloatArray = array.astype(np.float16).astype(np.float32)
    return found


def _plane(pixels: AnyArray) -> AnyArray:
    if np.ndim(pixels) not in (2, 3):
        raise DataError(
            f"One plane (H, W) or (H, W, C) is encoded at a time; this array has the "
            f"shape {np.shape(pixels)}."
        )
    return np.asarray(pixels)


def _encode(
    model: Encoder, plane: AnyArray, check: Callable[[int, int], None] | None
) -> Embedding:
    if check is None or "check" not in inspect.signature(model.encode).parameters:
        return model.encode(plane)
    more: dict[str, Any] = {"check": check}
    return model.encode(plane, **more)


@dataclass(frozen=True)
class CacheSettings:
    """What the user chose.

    Attributes
    ----------
    is_on : bool
        Whether embeddings are kept.
    quota_gb : float, optional
        Gigabytes (10^9 bytes) on disk; None is the default.
    """

    is_on: bool = True
    quota_gb: float | None = None


def default_folder() -> Path:
    """Return the folder of embeddings."""
    return cache_folder() / "embeddings"


def settings_path() -> Path:
    """Return the file in which the user's choice is kept, JSON of `CacheSettings`."""
    return data_folder() / "embeddings.json"


def stored_settings() -> CacheSettings:
    """Return what the user chose in the dock; what can't be read has its default."""
    try:
        words = json.loads(settings_path().read_text(encoding="utf-8"))
        return CacheSettings(bool(words["is_on"]), _gigabytes(words["quota_gb"]))
    except (OSError, ValueError, TypeError, KeyError):
        return CacheSettings()


def read_settings() -> CacheSettings:
    """Return the settings: defaults, then the user's choice, then the environment."""
    settings = stored_settings()
    is_on, quota = settings.is_on, settings.quota_gb
    if fixed_by_environment(ON):
        is_on = os.environ[ON].strip().lower() not in ("0", "no", "off", "false")
    if fixed_by_environment(QUOTA_GB):
        quota = _gigabytes(os.environ[QUOTA_GB])
    return CacheSettings(is_on, quota)


def fixed_by_environment(name: str) -> bool:
    """Whether a variable decides, `ON` or `QUOTA_GB`."""
    return bool(os.environ.get(name, "").strip())


def _gigabytes(given: Any) -> float | None:
    """Return a number of gigabytes, None for the default and for nonsense."""
    try:
        number = float(given)
    except (TypeError, ValueError):
        return None
    return number if 0 <= number < float("inf") else None


_LOCK = threading.Lock()
_SHARED: dict[tuple[Path, CacheSettings], EmbeddingCache] = {}


def get_cache() -> EmbeddingCache:
    """Return the cache of this process, as the settings are now."""
    settings, folder = read_settings(), default_folder()
    with _LOCK:
        if (folder, settings) not in _SHARED:
            gigabytes = settings.quota_gb
            quota = None if gigabytes is None else int(gigabytes * GB)
            _SHARED.clear()
            _SHARED[folder, settings] = EmbeddingCache(
                folder, quota, is_on=settings.is_on
            )
        return _SHARED[folder, settings]


class KeepingEncoder:
    """An encoder whose embeddings are kept, for methods that know nothing of caches.

    Parameters
    ----------
    model : Encoder
        Who encodes what is not kept yet.
    """

    def __init__(self, model: Encoder) -> None:
        self.model = model
        self.spec = model.spec
        self.sha256 = getattr(model, "sha256", "")
        self.device = getattr(model, "device", "cpu")

    @property
    def precision(self) -> str:
        """With how many bits the model computes now."""
        return str(getattr(self.model, "precision", "fp32"))

    @property
    def notes(self) -> tuple[str, ...]:
        """What the model gave up, in sentences for the user."""
        return tuple(getattr(self.model, "notes", ()))

    def encode(self, image: AnyArray) -> Embedding:
        """Return the embedding of one plane; see `EmbeddingCache.encode`."""
        return get_cache().encode(self.model, image)

    def blank_features(self, shape: tuple[int, int]) -> FloatArray:
        """Return the features of a black plane: what they say of position alone.

        Parameters
        ----------
        shape : (int, int)
            Rows and columns of the plane.

        Returns
        -------
        array (C, h, w) float32
            The cells that show the plane.
        """
        return self.encode(np.zeros(shape, np.uint8)).cells
