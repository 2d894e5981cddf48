"""Learnt tokens that ask a frozen SAM for what a phrase and a few masks mean.

After VLP-SAM (Sakurai et al., 2025): the frozen features of a plane, the mean look of
the class on the supports, the phrase, a prior of similarity to the supports, and the
map of the phrase are put together for every patch; fifty learnt queries read those of
the supports and then those of the plane, and go to SAM as sparse prompts. Nothing but
this encoder is trained. Here the features are any CLIP's, and a phrase without supports
works as well: then the look and the prior are left empty, as they are at random in
training.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_fewshot.errors import ModelError
from napari_fewshot.models.text_heads._parts import perceptron, places

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot.data import Embedding
    from napari_fewshot.models.text_heads._seen import Seen

# Width of SAM's prompts, learnt queries, factor of the two maps: as published.
WIDTH, QUERIES, MAP_FACTOR = 256, 50, 10.0
HEADS, INNER = 8, 128
# Patches of the supports that are kept per class.
MEMORY = 64
SCALE = 0.1


@dataclass(frozen=True, eq=False)
class Shown:
    """What supports show of one class.

    Attributes
    ----------
    look : tensor (E,)
        Mean of the patches inside, of length one.
    patches : tensor (M, E)
        Some of them, of length one.
    """

    look: Tensor = field(repr=False)
    patches: Tensor = field(repr=False)


def shown_by(seen: Sequence[Seen], covers: Sequence[Tensor]) -> Shown | None:
    """Pool what supports show of a class.

    Parameters
    ----------
    seen : sequence of Seen
        One plane each.
    covers : sequence of tensor (h, w)
        Share of every pixel, at any size, that the class covers.

    Returns
    -------
    Shown or None
        None where no support shows it.
    """
    rows, weights = [], []
    for plane, cover in zip(seen, covers, strict=True):
        share = F.adaptive_avg_pool2d(cover[None, None], plane.grid).flatten()
        rows.append(plane.cells[0].flatten(1).T)
        weights.append(share)
    cells, weight = torch.cat(rows), torch.cat(weights)
    if not bool((weight > 0).any()):
        return None
    look = F.normalize((cells * weight[:, None]).sum(0), dim=0)
    best = weight.argsort(descending=True, stable=True)[:MEMORY]
    best = best[weight[best] >= min(0.5, float(weight.max()))]
    return Shown(look, cells[best])


class VlpTokens(nn.Module):
    """Phrases and supports to prompts of SAM; see the module.

    Parameters
    ----------
    sizes : dict
        From `Seen.sizes`.
    """

    def __init__(self, sizes: dict[str, int]) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(sizes["words"], WIDTH), nn.ReLU())
        self.merge = nn.Sequential(
            nn.Linear(3 * WIDTH + 2, INNER), nn.GELU(), nn.Linear(INNER, WIDTH)
        )
        self.asked = nn.Parameter(SCALE * torch.randn(QUERIES, WIDTH))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(4))
        self.among = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.supports = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.query = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.feed = perceptron(WIDTH, 2 * WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(
        self, seen: Seen, words: Tensor, shown: Sequence[Shown | None]
    ) -> Tensor:
        """Return prompts (C, 50, 256) for one plane.

        Parameters
        ----------
        seen : Seen
            One plane.
        words : tensor (C, E)
            A phrase each, of length one.
        shown : sequence of Shown or None
            What supports show of each.
        """
        cells = seen.cells[0].flatten(1).T
        code = places(seen.grid, WIDTH).to(cells)
        rows = [
            self._tokens(cells, code, word, known)
            for word, known in zip(words, shown, strict=True)
        ]
        return torch.cat(rows)

    def _tokens(
        self, cells: Tensor, code: Tensor, word: Tensor, known: Shown | None
    ) -> Tensor:
        """Return the prompts (1, 50, 256) of one phrase."""
        found = self.asked[None]
        if known is not None:
            keys = self._merged(known.patches, word, known)[None]
            read, _ = self.supports(
                self.norms[0](found), keys, keys, need_weights=False
            )
            found = found + read
        values = self._merged(cells, word, known)[None]
        keys = values + code
        read, _ = self.query(self.norms[1](found), keys, values, need_weights=False)
        found = found + read
        between = self.norms[2](found)
        read, _ = self.among(between, between, between, need_weights=False)
        found = found + read
        found = found + self.feed(self.norms[3](found))
        return cast("Tensor", self.out(found))

    def _merged(self, cells: Tensor, word: Tensor, known: Shown | None) -> Tensor:
        """Put everything together for patches (M, E), as (M, 256)."""
        factor = cells.shape[1] ** 0.5
        fits = cells @ word
        fits = (fits - fits.mean())[:, None] * MAP_FACTOR
        prior = torch.zeros_like(fits)
        look = cells.new_zeros(WIDTH)
        if known is not None:
            prior = (cells @ known.patches.T).max(1, keepdim=True).values * MAP_FACTOR
            look = self.project(known.look * factor)
        both = torch.stack([look, self.project(word * factor)]).flatten()
        parts = [
            self.project(cells * factor),
            both.expand(len(cells), -1),
            prior,
            fits,
        ]
        return cast("Tensor", self.merge(torch.cat(parts, 1)))


def check_sam(sam: Any) -> None:
    """Refuse models that take no learnt tokens.

    Raises
    ------
    ModelError
        Naming what does.
    """
    from napari_fewshot.models.sam import SamModel

    if not isinstance(sam, SamModel) or sam.classes or sam.network.mask_decoder2:
        name = getattr(getattr(sam, "spec", None), "name", "nothing")
        raise ModelError(
            f"Learnt tokens go to the mask decoder of a SAM such as sam/vit_b, not to "
            f"{name}. Choose such a model, or another kind of text head."
        )


def sam_logits(sam: Any, embedding: Embedding, tokens: Tensor) -> Tensor:
    """Ask a frozen SAM with tokens; gradients flow to the tokens.

    Parameters
    ----------
    sam : SamModel
        See `check_sam`.
    embedding : Embedding
        Of the plane, from this model.
    tokens : tensor (C, n, 256)
        From `VlpTokens`.

    Returns
    -------
    tensor (C, 4 G, 4 G)
        Logits of the unambiguous mask, in SAM's frame.
    """
    device = sam.device
    early = embedding.extras.get("early")
    _, dense = sam.network.prompt_encoder(None, None, None, None)
    logits, _ = sam.network.mask_decoder(
        torch.from_numpy(embedding.array)[None].to(device),
        sam.network.prompt_encoder.pe_layer.grid(sam.grid),
        tokens.to(device),
        dense,
        (0,),
        None if early is None else torch.from_numpy(early)[None].to(device),
        None,
    )
    found: Tensor = logits[:, 0]
    return found
