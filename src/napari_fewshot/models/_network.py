"""The in-context network: a query, supports with masks, and clicks to mask logits.

One convolutional encoder sees every image once, without any mask, so that supports are
encoded once and serve every class. What the masks say reaches the query in two ways:

* **cross-attention** at strides 8 and 16: query positions look up similar support
  positions and read the mask there as an 8 x 8 (16 x 16) patch, so that thin shapes
  survive (after DCAMA, Shi et al. 2022, whose values are single mask pixels);
* **ridge regression** at strides 2, 4 and 8: the linear classifier that separates the
  supports' foreground from their background, in closed form (after Bertinetto et al.
  2019), so that fine texture is told apart at full resolution, at a cost and memory
  that do not grow with the number of supports. Clicks on the query join the same
  regression as labelled pixels.

A light U-Net then merges image, context and prompt channels into logits.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_fewshot.models._blocks import (
    PROMPT_CHANNELS,
    CrossAttention,
    Encoder,
    Merger,
    Moments,
    NetworkConfig,
    Ridge,
)

__all__ = [
    "PROMPT_CHANNELS",
    "Context",
    "Features",
    "InContextNetwork",
    "Moments",
    "NetworkConfig",
    "pick",
    "standardise",
]

STRIDES = (2, 4, 8, 16)
RIDGE_STRIDES = (2, 4, 8)
ATTENTION_STRIDES = (8, 16)


class Features(NamedTuple):
    """Encoded images: feature maps (B, C, H / s, W / s) for s of `STRIDES`."""

    maps: tuple[Tensor, ...]
    ridge: tuple[Tensor, ...]
    keys: tuple[Tensor, ...]


class Context(NamedTuple):
    """What T support sets say about one class.

    Attributes
    ----------
    moments : tuple of Moments
        Per stride of `RIDGE_STRIDES`, (T, ...).
    keys, values : tuple of Tensor
        Per stride of `ATTENTION_STRIDES`, (T, heads, S * positions, depth).
    """

    moments: tuple[Moments, ...]
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


def standardise(images: Tensor) -> Tensor:
    """Give every image (B, 3, H, W) zero mean and unit variance over all channels."""
    x = images.float()
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) / x.std((1, 2, 3), keepdim=True).clamp_min(1e-4)


def pick(features: Features, tasks: int, begin: int, end: int) -> Features:
    """Return images ``begin:end`` of every task of encoded (T * N) images."""

    def part(x: Tensor) -> Tensor:
        split: Tensor = x.unflatten(0, (tasks, -1))
        return split[:, begin:end].flatten(0, 1)

    return Features(*(tuple(part(x) for x in maps) for maps in features))


class InContextNetwork(nn.Module):
    """See the module's text.

    Parameters
    ----------
    config : NetworkConfig, optional
        Sizes.
    """

    def __init__(self, config: NetworkConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or NetworkConfig()
        self.encoder = Encoder(config)
        self.ridges = nn.ModuleList(
            Ridge(config.widths[STRIDES.index(s)], d)
            for s, d in zip(RIDGE_STRIDES, config.ridge, strict=True)
        )
        self.attentions = nn.ModuleList(
            CrossAttention(config.widths[STRIDES.index(s)], s, config)
            for s in ATTENTION_STRIDES
        )
        self.merger = Merger(config)

    @property
    def _regressions(self) -> list[Ridge]:
        return [cast("Ridge", head) for head in self.ridges]

    @property
    def _lookups(self) -> list[CrossAttention]:
        return [cast("CrossAttention", head) for head in self.attentions]

    def encode(self, images: Tensor) -> Features:
        """Encode images (B, 3, H, W) with zero mean and unit variance."""
        maps = self.encoder(images)
        ridge = tuple(
            head.embed(maps[STRIDES.index(s)])
            for s, head in zip(RIDGE_STRIDES, self._regressions, strict=True)
        )
        keys = tuple(
            head.key(maps[STRIDES.index(s)])
            for s, head in zip(ATTENTION_STRIDES, self._lookups, strict=True)
        )
        return Features(maps, ridge, keys)

    def context(self, features: Features, masks: Tensor) -> Context:
        """Join T sets of S encoded supports, (T * S, ...), with masks (T, S, H, W)."""
        tasks, count = masks.shape[:2]
        flat = masks.flatten(0, 1)[:, None]
        moments = []
        for stride, head, x in zip(
            RIDGE_STRIDES, self._regressions, features.ridge, strict=True
        ):
            share = F.avg_pool2d(flat.float(), stride).unflatten(0, (tasks, count))
            share = share.flatten(1)
            x = x.unflatten(0, (tasks, count)).transpose(1, 2).flatten(2)
            moments.append(head.moments(x, share, 1 - share))
        keys, values = [], []
        for lookup, key in zip(self._lookups, features.keys, strict=True):
            keys.append(join_supports(key, tasks))
            values.append(join_supports(lookup.value(flat.to(key.dtype)), tasks))
        return Context(tuple(moments), tuple(keys), tuple(values))

    def decode(
        self,
        features: Features,
        context: Context | None,
        prompts: Tensor,
        use_context: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return logits for T x Q queries.

        Parameters
        ----------
        features : Features
            Of T * Q encoded queries.
        context : Context, optional
            T support sets; None for prompts alone.
        prompts : Tensor (T, Q, 5, H, W)
            See `PROMPT_CHANNELS`.
        use_context : Tensor (T, Q), optional
            0 hides the supports from a query (in training).

        Returns
        -------
        logits : Tensor (T * Q, 1, H, W)
        ridges : tuple of Tensor
            Logits of the regressions, (T * Q, 1, H / s, W / s).
        """
        tasks, count = prompts.shape[:2]
        flat = prompts.flatten(0, 1)
        shown = use_context
        if shown is not None:
            shown = shown.flatten()
        ridges = self._regress(features, context, flat, count, shown)
        seen = []
        for stride, head, key in zip(
            ATTENTION_STRIDES, self._lookups, features.keys, strict=True
        ):
            size = (flat.shape[-2] // stride, flat.shape[-1] // stride)
            if context is None:
                inner = self.config.heads * self.config.depth
                seen.append(key.new_zeros((tasks * count, inner, *size)))
                continue
            number = ATTENTION_STRIDES.index(stride)
            query = key.unflatten(0, (tasks, count)).transpose(1, 2).flatten(2, 3)
            read = head(query, context.keys[number], context.values[number])
            read = read.unflatten(2, (count, -1)).transpose(1, 2).flatten(0, 1)
            read = read.transpose(2, 3).flatten(1, 2).unflatten(2, size)
            if shown is not None:
                read = read * shown[:, None, None, None].to(read)
            seen.append(read)
        return self.merger(features.maps, ridges, tuple(seen), flat), ridges

    def _regress(
        self,
        features: Features,
        context: Context | None,
        prompts: Tensor,
        count: int,
        shown: Tensor | None,
    ) -> tuple[Tensor, ...]:
        clicked = bool((prompts[:, :2] > 0).any())
        found = []
        with torch.autocast(prompts.device.type, enabled=False):
            for number, (stride, head) in enumerate(
                zip(RIDGE_STRIDES, self._regressions, strict=True)
            ):
                x = features.ridge[number]
                clicks = None
                if clicked or context is None:
                    labelled = F.avg_pool2d(prompts[:, :2].float(), stride).flatten(2)
                    clicks = head.moments(x.flatten(2), labelled[:, 0], labelled[:, 1])
                if context is None and clicks is not None:
                    support = Moments(*(torch.zeros_like(part) for part in clicks))
                elif context is not None:
                    support = Moments(
                        *(
                            p.repeat_interleave(count, 0)
                            for p in context.moments[number]
                        )
                    )
                    if shown is not None:
                        keep = shown[:, None].to(support.weight)
                        support = support._replace(weight=support.weight * keep)
                found.append(head.score(x, head.solve(support, clicks)))
        return tuple(found)


def join_supports(tokens: Tensor, tasks: int) -> Tensor:
    """(T * S, heads, N, depth) to (T, heads, S * N, depth)."""
    split: Tensor = tokens.unflatten(0, (tasks, -1))
    return split.transpose(1, 2).flatten(2, 3)
