"""Which encoder a weights file is for: by its names and shapes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_fewshot.errors import WeightsError
from napari_fewshot.models.dense._names import plain_names
from napari_fewshot.models.sam._files import read_state

if TYPE_CHECKING:
    from napari_fewshot.models.sam._names import State

# Width and number of blocks of the published sizes.
SIZES = {(384, 12): "s", (768, 12): "b", (1024, 24): "l"}
# Columns of one head, in all of them.
HEAD = 64
CLIP = "visual."
# Names of the registers: in timm, in Meta's DINOv2 and in Meta's DINOv3.
REGISTERS = ("reg_token", "register_tokens", "storage_tokens")


@dataclass(frozen=True)
class Kind:
    """Make-up of a vision transformer.

    Attributes
    ----------
    family : str
        ``"dinov2"``, ``"dinov3"`` or ``"clip"``.
    width, depth, hidden : int
        Channels, number of blocks, channels within the perceptron of a block.
    patch : int
        Side of a patch in pixels.
    registers : int
        Tokens besides the class token.
    grid : int
        Rows and columns of the learnt position embedding; 0: it is computed.
    """

    family: str
    width: int
    depth: int
    hidden: int
    patch: int
    registers: int
    grid: int

    @property
    def form(self) -> str:
        """Name of the model without its size, e.g. ``"dinov2/vit?14_reg4"``."""
        if self.family == "clip":
            return f"clip/vit_?_{self.patch}"
        more = "_reg4" if self.family == "dinov2" and self.registers else ""
        return f"{self.family}/vit?{self.patch}{more}"

    @property
    def name(self) -> str:
        """Name of the model; "" where the size is none that was published."""
        size = SIZES.get((self.width, self.depth))
        return self.form.replace("?", size) if size else ""

    def is_size_of(self, name: str) -> bool:
        """Whether a model is of this form, whatever its size.

        Parameters
        ----------
        name : str
            Of the model.
        """
        return name in {self.form.replace("?", size) for size in SIZES.values()}


def identify(path: Any) -> str:
    """Return the name of the model that a file holds weights of.

    Parameters
    ----------
    path : path
        File, or folder in Hugging Face's layout.

    Returns
    -------
    str
        "" if it is none of DINOv2, DINOv3 and CLIP.

    Raises
    ------
    WeightsError
        If it can't be read, or is of a size that was not published.
    """
    file = weights_file(path)
    found = kind(plain_names(read_state(file, lazy=True)), file.name)
    if found is not None and not found.name:
        raise WeightsError(
            f"{file.name} holds weights of {found.form} with {found.width} channels "
            f"and {found.depth} blocks, which is no published size. Say which model "
            "with model=."
        )
    return "" if found is None else found.name


def weights_file(path: Any) -> Path:
    """Return the file of weights: the path itself, or the only one in a folder.

    Parameters
    ----------
    path : path
        File, or folder with one safetensors file, or with one ``.bin`` of torch.

    Raises
    ------
    WeightsError
        If a folder has none or several.
    """
    file = Path(path)
    if not file.is_dir():
        return file
    inside = sorted(file.glob("*.safetensors")) or sorted(file.glob("*.bin"))
    if len(inside) != 1:
        raise WeightsError(
            f"The folder {file.name} holds {len(inside)} safetensors files, and one is "
            "needed. Give the path of the weights file itself."
        )
    return inside[0]


def kind(state: State, name: str) -> Kind | None:
    """Return the make-up of the network that tensors are for; None if none of ours.

    Parameters
    ----------
    state : dict of str to tensor
        Under the publisher's names.
    name : str
        Of the file, for messages.

    Raises
    ------
    WeightsError
        If it is a variant that is not loaded here.
    """
    make = _clip(state) if f"{CLIP}class_embedding" in state else _dino(state, name)
    if make is not None and make.width % HEAD:
        raise WeightsError(
            f"{name} has {make.width} channels, which are no heads of {HEAD}; such a "
            f"{make.family} is not supported. Choose another file."
        )
    return make


def _dino(state: State, name: str) -> Kind | None:
    is_dino = {"cls_token", "patch_embed.proj.weight"} <= set(state) and any(
        f"blocks.0.{scale}" in state for scale in ("ls1.gamma", "gamma_1")
    )
    if not is_dino:
        return None
    if "blocks.0.mlp.fc1.weight" not in state:
        raise WeightsError(
            f"{name} holds a DINO with gated perceptrons (the giant, huge and plus "
            "sizes), which is not supported; use one of the sizes s, b or l."
        )
    places = state.get("pos_embed")
    tokens = [state.get(key) for key in REGISTERS]
    width, _, _, patch = state["patch_embed.proj.weight"].shape
    count = 0 if places is None else places.shape[1] - ("reg_token" not in state)
    return Kind(
        family="dinov3" if places is None else "dinov2",
        width=width,
        depth=_count(state, r"blocks\.(\d+)\."),
        hidden=len(state["blocks.0.mlp.fc1.weight"]),
        patch=patch,
        registers=sum(t.shape[1] for t in tokens if t is not None),
        grid=isqrt(count),
    )


def _clip(state: State) -> Kind:
    width, _, _, patch = state[f"{CLIP}conv1.weight"].shape
    block = f"{CLIP}transformer.resblocks."
    return Kind(
        family="clip",
        width=width,
        depth=_count(state, rf"{re.escape(block)}(\d+)\."),
        hidden=len(state[f"{block}0.mlp.c_fc.weight"]),
        patch=patch,
        registers=0,
        grid=isqrt(len(state[f"{CLIP}positional_embedding"]) - 1),
    )


def _count(state: State, pattern: str) -> int:
    """Return the number of blocks."""
    numbers = [int(m[1]) for m in (re.match(pattern, key) for key in state) if m]
    return 1 + max(numbers)
