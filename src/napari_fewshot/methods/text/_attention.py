"""Patches in the space of words: what the last blocks of an image tower are made to do.

A tower was trained so that its pooled token fits a caption; what single patches become
after its last block is mixed up. The variants here let a patch gather from patches that
are like itself, and leave out what only the pooled token needs. With queries, keys and
values q, k, v of the last block, d columns of a head, s(a, b) = softmax(a b' / sqrt d):

========== ================= ======== ========== ======================================
variant    attention         residual perceptron source
========== ================= ======== ========== ======================================
vanilla    s(q, k)           yes      yes        the tower as it is
maskclip   v alone           no       no         Zhou et al., ECCV 2022
clearclip  s(q, q)           no       no         Lan et al., ECCV 2024
sclip      s(q, q) + s(k, k) yes      yes        Wang et al., ECCV 2024
surgery    s(v, v)           sums     no         Li et al., 2023; last six blocks
proxy      of another model  no       no         Lan et al. (ProxyCLIP), ECCV 2024
========== ================= ======== ========== ======================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from napari_fewshot.models._text_protocols import Tower

VARIANTS = ("vanilla", "maskclip", "clearclip", "sclip")
# Blocks of which `surgery` takes a second path.
DUAL = 6


def last_block(tower: Tower, tokens: Tensor, variant: str) -> Tensor:
    """Return tokens (N, T, D) after the last block, done another way.

    Parameters
    ----------
    tower : Tower
        Of images.
    tokens : tensor (N, T, D)
        What the last block reads.
    variant : str
        One of `VARIANTS`; see the module.
    """
    block = tower.depth - 1
    if variant == "vanilla":
        return tower.run(tokens, block, tower.depth)
    q, k, v = tower.qkv(tokens, block)
    if variant == "maskclip":
        return tower.merged(v, block)
    if variant == "clearclip":
        return tower.merged(mixing(q, q) @ v, block)
    x = tokens + tower.merged((mixing(q, q) + mixing(k, k)) @ v, block)
    return x + tower.perceptron(tower.normed(x, block), block)


def mixing(queries: Tensor, keys: Tensor) -> Tensor:
    """Return attention (..., T, T): softmax of products over the root of their length.

    Parameters
    ----------
    queries, keys : tensor (..., T, d)
        Of one head each.
    """
    scaled = queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5
    found: Tensor = scaled.softmax(-1)
    return found


def dual_path(tower: Tower, tokens: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """Return tokens of the second path of CLIP Surgery, and those of the tower itself.

    The second path begins with what block ``first`` reads and adds up, block by block,
    what attention of values to values makes of the tower's own tokens. It takes no
    perceptron.

    Parameters
    ----------
    tower : Tower
        Of images.
    tokens : tensor (N, T, D)
        What block ``first`` reads.
    first : int
        Where the paths part.

    Returns
    -------
    second, own : tensor (N, T, D)
    """
    second = own = tokens
    for block in range(first, tower.depth):
        _, _, v = tower.qkv(own, block)
        second = second + tower.merged(mixing(v, v) @ v, block)
        own = tower.run(own, block, block + 1)
    return second, own


def likeness_attention(features: Tensor, beta: float, gamma: float) -> Tensor:
    """Return attention (M, M) from how alike the cells of another model are.

    Likeness below ``beta`` times its mean counts nothing; a cell always attends to
    itself, so that a plane without any contrast gives no empty rows (the published form
    has none either then, and fails).

    Parameters
    ----------
    features : tensor (M, C)
        One row per cell, of any length.
    beta, gamma : float
        Threshold in means of the likeness; sharpness.
    """
    import torch

    rows = torch.nn.functional.normalize(features, dim=-1)
    alike = rows @ rows.T
    scores = gamma * (alike - beta * alike.mean())
    apart = scores < 0
    apart.fill_diagonal_(False)
    return scores.masked_fill(apart, float("-inf")).softmax(-1)


def proxied(
    tower: Tower, tokens: Tensor, features: Tensor, beta: float, gamma: float
) -> Tensor:
    """Return cells (1, h * w, D) that gather values where another model sees alike.

    Parameters
    ----------
    tower : Tower
        Of images.
    tokens : tensor (1, T, D)
        What the last block reads.
    features : tensor (C, h, w)
        Of the same plane by the other model; its grid is the grid of the result.
    beta, gamma : float
        See `likeness_attention`.
    """
    import torch.nn.functional as F

    block, shape = tower.depth - 1, (features.shape[1], features.shape[2])
    _, _, v = tower.qkv(tokens, block)
    heads, width = v.shape[1], v.shape[3]
    patches = v[0, :, tower.prefix :].transpose(1, 2)
    values = F.interpolate(
        patches.reshape(1, heads * width, *tower.grid), shape, mode="bilinear"
    )
    values = values.reshape(heads, width, -1).transpose(1, 2)
    attention = likeness_attention(features.flatten(1).T, beta, gamma)
    return tower.merged((attention @ values)[None], block)
