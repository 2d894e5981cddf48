"""Attention with decomposed relative positions, a portion of it at a time.

Nothing of size tokens x tokens is held for all heads: what the row and what the column
of a key add is summed for a few queries, in one piece of memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

# Elements of the bias of global attention that are held at a time.
BIAS_ELEMENTS = 16 * 2**20
# Weights of attention that stay in the cache of a processor.
CACHE_ELEMENTS = 2**20


def by_kernel(q: Tensor, k: Tensor, v: Tensor, by_h: Tensor, by_w: Tensor) -> Tensor:
    """Attend with torch's fused kernel and the relative positions as its bias.

    Parameters
    ----------
    q, k, v : tensor (N, heads, H W, C)
        Of the whole grid.
    by_h, by_w : tensor (N, heads, H, W, H or W)
        What the row and the column of a key add for every query.

    Returns
    -------
    tensor (N, heads, H W, C)
    """
    count, every, rows, columns, _ = by_h.shape
    heads, step = portion(count, every, rows, columns, BIAS_ELEMENTS)
    # One piece of memory for all portions: fresh pages cost more than the sum.
    bias = q.new_empty(count, heads, step, columns, rows, columns)
    found = torch.empty_like(q)
    for part, near in portions(every, rows, heads, step):
        here = bias[:, :, : near.stop - near.start]
        torch.add(
            by_h[:, part, near, :, :, None], by_w[:, part, near, :, None, :], out=here
        )
        queries = slice(near.start * columns, near.stop * columns)
        found[:, part, queries] = F.scaled_dot_product_attention(
            q[:, part, queries],
            k[:, part],
            v[:, part],
            attn_mask=here.flatten(4).flatten(2, 3),
        )
    return found


def by_products(q: Tensor, k: Tensor, v: Tensor, by_h: Tensor, by_w: Tensor) -> Tensor:
    """Attend with plain products, a portion that fits the processor's cache at a time.

    As `by_kernel`, with weights of the precision of ``q`` instead of fp32.
    """
    count, every, rows, columns, _ = by_h.shape
    heads, step = portion(count, every, rows, columns, CACHE_ELEMENTS)
    keys = (k * k.shape[-1] ** -0.5).transpose(2, 3).contiguous()
    held = q.new_empty(count, heads, step, columns, rows, columns)
    found = torch.empty_like(q)
    for part, near in portions(every, rows, heads, step):
        bias = held[:, :, : near.stop - near.start]
        torch.add(
            by_h[:, part, near, :, :, None], by_w[:, part, near, :, None, :], out=bias
        )
        queries = slice(near.start * columns, near.stop * columns)
        weights = bias.view(-1, bias[0, 0, :, :, 0, 0].numel(), rows * columns)
        weights.baddbmm_(q[:, part, queries].flatten(0, 1), keys[:, part].flatten(0, 1))
        values = weights.softmax(-1) @ v[:, part].flatten(0, 1)
        found[:, part, queries] = values.unflatten(0, (count, heads))
    return found


def portion(
    count: int, heads: int, rows: int, columns: int, most: int
) -> tuple[int, int]:
    """Return how many heads and rows of queries are looked at together.

    Parameters
    ----------
    count, heads, rows, columns : int
        Of all.
    most : int
        Weights of attention that may be held.
    """
    whole = count * (rows * columns) ** 2
    together = min(heads, max(1, most // whole))
    return together, max(1, min(rows, most * rows // (together * whole)))


def portions(
    heads: int, rows: int, together: int, step: int
) -> Iterator[tuple[slice, slice]]:
    """Return heads and rows of queries, portion by portion."""
    # A buffer is of one size: heads that are left over are looked at again.
    starts = [min(h, heads - together) for h in range(0, heads, together)]
    for first in starts:
        for top in range(0, rows, step):
            bottom = min(top + step, rows)
            yield slice(first, first + together), slice(top, bottom)
