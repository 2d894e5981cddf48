"""SAM 2, MedSAM2 and SAM 3 from a folder or file; nothing is downloaded.

Only tensors are read, never code: safetensors, or Meta's files with
``weights_only=True``.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_fewshot.errors import ModelError, WeightsError
from napari_fewshot.models._device import resolve_device, resolve_precision
from napari_fewshot.models.hf._model import HfModel
from napari_fewshot.models.hf._names import (
    sam2_config,
    state_trunk,
    to_transformers,
    trunk_name,
)
from napari_fewshot.models.hf._video import VideoModel
from napari_fewshot.models.sam._files import read_state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from napari_fewshot.models._spec import ModelSpec

# Kind of a folder -> family, configuration and network in transformers, our class.
# SAM 3's image-only tracker adds "no memory" to the wrong map, so the video one serves.
SAM3 = ("sam3", "Sam3TrackerVideoConfig", "Sam3TrackerVideoModel", VideoModel)
KINDS: dict[str, tuple[str, str, str, type[HfModel]]] = {
    "sam2_video": ("sam2", "Sam2VideoConfig", "Sam2VideoModel", VideoModel),
    "sam2": ("sam2", "Sam2Config", "Sam2Model", HfModel),
    "sam3_video": SAM3,
    "sam3_tracker_video": SAM3,
}
# Families whose folders have the same layout.
LAYOUTS = {"medsam2": "sam2"}
# Side of the frame for files, which do not tell.
SIDES = {"sam2": 1024, "medsam2": 512}
INSTALL = 'pip install "napari-fewshot[hf]"'


def load(spec: ModelSpec, checkpoint: Any, device: str, precision: str) -> HfModel:
    """Load a model that `transformers` computes.

    Parameters
    ----------
    spec : ModelSpec
        Of the families sam2, medsam2 or sam3.
    checkpoint : path
        Folder with ``config.json`` and safetensors, as Hugging Face offers them, or,
        for sam2 and medsam2, Meta's file.
    device, precision : str
        See `nf.load_model`.

    Raises
    ------
    ModelError
        If transformers is not installed, or too old.
    WeightsError
        If there is no such file, or it holds other weights.
    """
    if checkpoint is None:
        raise WeightsError(
            f"{spec.name} needs its weights ({spec.size_mb:.0f} MB, {spec.licence}): "
            f"download them from {spec.url} and pass the folder or file as checkpoint."
        )
    path = Path(checkpoint).absolute()
    if path.suffix == ".safetensors" and (path.parent / "config.json").exists():
        path = path.parent
    weights = _weight_files(path)
    stamp = tuple(file.stat().st_mtime_ns for file in weights)
    place = resolve_device(device)
    return _load(spec, path, weights, stamp, place, resolve_precision(place, precision))


@functools.lru_cache(maxsize=1)
def _load(
    spec: ModelSpec,
    path: Path,
    weights: tuple[Path, ...],
    stamp: tuple[int, ...],
    device: str,
    precision: str,
) -> HfModel:
    """Load once per file (until it changes), device and precision."""
    transformers = _transformers()
    read = _from_folder if path.is_dir() else _from_file
    with _quietly(transformers):
        try:
            network, kind = read(transformers, spec, path, weights)
        except AttributeError as error:
            raise ModelError(
                f"transformers {transformers.__version__} does not have {spec.name} "
                f"({error}). Update it: {INSTALL}."
            ) from error
    return kind(network, spec, device, precision, _sha256(weights))


def _sha256(files: tuple[Path, ...]) -> str:
    """Return the digest of the files, one after the other."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            while chunk := opened.read(2**20):
                digest.update(chunk)
    return digest.hexdigest()


def _transformers() -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise ModelError(
            f"This model needs the package transformers, which is not here: {INSTALL}."
        ) from error


def _weight_files(path: Path) -> tuple[Path, ...]:
    """Return the file, or the safetensors of a folder."""
    if path.is_file():
        return (path,)
    if not path.is_dir():
        raise WeightsError(
            f"There is no file or folder {path.name} to load weights from. "
            "Check its path."
        )
    found = tuple(sorted(path.glob("*.safetensors")))
    if not found or not (path / "config.json").is_file():
        raise WeightsError(
            f"The folder {path.name} holds no model: config.json and *.safetensors "
            "files are needed (pickled .bin files are not opened). Download it again."
        )
    return found


