"""How each family of SAM weights wants its images and prompts: data, not code.

Same-shaped weights differ only here, and a wrong preset fails silently.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

# Of ImageNet, for values 0 to 255.
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Preset:
    """One way of preparing images and prompts.

    Attributes
    ----------
    side : int
        Side of the square frame in pixels where the file does not tell it.
    fit : {"pad", "squash"}
        Longest side fitted and the rest padded, or both sides stretched.
    enlarge : bool
        Whether planes smaller than the frame are enlarged, or padded as they are.
    interpolation : {"bilinear", "bicubic", "area", "plain", "nearest"}
        How the image is resized; "plain" is bilinear without smoothing before.
    stretch : {"none", "before", "after"}
        Whether the image's own range is stretched to the full one, before or after
        it is resized.
    imagenet : bool
        Whether mean and deviation of ImageNet are taken off, or values are in [0, 1].
    grey : bool
        Whether colours are turned to grey first.
    mask : {"logits", "sigmoid", "none"}
        As what an earlier mask is given, if it may be.
    multimask : {"first", "always", "never"}
        When three candidates are asked for: for a first click alone, for every
        prompt (the best one counts), or not at all.
    points, boxes : bool
        Which prompts the weights have learnt.
    classes : int, optional
        Number of the first mask token that stands for a class; such weights find their
        classes without a prompt. ``None``: one object per prompt.
    through_frame : bool
        Whether squashed answers are enlarged to the frame first, then to the plane.
    half : bool
        Whether masks stay the same when the encoder computes with 16 bits: overlap of
        0.99 or more on random prompts, measured. Else ``"auto"`` is full precision.
    """

    side: int = 1024
    fit: Literal["pad", "squash"] = "pad"
    enlarge: bool = True
    interpolation: Literal["bilinear", "bicubic", "area", "plain", "nearest"] = (
        "bilinear"
    )
    stretch: Literal["none", "before", "after"] = "none"
    imagenet: bool = True
    grey: bool = False
    mask: Literal["logits", "sigmoid", "none"] = "logits"
    multimask: Literal["first", "always", "never"] = "first"
    points: bool = True
    boxes: bool = True
    classes: int | None = None
    through_frame: bool = False
    half: bool = False

    @property
    def takes_mask(self) -> bool:
        """Whether an earlier mask may be given."""
        return self.mask != "none"


@dataclass(frozen=True)
class Family:
    """Weights of one name.

    Attributes
    ----------
    preset : Preset
        How they want images and prompts.
    size : str
        Size of the encoder, e.g. ``"vit_b"``; "" where there is one only.
    kinds : tuple of str
        Kinds of files they come in, see `_configs.kind`.
    """

    preset: Preset
    size: str
    kinds: tuple[str, ...]


# Kirillov et al., ICCV 2023; so are MobileSAM, HQ-SAM, micro-sam, MedicoSAM, MedSAMix.
SAM = Preset()
# The same with the plain transformer, for which bf16 was measured (decision 13).
SAM_VIT = replace(SAM, half=True)
# Ma et al., Nature Communications 2024: boxes only, one mask.
MEDSAM = Preset(
    fit="squash",
    interpolation="bicubic",
    stretch="after",
    imagenet=False,
    mask="none",
    multimask="never",
    points=False,
)
LITE = replace(MEDSAM, side=256, fit="pad", interpolation="area")
# Cheng et al., 2023. Small images were never enlarged in its training.
SAMMED2D = Preset(
    side=256,
    fit="squash",
    enlarge=False,
    interpolation="nearest",
    mask="sigmoid",
    multimask="always",
    through_frame=True,
)
# Wong et al., ECCV 2024.
SCRIBBLE = Preset(
    fit="squash",
    interpolation="plain",
    stretch="before",
    grey=True,
    multimask="always",
    through_frame=True,
)
SCRIBBLE_UNET = replace(SCRIBBLE, side=128, imagenet=False, multimask="never")
# Gu et al., finetune-SAM, 2024: mask token 0 is not trained.
FINETUNE = Preset(fit="squash", multimask="never", classes=1)
# Zhang & Liu, SAMed, 2023; Cheng et al., H-SAM, CVPR 2024: no prompts at all.
SAMED = replace(
    MEDSAM, side=512, boxes=False, mask="none", classes=0, through_frame=True
)

PLAIN = ("sam", "sam 256")


def _families() -> dict[str, Family]:
    found = {
        "medsam/vit_b": Family(MEDSAM, "vit_b", PLAIN),
        "medsam/lite": Family(LITE, "", ("tiny 256",)),
        "medicosam/vit_b": Family(SAM_VIT, "vit_b", PLAIN),
        "medsamix/vit_b": Family(SAM_VIT, "vit_b", PLAIN),
        "mobilesam/vit_t": Family(SAM, "", ("tiny",)),
        "hqsam/vit_tiny": Family(SAM, "", ("tiny hq",)),
        "sammed2d/vit_b": Family(SAMMED2D, "vit_b", ("conv adapters", "sam 256")),
        "scribbleprompt/unet": Family(SCRIBBLE_UNET, "", ("unet",)),
        "scribbleprompt/vit_b": Family(SCRIBBLE, "vit_b", PLAIN),
        "finetunesam/vit_b": Family(FINETUNE, "vit_b", ("tuned", *PLAIN)),
        "samed/vit_b": Family(SAMED, "", ("lora",)),
        "hsam/vit_b": Family(SAMED, "", ("lora twice",)),
    }
    for size in ("vit_b", "vit_l", "vit_h"):
        found[f"sam/{size}"] = Family(SAM_VIT, size, PLAIN)
        found[f"hqsam/{size}"] = Family(SAM, size, ("hq",))
        found[f"microsam/{size}_histopathology"] = Family(SAM_VIT, size, PLAIN)
    for what in ("lm", "em"):
        found[f"microsam/vit_t_{what}"] = Family(SAM, "", ("tiny",))
        for size in ("vit_b", "vit_l"):
            found[f"microsam/{size}_{what}"] = Family(SAM_VIT, size, PLAIN)
    return found


# By the name of a model.
FAMILIES = _families()
