"""Pure functions: arrays in, arrays out."""

from napari_fewshot.ops.attention import attend_to_mask
from napari_fewshot.ops.candidates import (
    Candidate,
    as_rows,
    best_apart,
    candidates_of,
    cut_candidates,
    level_candidates,
    object_overlaps,
    rings_of,
    shape_table,
)
from napari_fewshot.ops.clicks import interior_distance, next_click
from napari_fewshot.ops.clusters import average_linkage, seed_and_aggregate
from napari_fewshot.ops.correspondence import (
    assign,
    backward_vote,
    bidirectional,
    cycle_consistent,
)
from napari_fewshot.ops.features import (
    context_features,
    pixel_features,
    position_features,
    smooth,
)
from napari_fewshot.ops.guided import guided_filter
from napari_fewshot.ops.instances import split_instances
from napari_fewshot.ops.instances_bank import ShapeBank, shape_bank, split_alike
from napari_fewshot.ops.matching import (
    Match,
    bend_mask,
    bounding_box,
    find_piece,
)
from napari_fewshot.ops.merging import (
    covering_components,
    overlaps,
    overshoot_gate,
    positive_gate,
    purity_and_coverage,
    soft_merge,
    suppress_masks,
)
from napari_fewshot.ops.postprocess import (
    clean_mask,
    has_holes,
    probabilities_to_labels,
    soft_dice,
)
from napari_fewshot.ops.prototypes import (
    angular_best,
    cyclic_match,
    farthest_points,
    grid_prototypes,
    kmeans_parts,
    max_and_mean,
    ring_prototypes,
    softmax_weighted,
    unit_rows,
    voronoi_parts,
)
from napari_fewshot.ops.resize import (
    fit_factor,
    resize_image,
    resize_labels,
    scaled_shape,
    taper,
)
from napari_fewshot.ops.rings import ring_mask, ring_points
from napari_fewshot.ops.sampling import (
    cluster_centres,
    highest,
    lowest_outside,
    point_subsets,
    raster_cells,
    spread_cells,
)
from napari_fewshot.ops.similarity import cosine_maps, mask_to_grid, masked_average
from napari_fewshot.ops.spreading import spread_labels
from napari_fewshot.ops.tokens import (
    centred,
    channel_scale,
    position_basis,
    whitened,
    whitening,
    without_directions,
)
from napari_fewshot.ops.transduction import (
    Phases,
    RepriTerms,
    chambolle,
    mumford_shah,
    repri_loss,
    self_prototype,
)
from napari_fewshot.ops.transport import earth_movers_distance, token_distance
from napari_fewshot.ops.walker import standing_out, walk_boundary, walk_from_clicks
from napari_fewshot.ops.wavelets import haar, inverse_haar, masked_bands

__all__ = [
    "Candidate",
    "Match",
    "Phases",
    "RepriTerms",
    "ShapeBank",
    "angular_best",
    "as_rows",
    "assign",
    "attend_to_mask",
    "average_linkage",
    "backward_vote",
    "bend_mask",
    "best_apart",
    "bidirectional",
    "bounding_box",
    "candidates_of",
    "centred",
    "chambolle",
    "channel_scale",
    "clean_mask",
    "cluster_centres",
    "context_features",
    "cosine_maps",
    "covering_components",
    "cut_candidates",
    "cycle_consistent",
    "cyclic_match",
    "earth_movers_distance",
    "farthest_points",
    "find_piece",
    "fit_factor",
    "grid_prototypes",
    "guided_filter",
    "haar",
    "has_holes",
    "highest",
    "interior_distance",
    "inverse_haar",
    "kmeans_parts",
    "level_candidates",
    "lowest_outside",
    "mask_to_grid",
    "masked_average",
    "masked_bands",
    "max_and_mean",
    "mumford_shah",
    "next_click",
    "object_overlaps",
    "overlaps",
    "overshoot_gate",
    "pixel_features",
    "point_subsets",
    "position_basis",
    "position_features",
    "positive_gate",
    "probabilities_to_labels",
    "purity_and_coverage",
    "raster_cells",
    "repri_loss",
    "resize_image",
    "resize_labels",
    "ring_mask",
    "ring_points",
    "ring_prototypes",
    "rings_of",
    "scaled_shape",
    "seed_and_aggregate",
    "self_prototype",
    "shape_bank",
    "shape_table",
    "smooth",
    "soft_dice",
    "soft_merge",
    "softmax_weighted",
    "split_alike",
    "split_instances",
    "spread_cells",
    "spread_labels",
    "standing_out",
    "suppress_masks",
    "taper",
    "token_distance",
    "unit_rows",
    "voronoi_parts",
    "walk_boundary",
    "walk_from_clicks",
    "whitened",
    "whitening",
    "without_directions",
]
