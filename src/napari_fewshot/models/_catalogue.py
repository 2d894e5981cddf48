"""Every model as data: what it is, who offers it, what it has seen.

Nothing is guessed: where ``sha256`` is "" the file is pinned when it is installed,
where ``download_url`` is "" the page is named and the file is imported. Sizes are
those of files with 32 bits per parameter.
"""

from __future__ import annotations

from dataclasses import replace

from napari_fewshot.models._spec import PROMPTABLE, ModelSpec

FILTERS = ModelSpec(
    name="filters",
    task="embedding",
    summary="Fixed multi-scale filters (brightness, edges, ridges, texture).",
    licence="BSD-3-Clause",
    citation="Gaussian derivative filter bank; Koenderink & van Doorn 1987",
)

INCONTEXT = ModelSpec(
    name="incontext/small",
    task="in-context segmentation",
    summary="Small bundled network: copies what supports and clicks show.",
    licence="BSD-3-Clause",
    size_mb=4.1,
    trained_on="synthetic tasks only (napari_fewshot.adapt.synthesis)",
    sha256="5de60d8f2ac7a1b273a9edcab6e98314d5f960283a1fae40284798ad9e015b55",
    citation="Own network; dense cross-attention after DCAMA (Shi et al. 2022), ridge "
    "regression after Bertinetto et al. 2019",
)

HUB = "https://huggingface.co/"
GITHUB = "https://github.com/"
MEDICAL_SETS = (
    "yes: it was trained on many public medical data sets, among them ones that are "
    "used as benchmarks; its scores there are not scores on unseen data"
)
MICROSCOPY_SETS = MEDICAL_SETS.replace("medical", "microscopy")
RESEARCH = "Check the card on the source page: use may be limited to research."

