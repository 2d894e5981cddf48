"""Models that compare images with words as data; see `_catalogue`.

Those of OpenAI in two sizes, whose image towers serve as encoders, too, are listed in
`_catalogue_dense`.
"""

from __future__ import annotations

from dataclasses import replace

from napari_fewshot.models._catalogue import HUB
from napari_fewshot.models._catalogue_dense import CLIP
from napari_fewshot.models._spec import ModelSpec

BIOMEDCLIP = ModelSpec(
    name="biomedclip",
    task="embedding",
    summary="BiomedCLIP: compares biomedical images with phrases.",
    licence="MIT",
    size_mb=784,
    needs_download=True,
    trained_on="PMC-15M (15 million figures of PubMed Central with their captions)",
    citation="Zhang et al., A multimodal biomedical foundation model trained from "
    "fifteen million image-text pairs, NEJM AI 2025",
    url=f"{HUB}microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
    benchmark_data="likely: figures of articles, which show images of public sets",
    notes="Its publisher advises against use for decisions about patients. Needs its "
    "tokenizer beside the weights: import the folder with all files. Fine-tuned "
    "weights of MedCLIP-SAM go into the same place.",
    text="clip",
)

_LAION = replace(
    CLIP[0],
    licence="MIT",
    trained_on="LAION-2B (2 billion images of the web with their English captions)",
    citation="Cherti et al., Reproducible scaling laws for contrastive language-image "
    "learning, CVPR 2023; Schuhmann et al., LAION-5B, NeurIPS 2022",
    file="open_clip_pytorch_model.bin",
    benchmark_data="unknown: images of the web, not looked through",
    notes="",
)
LAION = tuple(
    replace(
        _LAION,
        name=f"clip/laion_{name}",
        summary=f"CLIP of LAION, {word}: compares images with phrases.",
        size_mb=megabytes,
        url=f"{HUB}laion/{page}",
        download_url=f"{HUB}laion/{page}/resolve/main/open_clip_pytorch_model.bin",
    )
    for name, word, page, megabytes in (
        ("vit_b_32", "small", "CLIP-ViT-B-32-laion2B-s34B-b79K", 605),
        ("vit_b_16", "medium", "CLIP-ViT-B-16-laion2B-s34B-b88K", 599),
        ("vit_l_14", "large", "CLIP-ViT-L-14-laion2B-s32B-b82K", 1711),
    )
)

_PAGE = "timm/vit_base_patch32_clip_224.openai"
VIT_B_32 = replace(
    CLIP[0],
    name="clip/vit_b_32",
    summary="CLIP, small: compares images with phrases, with coarse maps.",
    size_mb=605,
    url=HUB + _PAGE,
    download_url=f"{HUB}{_PAGE}/resolve/main/open_clip_model.safetensors",
    notes="Weights of OpenAI.",
)

TEXT = (BIOMEDCLIP, VIT_B_32, *LAION)


def of_open_clip(name: str) -> ModelSpec:
    """Return the facts about a model of open_clip that is not listed.

    Parameters
    ----------
    name : str
        ``"open_clip/"`` and an architecture there, such as ``"ViT-B-16-SigLIP"``, or
        any word for one that a folder describes.
    """
    return replace(
        _LAION,
        name=name,
        summary=f"{name.removeprefix('open_clip/')} of open_clip.",
        licence="see the card of the weights",
        size_mb=0,
        trained_on="see the card of the weights",
        citation="Ilharco et al., OpenCLIP, 2021",
        url="https://github.com/mlfoundations/open_clip",
        file="",
        download_url="",
        benchmark_data="depends on the weights",
    )
