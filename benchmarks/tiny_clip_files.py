"""Files of the tiny models of the CLIP kind, in the layouts of publishers.

`pack_models` writes the weights of both into a small file, `tests/data/tiny_clip.npz`;
`unpack_model` makes of it a folder as open_clip's ``local-dir`` reads it: its
configuration, safetensors, and a tokenizer.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

# Numbers are kept as whole ones up to here, with a scale per row.
LEVELS = 127
PREPROCESS = {
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "interpolation": "bicubic",
    "resize_mode": "squash",
}
# Words are read up to here, in signs of the tokenizer.
CONTEXT = 40
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[MASK]")
NATIVE: dict[str, Any] = {
    "embed_dim": 96,
    "vision_cfg": {
        "image_size": 128,
        "patch_size": 8,
        "layers": 8,
        "width": 96,
        "head_width": 32,
        "mlp_ratio": 2.0,
    },
    "text_cfg": {
        "context_length": CONTEXT,
        "hf_tokenizer_name": "tiny-words",
        "width": 96,
        "heads": 3,
        "layers": 3,
        "mlp_ratio": 2.0,
    },
}
TIMM: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {
        "timm_model_name": "test_vit",
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": 160,
    },
    "text_cfg": {
        "hf_model_name": "tiny-bert",
        "hf_tokenizer_name": "tiny-bert",
        "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler",
        "context_length": CONTEXT,
    },
}
BERT = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": CONTEXT,
    "type_vocab_size": 1,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "pad_token_id": 0,
}
CONFIGS = {"native": NATIVE, "timm": TIMM}


def full_vocabulary(words: Sequence[str]) -> list[str]:
    """Return all signs of the tokenizer; the end is the last, where CLIP pools."""
    return [*SPECIAL, *words, "[SEP]"]


def write_tokenizer(folder: Path, words: Sequence[str]) -> None:
    """Write a tokenizer that knows some words, and spells all others."""
    from transformers import BertTokenizerFast

    numbers = {word: n for n, word in enumerate(full_vocabulary(words))}
    tokenizer = BertTokenizerFast(vocab=numbers, do_lower_case=True)
    tokenizer.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(numbers) + "\n", "utf-8")


def write_config(folder: Path, kind: str, words: Sequence[str]) -> dict[str, Any]:
    """Write what a model of a kind is made of, and return it."""
    config = json.loads(json.dumps(CONFIGS[kind]))
    size = len(full_vocabulary(words))
    if kind == "native":
        config["text_cfg"]["vocab_size"] = size
    else:
        bert = json.dumps(BERT | {"vocab_size": size}, indent=1)
        (folder / "config.json").write_text(bert, "utf-8")
        # open_clip finds the BERT's configuration here.
        config["text_cfg"]["hf_model_name"] = str(folder)
        config["text_cfg"]["hf_model_pretrained"] = False
    text = {"model_cfg": config, "preprocess_cfg": PREPROCESS}
    place = folder / "open_clip_config.json"
    place.write_text(json.dumps(text, indent=1), "utf-8")
    return config


def build(
    kind: str, folder: Path, words: Sequence[str]
) -> tuple[Any, Any, dict[str, Any]]:
    """Return a model with random weights, its tokenizer, and how it reads images."""
    import open_clip

    config = write_config(folder, kind, words)
    name = f"local-dir:{folder}"
    logging.disable(logging.CRITICAL)
    try:
        model = open_clip.create_model(name, load_weights=False, pretrained_text=False)
        tokenizer = open_clip.get_tokenizer(name)
    finally:
        logging.disable(logging.NOTSET)
    size = config["vision_cfg"]["image_size"]
    return model, tokenizer, PREPROCESS | {"size": size}


def pack_models(
    states: Mapping[str, Mapping[str, Tensor]],
    words: Sequence[str],
    path: Path,
) -> None:
    """Write the weights of all kinds and the words of their tokenizer."""
    arrays: dict[str, np.ndarray] = {"words": np.array(list(words))}
    for kind, state in states.items():
        for key, tensor in state.items():
            name, values = f"{kind}/{key}", tensor.detach().cpu().numpy()
            if values.ndim < 2 or values.dtype != np.float32:
                arrays[name] = values
                continue
            rows = values.reshape(len(values), -1)
            scale = np.maximum(np.abs(rows).max(1), 1e-12) / LEVELS
            levels = np.rint(rows / scale[:, None]).astype(np.int8)
            arrays[name] = levels.reshape(values.shape)
            arrays[f"{name}|scale"] = scale.astype(np.float32)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez_compressed(file, **arrays)
    part.replace(path)


def unpack_model(path: Path, kind: str, folder: Path) -> Path:
    """Make a folder of a model that open_clip's ``local-dir`` reads; return it."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = {}
    with np.load(path) as packed:
        words = [str(w) for w in packed["words"]]
        for name in packed.files:
            if not name.startswith(kind + "/") or name.endswith("|scale"):
                continue
            values = packed[name]
            if f"{name}|scale" in packed.files:
                scale = packed[f"{name}|scale"]
                values = values * scale.reshape(-1, *[1] * (values.ndim - 1))
                values = values.astype(np.float32)
            state[name.split("/", 1)[1]] = torch.from_numpy(
                np.ascontiguousarray(values)
            )
    write_tokenizer(folder, words)
    write_config(folder, kind, words)
    save_file(state, folder / "open_clip_model.safetensors")
    return folder
