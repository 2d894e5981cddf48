"""Which methods there are; a module is imported only when its method is asked for."""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING

from napari_fewshot.errors import ModelError

if TYPE_CHECKING:
    from napari_fewshot.methods._base import Method

# name -> module; each module has one `METHOD` object. Order is the order of the menu.
METHOD_MODULES = {
    "auto": "napari_fewshot.methods.auto",
    "incontext": "napari_fewshot.methods.incontext",
    "pixel": "napari_fewshot.methods.pixel",
    "template": "napari_fewshot.methods.template",
    "prototype": "napari_fewshot.methods.prototype",
}


def method_names() -> tuple[str, ...]:
    """Return the names of all methods, ``auto`` first."""
    return tuple(METHOD_MODULES)


def get_method(name: str) -> Method:
    """Return a method by name.

    Raises
    ------
    ModelError
        If there is no such method; the message names the nearest one.
    """
    if name not in METHOD_MODULES:
        near = difflib.get_close_matches(name, METHOD_MODULES, 1, cutoff=0.0)[0]
        raise ModelError(
            f"There is no method {name!r}; did you mean {near!r}? "
            f"Methods: {', '.join(METHOD_MODULES)}."
        )
    method: Method = importlib.import_module(METHOD_MODULES[name]).METHOD
    return method
