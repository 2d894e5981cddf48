"""Networks of timm, and how a map of features comes out of each make."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import timm
import torch
import torch.nn.functional as F
from timm.models import convnext, eva, vision_transformer
from torch import Tensor, nn

from napari_fewshot.errors import ModelError
from napari_fewshot.models.dense._identify import HEAD

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_fewshot.models.dense._frame import Preset
    from napari_fewshot.models.dense._identify import Kind
    from napari_fewshot.models.sam._names import State

    Check = Callable[[int, int], None]

# Pixels per cell of convolutional networks.
STEP = 16


class Network(Protocol):
    """What a model computes with; see `Transformer` and `Convolutional`."""

    module: Any

    def converted(self, state: State) -> State:
        """Return tensors under the names of the module."""

    def __call__(self, x: Tensor, preset: Preset, check: Check | None) -> Tensor:
        """Return features (C, h, w) of an image (1, 3, H, W)."""


class Transformer:
    """A vision transformer without weights.

    Parameters
    ----------
    kind : Kind
        Its make-up.
    qkv_bias : bool
        Whether attention has biases.
    """

    def __init__(self, kind: Kind, *, qkv_bias: bool = True) -> None:
        self.kind = kind
        build = _rotary if kind.family == "dinov3" else partial(_learnt, kind=kind)
        facts = {
            "patch_size": kind.patch,
            "embed_dim": kind.width,
            "num_heads": kind.width // HEAD,
            "mlp_ratio": kind.hidden / kind.width,
            "qkv_bias": qkv_bias,
            "num_classes": 0,
        }
        with torch.device("meta"):
            self.module: Any = build(facts, depth=kind.depth, registers=kind.registers)
        if kind.family == "dinov3":
            # What is computed and not in files.
            one = build(facts, depth=1, registers=kind.registers)
            self.module.rope = one.rope
            for block in self.module.blocks:
                block.attn.k_bias = one.blocks[0].attn.k_bias

    def converted(self, state: State) -> State:
        """Return tensors under timm's names.

        Parameters
        ----------
        state : dict of str to tensor
            Under the publisher's names or timm's.
        """
        own = eva if self.kind.family == "dinov3" else vision_transformer
        state = dict(state)
        if "register_tokens" in state:
            # By this name timm tells Meta's layout, and fine-tuned weights lack it.
            state.setdefault("mask_token", torch.zeros(1))
        found: State = own.checkpoint_filter_fn(state, self.module)
        return found

    def __call__(self, x: Tensor, preset: Preset, check: Check | None) -> Tensor:
        """Return the patch tokens as a map; class and register tokens are left out."""
        module = self.module
        patches = module.patch_embed.proj(x)
        grid = (int(patches.shape[-2]), int(patches.shape[-1]))
        tokens, first = patches.flatten(2).transpose(1, 2), module.cls_token
        more: dict[str, Tensor] = {}
        if module.pos_embed is None:
            more["rope"] = module.rope.get_embed(shape=grid)
        else:
            of_class, of_cells = self._places(grid, preset)
            tokens, first = tokens + of_cells, first + of_class
        extra = [] if module.reg_token is None else [module.reg_token]
        tokens = module.norm_pre(torch.cat([first, *extra, tokens], dim=1))
        for number, block in enumerate(module.blocks):
            if check is not None:
                check(number, len(module.blocks))
            tokens = block(tokens, **more)
        found: Tensor = module.norm(tokens) if preset.normed else tokens
        return found[0, -grid[0] * grid[1] :].T.reshape(-1, *grid)

    def _places(
        self, grid: tuple[int, int], preset: Preset
    ) -> tuple[Tensor | float, Tensor]:
        """Return the position embedding of the class token and of a grid of cells.

        Resized as Meta's DINOv2 and open_clip do: bicubic, with what the preset says.
        """
        table: Tensor = self.module.pos_embed
        of_class: Tensor | float = 0.0
        if not self.module.no_embed_class:
            of_class, table = table[:, :1], table[:, 1:]
        side = self.kind.grid
        if grid == (side, side):
            return of_class, table
        square = table.reshape(1, side, side, -1).permute(0, 3, 1, 2)
        options: dict[str, Any] = {"size": grid}
        if preset.offset:
            options = {"scale_factor": [(n + preset.offset) / side for n in grid]}
        found = F.interpolate(
            square, mode="bicubic", antialias=preset.smooth, **options
        )
        return of_class, found.flatten(2).transpose(1, 2)


class Convolutional:
    """A network of timm with a pyramid of maps, of which one is taken.

    Parameters
    ----------
    name : str
        In timm, e.g. ``"resnet50"``.

    Raises
    ------
    ModelError
        If timm has no such network, or it takes images of one size only.
    """

    def __init__(self, name: str) -> None:
        if not timm.is_model(name):
            raise ModelError(
                f"timm {timm.__version__} has no network {name!r}. Its names: "
                "timm.list_models(); leave out what follows a full stop."
            )
        self.module: Any = timm.create_model(name, pretrained=False, num_classes=0)
        steps = [int(stage["reduction"]) for stage in self.module.feature_info]
        if len(set(steps)) < 2 or hasattr(self.module, "patch_embed"):
            raise ModelError(
                f"{name} is no convolutional network, and its images have one size. "
                "Use dinov2, dinov3 or clip models, or another network of timm."
            )
        self.step = max((s for s in steps if s <= STEP), default=steps[0])
        self.stage = len(steps) - 1 - steps[::-1].index(self.step)

    def converted(self, state: State) -> State:
        """Return tensors under timm's names.

        Parameters
        ----------
        state : dict of str to tensor
            Under timm's names; of ConvNeXt also under Meta's.
        """
        if not isinstance(self.module, convnext.ConvNeXt):
            return state
        found: State = convnext.checkpoint_filter_fn(state, self.module)
        return found

    def __call__(self, x: Tensor, preset: Preset, check: Check | None) -> Tensor:
        """Return the last map with no more than 16 pixels per cell."""
        if check is not None:
            check(0, 1)
        found: Tensor = self.module.forward_intermediates(
            x, indices=[self.stage], stop_early=True, intermediates_only=True
        )[0][0]
        return found


def _learnt(facts: dict[str, Any], kind: Kind, depth: int, registers: int) -> Any:
    """DINOv2 (Oquab et al., 2023) or CLIP's image tower (Radford et al., 2021)."""
    if kind.family == "clip":
        own: dict[str, Any] = {
            "pre_norm": True,
            "norm_layer": partial(nn.LayerNorm, eps=1e-5),
            "act_layer": "quick_gelu",
        }
    else:
        own = {
            "init_values": 1e-5,
            "reg_tokens": registers,
            "no_embed_class": bool(registers),
        }
    return vision_transformer.VisionTransformer(
        img_size=kind.grid * kind.patch,
        depth=depth,
        global_pool="token",
        **facts,
        **own,
    )


def _rotary(facts: dict[str, Any], depth: int, registers: int) -> Any:
    """DINOv3 (Simeoni et al., 2025)."""
    return eva.Eva(
        depth=depth,
        num_reg_tokens=registers,
        init_values=1e-5,
        rope_type="dinov3",
        rope_temperature=100,
        rope_rotate_half=True,
        use_rot_pos_emb=True,
        use_abs_pos_emb=False,
        use_fc_norm=False,
        dynamic_img_size=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-5),
        **facts,
    )
