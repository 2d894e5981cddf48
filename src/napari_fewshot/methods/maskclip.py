"""`maskclip`: patches are compared with phrases through their values alone.

Of the last block of the image tower only the values are taken, through its output
projection, then the last norm and the projection to the space of words (MaskCLIP, Zhou
et al., Extract free dense labels from CLIP, ECCV 2022). There is no attention, so
nothing is smoothed: maps are sharp and noisy. The residual is left out, as in the
comparison of ClearCLIP.
"""

from __future__ import annotations

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods.text._dense import LastBlockMethod
from napari_fewshot.methods.text._params import TextParams


class MaskClipMethod(LastBlockMethod):
    """The method object."""

    spec = MethodSpec(
        name="maskclip",
        summary="Compares every patch by itself with the phrase: sharp, but noisy.",
        params=TextParams,
        reads_text=True,
        citation="MaskCLIP (Zhou et al., ECCV 2022)",
    )
    variant = "maskclip"


METHOD = MaskClipMethod()
