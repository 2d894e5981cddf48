"""Every method on embeddings, beside the same model without the method.

The models are a tiny SAM and a tiny DINOv2, trained on synthetic images alone
(`benchmarks/train_tiny_models.py`) and kept in `tests/data` under the published names
of parameters. Without a method a SAM has two ways: its points are the middles of the
supports' masks, put where they are into the query; or it finds everything, and the mask
counts whose area is nearest to the supports'. Any encoder has a third: a cell belongs
to the class if it is nearer to the mean of the class than to that of the rest.

``python benchmarks/tiny_models.py --data ../shared/data --json tiny.json``
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

import napari_fewshot as nf
from napari_fewshot.adapt._tasks import draw_task
from napari_fewshot.adapt.synthesis import draw_scene
from napari_fewshot.cli._benchmark import open_datasets
from napari_fewshot.cli._click_tasks import read_items
from napari_fewshot.data import Hooks, Plane, Sample
from napari_fewshot.evaluation import binary_dice, episode
from napari_fewshot.methods import get_method, make_params, method_names
from napari_fewshot.methods.everything import EverythingParams, find_objects
from napari_fewshot.methods.grid import GridMethod, embed
from napari_fewshot.ops import resize_image

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "data"
# Name of the model to the file of its weights.
MODELS = {"sam/vit_b": "tiny_sam.npz", "dinov2/vits14": "tiny_dinov2.npz"}
# Scenes from here on are never trained on.
HELD_OUT, SIDE = 9_000_000, 128
DATASETS = ("dsb2018_fluo", "hc18_fetal_head")

# Whole numbers that weights are rounded to, on each side of zero.
LEVELS = 48

Pair = tuple[np.ndarray, np.ndarray]
Answer = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Episode:
    """Supports and queries: images (H, W, C) in [0, 1] and masks (H, W)."""

    source: str
    supports: Sequence[Pair]
    queries: Sequence[Pair]


def pack(state: dict[str, torch.Tensor], path: Path) -> None:
    """Write tensors as whole numbers with a scale per row, compressed."""
    arrays: dict[str, np.ndarray] = {}
    for name, tensor in state.items():
        values = tensor.detach().float().numpy()
        if values.ndim < 2:
            arrays[name] = values.astype(np.float16)
            continue
        rows = values.reshape(len(values), -1)
        scale = np.abs(rows).max(1) / LEVELS
        levels = np.rint(rows / np.where(scale > 0, scale, 1)[:, None])
        arrays[name] = levels.astype(np.int8).reshape(values.shape)
        arrays[f"{name}|scale"] = scale.astype(np.float32)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez_compressed(file, **arrays)
    part.replace(path)


def unpack(path: Path, folder: Path) -> Path:
    """Write what `pack` wrote as safetensors of float32 and return its path."""
    state = {}
    with np.load(path) as packed:
        for name in packed.files:
            if name.endswith("|scale"):
                continue
            values = packed[name].astype(np.float32)
            if f"{name}|scale" in packed.files:
                scale = packed[f"{name}|scale"]
                values *= scale.reshape(-1, *[1] * (values.ndim - 1))
            state[name] = torch.from_numpy(values)
    found = folder / path.with_suffix(".safetensors").name
    save_file(state, found)
    return found


def load(name: str, folder: Path) -> Any:
    """Return a tiny model; its weights are unpacked into a folder."""
    return nf.load_model(name, unpack(FOLDER / MODELS[name], folder), "cpu", "fp32")


def synthetic(count: int, shots: int, most: int = 2) -> list[Episode]:
    """Return episodes of synthetic scenes that nothing was trained on."""
    found = []
    for number in range(HELD_OUT, HELD_OUT + count):
        scene = draw_scene(number, SIDE, shots + 2)
        images, masks = draw_task(scene, np.random.default_rng(number))
        pairs = [
            (np.moveaxis(i, 0, -1).astype(np.float32) / 255, m)
            for i, m in zip(images, masks, strict=True)
        ]
        queries = [p for p in pairs[shots:] if p[1].any()]
        if queries:
            found.append(Episode("synthetic", pairs[:shots], queries[:most]))
    return found


def real(root: Path, dataset: str, shots: int, most: int) -> list[Episode]:
    """Return one episode per class of a data set, with so many queries."""
    found = []
    for folder, facts in open_datasets(root, [dataset]):
        for value in facts["classes"]:
            items = read_items(folder, facts, int(value), original=False)
            groups = [item.pair.group for item in items]
            is_ordered = bool(facts.get("ordered_slices"))
            drawn = episode(groups, shots, 0, is_ordered=is_ordered)
            if drawn is None:
                continue
            pairs = [(item.pair.image, item.pair.mask) for item in items]
            supports = [pairs[i] for i in drawn[0]]
            queries = [pairs[i] for i in drawn[1][:most]]
            found.append(Episode(dataset, supports, queries))
    return found


def by_method(name: str, model: Any, supports: Sequence[Pair], **values: Any) -> Answer:
    """Fit a method and return what answers queries."""
    method = get_method(name)
    samples = [
        Sample(image, labels=mask.astype(np.int32), group=number)
        for number, (image, mask) in enumerate(supports)
    ]
    params = make_params(method.spec.params, values)
    fitted = method.fit(samples, [1], params, model, Hooks())
    return lambda image: fitted.predict(Plane(image), Hooks())[1] >= 0.5


def by_middle(model: Any, supports: Sequence[Pair]) -> Answer:
    """Prompt at the middles of the supports' masks."""
    shares = [(np.argwhere(m).mean(0) + 0.5) / m.shape for _, m in supports if m.any()]

    def answer(image: np.ndarray) -> np.ndarray:
        points = np.stack(shares) * image.shape[:2] - 0.5
        logits, scores = model.decode(
            model.encode(image), points, np.ones(len(points)), multimask=True
        )
        best = logits[0, [int(scores[0].argmax())]]
        return model.restore(best, image.shape[:2])[0] > 0

    return answer


