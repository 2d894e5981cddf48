"""What heads read of a plane: one frozen look of a CLIP at it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_fewshot._types import AnyArray

# Blocks whose tokens are kept, as shares of the depth: 3, 6 and 9 of twelve (CLIPSeg).
SHARES = (0.25, 0.5, 0.75)


@dataclass(frozen=True, eq=False)
class Seen:
    """Frozen features of N planes.

    Attributes
    ----------
    pixels : tensor (N, 3, S, S)
        What the tower reads: the whole plane, squashed.
    levels : tuple of tensor (N, T, D)
        Tokens after a quarter, a half and three quarters of the blocks, those that are
        no patches first.
    cells : tensor (N, E, g, g')
        Patches in the space of words, of length one.
    whole : tensor (N, E)
        The planes in the space of words, of length one.
    """

    pixels: Tensor = field(repr=False)
    levels: tuple[Tensor, ...] = field(repr=False)
    cells: Tensor = field(repr=False)
    whole: Tensor = field(repr=False)

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return int(self.cells.shape[2]), int(self.cells.shape[3])

    @property
    def prefix(self) -> int:
        """Tokens before the patches."""
        rows, columns = self.grid
        return int(self.levels[0].shape[1]) - rows * columns

    @property
    def sizes(self) -> dict[str, int]:
        """What modules are made to fit: ``words`` is E, ``width`` is D."""
        return {
            "words": int(self.cells.shape[1]),
            "width": int(self.levels[0].shape[2]),
            "levels": len(self.levels),
            "patch": int(self.pixels.shape[2]) // self.grid[0],
        }


def kept_blocks(depth: int) -> tuple[int, ...]:
    """Return the blocks, from 0, whose output is kept; see `Seen.levels`."""
    return tuple(min(depth - 1, round(share * depth)) for share in SHARES)


@torch.no_grad()
def look(model: Any, image: AnyArray, *, mirrored: bool = False) -> Seen:
    """Look at a plane once.

    Parameters
    ----------
    model : TextModel
        Of the CLIP kind, with a tower.
    image : array (H, W) or (H, W, C)
        The plane.
    mirrored : bool
        Look at its mirror image, left for right; so must its masks be.
    """
    tower = model.tower
    x = model.prepared(image).float()
    x = x.flip(-1) if mirrored else x
    tokens, at, levels = tower.begin(x), 0, []
    for block in kept_blocks(tower.depth):
        tokens = tower.run(tokens, at, block + 1)
        at = block + 1
        levels.append(tokens.float())
    tokens = tower.run(tokens, at, tower.depth)
    patches = tower.project(tokens)[:, tower.prefix :].float()
    cells = F.normalize(patches, dim=-1).transpose(1, 2)
    return Seen(
        x,
        tuple(levels),
        cells.unflatten(2, tower.grid).contiguous(),
        F.normalize(tower.pooled(tokens).float(), dim=-1),
    )


def together(parts: Sequence[Seen]) -> Seen:
    """Put planes of the same model into one batch."""
    return Seen(
        torch.cat([p.pixels for p in parts]),
        tuple(
            torch.cat(level) for level in zip(*(p.levels for p in parts), strict=True)
        ),
        torch.cat([p.cells for p in parts]),
        torch.cat([p.whole for p in parts]),
    )
