"""Large planes: segmented in overlapping windows, put together again cell by cell.

What comes out depends on the request alone: neither on the order in which windows
arrive, nor on who computed them.
"""

from napari_fewshot.inference.tiles._blend import Blend
from napari_fewshot.inference.tiles._components import Components
from napari_fewshot.inference.tiles._key import stack_key
from napari_fewshot.inference.tiles._parts import LOCK, Parts, discard
from napari_fewshot.inference.tiles._plan import (
    TilePlan,
    check_where,
    limited,
    plan_tiles,
)
from napari_fewshot.inference.tiles._rules import Rules, settle
from napari_fewshot.inference.tiles._stitch import stitch
from napari_fewshot.inference.tiles._supports import cut_supports
from napari_fewshot.inference.tiles._tiled import TiledRun

__all__ = [
    "LOCK",
    "Blend",
    "Components",
    "Parts",
    "Rules",
    "TilePlan",
    "TiledRun",
    "check_where",
    "cut_supports",
    "discard",
    "limited",
    "plan_tiles",
    "settle",
    "stack_key",
    "stitch",
]
