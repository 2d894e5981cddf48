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
    "panet": "napari_fewshot.methods.panet",
    "alpnet": "napari_fewshot.methods.alpnet",
    "adnet": "napari_fewshot.methods.adnet",
    "qnet": "napari_fewshot.methods.qnet",
    "repri": "napari_fewshot.methods.repri",
    "mumford-shah": "napari_fewshot.methods.mumford_shah",
    "fob": "napari_fewshot.methods.fob",
    "insid3": "napari_fewshot.methods.insid3",
    "knn": "napari_fewshot.methods.knn",
    "linear": "napari_fewshot.methods.linear",
    "mlp": "napari_fewshot.methods.mlp",
    "dino-augseg": "napari_fewshot.methods.dino_augseg",
    "distill": "napari_fewshot.methods.distill",
    "instances": "napari_fewshot.methods.instances",
    "template-bank": "napari_fewshot.methods.template_bank",
    "persam": "napari_fewshot.methods.persam",
    "persam-f": "napari_fewshot.methods.persam_f",
    "p2sam": "napari_fewshot.methods.p2sam",
    "matcher": "napari_fewshot.methods.matcher",
    "gf-sam": "napari_fewshot.methods.gf_sam",
    "dc-sam": "napari_fewshot.methods.dc_sam",
    "med-persam": "napari_fewshot.methods.med_persam",
    "maskclip": "napari_fewshot.methods.maskclip",
    "clearclip": "napari_fewshot.methods.clearclip",
    "sclip": "napari_fewshot.methods.sclip",
    "surgery": "napari_fewshot.methods.surgery",
    "proxy": "napari_fewshot.methods.proxy",
    "gscorecam": "napari_fewshot.methods.gscorecam",
    "m2ib": "napari_fewshot.methods.m2ib",
    "medclip-sam": "napari_fewshot.methods.medclip_sam",
    "medclip-samv2": "napari_fewshot.methods.medclip_samv2",
    "text-head": "napari_fewshot.methods.text_head",
    "text": "napari_fewshot.methods.text._choose",
    "clipseg": "napari_fewshot.methods.clipseg",
    "grounding-dino": "napari_fewshot.methods.grounding_dino",
    "owlv2": "napari_fewshot.methods.owlv2",
    "sam3": "napari_fewshot.methods.sam3_concept",
    "vlp": "napari_fewshot.methods.vlp",
}

# Those that read phrases; `MethodSpec.reads_text` of each says so, too, but importing
# all of them takes as long as opening a window.
TEXT_METHODS = (
    "text",
    "maskclip",
    "clearclip",
    "sclip",
    "surgery",
    "proxy",
    "gscorecam",
    "m2ib",
    "medclip-sam",
    "medclip-samv2",
    "text-head",
    "vlp",
    "clipseg",
    "grounding-dino",
    "owlv2",
    "sam3",
)


def method_names() -> tuple[str, ...]:
    """Return the names of all methods, ``auto`` first."""
    return tuple(METHOD_MODULES)


def learning_methods() -> tuple[str, ...]:
    """Return the names of the methods that learn from supports, ``auto`` first."""
    return tuple(name for name in METHOD_MODULES if name not in TEXT_METHODS)


def get_method(name: str) -> Method:
    """Return a method by name.

    Raises
    ------
    ModelError
        If there is no such method; the message names the nearest one.
    """
    if name not in METHOD_MODULES:
        given = str(name).lower()
        near = difflib.get_close_matches(given, METHOD_MODULES, 1, cutoff=0.0)[0]
        raise ModelError(
            f"There is no method {name!r}; did you mean {near!r}? "
            f"Methods: {', '.join(METHOD_MODULES)}."
        )
    method: Method = importlib.import_module(METHOD_MODULES[name]).METHOD
    return method