def _from_file(
    transformers: Any, spec: ModelSpec, path: Path, weights: tuple[Path, ...]
) -> tuple[Any, type[HfModel]]:
    """Return the network of Meta's file."""
    family = spec.name.split("/")[0]
    if family not in SIDES:
        raise WeightsError(
            f"{spec.name} is loaded from a folder with config.json and safetensors, "
            f"and {path.name} is a file. Download it from {spec.url}."
        )
    state = to_transformers(read_state(path))
    trunk = state_trunk(state, path.name)
    _same_size(spec, f"{family}/{_short(family, trunk)}", path.name)
    config = sam2_config(transformers, state, trunk, SIDES[family])
    kind = transformers.Sam2VideoModel
    return _filled(kind, config, state, path.name, strict=True), VideoModel


def _from_folder(
    transformers: Any, spec: ModelSpec, path: Path, weights: tuple[Path, ...]
) -> tuple[Any, type[HfModel]]:
    """Return the network of a folder in Hugging Face's layout."""
    family = spec.name.split("/")[0]
    layout = LAYOUTS.get(family, family)
    told = _read_json(path / "config.json")
    known = KINDS.get(str(told.get("model_type")))
    if known is None or known[0] != layout or "quantization_config" in told:
        raise WeightsError(
            f"The folder {path.name} holds a model of the kind "
            f"{told.get('model_type')!r}, which is not {spec.name}. Choose another."
        )
    try:
        config = getattr(transformers, known[1]).from_pretrained(
            str(path), local_files_only=True
        )
        _same_size(spec, _folder_name(family, config), path.name)
        state: dict[str, Tensor] = {}
        for file in weights:
            state |= _tensors(file)
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(
            f"The folder {path.name} is damaged ({_line(error)}). Download it again."
        ) from error
    kind = getattr(transformers, known[2])
    # SAM 3's folder holds its detector as well, of which nothing is read here.
    strict = layout != "sam3"
    return _filled(kind, config, state, path.name, strict=strict), known[3]


def _tensors(file: Path) -> dict[str, Tensor]:
    """Return tensors under the names in the file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except SafetensorError as error:
        raise WeightsError(
            f"The weights file {file.name} is damaged ({error}). Download it again."
        ) from error


def _filled(
    kind: Any, config: Any, state: dict[str, Tensor], name: str, *, strict: bool
) -> Any:
    """Return a network with all of its weights from the file.

    The kernel of attention is set here: what a configuration names could be code.
    """
    try:
        network, told = kind.from_pretrained(
            None,
            config=config,
            state_dict=state,
            dtype=torch.float32,
            attn_implementation="sdpa",
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
            f"example {more[0]}; it is of another model. Choose another file."
        )
    for key, tensor in network.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise WeightsError(
                f"In {name} the tensor {key} holds values that are not numbers. "
                "Download it again."
            )
    return network.requires_grad_(requires_grad=False)


def _folder_name(family: str, config: Any) -> str:
    """Return family and size of a configuration; "" when the size is none we know."""
    if family == "sam3":
        return "sam3/base"
    trunk = config.vision_config.backbone_config
    size = trunk_name(trunk.hidden_size, sum(trunk.blocks_per_stage))
    return f"{family}/{_short(family, size)}" if size else ""


def _short(family: str, trunk: str) -> str:
    """Return the size in the name of a model: MedSAM2 leaves "hiera_" out."""
    return trunk.removeprefix("hiera_") if family == "medsam2" else trunk


def _same_size(spec: ModelSpec, found: str, name: str) -> None:
    if found and found != spec.name:
        raise WeightsError(
            f"{name} holds weights of {found}, not of {spec.name}. "
            f"Choose the model {found} or other weights."
        )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{file.parent.name}/config.json can't be read. Download the folder again."
        ) from error
    return found if isinstance(found, dict) else {}


def _line(error: Exception) -> str:
    """Return the first line of a message, without its full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


@contextmanager
def _quietly(transformers: Any) -> Iterator[None]:
    """No progress bars and advice on the terminal of whoever uses napari."""
    log = transformers.utils.logging
    before, bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(before)
        if bar:
            log.enable_progress_bar()
