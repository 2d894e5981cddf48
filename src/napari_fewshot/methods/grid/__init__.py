"""Methods on embeddings: every published system as a small composition."""

from napari_fewshot.methods.grid._asks import Ask, Decoder
from napari_fewshot.methods.grid._calibrate import (
    Boundary,
    fit_boundary,
    position_prior,
)
from napari_fewshot.methods.grid._decoders import SamDecoder, decoder_for
from napari_fewshot.methods.grid._edges import at_edges, upsampled
from napari_fewshot.methods.grid._house import (
    agreeing,
    house_ask,
    house_segment,
    parts_of,
)
from napari_fewshot.methods.grid._levels import MapDecoder, NetworkDecoder
from napari_fewshot.methods.grid._method import GridFitted, GridMethod
from napari_fewshot.methods.grid._tokens import (
    GridPlane,
    GridSupport,
    cells_of,
    embed,
    thinned,
)
from napari_fewshot.methods.grid._vocabulary import (
    Explanation,
    GridParams,
    Look,
    Segment,
)

__all__ = [
    "Ask",
    "Boundary",
    "Decoder",
    "Explanation",
    "GridFitted",
    "GridMethod",
    "GridParams",
    "GridPlane",
    "GridSupport",
    "Look",
    "MapDecoder",
    "NetworkDecoder",
    "SamDecoder",
    "Segment",
    "agreeing",
    "at_edges",
    "cells_of",
    "decoder_for",
    "embed",
    "fit_boundary",
    "house_ask",
    "house_segment",
    "parts_of",
    "position_prior",
    "thinned",
    "upsampled",
]
