"""Encoders of features as data; see `_catalogue`."""

from __future__ import annotations

from dataclasses import replace

from napari_fewshot.models._catalogue import HUB
from napari_fewshot.models._spec import ModelSpec

_SIZES = (("s", "small"), ("b", "medium"), ("l", "large"))

_DINOV2 = ModelSpec(
    name="dinov2/vits14",
    task="embedding",
    summary="DINOv2: features of what things are, for few-shot methods.",
    licence="Apache-2.0",
    needs_download=True,
    trained_on="LVD-142M (142 million photographs, without labels)",
    citation="Oquab et al., DINOv2, TMLR 2024; registers: Darcet et al., ICLR 2024",
    url="https://github.com/facebookresearch/dinov2#pretrained-models",
    benchmark_data="no: photographs, no medical or microscopy data sets",
)
# The addresses in Meta's README; it names no digests.
_META = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vit{0}14/"
DINOV2 = tuple(
    replace(
        _DINOV2,
        name=f"dinov2/vit{size}14{more}",
        summary=f"DINOv2, {word}{told}: features of what things are, without labels.",
        size_mb={"s": 88, "b": 346, "l": 1217}[size],
        file=f"dinov2_vit{size}14{more}_pretrain.pth",
        download_url=f"{_META.format(size)}dinov2_vit{size}14{more}_pretrain.pth",
    )
    for more, told in (("", ""), ("_reg4", ", with registers (smoother maps)"))
    for size, word in _SIZES
)

_DINOV3 = replace(
    _DINOV2,
    licence="DINOv3 License (not open source)",
    trained_on="LVD-1689M (1.7 billion photographs, without labels)",
    citation="Simeoni et al., DINOv3, 2025",
    notes="Its publisher gives the files to people who have agreed to its licence, "
    "which must go along with what is made of them; import the file that you get.",
)
DINOV3 = (
    *(
        replace(
            _DINOV3,
            name=f"dinov3/vit{size}16",
            summary=f"DINOv3, {word}: finer features than DINOv2, with much position.",
            size_mb={"s": 86, "b": 343, "l": 1213}[size],
            url=f"{HUB}facebook/dinov3-vit{size}16-pretrain-lvd1689m",
        )
        for size, word in _SIZES
    ),
    *(
        replace(
            _DINOV3,
            name=f"dinov3/convnext_{size}",
            summary=f"DINOv3 taught to a convolutional network, {size}.",
            size_mb=megabytes,
            url=f"{HUB}timm/convnext_{size}.dinov3_lvd1689m",
        )
        for size, megabytes in (
            ("tiny", 111),
            ("small", 198),
            ("base", 350),
            ("large", 785),
        )
    ),
)

CLIP = tuple(
    replace(
        _DINOV2,
        name=f"clip/{name}",
        summary=f"CLIP's image tower, {word}: features that go with words.",
        licence="MIT",
        size_mb=megabytes,
        trained_on="400 million images of the web with their captions",
        citation="Radford et al., Learning transferable visual models from natural "
        "language supervision, ICML 2021",
        url=f"{HUB}timm/{page}",
        file="open_clip_model.safetensors",
        download_url=f"{HUB}timm/{page}/resolve/main/open_clip_model.safetensors",
        benchmark_data="unknown: the images were not published",
        notes="Weights of OpenAI; those of LAION have the same shapes, but compute "
        "with another activation and give wrong features here.",
        text="clip",
    )
    for name, word, page, megabytes in (
        ("vit_b_16", "medium", "vit_base_patch16_clip_224.openai", 599),
        ("vit_l_14", "large", "vit_large_patch14_clip_224.openai", 1711),
    )
)

RESNET = replace(
    _DINOV2,
    name="timm/resnet50",
    summary="ResNet-50 of timm: features learnt from labelled photographs.",
    size_mb=102,
    trained_on="ImageNet-1k (1.3 million labelled photographs)",
    citation="He et al., CVPR 2016; Wightman et al., ResNet strikes back, 2021",
    url=HUB + "timm/resnet50.a1_in1k",
    file="model.safetensors",
    download_url=HUB + "timm/resnet50.a1_in1k/resolve/main/model.safetensors",
)

DENSE = (*DINOV2, *DINOV3, *CLIP, RESNET)


def of_timm(name: str) -> ModelSpec:
    """Return the facts about a convolutional network of timm that is not listed.

    Parameters
    ----------
    name : str
        ``"timm/"`` and its name there, e.g. ``"timm/convnext_tiny"``.
    """
    return replace(
        RESNET,
        name=name,
        summary=f"{name.removeprefix('timm/')} of timm.",
        licence="see the card of the weights",
        size_mb=0,
        trained_on="see the card of the weights",
        citation="Wightman, PyTorch image models",
        url=HUB + "timm",
        file="",
        download_url="",
        benchmark_data="depends on the weights",
    )
