"""Tensors and arrays that were computed lately, kept up to a number of bytes."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray

T = TypeVar("T")


class Recent(Generic[T]):
    """The items used last; safe among threads.

    Parameters
    ----------
    most : int
        Bytes of tensors and arrays that are kept.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._items: OrderedDict[str, tuple[T, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Travel empty."""
        return {"most": self.most}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Arrive empty."""
        self.__init__(state["most"])  # type: ignore[misc]

    def get(self, key: str) -> T | None:
        """Return what was put under a key, or None."""
        with self._lock:
            if key not in self._items:
                return None
            self._items.move_to_end(key)
            return self._items[key][0]

    def put(self, key: str, item: T) -> None:
        """Keep an item; the ones not used for longest make room."""
        with self._lock:
            _, before = self._items.pop(key, (None, 0))
            self._items[key] = item, _size(item)
            self._bytes += self._items[key][1] - before
            while self._bytes > self.most:
                _, (_, gone) = self._items.popitem(last=False)
                self._bytes -= gone


def _size(item: Any) -> int:
    """Bytes of nested tuples of tensors or arrays."""
    if hasattr(item, "nbytes"):
        return int(item.nbytes)
    return sum(map(_size, item))


def digest(array: AnyArray) -> str:
    """Tell arrays apart by their bytes and shape."""
    return f"{hashlib.blake2b(array.data, digest_size=16).hexdigest()} {array.shape}"
