"""`gscorecam`: channels are weighed by how well what they show fits the phrase.

gScoreCAM (Chen et al., gScoreCAM: what objects is CLIP looking at?, ACCV 2022), the
map of MedCLIP-SAM (Koleilat et al., 2024). The channels with the steepest gradient are
chosen; the plane is masked by each of them, and the model says how well what is left
fits the phrase. The map is the sum of channels, weighted by the softmax of the scores.

This form differs. Channels are read before the perceptron of the last block from which
patches still reach the pooled token. MedCLIP-SAM reads them in the very last block,
where, with a class token, no gradient reaches a patch: all channels are equally steep
there, and which ones are chosen does not depend on the phrase (set ``layer`` to see
it). Channels that were not chosen have no weight; in the published code they take part
in the softmax with score 0, which outweighs chosen ones with a negative score. What a
masked plane looks like to the model is kept: a new phrase costs only its new channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._params import param
from napari_fewshot.methods.m2ib import layer_of
from napari_fewshot.methods.text._params import TextParams
from napari_fewshot.methods.text._relevance import RelevanceMethod
from napari_fewshot.methods.text._seen import KEPT, key_of, stem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.text._relevance import Target

# Masked planes that go through the tower at once.
AT_ONCE_CPU, AT_ONCE = 4, 64


@dataclass(frozen=True)
class GScoreCamParams(TextParams):
    """Parameters of `gscorecam`."""

    channels: int = param(
        300,
        "So many channels of the model are tried, one look each: fewer are faster.",
        low=1,
        high=4096,
    )
    layer: int = param(
        -1,
        "Block of the image tower whose channels are read, from 0; auto is the last "
        "one that the phrase depends on everywhere.",
        low=-1,
        high=63,
        at_low="auto",
        advanced=True,
    )
    contrast: float = param(
        1.0,
        "How much the best fit of what it is not is subtracted.",
        low=0.0,
        high=5.0,
        step=0.1,
        advanced=True,
    )


@dataclass(frozen=True, eq=False)
class Shown:
    """What a plane masked by each channel looks like to a model.

    Attributes
    ----------
    rows : tensor (D, E)
        In the space of words; 0 where not known.
    known : tensor (D,) bool
        Which channels were tried.
    """

    rows: Tensor = field(repr=False)
    known: Tensor = field(repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes of both."""
        return int(self.rows.nbytes + self.known.nbytes)


class GScoreCamMethod(RelevanceMethod):
    """The method object."""

    spec = MethodSpec(
        name="gscorecam",
        summary="Covers the plane in many ways and sees when the phrase still fits.",
        params=GScoreCamParams,
        reads_text=True,
        citation="gScoreCAM (Chen et al., ACCV 2022)",
    )

    def explained(
        self,
        model: Any,
        image: FloatArray,
        targets: Sequence[Target],
        params: Any,
        hooks: Hooks,
    ) -> tuple[FloatArray, FloatArray]:
        """Weigh the channels per class; see `RelevanceMethod.explained`."""
        import torch

        layer, read = _read(model, image, targets, params.layer)
        hooks.check()
        activation, steepness, pooled = read
        most = min(params.channels, len(activation))
        chosen = [torch.topk(s, most).indices for s in steepness]
        key = key_of(model, np.ascontiguousarray(image), f"gscorecam {layer}")
        wanted = torch.unique(torch.cat(chosen))
        shown = _shown(model, image, activation, wanted, KEPT.get(key), hooks)
        KEPT.put(key, shown)
        maps = [
            weighted(activation[some], scores(model, target, shown.rows[some]))
            for some, target in zip(chosen, targets, strict=True)
        ]
        return torch.stack(maps).cpu().numpy(), pooled.cpu().numpy()


def scores(model: Any, target: Target, images: Tensor) -> Tensor:
    """Return scores (K,) of images (K, E) as the model's logits.

    Parameters
    ----------
    model : TextModel
        Its temperature counts.
    target : Target
        What they should fit.
    images : tensor (K, E)
        In the space of words.
    """
    found: Tensor = model.logit_scale * target.fit(images)
    return found


def weighted(activation: Tensor, score: Tensor) -> Tensor:
    """Return the map (h, w): channels summed by the softmax of scores, cut at 0.

    Parameters
    ----------
    activation : tensor (K, h, w)
        Of the chosen channels.
    score : tensor (K,)
        See `scores`.
    """
    weights = score.softmax(0)
    found: Tensor = (weights[:, None, None] * activation).sum(0).relu()
    return found


