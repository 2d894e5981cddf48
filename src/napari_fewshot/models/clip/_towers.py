"""Image towers taken apart; see `napari_fewshot.models._text_protocols.Tower`."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from open_clip.timm_model import TimmModel
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from timm.layers.attention import Attention
from timm.models import vision_transformer as timm_vit

from napari_fewshot.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from torch import Tensor, nn

    Triple = tuple[Tensor, Tensor, Tensor]


class _Blocks:
    """What both makes of tower share: the parts of a block, from its modules.

    Everything is computed within ``context`` (which sets the number of bits) and
    returned as float32 at least: what is added up over the blocks keeps its digits.

    Attributes
    ----------
    visual : Module
        Of open_clip, with weights; in evaluation mode.
    context : callable
        Gives the context in which the modules are called.
    """

    depth: int
    heads: int
    width: int
    prefix: int
    grid: tuple[int, int]

    def __init__(self, visual: Any, blocks: Any) -> None:
        self.visual, self.blocks = visual, blocks
        self.context: Callable[[], AbstractContextManager[object]] = nullcontext
        self.depth = len(blocks)

    def begin(self, x: Tensor) -> Tensor:
        """Return what the first block reads, (N, T, D).

        Parameters
        ----------
        x : tensor (N, 3, S, S)
            Standardised images.
        """
        with self.context():
            return _full(self._begun(x))

    def run(self, tokens: Tensor, first: int, last: int) -> Tensor:
        """Return tokens after blocks ``first`` to ``last - 1``.

        Parameters
        ----------
        tokens : tensor (N, T, D)
            What block ``first`` reads.
        first, last : int
            Of the blocks, from 0.
        """
        with self.context():
            for block in self.blocks[first:last]:
                tokens = block(tokens)
            return _full(tokens)

    def qkv(self, tokens: Tensor, block: int) -> Triple:
        """Return queries, keys and values of a block, each (N, heads, T, D / heads).

        Nothing is scaled: the block's attention is the softmax of query times key
        over the root of D / heads. Norms of queries and keys are applied.

        Parameters
        ----------
        tokens : tensor (N, T, D)
            What the block reads.
        block : int
            From 0.
        """
        with self.context():
            q, k, v = self._qkv(tokens, self.blocks[block])
            return _full(q), _full(k), _full(v)

    def merged(self, attended: Tensor, block: int) -> Tensor:
        """Return attention's output (N, T, D); the residual is not added.

        Parameters
        ----------
        attended : tensor (N, heads, T, D / heads)
            Values that were mixed by attention, of any kind.
        block : int
            From 0.
        """
        with self.context():
            return _full(self._merged(attended, self.blocks[block]))

    def attended(self, tokens: Tensor, block: int) -> Tensor:
        """Return tokens after the first half of a block, residual included.

        Parameters
        ----------
        tokens : tensor (N, T, D)
            What the block reads.
        block : int
            From 0.
        """
        with self.context():
            return _full(tokens + self._added(tokens, self.blocks[block]))

    def normed(self, tokens: Tensor, block: int) -> Tensor:
        """Return tokens after the norm before a block's perceptron.

        Parameters
        ----------
        tokens : tensor (N, T, D)
            After the first half of the block.
        block : int
            From 0.
        """
        with self.context():
            found: Tensor = self._second_norm(self.blocks[block])(tokens)
            return _full(found)

    def perceptron(self, normed: Tensor, block: int) -> Tensor:
        """Return what a block's perceptron adds.

        Parameters
        ----------
        normed : tensor (N, T, D)
            Tokens after its norm.
        block : int
            From 0.
        """
        with self.context():
            return _full(self._perceptron(normed, self.blocks[block]))

    def project(self, tokens: Tensor) -> Tensor:
        """Return every token in the space of words, (N, T, E), not of length one.

        Where a model pools by attention, a token is pooled as if there were no other.

        Parameters
        ----------
        tokens : tensor (N, T, D)
            After the last block.
        """
        with self.context():
            return _full(self._projected(tokens))

    def pooled(self, tokens: Tensor) -> Tensor:
        """Return images in the space of words, (N, E), as the model pools them.

        Parameters
        ----------
        tokens : tensor (N, T, D)
            After the last block.
        """
        with self.context():
            return _full(self._pooled(tokens))

    def _begun(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _qkv(self, tokens: Tensor, block: Any) -> Triple:
        raise NotImplementedError

    def _merged(self, attended: Tensor, block: Any) -> Tensor:
        raise NotImplementedError

    def _added(self, tokens: Tensor, block: Any) -> Tensor:
        raise NotImplementedError

    def _second_norm(self, block: Any) -> nn.Module:
        raise NotImplementedError

    def _perceptron(self, normed: Tensor, block: Any) -> Tensor:
        raise NotImplementedError

    def _projected(self, tokens: Tensor) -> Tensor:
        raise NotImplementedError

    def _pooled(self, tokens: Tensor) -> Tensor:
        raise NotImplementedError

    def _split(self, joined: Tensor) -> Triple:
        """Return q, k and v by heads, of (N, T, 3 D)."""
        count, length, _ = joined.shape
        parts = joined.reshape(count, length, 3, self.heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v


class NativeTower(_Blocks):
    """A transformer of open_clip itself.

    Parameters
    ----------
    visual : open_clip VisionTransformer
        Without patch dropout at work: in evaluation mode.

    Raises
    ------
    ModelError
        If it pools by attention, or not at all.
    """

    def __init__(self, visual: VisionTransformer) -> None:
        super().__init__(visual, visual.transformer.resblocks)
        if visual.attn_pool is not None or visual.pool_type == "none":
            raise ModelError(
                "This image tower pools by attention (as CoCa does) or not at all, so "
                "its patches can't be compared with words. Choose another model."
            )
        attention = self.blocks[0].attn
        self.heads, self.prefix = attention.num_heads, 1
        self.width = int(visual.conv1.out_channels)
        self.grid = (int(visual.grid_size[0]), int(visual.grid_size[1]))

    def _begun(self, x: Tensor) -> Tensor:
        found: Tensor = self.visual._embeds(x)
        return found

    def _qkv(self, tokens: Tensor, block: Any) -> Triple:
        attention = block.attn
        x = block.ln_1(tokens)
        q, k, v = self._split(
            F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
        )
        if hasattr(attention, "ln_q"):
            q, k = attention.ln_q(q), attention.ln_k(k)
        return q, k, v

    def _merged(self, attended: Tensor, block: Any) -> Tensor:
        attention = block.attn
        if getattr(attention, "head_scale", None) is not None:
            attended = attended * attention.head_scale
        x = attended.transpose(1, 2).flatten(2)
        if hasattr(attention, "ln_inner"):
            x = attention.ln_inner(x)
        return self._scaled(attention.out_proj(x), block)

    def _added(self, tokens: Tensor, block: Any) -> Tensor:
        x = block.ln_1(tokens)
        if isinstance(block, ResidualAttentionBlock):
            return self._scaled(block.attention(q_x=x), block)
        return self._scaled(block.attn(x), block)

    def _scaled(self, x: Tensor, block: Any) -> Tensor:
        """Apply what follows attention before the residual is added."""
        if hasattr(block, "ln_attn"):
            x = block.ln_attn(x)
        found: Tensor = block.ls_1(x)
        return found

    def _second_norm(self, block: Any) -> nn.Module:
        found: nn.Module = block.ln_2
        return found

    def _perceptron(self, normed: Tensor, block: Any) -> Tensor:
        found: Tensor = block.ls_2(block.mlp(normed))
        return found

    def _projected(self, tokens: Tensor) -> Tensor:
        return self._onto_words(self.visual.ln_post(tokens))

    def _pooled(self, tokens: Tensor) -> Tensor:
        pooled, _ = self.visual._pool(tokens)
        return self._onto_words(pooled)

    def _onto_words(self, x: Tensor) -> Tensor:
        return x if self.visual.proj is None else x @ self.visual.proj


class TimmTower(_Blocks):
    """A transformer of timm within open_clip, as that of BiomedCLIP.

    Parameters
    ----------
    visual : open_clip TimmModel
        With a plain vision transformer as its trunk; in evaluation mode.

    Raises
    ------
    ModelError
        If the trunk is of another make.
    """

    def __init__(self, visual: TimmModel) -> None:
        trunk: Any = visual.trunk
        if not _is_plain(trunk):
            raise ModelError(
                f"The image tower {type(trunk).__name__} of timm is no plain vision "
                "transformer and can't be taken apart. Choose a model with a ViT."
            )
        super().__init__(visual, trunk.blocks)
        self.trunk = trunk
        self.heads, self.width = trunk.blocks[0].attn.num_heads, trunk.embed_dim
        self.prefix = trunk.num_prefix_tokens
        rows, columns = trunk.patch_embed.grid_size
        self.grid = (int(rows), int(columns))

    def _begun(self, x: Tensor) -> Tensor:
        trunk = self.trunk
        tokens = trunk._pos_embed(trunk.patch_embed(x))
        found: Tensor = trunk.norm_pre(trunk.patch_drop(tokens))
        return found

    def _qkv(self, tokens: Tensor, block: Any) -> Triple:
        attention = block.attn
        q, k, v = self._split(attention.qkv(block.norm1(tokens)))
        return attention.q_norm(q), attention.k_norm(k), v

    def _merged(self, attended: Tensor, block: Any) -> Tensor:
        attention = block.attn
        x = attention.norm(attended.transpose(1, 2).flatten(2))
        found: Tensor = block.ls1(attention.proj(x))
        return found

    def _added(self, tokens: Tensor, block: Any) -> Tensor:
        found: Tensor = block.ls1(block.attn(block.norm1(tokens)))
        return found

    def _second_norm(self, block: Any) -> nn.Module:
        found: nn.Module = block.norm2
        return found

    def _perceptron(self, normed: Tensor, block: Any) -> Tensor:
        found: Tensor = block.ls2(block.mlp(normed))
        return found

    def _projected(self, tokens: Tensor) -> Tensor:
        trunk = self.trunk
        x = trunk.norm(tokens)
        if trunk.attn_pool is None:
            found: Tensor = self.visual.head(trunk.head(trunk.fc_norm(x)))
            return found
        # A pool that would leave these tokens out gets them as if they were patches.
        count, length, width = x.shape
        alone = trunk.attn_pool(x.reshape(count * length, 1, width))
        words: Tensor = self.visual.head(trunk.head(trunk.fc_norm(alone)))
        return words.reshape(count, length, -1)

    def _pooled(self, tokens: Tensor) -> Tensor:
        trunk = self.trunk
        found: Tensor = self.visual.head(trunk.forward_head(trunk.norm(tokens)))
        return found


def _full(x: Tensor) -> Tensor:
    """Return numbers of 16 bits as float32, others as they are."""
    return x.float() if x.element_size() < 4 else x


def _is_plain(trunk: Any) -> bool:
    """Whether a network of timm has the blocks that `TimmTower` takes apart."""
    return (
        isinstance(trunk, timm_vit.VisionTransformer)
        and len(trunk.blocks) > 0
        and bool(trunk.global_pool)
        and all(
            type(block) is timm_vit.Block
            and type(block.attn) is Attention
            and block.attn.gate is None
            for block in trunk.blocks
        )
    )


def tower_of(visual: Any) -> NativeTower | TimmTower:
    """Return the tower of an image encoder of open_clip.

    Parameters
    ----------
    visual : Module
        ``visual`` of a model of open_clip, in evaluation mode.

    Raises
    ------
    ModelError
        If it is no vision transformer.
    """
    if isinstance(visual, VisionTransformer):
        return NativeTower(visual)
    if isinstance(visual, TimmModel):
        return TimmTower(visual)
    raise ModelError(
        f"The image tower {type(visual).__name__} is no vision transformer and can't "
        "be taken apart. Choose a model with a ViT."
    )
