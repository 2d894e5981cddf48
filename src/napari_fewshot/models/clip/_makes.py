"""Which architecture a name or a folder stands for, and the network without weights."""

from __future__ import annotations

import copy
import difflib
import json
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import open_clip
import timm
import torch
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.pretrained import get_pretrained_cfg

from napari_fewshot.errors import ModelError, WeightsError
from napari_fewshot.models.dense._frame import OPENAI

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from napari_fewshot.models.sam._names import State

CONFIG = "open_clip_config.json"
FREE = "open_clip/"
BIOMED = "biomedclip"
# Names -> open_clip's architecture and the weights that are meant.
PUBLISHED = {
    "clip/vit_b_16": ("ViT-B-16-quickgelu", "openai"),
    "clip/vit_b_32": ("ViT-B-32-quickgelu", "openai"),
    "clip/vit_l_14": ("ViT-L-14-quickgelu", "openai"),
    "clip/laion_vit_b_16": ("ViT-B-16", "laion2b_s34b_b88k"),
    "clip/laion_vit_b_32": ("ViT-B-32", "laion2b_s34b_b79k"),
    "clip/laion_vit_l_14": ("ViT-L-14", "laion2b_s32b_b82k"),
}
# The published facts about BiomedCLIP (Zhang et al., NEJM AI 2025).
BIOMED_BERT = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
BIOMED_MAKE = {
    "embed_dim": 512,
    "vision_cfg": {
        "timm_model_name": "vit_base_patch16_224",
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": 224,
    },
    "text_cfg": {
        "hf_model_name": BIOMED_BERT,
        "hf_tokenizer_name": BIOMED_BERT,
        "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler",
        "context_length": 256,
    },
}
# Columns of one head of a BERT, in all published sizes.
HEAD = 64


@dataclass(frozen=True)
class Make:
    """How a model is built and how it sees.

    Attributes
    ----------
    name : str
        Of the architecture, for messages.
    config : dict
        What open_clip builds it from.
    mean, deviation : three floats
        Of values in [0, 1].
    """

    name: str
    config: dict[str, Any] = field(repr=False)
    mean: tuple[float, ...] = OPENAI[0]
    deviation: tuple[float, ...] = OPENAI[1]

    @property
    def text(self) -> dict[str, Any]:
        """What the text tower is built from."""
        found: dict[str, Any] = self.config["text_cfg"]
        return found


def make_of(name: str, folder: Path | None) -> Make:
    """Return the make-up of a model.

    Parameters
    ----------
    name : str
        Of the model.
    folder : Path, optional
        Where ``open_clip_config.json`` may be; it then counts, whatever the name.

    Raises
    ------
    WeightsError
        If that file says nothing that makes a model.
    ModelError
        If there is no such architecture.
    """
    if folder is not None and (folder / CONFIG).is_file():
        return _described(folder)
    if name == BIOMED:
        return Make("BiomedCLIP", copy.deepcopy(BIOMED_MAKE))
    arch, tag = PUBLISHED.get(name, (name.removeprefix(FREE), ""))
    listed = open_clip.list_models()
    if arch not in listed:
        near = difflib.get_close_matches(arch, listed, 1, cutoff=0.0)[0]
        raise ModelError(
            f"open_clip has no architecture {arch!r}; did you mean {FREE}{near}? For "
            f"one of your own give a folder with {CONFIG} as the checkpoint."
        )
    facts = get_pretrained_cfg(arch, tag) if tag else _usual(arch)
    mean, deviation = facts.get("mean", OPENAI[0]), facts.get("std", OPENAI[1])
    return Make(arch, open_clip.get_model_config(arch), tuple(mean), tuple(deviation))


def _usual(arch: str) -> dict[str, Any]:
    """Return how the weights that were published of an architecture see, if all alike.

    The weights themselves do not tell: what is not published otherwise is as OpenAI's.
    """
    tags = open_clip.list_pretrained_tags_by_model(arch)
    ways = [get_pretrained_cfg(arch, tag) for tag in tags]
    alike = {(w.get("mean"), w.get("std")) for w in ways}
    return dict(ways[0]) if len(alike) == 1 else {}


def _described(folder: Path) -> Make:
    """Return what a folder's own file says."""
    broken = (
        f"{CONFIG} in {folder.name} does not describe a model ({{}}). Copy the file "
        "of the publisher again."
    )
    try:
        found = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        config, facts = found["model_cfg"], found.get("preprocess_cfg") or {}
        parts = (
            config["embed_dim"],
            dict(config["vision_cfg"]),
            dict(config["text_cfg"]),
        )
        mean = tuple(float(x) for x in facts.get("mean") or OPENAI[0])
        deviation = tuple(float(x) for x in facts.get("std") or OPENAI[1])
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise WeightsError(broken.format(repr(error))) from error
    if not (isinstance(parts[0], int) and len(mean) == len(deviation) == 3):
        raise WeightsError(broken.format("embed_dim, or not three of mean and std"))
    if min(deviation) <= 0:
        raise WeightsError(broken.format("std is not positive"))
    return Make(folder.name, config, mean, deviation)


