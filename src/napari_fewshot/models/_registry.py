"""Which models there are, and how one is loaded."""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_fewshot.errors import ModelError, WeightsError
from napari_fewshot.models._catalogue import FILTERS as FILTERS
from napari_fewshot.models._catalogue import HUGGING, SAM_FAMILY
from napari_fewshot.models._catalogue import INCONTEXT as INCONTEXT
from napari_fewshot.models._catalogue_dense import DENSE, of_timm
from napari_fewshot.models._catalogue_grounding import GROUNDING
from napari_fewshot.models._catalogue_text import TEXT, of_open_clip
from napari_fewshot.models._places import models_folder, weights_of
from napari_fewshot.models._settings import preferred

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot.models._protocols import Encoder
    from napari_fewshot.models._spec import ModelSpec

# spec -> module with `load(spec, checkpoint, device, precision) -> Encoder`.
_SAM, _HF = "napari_fewshot.models.sam", "napari_fewshot.models.hf"
_DENSE, _TIMM = "napari_fewshot.models.dense", "timm/"
_CLIP, _OPEN_CLIP = "napari_fewshot.models.clip", "open_clip/"
_GROUNDING = "napari_fewshot.models.grounding"
_MODELS: dict[str, tuple[ModelSpec, str]] = {
    INCONTEXT.name: (INCONTEXT, "napari_fewshot.models.incontext"),
    FILTERS.name: (FILTERS, "napari_fewshot.models.filters"),
    **{spec.name: (spec, _SAM) for spec in SAM_FAMILY},
    **{spec.name: (spec, _HF) for spec in HUGGING},
    **{spec.name: (spec, _DENSE) for spec in DENSE},
    **{spec.name: (spec, _CLIP) for spec in TEXT},
    **{spec.name: (spec, _GROUNDING) for spec in GROUNDING},
}


def model_specs() -> tuple[ModelSpec, ...]:
    """Return the facts about every listed model, and other installed ones."""
    return (*(spec for spec, _ in _MODELS.values()), *_unlisted())


def get_model_spec(name: str) -> ModelSpec:
    """Return the facts about one model; ``"auto"`` is the best one that is present.

    Raises
    ------
    ModelError
        If there is no such model; the message names the nearest one.
    """
    if name == "auto":
        name = INCONTEXT.name
    if name.startswith(_TIMM) and name not in _MODELS:
        return of_timm(name)
    if name.startswith(_OPEN_CLIP) and name not in _MODELS:
        return of_open_clip(name)
    if name not in _MODELS:
        given = str(name).lower()
        near = difflib.get_close_matches(given, _MODELS, 1, cutoff=0.0)[0]
        raise ModelError(
            f"There is no model {name!r}; did you mean {near!r}? "
            f"Models: auto, {', '.join(_MODELS)}."
        )
    return _MODELS[name][0]


# Who answers prompts where nobody is named: general models, those first that answer
# while one clicks; larger ones cost more patience than they bring.
FOR_PROMPTS = (
    "sam/vit_b",
    "hqsam/vit_b",
    "sam2/hiera_base_plus",
    "sam2/hiera_small",
    "sam/vit_l",
    "hqsam/vit_l",
    "sam2/hiera_large",
    "sam/vit_h",
    "hqsam/vit_h",
    "sam2/hiera_tiny",
    "hqsam/vit_tiny",
    "mobilesam/vit_t",
)


def best_for_prompts() -> str:
    """Return the installed model that answers prompts best, else the bundled one."""
    here = (name for name in FOR_PROMPTS if _is_ready(_MODELS[name][0]))
    return next(here, INCONTEXT.name)


def installed_models() -> tuple[str, ...]:
    """Return the names of the models that can be used now.

    Returns
    -------
    tuple of str
        The bundled ones and those whose weights (and the weights that they build on)
        are in the folder of models, in the order of `model_specs`.
    """
    return tuple(spec.name for spec in model_specs() if _is_ready(spec))


