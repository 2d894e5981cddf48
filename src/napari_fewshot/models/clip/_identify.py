"""Which model a file or folder holds: by its configuration, names and shapes."""

from __future__ import annotations

import json
import re
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import open_clip
import torch

from napari_fewshot.errors import WeightsError
from napari_fewshot.models.clip._makes import (
    BIOMED,
    BIOMED_MAKE,
    CONFIG,
    FREE,
    PUBLISHED,
    make_of,
)
from napari_fewshot.models.clip._names import plain_names
from napari_fewshot.models.sam._files import read_state

if TYPE_CHECKING:
    from napari_fewshot.models.sam._names import State

# Names of weights files in a folder, in this order.
FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin",
)
SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
QUICK = "-quickgelu"
OPENAI = {arch: name for name, (arch, tag) in PUBLISHED.items() if tag == "openai"}


def weights_file(path: Any) -> Path:
    """Return the file of weights: the path itself, or the one in a folder.

    Parameters
    ----------
    path : path
        File or folder.

    Raises
    ------
    WeightsError
        If there is none, or several of no usual name.
    """
    place = Path(path)
    if not place.is_dir():
        if not place.is_file():
            raise WeightsError(
                f"There is no file or folder {place.name} to load weights from. Check "
                "its path."
            )
        return place
    for name in FILES:
        if (place / name).is_file():
            return place / name
    inside = sorted(f for f in place.iterdir() if f.suffix in SUFFIXES)
    if len(inside) != 1:
        raise WeightsError(
            f"The folder {place.name} holds {len(inside)} weights files, and one is "
            f"needed. Leave one, or name it {FILES[0]}."
        )
    return inside[0]


def identify(path: Any) -> str:
    """Return the name of the model that a file or folder holds.

    Parameters
    ----------
    path : path
        Weights file, or folder of one with ``open_clip_config.json``.

    Returns
    -------
    str
        Such as ``"biomedclip"`` or ``"open_clip/ViT-B-16"``; "" if it is none.

    Raises
    ------
    WeightsError
        If it can't be read.
    """
    place = Path(path)
    if place.is_dir() and (place / CONFIG).is_file():
        return _of_config(place)
    if place.is_dir() and not any(f.suffix in SUFFIXES for f in place.iterdir()):
        return ""
    state = plain_names(read_state(weights_file(path), lazy=True))
    found = described(state)
    if found == BIOMED or not found:
        return found
    quick = f"{found}{QUICK}"
    return OPENAI[quick] if quick in OPENAI and _was_half(state) else f"{FREE}{found}"


def described(state: State) -> str:
    """Return the architecture that tensors are of; "" if it is none that is known.

    Parameters
    ----------
    state : dict of str to tensor
        Under open_clip's names. The activation does not show: where there are two
        variants the plain one is named.
    """
    if "visual.trunk.cls_token" in state:
        return BIOMED if _is_biomed(state) else ""
    wanted = _sizes(state)
    if not wanted:
        return ""
    for arch in sorted(open_clip.list_models(), key=len):
        if _sizes_of(open_clip.get_model_config(arch) or {}) == wanted:
            return str(arch).removesuffix(QUICK)
    return ""


def _is_biomed(state: State) -> bool:
    words = state.get("text.transformer.embeddings.word_embeddings.weight")
    head = state.get("visual.head.proj.weight")
    return (
        words is not None
        and head is not None
        and tuple(words.shape) == (30522, 768)
        and tuple(head.shape) == (BIOMED_MAKE["embed_dim"], 768)
    )


def _sizes(state: State) -> tuple[Any, ...]:
    """Return what tells native architectures apart, of tensors."""
    patches = state.get("visual.conv1.weight")
    places = state.get("visual.positional_embedding")
    words = state.get(
        "token_embedding.weight", state.get("text.token_embedding.weight")
    )
    context = state.get("positional_embedding", state.get("text.positional_embedding"))
    proj = state.get("visual.proj")
    if patches is None or places is None or words is None:
        return ()
    if context is None or proj is None or patches.ndim != 4:
        return ()
    width, _, _, patch = patches.shape
    return (
        proj.shape[1],
        (width, _count(state, r"visual\.transformer\.resblocks\.(\d+)\.")),
        (patch, isqrt(len(places) - 1) * patch),
        (words.shape[1], _count(state, r"(?:text\.)?transformer\.resblocks\.(\d+)\.")),
        (len(words), len(context)),
    )


def _sizes_of(config: dict[str, Any]) -> tuple[Any, ...]:
    """Return the same of a configuration of open_clip; () if it is no plain one."""
    vision, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
    plain = not {"timm_model_name", "block_type", "attentional_pool"} & set(vision)
    if not plain or "hf_model_name" in text or "multimodal_cfg" in config:
        return ()
    if not isinstance(vision.get("layers", 12), int):
        return ()
    patch = vision.get("patch_size", 16)
    return (
        config.get("embed_dim"),
        (vision.get("width", 768), vision.get("layers", 12)),
        (patch, vision.get("image_size", 224) // patch * patch),
        (text.get("width", 512), text.get("layers", 12)),
        (text.get("vocab_size", 49408), text.get("context_length", 77)),
    )


def _count(state: State, pattern: str) -> int:
    numbers = [int(m[1]) for m in (re.match(pattern, key) for key in state) if m]
    return 1 + max(numbers, default=-1)


def _was_half(state: State) -> bool:
    """Whether numbers were of 16 bits once, as those that OpenAI published."""
    some = state["visual.conv1.weight"].flatten()[:4096].float()
    return bool(torch.equal(some.half().float(), some))


def _of_config(folder: Path) -> str:
    """Return the name of the model that a folder describes."""
    config = make_of("", folder).config
    if _same(config, BIOMED_MAKE):
        return BIOMED
    for name, (arch, tag) in PUBLISHED.items():
        if tag == "openai" and _same(config, open_clip.get_model_config(arch)):
            return name
    for arch in sorted(open_clip.list_models(), key=len):
        if _same(config, open_clip.get_model_config(arch)):
            return f"{FREE}{arch}"
    return FREE + (re.sub(r"[^\w.-]+", "_", folder.name).strip("._-") or "own")


def _same(config: dict[str, Any], other: Any) -> bool:
    """Whether two configurations make the same network."""
    return bool(other) and _compared(config) == _compared(other)


def _compared(config: dict[str, Any]) -> str:
    words = json.loads(json.dumps(config))
    for part in ("vision_cfg", "text_cfg"):
        words[part] = {
            k: v
            for k, v in words[part].items()
            if not k.endswith("_pretrained") and v is not None
        }
    words["text_cfg"].pop("hf_tokenizer_name", None)
    name = str(words["text_cfg"].get("hf_model_name", ""))
    if "BiomedBERT" in name or "PubMedBERT" in name:
        # It was renamed by its publisher.
        words["text_cfg"]["hf_model_name"] = "BiomedBERT"
    return json.dumps(words, sort_keys=True)
