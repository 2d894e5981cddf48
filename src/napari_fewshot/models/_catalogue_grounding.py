"""Models that look for phrases by themselves, as data; see `_catalogue`.

Folders in Hugging Face's layout: the page is named, and the folder is imported.
"""

from __future__ import annotations

from dataclasses import replace

from napari_fewshot.models._catalogue import HUB, MEDICAL_SETS
from napari_fewshot.models._spec import ModelSpec

# The task of models that need words, and nothing else.
TEXT_SEARCH = "text search"
_WORDS = (
    "Import the whole folder: config.json, model.safetensors, preprocessor_config.json "
    "and the files of the tokenizer."
)
_PHOTOS = "no: photographs, no medical or microscopy data sets"

CLIPSEG = ModelSpec(
    name="clipseg/rd64",
    task=TEXT_SEARCH,
    summary="CLIPSeg: a map from a phrase, from an example, or from both.",
    licence="Apache-2.0",
    size_mb=603,
    needs_download=True,
    trained_on="PhraseCut (photographs), on CLIP ViT-B/16",
    citation="Lüddecke & Ecker, Image segmentation using text and image prompts, "
    "CVPR 2022",
    url=HUB + "CIDAS/clipseg-rd64-refined",
    benchmark_data=_PHOTOS,
    notes=_WORDS,
    text="heat",
)

_DINO = replace(
    CLIPSEG,
    name="grounding-dino/tiny",
    summary="Grounding DINO, Swin-T: boxes for phrases; weak on grey images.",
    size_mb=689,
    trained_on="Objects365, GoldG and Cap4M (photographs with phrases)",
    citation="Liu et al., Grounding DINO, ECCV 2024",
    url=HUB + "IDEA-Research/grounding-dino-tiny",
    notes=f"{_WORDS} With SAM it reached a mean Dice of 0.17 on the 112 biomedical "
    "tasks of BiomedParse (2025); it is best on colour photographs.",
    text="boxes",
)
BOXES = (
    _DINO,
    replace(
        _DINO,
        name="grounding-dino/base",
        summary="As grounding-dino/tiny, larger.",
        size_mb=933,
        trained_on="as tiny, and COCO, OpenImages, RefCOCO and ODinW-35",
        url=HUB + "IDEA-Research/grounding-dino-base",
        benchmark_data="partly: ODinW-35 holds a few small sets of microscopy",
    ),
    replace(
        _DINO,
        name="owlv2/base",
        summary="OWLv2, ViT-B/16: boxes for phrases, or like an example.",
        size_mb=620,
        trained_on="WebLI (pictures of the web) labelled by OWL-ViT, on CLIP",
        citation="Minderer et al., Scaling open-vocabulary object detection, "
        "NeurIPS 2023",
        url=HUB + "google/owlv2-base-patch16-ensemble",
        notes=_WORDS,
    ),
)

_SAM3 = replace(
    CLIPSEG,
    name="sam3/concept",
    summary="SAM 3: every object of a phrase, or like boxes; large and slow.",
    licence="SAM License (not open source)",
    size_mb=3400,
    trained_on="SA-Co (photographs and films with phrases)",
    citation="Carion et al., SAM 3, 2025",
    url=HUB + "facebook/sam3",
    notes="Its publisher gives the files to people who have agreed to its licence, "
    f"which bars military uses. {_WORDS} The folder of sam3/base is the same. Words "
    "for diseases are mostly unknown to it; boxes help.",
    text="concept",
)
_MEDICAL = replace(
    _SAM3,
    name="medical-sam3/2d",
    summary="Medical-SAM3: SAM 3 trained further on medical images, for phrases.",
    licence="none stated; derived from SAM 3 (SAM License)",
    size_mb=10000,
    trained_on="33 public medical data sets of ten modalities, after SA-Co",
    citation="Medical SAM3, 2026",
    url=HUB + "ChongCong/Medical-SAM3",
    file="checkpoint_2D.pt",
    benchmark_data=MEDICAL_SETS,
    notes="No licence is stated; read the source page. It needs the folder of "
    "sam3/concept for its words.",
    base="sam3/concept",
)
CONCEPTS = (
    _SAM3,
    *(
        replace(
            _SAM3,
            name=f"sam3-litetext/{size}",
            summary=f"SAM 3 with a {what} tower of words; the image tower is the same.",
            licence="check the source page; derived from SAM 3 (SAM License)",
            size_mb=0,
            trained_on="as sam3/concept; its words imitate SAM 3's",
            citation="SAM3-LiteText, 2026; Carion et al., SAM 3, 2025",
            url=f"{HUB}vil-uob/sam3-litetext-{size}",
            notes=_WORDS,
        )
        for size, what in (("s0", "very small"), ("s1", "small"), ("l", "smaller"))
    ),
    _MEDICAL,
    replace(
        _MEDICAL,
        name="medsam3/v1",
        summary="MedSAM3: SAM 3 with low-rank changes for medical images.",
        size_mb=0,
        trained_on="658 thousand medical images with phrases, after SA-Co",
        citation="MedSAM3, 2025",
        url=HUB + "lal-Joey/MedSAM3_v1",
        file="",
        notes="Published as low-rank changes of SAM 3: merge them with their authors' "
        "code, and import the merged file or folder. No licence is stated; read the "
        "source page. It needs the folder of sam3/concept for its words.",
    ),
)

GROUNDING = (CLIPSEG, *BOXES, *CONCEPTS)