def load_model(
    name: str = "auto",
    checkpoint: Any = None,
    device: str = "auto",
    precision: str = "auto",
    *,
    compile: bool = False,  # noqa: A002 - the name that torch gives it
) -> Encoder:
    """Load a model.

    Parameters
    ----------
    name : str
        See `nf.list_models`; ``"auto"`` takes the best one present, or the one whose
        weights ``checkpoint`` holds.
    checkpoint : path, optional
        Weights file of your own for this architecture; default the installed ones.
        Models that build on another take a pair (own file, file of the other).
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``. ``"auto"`` is what
        was chosen in the dock *Models*, or else the best one present.
    precision : str
        ``"auto"``, ``"fast"``, ``"fp32"``, ``"bf16"`` or ``"fp16"``. ``"auto"`` is what
        was chosen in the dock *Models*, or else fp32. ``"fast"`` is 16 bits if they are
        clearly faster here (measured once per machine) and known to leave the model's
        masks as they are, or else fp32. The model's ``precision`` tells which.
    compile : bool
        Let torch compile the image encoder of SAM and its kin. The first image then
        takes half a minute or more; whether later ones are faster depends on the
        machine (on two cores they were not). Needs a C++ compiler; without one the
        model computes as it is and says so in its ``notes``.

    Returns
    -------
    Encoder
        With ``encode(image) -> Embedding``. A model of the SAM family from a file of
        your own does a simple task first, once per file and process; if it fails, its
        ``notes`` say so.

    Raises
    ------
    ModelError
        If there is no such model, or it is none that can be compiled.
    WeightsError
        If the weights are missing, damaged, or the model takes none.
    """
    device, precision = preferred(device, precision)
    if name == "auto" and checkpoint is not None:
        return _load_unnamed(checkpoint, device, precision, compiled=compile)
    spec = get_model_spec(name)
    weights = _weights(spec, checkpoint) if spec.needs_download else checkpoint
    try:
        model = _load(spec, weights, device, precision, compiled=compile)
        return model if checkpoint is None else _tested(model)
    except WeightsError:
        # Damaged bundled weights must not stop methods that can do without them.
        if name != "auto":
            raise
        return _load(FILTERS, None, device, precision)


def recognise(checkpoint: Any) -> str:
    """Return the name of the model whose weights a file holds.

    Parameters
    ----------
    checkpoint : path or pair of paths
        Weights file; of a model that builds on another its own, then the other's.

    Raises
    ------
    WeightsError
        If it is of no known model or may be of several; the message lists them. Also
        for a pair of which the first is complete by itself.
    """
    if isinstance(checkpoint, tuple | list):
        return _recognise_pair(checkpoint)
    if (Path(checkpoint) / "open_clip_config.json").is_file():
        return _clip_of(checkpoint)
    published = {spec.file: spec.name for spec in HUGGING if spec.file}
    if Path(checkpoint).name in published:
        return published[Path(checkpoint).name]
    from napari_fewshot.models.dense import identify
    from napari_fewshot.models.sam import choose

    try:
        return choose(checkpoint)
    except WeightsError:
        name = identify(checkpoint) or _clip_of(checkpoint)
        if not name and (Path(checkpoint) / "config.json").is_file():
            raise WeightsError(
                f"{Path(checkpoint).name} is a folder in Hugging Face's layout, which "
                "may be of several models. Say which: --model NAME; see models list."
            ) from None
        if not name:
            raise
        return name


def _clip_of(checkpoint: Any) -> str:
    from napari_fewshot.models.clip import identify

    return identify(checkpoint)


def _recognise_pair(pair: Sequence[Any]) -> str:
    """Return the name of a model that comes in two files."""
    if len(pair) != 2:
        raise WeightsError(
            f"A checkpoint is one file or a pair of files, not {len(pair)}. Give the "
            "file of the model, then the one that it builds on."
        )
    name = recognise(pair[0])
    if not get_model_spec(name).base:
        raise WeightsError(
            f"{Path(pair[0]).name} holds {name}, which does not build on another file. "
            "Give its path alone, or put the file that builds on the other first."
        )
    return name


def automatic(
    name: str, device: str = "auto", precision: str = "auto"
) -> tuple[str, str]:
    """Return the device and the precision that a model gets here.

    Parameters
    ----------
    name : str
        Of a model, which need not be installed.
    device, precision : str
        See `load_model`.

    Returns
    -------
    device, precision : str
        None of them ``"auto"``.

    Raises
    ------
    ModelError
        If there is no such model, device or precision.
    """
    from napari_fewshot.models._device import resolve_device, resolve_precision

    spec = get_model_spec(name)
    device, precision = preferred(device, precision)
    place, module, half = resolve_device(device), _module(spec), False
    if module == _SAM:
        from napari_fewshot.models.sam._presets import FAMILIES

        half = FAMILIES[spec.name].preset.half
    elif module not in (_HF, _DENSE, _CLIP, _GROUNDING):
        # The bundled ones know one precision only.
        precision = "fp32"
    return place, resolve_precision(place, precision, same_masks=half)


