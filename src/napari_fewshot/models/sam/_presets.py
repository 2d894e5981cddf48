"""How each family of SAM weights wants its images: data, not code.

Same-shaped weights differ only here, and a wrong preset fails silently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Of ImageNet, for values 0 to 255.
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Preset:
    """One way of preparing images and prompts.

    Attributes
    ----------
    fit : {"pad", "squash"}
        Longest side fitted and the rest padded, or both sides stretched.
    interpolation : {"bilinear", "bicubic"}
        How the image is resized.
    intensity : {"imagenet", "unit"}
        Mean and deviation of ImageNet, or the image's own range to [0, 1].
    multimask : bool
        Whether the weights know three candidates for an ambiguous prompt.
    takes_mask : bool
        Whether an earlier mask may be given.
    """

    fit: Literal["pad", "squash"] = "pad"
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    intensity: Literal["imagenet", "unit"] = "imagenet"
    multimask: bool = True
    takes_mask: bool = True


# Kirillov et al., ICCV 2023.
SAM = Preset()
# Ma et al., Nature Communications 2024: boxes only, one mask.
MEDSAM = Preset("squash", "bicubic", "unit", multimask=False, takes_mask=False)
# By the family in the name of a model.
PRESETS = {"sam": SAM, "medsam": MEDSAM}
