"""Everything mode against ``SamAutomaticMaskGenerator``: same weights, image, settings.

ViT-B at 1024 pixels in the published layout. Weights are random but for what makes the
decoder answer with blobs around points (see ``tests/methods/test_everything.py``), and
thresholds are lowered until some hundred masks pass. Both in one process, on one image
of the samples; the ratio is theirs over ours.

``python benchmarks/everything.py [--points 32] [--weights FILE --iou 0.88]``
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse

ROOT = Path(__file__).resolve().parents[1]
# Discs that the three candidates are taught, in pixels of the frame.
RADII = (32.0, 56.0, 90.0)
STABILITY = 0.6


def written(folder: Path) -> Path:
    """Write ViT-B that answers with blobs."""
    sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests" / "methods")]
    from sam import written as random_weights
    from segment_anything import sam_model_registry
    from test_everything import attend, shape_answers

    path = random_weights(folder)
    sam = sam_model_registry["vit_b"](str(path)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part in (sam.prompt_encoder, sam.mask_decoder):
            for name, tensor in part.state_dict().items():
                is_scale = name.endswith("weight") and tensor.ndim == 1
                noise = torch.randn(tensor.shape, generator=generator)
                tensor.copy_(is_scale + (0.1 if is_scale else 0.04) * noise)
        attend(sam)
        shape_answers(sam, RADII)
        for head in sam.mask_decoder.output_hypernetworks_mlps[1:]:
            # Steeper logits: more masks are stable.
            head.layers[-1].bias.mul_(3)
    torch.save(sam.state_dict(), path)
    return path


def picture() -> np.ndarray:
    """Return an X-ray of the samples in colours."""
    from napari_fewshot.sample_data import load_sample

    return np.repeat(load_sample("lungs").image[0][..., None], 3, axis=-1)


def threshold(model: Any, image: np.ndarray) -> float:
    """Return a predicted quality that a third of the candidates exceed."""
    from napari_fewshot.ops.proposals import point_grid

    points = point_grid(image.shape[:2], 6)[:, None]
    embedding = model.encode(image)
    scores = [model.decode(embedding, points=p[None])[1] for p in points]
    return float(np.quantile(scores, 2 / 3))


def theirs(path: Path, image: np.ndarray, points: int, iou: float) -> tuple[Any, float]:
    from segment_anything import SamAutomaticMaskGenerator, sam_model_registry

    generator = SamAutomaticMaskGenerator(
        sam_model_registry["vit_b"](str(path)),
        points_per_side=points,
        pred_iou_thresh=iou,
        stability_score_thresh=STABILITY,
    )
    begin = time.perf_counter()
    found = generator.generate(image)
    seconds = time.perf_counter() - begin
    return np.stack([r["segmentation"] for r in found]), seconds


def ours(model: Any, image: np.ndarray, points: int, iou: float) -> tuple[Any, float]:
    from napari_fewshot.methods.everything import EverythingParams, find_objects
    from napari_fewshot.ops.proposals import slices

    params = EverythingParams(points, iou, STABILITY)
    begin = time.perf_counter()
    found = find_objects(model, lambda pixels, _: model.encode(pixels), image, params)
    masks = np.zeros((len(found), *image.shape[:2]), bool)
    for mask, proposal in zip(masks, found, strict=True):
        mask[slices(proposal.box)] = proposal.mask
    return masks, time.perf_counter() - begin


def average_precision(found: np.ndarray, truth: np.ndarray) -> float:
    """Mean over the thresholds 0.5 to 0.95 of TP / (TP + FP + FN)."""
    one, other = (
        sparse.csr_matrix(m.reshape(len(m), -1), dtype=np.float32)
        for m in (found, truth)
    )
    common = (one @ other.T).toarray()
    union = one.sum(1) + other.sum(1).T - common
    iou = np.asarray(common / union)
    shares = []
    for least in np.arange(0.5, 1.0, 0.05):
        # Two masks may look alike here: each is matched once, the best pairs first.
        left = np.where(iou >= least, iou, 0.0)
        matched = 0
        while left.max(initial=0.0) > 0:
            i, j = np.unravel_index(left.argmax(), left.shape)
            left[i], left[:, j] = 0, 0
            matched += 1
        shares.append(matched / (len(found) + len(truth) - matched))
    return float(np.mean(shares))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=32)
    parser.add_argument("--weights", type=Path, help="of ViT-B; default random ones")
    parser.add_argument("--iou", type=float, help="default by the weights")
    wanted = parser.parse_args()
    import napari_fewshot as nf

    image = picture()
    with tempfile.TemporaryDirectory() as folder:
        path = wanted.weights or written(Path(folder))
        model: Any = nf.load_model("sam/vit_b", str(path), "cpu", "fp32")
        iou = threshold(model, image) if wanted.iou is None else wanted.iou
        mine, fast = ours(model, image, wanted.points, iou)
        other, slow = theirs(path, image, wanted.points, iou)
    print(
        f"{wanted.points**2} points, {image.shape[0]} x {image.shape[1]} pixels: "
        f"ours {fast:.1f} s, {len(mine)} masks; reference {slow:.1f} s, {len(other)} "
        f"masks; {slow / fast:.2f}x faster, AP {average_precision(mine, other):.3f}"
    )


if __name__ == "__main__":
    main()
