"""A CLIP whose weights may change, and the folder that it is published as."""

from __future__ import annotations

import copy
import json
import re
import shutil
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from napari_fewshot.errors import ModelError
from napari_fewshot.models.text_heads._states import replaced

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from napari_fewshot._types import AnyArray

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
PARTS = ("all", "last", "projections")
# Blocks of a tower, by the names of open_clip, timm and transformers.
_BLOCK = re.compile(r"^(.*\b(?:resblocks|blocks|layer))\.(\d+)\.")
# What comes after the blocks: the last norms, and the ways into the common space.
_AFTER = re.compile(
    r"^(visual\.(proj|ln_post|head|trunk\.norm|trunk\.fc_norm)\b"
    r"|(text\.)?(text_projection|ln_final)\b|text\.proj\b)"
)
_PROJECTION = re.compile(
    r"^(visual\.(proj|head)\b|(text\.)?text_projection\b|text\.proj\b)"
)


class TrainableClip:
    """A copy of a CLIP that can be trained; the model itself stays as it is.

    Parameters
    ----------
    model : ClipModel
        From `load_text_model`.
    parts : {"all", "last", "projections"}
        What is trained: everything, the last blocks and what follows them, or only the
        ways into the common space.
    blocks : int
        How many last blocks of both towers, for ``"last"``.

    Attributes
    ----------
    trained : dict of str to Parameter
        What is trained, by name.

    Raises
    ------
    ModelError
        If the model is no CLIP of open_clip, or nothing would be trained.
    """

    def __init__(self, model: Any, parts: str = "all", blocks: int = 2) -> None:
        from napari_fewshot.models.clip import ClipModel

        if not isinstance(model, ClipModel):
            name = getattr(getattr(model, "spec", None), "name", "this model")
            raise ModelError(
                f"{name} can't be fine-tuned on captions: it is no CLIP of open_clip. "
                "Choose one such as biomedclip, or clip/vit_b_16."
            )
        if parts not in PARTS:
            raise ModelError(
                f"There is no part {parts!r} to train. Parts: {', '.join(PARTS)}."
            )
        self.model = model
        self.network: nn.Module = copy.deepcopy(model.network)
        names = [n for n, _ in self.network.named_parameters()]
        chosen = set(trained_names(names, parts, blocks))
        self.trained: dict[str, nn.Parameter] = {}
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name in chosen)
            if name in chosen:
                self.trained[name] = parameter
        if not self.trained:
            raise ModelError(
                f"Nothing of {model.spec.name} would be trained with parts={parts!r}, "
                f"blocks={blocks}. Train more of it."
            )

    def images(self, images: Sequence[AnyArray]) -> Tensor:
        """Return what the tower reads, (B, 3, S, S), of planes (H, W[, C])."""
        return torch.cat([self.model.prepared(image) for image in images])

    def phrases(self, captions: Sequence[str]) -> Tensor:
        """Return tokens (B, L) of captions."""
        tokens: Tensor = self.model._tokens(list(captions))
        config = getattr(getattr(self.network, "text", None), "config", None)
        if config is not None and config.model_type == "bert":
            # Padding is masked; without it the same comes out sooner.
            used = (tokens != config.pad_token_id).any(0).nonzero()
            tokens = tokens[:, : int(used.max()) + 1]
        return tokens.to(self.model.device)

    def embed(self, pixels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return images and captions in the common space, rows of length one."""
        network: Any = self.network
        image = network.encode_image(pixels, normalize=True).float()
        return image, network.encode_text(tokens, normalize=True).float()

    def train(self, *, on: bool) -> None:
        """Let layers that drop features by chance do so, or not."""
        self.network.train(on)

    def take(self, state: dict[str, Tensor]) -> None:
        """Put weights of trained parts in, by name."""
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(state[name])

    def publish(self, folder: Path) -> None:
        """Write the model as a folder in open_clip's layout; the weights come last.

        Parameters
        ----------
        folder : Path
            Is made if it is missing; `load_text_model` reads it as ``checkpoint``.

        Raises
        ------
        StorageError
            If it can't be written.
        """
        make = self.model.make
        facts = {
            "model_cfg": make.config,
            "preprocess_cfg": {
                "mean": list(make.mean),
                "std": list(make.deviation),
                "interpolation": "bicubic",
                "resize_mode": "squash",
            },
        }
        texts = {CONFIG: facts}
        reader = getattr(getattr(self.network, "text", None), "config", None)
        if reader is not None and hasattr(reader, "to_dict"):
            texts["config.json"] = reader.to_dict()
        for name, said in texts.items():
            content = json.dumps(said, indent=1, default=str)
            replaced(folder / name, partial(_write_text, content))
        for source in self.model._tokens.files:
            replaced(folder / source.name, partial(shutil.copy, source))
        state = {
            name: tensor.detach().cpu().contiguous().clone()
            for name, tensor in self.network.state_dict().items()
        }
        replaced(folder / WEIGHTS, lambda path: save_file(state, path))


def _write_text(content: str, path: Path) -> None:
    path.write_text(content, encoding="utf-8")


def trained_names(names: Sequence[str], parts: str, blocks: int) -> list[str]:
    """Return the names of parameters that are trained; see `TrainableClip`.

    The learnt temperature is never among them: the loss has one of its own.
    """
    names = [n for n in names if not n.startswith("logit_")]
    if parts == "all":
        return names
    if parts == "projections":
        return [n for n in names if _PROJECTION.match(n)]
    last: dict[str, int] = {}
    for name in names:
        found = _BLOCK.match(name)
        if found:
            stack, number = found[1], int(found[2])
            last[stack] = max(last.get(stack, 0), number)
    chosen = []
    for name in names:
        found = _BLOCK.match(name)
        is_late = found is not None and int(found[2]) > last[found[1]] - blocks
        if is_late or (found is None and _AFTER.match(name)):
            chosen.append(name)
    return chosen
