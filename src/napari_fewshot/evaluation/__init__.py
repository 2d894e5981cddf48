"""Metrics and benchmark protocols. Nothing here opens files or calls methods."""

from napari_fewshot.evaluation._chaos import (
    FLAGS,
    Volume,
    VolumeEpisode,
    copy_support,
    score_volumes,
    volume_episodes,
)
from napari_fewshot.evaluation._clicks import (
    ClickCurve,
    click_curve,
    clicks_needed,
    spread_objects,
)
from napari_fewshot.evaluation._evaluate import evaluate
from napari_fewshot.evaluation._metrics import instance_metrics, surface_metrics
from napari_fewshot.evaluation._protocol import (
    Pair,
    Row,
    binary_dice,
    episode,
    macro,
    make_pair,
)

__all__ = [
    "FLAGS",
    "ClickCurve",
    "Pair",
    "Row",
    "Volume",
    "VolumeEpisode",
    "binary_dice",
    "click_curve",
    "clicks_needed",
    "copy_support",
    "episode",
    "evaluate",
    "instance_metrics",
    "macro",
    "make_pair",
    "score_volumes",
    "spread_objects",
    "surface_metrics",
    "volume_episodes",
]
