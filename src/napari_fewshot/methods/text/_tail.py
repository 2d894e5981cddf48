"""The last blocks of a tower, for work that runs them many times with gradients.

The parts of the blocks are called instead of the blocks: libraries attend along another
axis first, which makes their gradients dear. What no pooled image depends on is left
out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from napari_fewshot.models._text_protocols import Tower


def reads_patches(tower: Tower, tokens: Tensor) -> bool:
    """Whether pooled images depend on patches after the last block.

    A tower that pools by a class token does not read them.

    Parameters
    ----------
    tower : Tower
        Of images.
    tokens : tensor (N, T, D)
        Any.
    """
    import torch

    end = tokens.detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad(tower.pooled(end).sum(), end)
    return bool(slope[:, tower.prefix :].any())


def pooled_tail(tower: Tower, tokens: Tensor, first: int, *, patches: bool) -> Tensor:
    """Return images in the space of words, (N, E).

    Parameters
    ----------
    tower : Tower
        Of images.
    tokens : tensor (N, T, D)
        What block ``first`` reads.
    first : int
        Up to the number of blocks: then there is nothing to run.
    patches : bool
        From `reads_patches`; if not, the last block computes only what comes before
        the patches.
    """
    for block in range(first, tower.depth):
        count = tokens.shape[1]
        if block == tower.depth - 1 and not patches:
            count = tower.prefix
        tokens = _block(tower, tokens, block, count)
    return tower.pooled(tokens)


def _block(tower: Tower, tokens: Tensor, block: int, count: int) -> Tensor:
    """Return the first ``count`` tokens after a block."""
    import torch.nn.functional as F

    q, k, v = tower.qkv(tokens, block)
    mixed = F.scaled_dot_product_attention(q[:, :, :count], k, v)
    x = tokens[:, :count] + tower.merged(mixed, block)
    return x + tower.perceptron(tower.normed(x, block), block)