def by_area(model: Any, supports: Sequence[Pair]) -> Answer:
    """Find everything, and take the mask whose area is nearest to the supports'."""
    wanted = float(np.mean([m.mean() for _, m in supports]))
    params = EverythingParams(points_per_side=8, predicted_iou=0.0, stability=0.0)

    def answer(image: np.ndarray) -> np.ndarray:
        found = find_objects(model, lambda part, _: model.encode(part), image, params)
        mask = np.zeros(image.shape[:2], bool)
        if found:
            shares = np.array([p.area for p in found]) / mask.size
            chosen = found[int(abs(np.log(shares / max(wanted, 1e-6))).argmin())]
            mask = chosen.within((0, 0, *mask.shape))
        return mask

    return answer


def by_means(model: Any, supports: Sequence[Pair]) -> Answer:
    """Compare cells with the mean of the class and of the rest."""
    inside, outside = [], []
    for image, mask in supports:
        cells = embed(model, image).cells
        cells = cells / np.linalg.norm(cells, axis=0)
        share = resize_image(mask.astype(np.float32), cells.shape[1:])
        inside.append(cells[:, share >= min(0.5, share.max())])
        outside.append(cells[:, share < min(0.5, share.max())])
    means = [np.concatenate(part, 1).mean(1) for part in (inside, outside)]
    mine, rest = (mean / np.linalg.norm(mean) for mean in means)

    def answer(image: np.ndarray) -> np.ndarray:
        cells = embed(model, image).cells
        cells = cells / np.linalg.norm(cells, axis=0)
        difference = np.tensordot(mine - rest, cells, 1)
        return resize_image(difference.astype(np.float32), image.shape[:2]) > 0

    return answer


PLAIN = {"middle": by_middle, "area": by_area, "means": by_means}


def plain_ways(model: Any) -> list[str]:
    """Return the ways without a method that a model has."""
    return list(PLAIN) if hasattr(model, "decode") else ["means"]


def mean_dice(fit: Callable[..., Answer], episodes: Sequence[Episode]) -> float:
    """Return the mean over episodes of the mean Dice of their queries."""
    means = []
    for one in episodes:
        answer = fit(supports=one.supports)
        dices = [binary_dice(answer(image), mask) for image, mask in one.queries]
        means.append(float(np.mean(dices)))
    return float(np.mean(means))


def compositions() -> list[str]:
    """Return the names of the methods that work on the embeddings of any model."""
    return [n for n in method_names() if isinstance(get_method(n), GridMethod)]


def compare(
    model: Any,
    names: Sequence[str],
    episodes: Sequence[Episode],
    ways: Sequence[str] | None = None,
    **values: Any,
) -> dict[str, float]:
    """Return the mean Dice of ways without a method (default all), and of methods.

    Parameters of the methods may be given by name.
    """
    chosen = plain_ways(model) if ways is None else ways
    every = {n: partial(PLAIN[n], model) for n in chosen}
    every |= {n: partial(by_method, n, model, **values) for n in names}
    found = {}
    for name, way in every.items():
        begun = time.perf_counter()
        found[name] = mean_dice(way, episodes)
        print(f"  {name:14} {found[name]:.3f} {time.perf_counter() - begun:6.1f} s")
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of data sets; or synthetic")
    parser.add_argument("--datasets", default=",".join(DATASETS))
    parser.add_argument("--methods", default="", help="a,b; default all on embeddings")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--shots", default="1,5")
    parser.add_argument("--scenes", type=int, default=30, help="synthetic episodes")
    parser.add_argument("--queries", type=int, default=4, help="of real data sets")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    names = options.methods.split(",") if options.methods else compositions()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for model_name in options.models.split(","):
            model = load(model_name, Path(folder))
            for shots in map(int, options.shots.split(",")):
                sets = {"synthetic": synthetic(options.scenes, shots)}
                for dataset in options.datasets.split(",") if options.data else ():
                    sets[dataset] = real(options.data, dataset, shots, options.queries)
                for source, episodes in sets.items():
                    print(f"{model_name}, {source}, {shots} supports", flush=True)
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        dice = compare(model, names, episodes)
                    rows.append(
                        {"model": model_name, "data": source, "shots": shots} | dice
                    )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