def steep(
    tower: Any, tokens: Tensor, layer: int, targets: Sequence[Target]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return channels before the perceptron of a block, and how steep they are.

    Parameters
    ----------
    tower : Tower
        Of images.
    tokens : tensor (1, T, D)
        What the block reads.
    layer : int
        The block.
    targets : sequence of Target
        One per class.

    Returns
    -------
    activation : tensor (D, h, w)
        Of patches, after the norm before the perceptron.
    steepness : tensor (C, D)
        Mean over the patches of the gradient of the fit.
    pooled : tensor (E,)
        The plane in the space of words.
    """
    import torch

    with torch.no_grad():
        half = tower.attended(tokens, layer)
        normed = tower.normed(half, layer)
    normed = normed.detach().requires_grad_()
    after = half + tower.perceptron(normed, layer)
    images = tower.pooled(tower.run(after, layer + 1, tower.depth)).float()
    fits = [target.fit(images).sum() for target in targets]
    slopes = [
        torch.autograd.grad(fit, normed, retain_graph=True)[0][0, tower.prefix :]
        for fit in fits
    ]
    patches = normed.detach()[0, tower.prefix :].float()
    activation = patches.T.reshape(-1, *tower.grid)
    steepness = torch.stack([s.float().mean(0) for s in slopes])
    return activation, steepness, images.detach()[0]


def _read(
    model: Any, image: FloatArray, targets: Sequence[Target], wanted: int
) -> tuple[int, tuple[Tensor, Tensor, Tensor]]:
    """Return the block that is read, and `steep` of it."""
    tower = model.tower
    if wanted >= 0:
        layer = layer_of(wanted, tower.depth, model.spec.name)
        return layer, steep(tower, stem(model, image, layer), layer, targets)
    layer = tower.depth - 1
    read = steep(tower, stem(model, image, layer), layer, targets)
    if layer and not bool(read[1].any()):
        # Nothing of the patches reaches the pooled token from here.
        layer -= 1
        read = steep(tower, stem(model, image, layer), layer, targets)
    return layer, read


def _shown(
    model: Any,
    image: FloatArray,
    activation: Tensor,
    wanted: Tensor,
    before: Shown | None,
    hooks: Hooks,
) -> Shown:
    """Look at the plane under the masks of channels that are not known yet."""
    import torch

    x, tower = model.prepared(image), model.tower
    known = torch.zeros(len(activation), dtype=torch.bool, device=activation.device)
    rows = None if before is None else before.rows.clone()
    if before is not None:
        known = before.known.clone()
    missing = wanted[~known[wanted]]
    on_cpu = str(model.device).startswith("cpu")
    step = AT_ONCE_CPU if on_cpu else AT_ONCE
    for first in range(0, len(missing), step):
        hooks.report("Covering the plane", first, len(missing))
        some = missing[first : first + step]
        with torch.no_grad():
            covers = masks_of(activation[some], (x.shape[2], x.shape[3]))
            tokens = tower.begin(x * covers[:, None].to(x.dtype))
            images = tower.pooled(tower.run(tokens, 0, tower.depth)).float()
        if rows is None:
            rows = torch.zeros(len(known), images.shape[1], device=images.device)
        rows[some], known[some] = images, True
    if rows is None:
        raise AssertionError("at least one channel is always wanted")
    return Shown(rows, known)


def masks_of(activation: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return masks (K, H, W) in [0, 1] from channels (K, h, w), corner to corner.

    Parameters
    ----------
    activation : tensor (K, h, w)
        Of patches. A flat channel hides everything.
    shape : (int, int)
        Rows and columns of pixels.
    """
    import torch
    import torch.nn.functional as F

    large = F.interpolate(activation[None], shape, mode="bilinear", align_corners=True)[
        0
    ]
    low, high = large.amin((1, 2), True), large.amax((1, 2), True)
    # Differences within rounding are none.
    span, size = high - low, torch.maximum(high.abs(), low.abs())
    shown = (large - low) / span.clamp_min(1e-12)
    return torch.where(span > 1e-6 * size, shown, 0.0)


METHOD = GScoreCamMethod()