_SAM = ModelSpec(
    name="sam/vit_b",
    task=PROMPTABLE,
    summary="Segment Anything, ViT-B: masks from points, boxes and masks.",
    licence="Apache-2.0",
    size_mb=375,
    needs_download=True,
    trained_on="SA-1B (11 million photographs)",
    citation="Kirillov et al., Segment Anything, ICCV 2023",
    url=GITHUB + "facebookresearch/segment-anything#model-checkpoints",
    file="sam_vit_b_01ec64.pth",
    benchmark_data="no: photographs, no medical or microscopy data sets",
)
# The addresses in Meta's README; digests that several public registries agree on.
_META = "https://dl.fbaipublicfiles.com/segment_anything/"
SAM = (
    replace(
        _SAM,
        download_url=_META + "sam_vit_b_01ec64.pth",
        sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    replace(
        _SAM,
        name="sam/vit_l",
        summary="As sam/vit_b, larger.",
        size_mb=1250,
        file="sam_vit_l_0b3195.pth",
        download_url=_META + "sam_vit_l_0b3195.pth",
        sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    replace(
        _SAM,
        name="sam/vit_h",
        summary="As sam/vit_b, largest.",
        size_mb=2560,
        file="sam_vit_h_4b8939.pth",
        download_url=_META + "sam_vit_h_4b8939.pth",
        sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
)

_MEDSAM = replace(
    _SAM,
    name="medsam/vit_b",
    summary="MedSAM: one mask of a medical image from a box.",
    trained_on="1.57 million medical image-mask pairs of public data sets",
    citation="Ma et al., Segment anything in medical images, Nature Comms 2024",
    url=GITHUB + "bowang-lab/MedSAM#get-started",
    file="medsam_vit_b.pth",
    benchmark_data=MEDICAL_SETS,
)
MEDICAL = (
    _MEDSAM,
    replace(
        _MEDSAM,
        name="medsam/lite",
        summary="LiteMedSAM: as medsam/vit_b, small and fast on processors.",
        size_mb=38,
        url=GITHUB + "bowang-lab/MedSAM/tree/LiteMedSAM",
        file="lite_medsam.pth",
    ),
    replace(
        _MEDSAM,
        name="medicosam/vit_b",
        summary="MedicoSAM: SAM trained further on medical images, for all prompts.",
        licence="MIT",
        trained_on="medical images of public data sets, several modalities",
        citation="Archit et al., MedicoSAM, 2025",
        url=GITHUB + "computational-cell-analytics/medico-sam",
        file="",
    ),
    replace(
        _MEDSAM,
        name="medsamix/vit_b",
        summary="MedSAMix: SAM, MedSAM and MedicoSAM merged without training.",
        licence="unclear (code Apache-2.0)",
        trained_on="nothing of its own: merged from sam, medsam and medicosam",
        citation="Yang et al., MedSAMix, 2025",
        url=HUB + "guinansu/MedSAMix",
        file="",
        notes="The licence of the weights is not stated clearly; read the source page.",
    ),
    replace(
        _MEDSAM,
        name="sammed2d/vit_b",
        summary="SAM-Med2D: points and boxes on medical images at 256 pixels.",
        size_mb=1100,
        trained_on="SA-Med2D: 4.6 million medical images, 19.7 million masks",
        citation="Cheng et al., SAM-Med2D, 2023",
        url=GITHUB + "OpenGVLab/SAM-Med2D",
        file="sam-med2d_b.pth",
    ),
    replace(
        _MEDSAM,
        name="scribbleprompt/unet",
        summary="ScribblePrompt: clicks, boxes and scribbles, instant on processors.",
        size_mb=16,
        trained_on="65 public medical data sets and made-up labels",
        citation="Wong et al., ScribblePrompt, ECCV 2024",
        url=GITHUB + "halleewong/ScribblePrompt",
        file="ScribblePrompt_unet_v1_nf192_res128.pt",
    ),
    replace(
        _MEDSAM,
        name="scribbleprompt/vit_b",
        summary="ScribblePrompt's training in a SAM ViT-B.",
        trained_on="65 public medical data sets and made-up labels",
        citation="Wong et al., ScribblePrompt, ECCV 2024",
        url=GITHUB + "halleewong/ScribblePrompt",
        file="ScribblePrompt_sam_v1_vit_b_res128.pt",
    ),
    replace(
        _MEDSAM,
        name="finetunesam/vit_b",
        summary="SAM fine-tuned with finetune-SAM: finds its classes without prompts.",
        trained_on="the images of whoever fine-tuned it",
        citation="Gu et al., How to build the best medical image segmentation "
        "algorithm using foundation models, 2024",
        url=GITHUB + "mazurowski-lab/finetune-SAM",
        file="",
        benchmark_data="depends on the file",
        notes="Import a file that finetune-SAM has written.",
    ),
    replace(
        _MEDSAM,
        name="samed/vit_b",
        summary="SAMed: low-rank changes of SAM for organs in CT, without prompts.",
        licence="MIT",
        size_mb=17,
        trained_on="Synapse multi-organ CT",
        citation="Zhang & Liu, SAMed, 2023",
        url=GITHUB + "hitachinsk/SAMed",
        file="",
        benchmark_data="yes: Synapse multi-organ CT",
        base="sam/vit_b",
    ),
    replace(
        _MEDSAM,
        name="hsam/vit_b",
        summary="H-SAM: as samed/vit_b with a second decoder.",
        licence="MIT",
        size_mb=0,
        trained_on="a tenth of Synapse multi-organ CT",
        citation="Cheng et al., Unleashing the potential of SAM for medical adaptation "
        "via hierarchical decoding, CVPR 2024",
        url=GITHUB + "Cccccczh404/H-SAM",
        file="",
        benchmark_data="yes: Synapse multi-organ CT",
        base="sam/vit_b",
    ),
)

# Name, what it is for, megabytes, name of the card at bioimage.io.
_MICROSAMS = (
    ("vit_t_lm", "light microscopy", 40, "faithful-chicken"),
    ("vit_b_lm", "light microscopy", 375, "diplomatic-bug"),
    ("vit_l_lm", "light microscopy", 1250, "idealistic-rat"),
    ("vit_t_em", "organelles in electron microscopy", 40, ""),
    ("vit_b_em", "organelles in electron microscopy", 375, ""),
    ("vit_l_em", "organelles in electron microscopy", 1250, ""),
    ("vit_b_histopathology", "stained tissue", 375, ""),
    ("vit_l_histopathology", "stained tissue", 1250, ""),
    ("vit_h_histopathology", "stained tissue", 2560, ""),
)
MICROSAM = tuple(
    replace(
        _SAM,
        name=f"microsam/{name}",
        summary=f"micro-sam: SAM trained further for {purpose}.",
        licence="MIT or CC-BY (see the card)",
        size_mb=size,
        trained_on=f"public data sets of {purpose}",
        citation="Archit et al., Segment Anything for Microscopy, Nature Methods 2025",
        url=GITHUB + "computational-cell-analytics/micro-sam",
        file="",
        benchmark_data=MICROSCOPY_SETS,
        notes=f"Its card at bioimage.io is {card!r}." if card else "",
    )
    for name, purpose, size, card in _MICROSAMS
)

OTHER = (
    replace(
        _SAM,
        name="mobilesam/vit_t",
        summary="MobileSAM: as sam/vit_b with a small encoder for processors.",
        size_mb=39,
        trained_on="photographs of SA-1B, to imitate sam/vit_h",
        citation="Zhang et al., Faster Segment Anything, 2023",
        url=GITHUB + "ChaoningZhang/MobileSAM",
        file="mobile_sam.pt",
        download_url="https://raw.githubusercontent.com/ChaoningZhang/MobileSAM/"
        "master/weights/mobile_sam.pt",
    ),
    *(
        replace(
            _SAM,
            name=f"hqsam/{name}",
            summary=f"HQ-SAM: finer outlines and thin structures, {what}.",
            size_mb=size,
            trained_on="SA-1B, then HQSeg-44K (photographs with fine masks)",
            citation="Ke et al., Segment Anything in High Quality, NeurIPS 2023",
            url=HUB + "lkeab/hq-sam",
            file=f"sam_hq_{name}.pth",
            download_url=f"{HUB}lkeab/hq-sam/resolve/main/sam_hq_{name}.pth",
        )
        for name, what, size in (
            ("vit_tiny", "small and fast", 42),
            ("vit_b", "ViT-B", 379),
            ("vit_l", "ViT-L", 1255),
            ("vit_h", "ViT-H", 2570),
        )
    ),
)

# Through transformers.
_SAM2 = "https://dl.fbaipublicfiles.com/segment_anything_2/092824/sam2.1_{}.pt"
HUGGING = (
    *(
        replace(
            _SAM,
            name=f"sam2/{name}",
            summary=f"SAM 2.1, {what}: planes, volumes and films, with a memory.",
            size_mb=size,
            trained_on="SA-1B and SA-V (photographs and films)",
            citation="Ravi et al., SAM 2, ICLR 2025",
            url=f"{HUB}facebook/sam2.1-{name.replace('_', '-')}",
            file=f"sam2.1_{name}.pt",
            download_url=_SAM2.format(name),
        )
        for name, what, size in (
            ("hiera_tiny", "smallest", 156),
            ("hiera_small", "small", 184),
            ("hiera_base_plus", "medium", 323),
            ("hiera_large", "large", 898),
        )
    ),
    replace(
        _MEDSAM,
        name="medsam2/tiny",
        summary="MedSAM2: SAM 2.1 for medical volumes and films, from boxes.",
        size_mb=156,
        trained_on="medical volumes and films, after SA-1B and SA-V",
        citation="Ma et al., MedSAM2, 2025",
        url=HUB + "wanglab/MedSAM2",
        file="MedSAM2_latest.pt",
        download_url=HUB + "wanglab/MedSAM2/resolve/main/MedSAM2_latest.pt",
        notes=RESEARCH,
    ),
    replace(
        _SAM,
        name="sam3/base",
        summary="SAM 3: points, boxes and phrases; large.",
        licence="SAM License (not open source)",
        size_mb=3400,
        trained_on="photographs and films (see the source page)",
        citation="Carion et al., SAM 3, 2025",
        url=HUB + "facebook/sam3",
        file="",
        notes="Its publisher gives the files to people who have agreed to its licence, "
        "which bars military uses; import the folder that you get.",
    ),
)

SAM_FAMILY = (*SAM, *MEDICAL, *MICROSAM, *OTHER)
