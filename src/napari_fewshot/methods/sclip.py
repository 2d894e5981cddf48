"""`sclip`: patches gather from patches that ask or answer alike.

In the last block of the image tower attention is the sum of queries to queries and of
keys to keys; residual and perceptron stay (SCLIP, Wang et al., Rethinking
self-attention for dense vision-language inference, ECCV 2024). The published refinement
by colours of pixels is not taken: edges come from the frame, the same way for all
methods.
"""

from __future__ import annotations

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods.text._dense import LastBlockMethod
from napari_fewshot.methods.text._params import TextParams


class SClipMethod(LastBlockMethod):
    """The method object."""

    spec = MethodSpec(
        name="sclip",
        summary="Compares patches with the phrase, each seen together with its like.",
        params=TextParams,
        reads_text=True,
        citation="SCLIP (Wang et al., ECCV 2024)",
    )
    variant = "sclip"


METHOD = SClipMethod()
