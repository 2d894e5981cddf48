"""Which models there are, and how one is loaded."""

from __future__ import annotations

import difflib
import importlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_fewshot.errors import ModelError, WeightsError
from napari_fewshot.models._spec import ModelSpec

if TYPE_CHECKING:
    from napari_fewshot.models._protocols import Encoder

FILTERS = ModelSpec(
    name="filters",
    task="embedding",
    summary="Fixed multi-scale filters (brightness, edges, ridges, texture).",
    licence="BSD-3-Clause",
    citation="Gaussian derivative filter bank; Koenderink & van Doorn 1987",
)

INCONTEXT = ModelSpec(
    name="incontext/small",
    task="in-context segmentation",
    summary="Small bundled network: copies what supports and clicks show.",
    licence="BSD-3-Clause",
    size_mb=4.1,
    trained_on="synthetic tasks only (napari_fewshot.adapt.synthesis)",
    sha256="5de60d8f2ac7a1b273a9edcab6e98314d5f960283a1fae40284798ad9e015b55",
    citation="Own network; dense cross-attention after DCAMA (Shi et al. 2022), ridge "
    "regression after Bertinetto et al. 2019",
)

META = "https://github.com/facebookresearch/segment-anything#model-checkpoints"
_SAM = ModelSpec(
    name="sam/vit_b",
    task="prompted segmentation",
    summary="Segment Anything, ViT-B: masks from points, boxes and masks.",
    licence="Apache-2.0",
    size_mb=375,
    needs_download=True,
    trained_on="SA-1B (11 million photographs)",
    citation="Kirillov et al., Segment Anything, ICCV 2023",
    url=META,
)
_MEDSAM = replace(
    _SAM,
    name="medsam/vit_b",
    summary="MedSAM: one mask of a medical image from a box.",
    trained_on="1.6 million medical image-mask pairs of public data sets",
    citation="Ma et al., Segment anything in medical images, Nature Comms 2024",
    url="https://github.com/bowang-lab/MedSAM#get-started",
)
SAMS = (
    _SAM,
    replace(_SAM, name="sam/vit_l", summary="As sam/vit_b, larger.", size_mb=1250),
    replace(_SAM, name="sam/vit_h", summary="As sam/vit_b, largest.", size_mb=2560),
    _MEDSAM,
)

# spec -> module with `load(spec, checkpoint, device, precision) -> Encoder`.
_MODELS: dict[str, tuple[ModelSpec, str]] = {
    "incontext/small": (INCONTEXT, "napari_fewshot.models.incontext"),
    "filters": (FILTERS, "napari_fewshot.models.filters"),
    **{spec.name: (spec, "napari_fewshot.models.sam") for spec in SAMS},
}


def model_specs() -> tuple[ModelSpec, ...]:
    """Return the facts about every model."""
    return tuple(spec for spec, _ in _MODELS.values())


def get_model_spec(name: str) -> ModelSpec:
    """Return the facts about one model; ``"auto"`` is the best one that is present.

    Raises
    ------
    ModelError
        If there is no such model; the message names the nearest one.
    """
    if name == "auto":
        name = INCONTEXT.name
    if name not in _MODELS:
        near = difflib.get_close_matches(name, _MODELS, 1, cutoff=0.0)[0]
        raise ModelError(
            f"There is no model {name!r}; did you mean {near!r}? "
            f"Models: auto, {', '.join(_MODELS)}."
        )
    return _MODELS[name][0]


def load_model(
    name: str = "auto",
    checkpoint: Any = None,
    device: str = "auto",
    precision: str = "auto",
) -> Encoder:
    """Load a model.

    Parameters
    ----------
    name : str
        See `nf.list_models`; ``"auto"`` takes the best one present.
    checkpoint : path, optional
        Weights file of your own for this architecture.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
    precision : str
        ``"auto"``, ``"fp32"``, ``"bf16"`` or ``"fp16"``.

    Returns
    -------
    Encoder
        With ``encode(image) -> Embedding``.

    Raises
    ------
    ModelError
        If there is no such model.
    WeightsError
        If the weights are missing, damaged, or the model takes none.
    """
    spec = get_model_spec(name)
    loader = importlib.import_module(_MODELS[spec.name][1]).load
    try:
        encoder: Encoder = loader(spec, checkpoint, device, precision)
    except WeightsError:
        # Damaged bundled weights must not stop methods that can do without them.
        if name != "auto" or checkpoint is not None:
            raise
        return load_model(FILTERS.name)
    return encoder
