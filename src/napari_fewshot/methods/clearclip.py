"""`clearclip`: patches gather from patches that ask alike, and from nothing else.

In the last block of the image tower queries attend to queries; the residual and the
perceptron, which carry what is the same all over a plane, are left out (ClearCLIP, Lan
et al., ECCV 2024). Written from the formulas; windows are Hann-weighted and averaged
with a view of the whole plane.
"""

from __future__ import annotations

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods.text._dense import LastBlockMethod
from napari_fewshot.methods.text._params import TextParams


class ClearClipMethod(LastBlockMethod):
    """The method object."""

    spec = MethodSpec(
        name="clearclip",
        summary="Compares patches with the phrase after similar ones have been joined.",
        params=TextParams,
        reads_text=True,
        citation="ClearCLIP (Lan et al., ECCV 2024)",
    )
    variant = "clearclip"


METHOD = ClearClipMethod()
