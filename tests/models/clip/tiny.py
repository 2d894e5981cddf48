"""Tiny models of the CLIP kind with random weights, in the layouts of publishers.

``write_native(folder)`` writes one of open_clip's own make, ``write_biomed(folder)``
one as BiomedCLIP: a ViT of timm and a BERT with its tokenizer. Both give the folder
back, which `load_text_model("biomedclip", folder)` reads; seeds make them equal.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
from typing import TYPE_CHECKING, Any

import open_clip
import torch
from safetensors.torch import save_file

if TYPE_CHECKING:
    from pathlib import Path

MEAN = [0.48145466, 0.4578275, 0.40821073]
DEVIATION = [0.26862954, 0.26130258, 0.27577711]
WORDS = """
    a an the of in with and photo image picture background bright dark round blob disc
    cell nucleus tumor tumour lesion lung brain breast polyp vessel skin bone stripe
    square red green blue noise chest x ray ultrasound microscopy
"""
VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *[chr(c) for c in range(33, 127) if not chr(c).isupper()],
    *[f"##{chr(c)}" for c in range(97, 123)],
    *[w for w in WORDS.split() if len(w) > 1],
]
BERT = {
    "model_type": "bert",
    "vocab_size": len(VOCABULARY),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}


def native_config(**vision: Any) -> dict[str, Any]:
    """Return the make-up of a tiny CLIP: 64 pixels, 4 x 4 patches, 12 blocks.

    Parameters
    ----------
    **vision
        What is otherwise in its ``vision_cfg``, or ``embed_dim``, ``text`` (a
        dictionary), ``quick_gelu``.
    """
    text = {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 32,
        "heads": 2,
        "layers": 2,
        **vision.pop("text", {}),
    }
    config = {"embed_dim": vision.pop("embed_dim", 24), "text_cfg": text}
    for key in ("quick_gelu", "custom_text"):
        if key in vision:
            config[key] = vision.pop(key)
    config["vision_cfg"] = {
        "image_size": 64,
        "layers": 12,
        "width": 64,
        "patch_size": 16,
        "head_width": 16,
        **vision,
    }
    return config


def biomed_config(trunk: str = "test_vit", **vision: Any) -> dict[str, Any]:
    """Return the make-up of a tiny BiomedCLIP: 160 pixels, 10 x 10 patches, 6 blocks.

    Parameters
    ----------
    trunk : str
        Network of timm; ``test_vit2`` pools by mean, ``test_vit3`` by attention.
    **vision
        What is otherwise in its ``vision_cfg``.
    """
    return {
        "embed_dim": 24,
        "vision_cfg": {
            "timm_model_name": trunk,
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": 160,
            **vision,
        },
        "text_cfg": {
            "hf_model_name": "somebody/tiny-bert-of-medicine",
            "hf_tokenizer_name": "somebody/tiny-bert-of-medicine",
            "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler",
            "context_length": 32,
        },
    }


def build(folder: Path, seed: int = 0) -> torch.nn.Module:
    """Return the model of a folder as open_clip makes it, with random weights.

    Parameters
    ----------
    folder : Path
        With ``open_clip_config.json``; of a BERT also ``config.json``.
    seed : int
        Of the weights.
    """
    config = json.loads((folder / "open_clip_config.json").read_text())
    text = config["model_cfg"]["text_cfg"]
    if "hf_model_name" in text:
        text["hf_model_name"] = str(folder)
    place = folder / "for_open_clip"
    place.mkdir(exist_ok=True)
    (place / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(seed)
    logging.disable(logging.CRITICAL)
    try:
        model = open_clip.create_model(
            f"local-dir:{place}", load_weights=False, pretrained_text=False
        )
    finally:
        logging.disable(logging.NOTSET)
    (place / "open_clip_config.json").unlink()
    place.rmdir()
    for name, tensor in model.named_parameters():
        # Numbers that matter everywhere, also where networks start with 0 or 1.
        if tensor.ndim < 2 and "logit" not in name:
            with torch.no_grad():
                tensor.add_(0.1 * torch.randn_like(tensor))
    return model.eval()


def write_native(
    folder: Path, seed: int = 0, *, safe: bool = False, **vision: Any
) -> Path:
    """Write a tiny CLIP of open_clip's own make.

    Parameters
    ----------
    folder : Path
        Is made.
    seed : int
        Of the weights.
    safe : bool
        Whether as safetensors.
    **vision
        See `native_config`.
    """
    return _written(folder, native_config(**vision), seed, safe=safe)


def write_biomed(
    folder: Path,
    seed: int = 0,
    trunk: str = "test_vit",
    *,
    safe: bool = False,
    **vision: Any,
) -> Path:
    """Write a tiny BiomedCLIP.

    Parameters
    ----------
    folder : Path
        Is made.
    seed : int
        Of the weights.
    trunk : str
        See `biomed_config`.
    safe : bool
        Whether as safetensors.
    **vision
        See `biomed_config`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder)
    (folder / "config.json").write_text(json.dumps(BERT))
    return _written(folder, biomed_config(trunk, **vision), seed, safe=safe)