def build(make: Make, folder: Path | None, state: State) -> nn.Module:
    """Return the network of a make, its weights still missing.

    Nothing is fetched: what a configuration wants from elsewhere comes from the folder
    or is told by the tensors.

    Parameters
    ----------
    make : Make
        Of the model.
    folder : Path, optional
        Where ``config.json`` of a text tower of transformers may be.
    state : dict of str to tensor
        The weights; they tell the size of a BERT.

    Raises
    ------
    WeightsError
        If the configuration makes no network.
    ModelError
        If it is of a kind that is not supported.
    """
    config = copy.deepcopy(make.config)
    if "multimodal_cfg" in config:
        raise ModelError(
            f"{make.name} is a CoCa, whose patches can't be compared with words. "
            "Choose a CLIP or SigLIP with a ViT."
        )
    vision, text = config["vision_cfg"], config["text_cfg"]
    trunk = vision.get("timm_model_name")
    if trunk:
        if ":" in str(trunk) or not timm.is_model(trunk):
            raise ModelError(
                f"{make.name} wants the network {trunk!r} of timm, which timm "
                f"{timm.__version__} does not have. Update timm."
            )
        vision["timm_model_pretrained"] = False
    is_hugging = bool(text.get("hf_model_name"))
    is_custom = config.pop("custom_text", False) or is_hugging
    with tempfile.TemporaryDirectory() as place:
        if is_hugging:
            _write_reader(make, folder, state, Path(place))
            text |= {"hf_model_name": place, "hf_model_pretrained": False}

        def network() -> nn.Module:
            made: nn.Module = (CustomTextCLIP if is_custom else CLIP)(**config)
            return made

        try:
            with warnings.catch_warnings():
                # Of torch about odd sizes; what makes no network is said below.
                warnings.simplefilter("ignore")
                return _weightless(network)
        except (
            TypeError,
            ValueError,
            AssertionError,
            LookupError,
            AttributeError,
            ArithmeticError,
            RuntimeError,
            OSError,
        ) as error:
            said = str(error).partition("\n")[0][:200]
            raise WeightsError(
                f"The configuration of {make.name} makes no model ({said}). Copy the "
                "files of the publisher again."
            ) from error


def _weightless(network: Callable[[], nn.Module]) -> nn.Module:
    """Build a network on "meta", except for what no weights file holds."""
    with torch.device("meta"):
        module = network()
    saved = set(module.state_dict())
    for name, buffer in list(module.named_buffers()):
        if name in saved:
            continue
        owner, _, leaf = name.rpartition(".")
        part: Any = module.get_submodule(owner)
        if leaf == "attn_mask":
            made = torch.full(buffer.shape, float("-inf")).triu_(1)
        elif leaf == "position_ids":
            made = torch.arange(buffer.shape[-1]).expand(buffer.shape).clone()
        elif leaf == "token_type_ids":
            made = torch.zeros(buffer.shape, dtype=torch.long)
        else:
            return network()
        part.register_buffer(leaf, made, persistent=False)
    return module


def _write_reader(make: Make, folder: Path | None, state: State, place: Path) -> None:
    """Write the configuration of a text tower of transformers.

    Raises
    ------
    WeightsError
        If there is none and the tensors are not those of a BERT.
    """
    found = _own_reader(folder)
    wanted = str(make.text["hf_model_name"])
    if found is None and "roberta" not in wanted.lower():
        found = _bert(state)
    if found is None:
        raise WeightsError(
            f"The text tower of {make.name} is {wanted}. Put its config.json beside "
            "the weights and give the folder."
        )
    (place / "config.json").write_text(json.dumps(found), encoding="utf-8")


def _own_reader(folder: Path | None) -> dict[str, Any] | None:
    """Return the configuration in a folder, if it is of a text tower."""
    from open_clip.hf_configs import arch_dict

    if folder is None or not (folder / "config.json").is_file():
        return None
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or found.get("model_type") not in arch_dict:
        return None
    # Code of others is never run.
    return {k: v for k, v in found.items() if k not in ("auto_map", "_name_or_path")}


def _bert(state: State) -> dict[str, Any] | None:
    """Return the configuration of the BERT that tensors are of."""
    start = "text.transformer."
    words = state.get(f"{start}embeddings.word_embeddings.weight")
    places = state.get(f"{start}embeddings.position_embeddings.weight")
    kinds = state.get(f"{start}embeddings.token_type_embeddings.weight")
    middle = state.get(f"{start}encoder.layer.0.intermediate.dense.weight")
    if words is None or places is None or kinds is None or middle is None:
        return None
    if words.shape[1] % HEAD:
        return None
    layers = {k.split(".")[4] for k in state if k.startswith(f"{start}encoder.layer.")}
    return {
        "model_type": "bert",
        "vocab_size": len(words),
        "hidden_size": words.shape[1],
        "num_hidden_layers": len(layers),
        "num_attention_heads": words.shape[1] // HEAD,
        "intermediate_size": len(middle),
        "max_position_embeddings": len(places),
        "type_vocab_size": len(kinds),
        "pad_token_id": 0,
    }
