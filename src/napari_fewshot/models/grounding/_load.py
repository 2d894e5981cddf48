"""Models that read phrases, from folders in Hugging Face's layout.

Only tensors and tables are read, never code, and nothing is asked of a network.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_fewshot.errors import ModelError, WeightsError
from napari_fewshot.models._device import resolve_device, resolve_precision
from napari_fewshot.models.grounding._clipseg import ClipSeg
from napari_fewshot.models.grounding._concepts import ConceptModel
from napari_fewshot.models.grounding._dino import GroundingDino
from napari_fewshot.models.grounding._native import is_native, to_transformers
from napari_fewshot.models.grounding._owl import Owl
from napari_fewshot.models.hf._load import (
    INSTALL,
    _line,
    _quietly,
    _read_json,
    _sha256,
    _tensors,
    _transformers,
    _weight_files,
)
from napari_fewshot.models.sam._files import read_state

if TYPE_CHECKING:
    from torch import Tensor

    from napari_fewshot.models._spec import ModelSpec
    from napari_fewshot.models.grounding._reader import Reader


@dataclass(frozen=True)
class Kind:
    """A kind of folder: classes of transformers, ours, and files of its words.

    Attributes
    ----------
    config, network, processor : str
        Names of classes.
    reader : type
        Ours.
    words : tuple of tuple of str
        Any of these sets of files makes a tokenizer.
    families : tuple of str
        First halves of names of our models that such folders hold.
    """

    config: str
    network: str
    processor: str
    reader: type[Reader]
    words: tuple[tuple[str, ...], ...]
    families: tuple[str, ...]


CLIP_WORDS = (("tokenizer.json",), ("vocab.json", "merges.txt"))
BERT_WORDS = (("tokenizer.json",), ("vocab.txt",))
_SAM3 = Kind(
    "Sam3Config",
    "Sam3Model",
    "Sam3Processor",
    ConceptModel,
    CLIP_WORDS,
    ("sam3", "medical-sam3", "medsam3"),
)
# model_type in config.json -> what it is.
KINDS = {
    "clipseg": Kind(
        "CLIPSegConfig",
        "CLIPSegForImageSegmentation",
        "CLIPSegProcessor",
        ClipSeg,
        CLIP_WORDS,
        ("clipseg",),
    ),
    "grounding-dino": Kind(
        "GroundingDinoConfig",
        "GroundingDinoForObjectDetection",
        "GroundingDinoProcessor",
        GroundingDino,
        BERT_WORDS,
        ("grounding-dino",),
    ),
    "owlv2": Kind(
        "Owlv2Config",
        "Owlv2ForObjectDetection",
        "Owlv2Processor",
        Owl,
        CLIP_WORDS,
        ("owlv2",),
    ),
    "sam3": _SAM3,
    # The folder of facebook/sam3: detector and tracker together.
    "sam3_video": Kind(
        "Sam3VideoConfig", *(vars(_SAM3)[n] for n in list(vars(_SAM3))[1:])
    ),
    "sam3_lite_text": Kind(
        "Sam3LiteTextConfig",
        "Sam3LiteTextModel",
        "Sam3Processor",
        ConceptModel,
        CLIP_WORDS,
        ("sam3-litetext",),
    ),
}
PICTURES = ("preprocessor_config.json", "processor_config.json")
DETECTOR = "detector_model."
# Width of the first stage of Swin -> which Grounding DINO.
SWINS = {96: "grounding-dino/tiny", 128: "grounding-dino/base"}


def load(spec: ModelSpec, checkpoint: Any, device: str, precision: str) -> Reader:
    """Load a model that looks for phrases.

    Parameters
    ----------
    spec : ModelSpec
        With ``text`` of heat, boxes or concept.
    checkpoint : path or pair of paths
        Folder with ``config.json``, safetensors, and the files of its tokenizer and of
        its pictures, as Hugging Face offers them. Of models built on SAM 3: such a
        folder of their own, or their file and the folder of SAM 3.
    device, precision : str
        See `nf.load_model`.

    Raises
    ------
    ModelError
        If transformers is too old.
    WeightsError
        If transformers is not installed, a file is missing, or it holds other weights.
    """
    if checkpoint is None:
        raise WeightsError(
            f"{spec.name} needs its weights ({spec.size_mb:.0f} MB, {spec.licence}): "
            f"download the folder from {spec.url} and pass it as checkpoint."
        )
    weights, folder = _places(checkpoint)
    files = _weight_files(weights)
    kind_of(folder, spec)
    stamp = tuple(file.stat().st_mtime_ns for file in files)
    place = resolve_device(device)
    precision = resolve_precision(place, precision)
    return _load(spec, weights, folder, files, stamp, place, precision)


@functools.lru_cache(maxsize=1)
def _load(
    spec: ModelSpec,
    weights: Path,
    folder: Path,
    files: tuple[Path, ...],
    stamp: tuple[int, ...],
    device: str,
    precision: str,
) -> Reader:
    """Load once per file (until it changes), device and precision."""
    try:
        transformers = _transformers()
    except ModelError as error:
        raise WeightsError(str(error)) from error
    kind = kind_of(folder, spec)
    with _quietly(transformers):
        try:
            config = _config(transformers, kind, folder, spec)
            processor = _processor(transformers, kind, folder)
            network = getattr(transformers, kind.network)
        except AttributeError as error:
            raise ModelError(
                f"transformers {transformers.__version__} does not have {spec.name} "
                f"({error}). Update it: {INSTALL}."
            ) from error
        state, strict = _state(weights, files)
        filled, more = _filled(network, config, state, weights.name, strict=strict)
    reader = kind.reader(filled, processor, spec, device, precision, _sha256(files))
    if more:
        reader.note(
            f"{weights.name} holds {len(more)} tensors that {spec.name} does not read, "
            f"for example {more[0]}."
        )
    return reader


def kind_of(folder: Path, spec: ModelSpec) -> Kind:
    """Return what a folder holds, after a look at which files are there.

    Parameters
    ----------
    folder : Path
        In Hugging Face's layout.
    spec : ModelSpec
        What it should be.

    Raises
    ------
    WeightsError
        If it is another model, or files are missing; the message names them.
    """
    told = _read_json(folder / "config.json")
    kind = KINDS.get(str(told.get("model_type")))
    family = spec.name.split("/")[0]
    if kind is None or family not in kind.families or "quantization_config" in told:
        raise WeightsError(
            f"The folder {folder.name} holds a model of the kind "
            f"{told.get('model_type')!r}, which is not {spec.name}. Choose another."
        )
    if not any(all((folder / n).is_file() for n in names) for names in kind.words):
        ways = " or ".join(" and ".join(names) for names in kind.words)
        raise WeightsError(
            f"The folder {folder.name} lacks the files of its tokenizer: {ways}. "
            f"Download them from {spec.url or 'where the weights are'} into it."
        )
    if not any((folder / name).is_file() for name in PICTURES):
        raise WeightsError(
            f"The folder {folder.name} lacks {PICTURES[0]}, which tells how images are "
            f"prepared. Download it from {spec.url or 'where the weights are'} into it."
        )
    return kind


def _places(checkpoint: Any) -> tuple[Path, Path]:
    """Return where the weights are, and the folder with everything else."""
    given = checkpoint if isinstance(checkpoint, tuple | list) else (checkpoint,)
    if not 1 <= len(given) <= 2:
        raise WeightsError(
            f"A checkpoint is a folder, or a file and a folder, not {len(given)} paths."
        )
    paths = [Path(path).absolute() for path in given]
    paths = [
        p.parent
        if p.suffix == ".safetensors" and (p.parent / "config.json").exists()
        else p
        for p in paths
    ]
    if paths[0].is_dir():
        return paths[0], paths[0]
    if len(paths) == 1 and paths[0].is_file():
        raise WeightsError(
            f"{paths[0].name} is a file, and a model that reads phrases also needs the "
            "files of its tokenizer. Give the folder with all of them, or a pair: the "
            "file, then the folder of the model that it builds on."
        )
    _weight_files(paths[-1])
    return paths[0], paths[-1]


def _config(transformers: Any, kind: Kind, folder: Path, spec: ModelSpec) -> Any:
    try:
        config = getattr(transformers, kind.config).from_pretrained(
            str(folder), local_files_only=True
        )
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(
            f"The folder {folder.name} is damaged ({_line(error)}). Download it again."
        ) from error
    config = getattr(config, "detector_config", None) or config
    width = getattr(getattr(config, "backbone_config", None), "embed_dim", 0)
    found = SWINS.get(width, spec.name)
    if found != spec.name:
        raise WeightsError(
            f"{folder.name} holds weights of {found}, not of {spec.name}. "
            f"Choose the model {found} or other weights."
        )
    return config


def _processor(transformers: Any, kind: Kind, folder: Path) -> Any:
    """Return tokenizer and preparation of images, from the files of the folder."""
    try:
        return getattr(transformers, kind.processor).from_pretrained(
            str(folder), local_files_only=True
        )
    except AttributeError:
        raise
    # The package tokenizers raises plain exceptions for tables that it can't read.
    except Exception as error:
        raise WeightsError(
            f"The tokenizer or the preparation of images in {folder.name} can't be "
            f"read ({_line(error)}). Download the folder again."
        ) from error


def _state(weights: Path, files: tuple[Path, ...]) -> tuple[dict[str, Tensor], bool]:
    """Return tensors under the names of transformers, and whether all must be read.

    Meta's files hold more than the detector, so that only what lacks is an error.
    """
    if weights.is_file():
        state = read_state(weights, lazy=True)
        if any("lora_" in key for key in state):
            raise WeightsError(
                f"{weights.name} holds low-rank changes (LoRA), not a whole model. "
                "Merge them into SAM 3 with their authors' code and save that."
            )
    else:
        state = {}
        for file in files:
            state |= _tensors(file)
    if is_native(state):
        return to_transformers(state), False
    if any(key.startswith(DETECTOR) for key in state):
        # Detector and tracker in one folder.
        names = [key for key in state if key.startswith(DETECTOR)]
        state = {key.removeprefix(DETECTOR): state[key] for key in names}
    return state, True


def _filled(
    kind: Any, config: Any, state: dict[str, Tensor], name: str, *, strict: bool
) -> tuple[Any, list[str]]:
    """Return a network with all of its weights, and names that it does not read.

    A tower of words with random weights finds nothing and says nothing, so nothing
    may be missing.
    """
    kernel = "sdpa" if getattr(kind, "_supports_sdpa", False) else "eager"
    try:
        network, told = kind.from_pretrained(
            None,
            config=config,
            state_dict=state,
            dtype=torch.float32,
            attn_implementation=kernel,
            output_loading_info=True,
        )
    except (RuntimeError, ValueError) as error:
        raise WeightsError(
            f"The weights in {name} are of another shape than its configuration says "
            f"({_line(error)}). Download it again or choose another."
        ) from error
    missing = sorted(told["missing_keys"])
    if missing:
        raise WeightsError(
            f"{name} is incomplete: {len(missing)} tensors are missing, for example "
            f"{missing[0]}. Download it again."
        )
    more = sorted(told["unexpected_keys"])
    if more and strict:
        raise WeightsError(
            f"{name} holds {len(more)} tensors that this model does not have, for "
            f"example {more[0]}; it is of another model. Choose another."
        )
    for key, tensor in network.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise WeightsError(
                f"In {name} the tensor {key} holds values that are not numbers. "
                "Download it again."
            )
    return network.requires_grad_(requires_grad=False), more