def write_tokenizer(folder: Path) -> None:
    """Write the files of a BERT's tokenizer with few words.

    Parameters
    ----------
    folder : Path
        That exists.
    """
    from transformers import BertTokenizerFast

    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    numbers = {word: number for number, word in enumerate(VOCABULARY)}
    BertTokenizerFast(vocab=numbers, do_lower_case=True).save_pretrained(folder)


def port(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename a BiomedCLIP to the layout in which MedCLIP-SAM publishes weights.

    Parameters
    ----------
    state : dict of str to tensor
        Under open_clip's names.
    """
    renames = (
        (r"^visual\.trunk\.blocks\.", "vision_model.encoder.layers."),
        (r"\.norm([12])\.", r".layer_norm\1."),
        (r"\.attn\.proj\.", ".self_attn.out_proj."),
        (r"^visual\.trunk\.norm\.", "vision_model.post_layernorm."),
        (r"^visual\.trunk\.cls_token$", "vision_model.embeddings.class_embedding"),
        (
            r"^visual\.trunk\.pos_embed$",
            "vision_model.embeddings.position_embedding.weight",
        ),
        (
            r"^visual\.trunk\.patch_embed\.proj\.",
            "vision_model.embeddings.patch_embedding.",
        ),
        (r"^visual\.head\.proj\.", "visual_projection."),
        (r"^text\.proj\.0\.", "text_projection.fc1."),
        (r"^text\.proj\.2\.", "text_projection.fc2."),
        (r"^text\.transformer\.", "text_model."),
    )
    found = {}
    for key, tensor in state.items():
        name = key
        for pattern, new in renames:
            name = re.sub(pattern, new, name)
        if ".attn.qkv." in name:
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                found[name.replace(".attn.qkv.", f".self_attn.{part}_proj.")] = piece
        elif "class_embedding" in name or "position_embedding.weight" in name:
            found[name] = tensor.squeeze()
        else:
            found[name] = tensor
    found["vision_model.embeddings.position_ids"] = torch.arange(101)[None]
    found["text_model.embeddings.position_ids"] = torch.arange(64)[None]
    return found


def _written(folder: Path, config: dict[str, Any], seed: int, *, safe: bool) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"mean": MEAN, "std": DEVIATION, "interpolation": "bicubic"}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": facts})
    )
    state = build(folder, seed).state_dict()
    with contextlib.suppress(KeyError):
        del state["text.transformer.embeddings.position_ids"]
    if safe:
        save_file(
            {k: v.contiguous() for k, v in state.items()},
            folder / "open_clip_model.safetensors",
        )
    else:
        torch.save(state, folder / "open_clip_pytorch_model.bin")
    return folder
