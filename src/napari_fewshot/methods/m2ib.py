"""`m2ib`: a bottleneck of noise shows which patches a phrase needs.

Multi-modal information bottleneck (Wang et al., Visual explanations of image-text
representations via multi-modal information bottleneck attribution, NeurIPS 2023), the
map of MedCLIP-SAMv2 (Koleilat et al., 2024). Noise is mixed into the tokens of one
block; how much, per token and channel, is learnt in a few steps, so that the plane
still fits the phrase while as little as possible is let through. The map is how much is
let through, in nats, summed over channels.

This form differs: the variance of the noise counts, as it is written in the paper (in
the published code it does not; variance 1 equals it); the blocks below the bottleneck
run once per plane, and the last one only as far as is read; the noise has a seed;
negatives are subtracted from what is fitted; all classes are learnt together, which
changes nothing in any of their maps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_fewshot.errors import ModelError
from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._params import param
from napari_fewshot.methods.text._params import TextParams
from napari_fewshot.methods.text._relevance import RelevanceMethod
from napari_fewshot.methods.text._seen import stem
from napari_fewshot.methods.text._tail import pooled_tail, reads_patches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.text._relevance import Target

# Almost everything is let through at first: sigmoid(5) = 0.993.
OPEN = 5.0
RATE = 1.0
LEAST = 1e-12
# Numbers of a token per block that a step of learning keeps, about; and their sum.
KEPT_PER_TOKEN, MOST_NUMBERS = 20, 2**26


@dataclass(frozen=True)
class M2ibParams(TextParams):
    """Parameters of `m2ib`."""

    layer: int = param(
        -1,
        "Block of the image tower after which noise is mixed in, from 0; auto is the "
        "8th of 12, and as far in others.",
        low=-1,
        high=63,
        at_low="auto",
    )
    beta: float = param(
        0.1,
        "How much it costs to let something through: larger keeps only what the phrase "
        "needs most.",
        low=0.0,
        high=100.0,
        step=0.1,
    )
    var: float = param(
        1.0,
        "Variance of the noise; 1 is what published results used.",
        low=0.001,
        high=100.0,
        step=0.1,
    )
    steps: int = param(10, "Steps of learning.", low=1, high=200, advanced=True)
    samples: int = param(10, "Draws of noise per step.", low=1, high=100, advanced=True)
    contrast: float = param(
        1.0,
        "How much the best fit of what it is not is subtracted.",
        low=0.0,
        high=5.0,
        step=0.1,
        advanced=True,
    )


class M2ibMethod(RelevanceMethod):
    """The method object."""

    spec = MethodSpec(
        name="m2ib",
        summary="Hides what the phrase does not need; what stays visible is the map.",
        params=M2ibParams,
        reads_text=True,
        citation="M2IB (Wang et al., NeurIPS 2023)",
    )

    def explained(
        self,
        model: Any,
        image: FloatArray,
        targets: Sequence[Target],
        params: Any,
        hooks: Hooks,
    ) -> tuple[FloatArray, FloatArray]:
        """Learn a bottleneck per class; see `RelevanceMethod.explained`."""
        import torch

        tower = model.tower
        layer = layer_of(params.layer, tower.depth, model.spec.name)
        features = stem(model, image, layer + 1)
        head = partial(
            pooled_tail,
            tower,
            first=layer + 1,
            patches=reads_patches(tower, features),
        )
        with torch.no_grad():
            pooled = head(features)[0].float().cpu().numpy()
        blocks = tower.depth - layer - 1
        let = let_through(features.float(), head, targets, params, blocks, hooks)
        maps = let[:, tower.prefix :].reshape(len(targets), *tower.grid)
        return maps.cpu().numpy(), pooled


def layer_of(wanted: int, depth: int, name: str) -> int:
    """Return the block after which the noise is mixed in.

    Parameters
    ----------
    wanted : int
        -1 is 7 of 12 blocks, and as far in others.
    depth : int
        Number of blocks.
    name : str
        Of the model, for the message.

    Raises
    ------
    ModelError
        If there is no such block.
    """
    if wanted < 0:
        return max(0, min(depth - 2, round(7 * depth / 12)))
    if wanted >= depth:
        raise ModelError(
            f"{name} has {depth} blocks, numbered from 0; there is no block {wanted}. "
            f"Choose a layer from 0 to {depth - 1}, or -1."
        )
    return wanted


def information(features: Tensor, share: Tensor, var: float) -> Tensor:
    """Return the information (in nats) that is let through, element by element.

    It is the divergence KL(N(m, var v) || N(0, var)) of what is read from pure noise,
    with m = share * features and v = (1 - share)^2, at least 1e-12:
    (v + m^2 / var - 1 - log v) / 2.

    Parameters
    ----------
    features, share : tensor
        Tokens, and how much of them is let through, in (0, 1); they broadcast.
    var : float
        Variance of the noise.
    """
    spread = (1 - share).square().clamp_min(LEAST)
    return 0.5 * (spread + (share * features).square() / var - 1 - spread.log())


def let_through(
    features: Tensor,
    head: Callable[[Tensor], Tensor],
    targets: Sequence[Target],
    params: Any,
    blocks: int,
    hooks: Hooks,
) -> Tensor:
    """Return the information that each token lets through for each class.

    ``beta * mean information - mean fit`` is made small over ``steps`` forward passes,
    with Adam after all but the last of them, of which only the information is read.

    Parameters
    ----------
    features : tensor (1, T, D)
        Tokens after the block with the bottleneck.
    head : callable
        Tokens (B, T, D) to images in the space of words (B, E).
    targets : sequence of Target
        One per class.
    params : M2ibParams
        Numbers of the method.
    blocks : int
        That ``head`` runs: more need more memory, so fewer classes go at once.
    hooks : Hooks
        For progress and cancelling.

    Returns
    -------
    tensor (C, T)
    """
    import torch

    token_numbers = features[0].numel() * (blocks + 1) * KEPT_PER_TOKEN
    rows = max(1, MOST_NUMBERS // token_numbers)
    group = max(1, rows // params.samples)
    total = -(-len(targets) // group) * params.steps
    found: list[Tensor] = []
    for first in range(0, len(targets), group):
        part = targets[first : first + group]
        draws = max(1, rows // len(part))
        before = len(found) * params.steps

        def told(step: int, before: int = before) -> None:
            hooks.report("Weighing the phrases", before + step, total)

        found.append(_learnt(features, head, part, params, draws, told, hooks))
    return torch.cat(found)


def _learnt(
    features: Tensor,
    head: Callable[[Tensor], Tensor],
    targets: Sequence[Target],
    params: Any,
    draws: int,
    told: Callable[[int], None],
    hooks: Hooks,
) -> Tensor:
    """Return information (C, T) of some classes, ``draws`` of noise at once."""
    import torch

    count, samples = len(targets), params.samples
    alpha = torch.full(
        (count, *features.shape[1:]), OPEN, device=features.device, requires_grad=True
    )
    optimizer = torch.optim.Adam([alpha], lr=RATE)
    random = torch.Generator().manual_seed(params.seed)
    for step in range(params.steps - 1):
        told(step)
        # Every class sees the same noise: its map does not depend on the others.
        noise = torch.randn((samples, *features.shape[1:]), generator=random)
        costs = information(features, torch.sigmoid(alpha), params.var)
        cost = params.beta * costs.mean((1, 2)).sum()
        (gradient,) = torch.autograd.grad(cost, alpha)
        for start in range(0, samples, draws):
            hooks.check()
            some = noise[start : start + draws].to(features.device)
            share = torch.sigmoid(alpha)[:, None]
            mixed = share * features + (1 - share) * params.var**0.5 * some
            images = head(mixed.flatten(0, 1)).float().reshape(count, len(some), -1)
            fits = [t.fit(i).sum() for t, i in zip(targets, images, strict=True)]
            fit = torch.stack(fits).sum() / samples
            gradient = gradient - torch.autograd.grad(fit, alpha)[0]
        alpha.grad = gradient
        optimizer.step()
    with torch.no_grad():
        return information(features, torch.sigmoid(alpha), params.var).sum(-1)


METHOD = M2ibMethod()
