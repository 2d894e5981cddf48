"""Volumes and time: views from several sides, smooth depth, objects in space."""

from napari_fewshot.inference.volumes._finish import VolumeFinisher
from napari_fewshot.inference.volumes._plan import (
    VOLUME_PARAMS,
    Part,
    VolumePlan,
    link_axes,
    plan_volume,
)

__all__ = [
    "VOLUME_PARAMS",
    "Part",
    "VolumeFinisher",
    "VolumePlan",
    "link_axes",
    "plan_volume",
]
