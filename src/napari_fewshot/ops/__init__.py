"""Pure functions: arrays in, arrays out."""

from napari_fewshot.ops.clicks import interior_distance, next_click
from napari_fewshot.ops.features import (
    context_features,
    pixel_features,
    position_features,
    smooth,
)
from napari_fewshot.ops.instances import split_instances
from napari_fewshot.ops.matching import (
    Match,
    bend_mask,
    bounding_box,
    find_piece,
)
from napari_fewshot.ops.postprocess import (
    clean_mask,
    has_holes,
    probabilities_to_labels,
    soft_dice,
)
from napari_fewshot.ops.resize import (
    fit_factor,
    resize_image,
    resize_labels,
    scaled_shape,
    taper,
)
from napari_fewshot.ops.similarity import cosine_maps, mask_to_grid, masked_average
from napari_fewshot.ops.walker import standing_out, walk_boundary, walk_from_clicks

__all__ = [
    "Match",
    "bend_mask",
    "bounding_box",
    "clean_mask",
    "context_features",
    "cosine_maps",
    "find_piece",
    "fit_factor",
    "has_holes",
    "interior_distance",
    "mask_to_grid",
    "masked_average",
    "next_click",
    "pixel_features",
    "position_features",
    "probabilities_to_labels",
    "resize_image",
    "resize_labels",
    "scaled_shape",
    "smooth",
    "soft_dice",
    "split_instances",
    "standing_out",
    "taper",
    "walk_boundary",
    "walk_from_clicks",
]