def _load(
    spec: ModelSpec,
    weights: Any,
    device: str,
    precision: str,
    *,
    compiled: bool = False,
) -> Encoder:
    module = _module(spec)
    if compiled and module != _SAM:
        raise ModelError(f"{spec.name} can't be compiled; leave compile out.")
    more = {"compiled": True} if compiled else {}
    loader = importlib.import_module(module).load
    encoder: Encoder = loader(spec, weights, device, precision, **more)
    return encoder


def _tested(model: Encoder) -> Encoder:
    """Note on a model from a file of the user's own if it fails a simple task."""
    if _module(model.spec) in (_SAM, _HF):
        from napari_fewshot.models.sam import Promptable, note_preset

        if isinstance(model, Promptable):
            note_preset(model)
    return model


def _unlisted() -> list[ModelSpec]:
    """Return the facts about networks that the user imported and nobody listed."""
    found = []
    for prefix, facts in ((_TIMM, of_timm), (_OPEN_CLIP, of_open_clip)):
        folders = sorted(models_folder().glob(f"{prefix.replace('/', '--')}*"))
        names = [folder.name.replace("--", "/", 1) for folder in folders]
        found += [facts(n) for n in names if n not in _MODELS and weights_of(n)]
    return found


def _module(spec: ModelSpec) -> str:
    """Return who loads a model; what is not listed is of timm or open_clip."""
    if spec.name in _MODELS:
        return _MODELS[spec.name][1]
    return _CLIP if spec.name.startswith(_OPEN_CLIP) else _DENSE


def _load_unnamed(
    checkpoint: Any, device: str, precision: str, *, compiled: bool
) -> Encoder:
    """Load weights of whatever model they are of."""
    try:
        name = recognise(checkpoint)
    except WeightsError as unknown:
        if isinstance(checkpoint, tuple | list):
            raise
        try:
            return _load(INCONTEXT, checkpoint, device, precision, compiled=compiled)
        except WeightsError:
            raise unknown from None
    return load_model(name, checkpoint, device, precision, compile=compiled)


def _is_ready(spec: ModelSpec) -> bool:
    names = [spec.name] if not spec.base else [spec.name, spec.base]
    return not spec.needs_download or all(weights_of(n) is not None for n in names)


def _weights(spec: ModelSpec, checkpoint: Any) -> Any:
    """Return what to load: the given or installed file, with its base if it has one.

    Raises
    ------
    WeightsError
        If there are none; the message says how to get them.
    """
    found = weights_of(spec.name) if checkpoint is None else checkpoint
    if found is None:
        raise WeightsError(f"{spec.name} is not installed. {how_to_get(spec)}")
    if not spec.base or isinstance(found, tuple | list):
        return found
    base = weights_of(spec.base)
    if base is None:
        raise WeightsError(
            f"{spec.name} builds on {spec.base}, which is not installed. "
            f"{how_to_get(get_model_spec(spec.base))}"
        )
    return found, base


def how_to_get(spec: ModelSpec) -> str:
    """Return a sentence that tells how to get the weights of a model.

    Parameters
    ----------
    spec : ModelSpec
        Of a model that needs a download.

    Returns
    -------
    str
        With the command, the licence and the size.
    """
    size = f"{spec.size_mb:g} MB, " if spec.size_mb else ""
    facts = f"({size}licence: {spec.licence})"
    if spec.download_url:
        return f"Get it with: napari-fewshot models download {spec.name} {facts}."
    if spec.text and not spec.file:
        return (
            f"Get all files {facts} of {spec.url} into one folder, then: "
            f"napari-fewshot models import FOLDER --model {spec.name}."
        )
    return (
        f"Get {spec.file or 'its weights'} {facts} from {spec.url}, then: "
        f"napari-fewshot models import FILE --model {spec.name}."
    )
