"""Models that read phrases: which there are, and how one is loaded."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from napari_fewshot.errors import ModelError, WeightsError
from napari_fewshot.models import _registry
from napari_fewshot.models._places import weights_of
from napari_fewshot.models._settings import preferred

# Who compares phrases with images where nobody is named, those first that promise most
# on biomedical images; after them what else is installed.
FOR_TEXT = (
    "biomedclip",
    "clip/vit_l_14",
    "clip/laion_vit_l_14",
    "clip/vit_b_16",
    "clip/laion_vit_b_16",
    "clip/vit_b_32",
    "clip/laion_vit_b_32",
)
KIND = "clip"
CLIP_MODULE = "napari_fewshot.models.clip"
# model_type in config.json of folders in the layout of transformers -> our model.
FOLDERS = {
    "clipseg": "clipseg/rd64",
    "grounding-dino": "grounding-dino/tiny",
    "owlv2": "owlv2/base",
    "sam3": "sam3/concept",
    "sam3_video": "sam3/concept",
    "sam3_lite_text": "sam3-litetext/s0",
}


def installed_text_models() -> tuple[str, ...]:
    """Return the names of the models that read phrases and can be used now.

    Returns
    -------
    tuple of str
        Of all kinds (see `ModelSpec.text`), the best of each kind first.
    """
    here = set(_registry.installed_models())
    names = [s.name for s in _registry.model_specs() if s.text and s.name in here]
    first = [name for name in FOR_TEXT if name in names]
    return (*first, *(name for name in names if name not in first))


def load_text_model(
    name: str = "auto",
    checkpoint: Any = None,
    device: str = "auto",
    precision: str = "auto",
) -> Any:
    """Load a model that reads phrases.

    Parameters
    ----------
    name : str
        See `nf.list_models`; ``"auto"`` takes the best installed one that compares
        phrases with features, or the one whose weights ``checkpoint`` holds.
    checkpoint : path, optional
        Weights of your own: a file, or a folder with the files of a tokenizer and
        ``open_clip_config.json``, which then counts as the architecture; default the
        installed ones.
    device, precision : str
        See `load_model`.

    Returns
    -------
    TextModel
        With ``encode_text(phrases)``, if the model's kind (``spec.text``) is
        ``"clip"``; models of the other kinds find things themselves.

    Raises
    ------
    ModelError
        If there is no such model, or it reads no phrases.
    WeightsError
        If the weights are missing, damaged, or of another model.
    """
    device, precision = preferred(device, precision)
    if name == "auto":
        name = _best() if checkpoint is None else _recognised(checkpoint)
    spec = _registry.get_model_spec(name)
    if not spec.text:
        some = ", ".join(FOR_TEXT[:4])
        raise ModelError(
            f"{spec.name} does not read phrases. Choose a model that does, such as "
            f"{some}."
        )
    weights = weights_of(name) if checkpoint is None else checkpoint
    if weights is None:
        raise WeightsError(
            f"{spec.name} is not installed. {_registry.how_to_get(spec)}"
        )
    # Models listed as encoders have another loader there, which leaves words out.
    module = CLIP_MODULE if spec.text == KIND else _registry._module(spec)
    return importlib.import_module(module).load(spec, weights, device, precision)


def _recognised(checkpoint: Any) -> str:
    """Return the name of the model whose weights a file or folder holds."""
    try:
        file = Path(checkpoint) / "config.json"
        kind = json.loads(file.read_text(encoding="utf-8")).get("model_type")
    except (AttributeError, OSError, TypeError, ValueError):
        kind = None
    return FOLDERS.get(str(kind)) or _registry.recognise(checkpoint)


def _best() -> str:
    """Return the installed model that compares phrases with features best.

    Raises
    ------
    WeightsError
        If there is none.
    """
    specs = _registry.get_model_spec
    here = (n for n in installed_text_models() if specs(n).text == KIND)
    found = next(here, "")
    if not found:
        ways = " Or: ".join(
            _registry.how_to_get(specs(n)) for n in ("clip/vit_b_16", "biomedclip")
        )
        raise WeightsError(f"No model that reads phrases is installed. {ways}")
    return found
