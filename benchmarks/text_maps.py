"""What maps of phrases cost: the bottleneck's cache, and 100 phrases on 100 images.

First `m2ib` on a ViT-B/16 with random weights: the product, which runs the blocks below
the bottleneck once, beside the published procedure, which runs every block for every
draw of noise at each step; in one run, in turns, the same map in the end. Then phrases
and images on a tiny model: how often each tower is run.

    python benchmarks/text_maps.py [--steps 10] [--samples 10] [--repeats 3]
        [--architecture ViT-B-16] [--images 100] [--phrases 100] [--only m2ib|counts]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
LAYER, BETA = 7, 0.1


def published(tower: Any, x: torch.Tensor, target: Any, params: Any) -> torch.Tensor:
    """Return information per token, every block run at every step."""
    from napari_fewshot.methods.m2ib import information

    batch = x.repeat(params.samples, 1, 1, 1)
    random = torch.Generator().manual_seed(params.seed)
    alpha = optimizer = None
    for _ in range(params.steps):
        with torch.no_grad():
            features = tower.run(tower.begin(batch), 0, LAYER + 1)
        if alpha is None or optimizer is None:
            alpha = torch.full_like(features[:1], 5.0).requires_grad_()
            optimizer = torch.optim.Adam([alpha], lr=1.0)
        share = torch.sigmoid(alpha)
        noise = torch.randn(features.shape, generator=random)
        costs = information(features[:1], share, params.var)
        mixed = share * features + (1 - share) * params.var**0.5 * noise
        images = tower.pooled(tower.run(mixed, LAYER + 1, tower.depth))
        loss = params.beta * costs.mean() - target.fit(images).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return costs.detach().sum(-1)[0, tower.prefix :]


def product(tower: Any, x: torch.Tensor, target: Any, params: Any) -> torch.Tensor:
    """Return the same as `m2ib` computes it, from pixels on."""
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.m2ib import let_through
    from napari_fewshot.methods.text._tail import pooled_tail, reads_patches

    with torch.no_grad():
        features = tower.run(tower.begin(x), 0, LAYER + 1)

    head = partial(
        pooled_tail, tower, first=LAYER + 1, patches=reads_patches(tower, features)
    )
    blocks = tower.depth - LAYER - 1
    found = let_through(features, head, [target], params, blocks, Hooks())
    return found[0, tower.prefix :]


def bottleneck(given: argparse.Namespace) -> None:
    """Time both ways in turns."""
    import open_clip

    from napari_fewshot.methods import get_method
    from napari_fewshot.methods.text._relevance import Target
    from napari_fewshot.models.clip import tower_of

    torch.manual_seed(0)
    network = open_clip.create_model(given.architecture, pretrained=None)
    visual = network.visual.eval().requires_grad_(requires_grad=False)
    tower = tower_of(visual)
    side = visual.image_size[0]
    x = torch.randn(1, 3, side, side)
    width = visual.output_dim
    text = torch.nn.functional.normalize(torch.randn(1, width), dim=-1)
    target = Target(text, torch.zeros(0, width), 0.0)
    params = get_method("m2ib").spec.params(
        steps=given.steps, samples=given.samples, beta=BETA
    )
    ways = {"every block each step": published, "blocks below once": product}
    walls: dict[str, list[float]] = {name: [] for name in ways}
    busy: dict[str, list[float]] = {name: [] for name in ways}
    maps = {}
    for _ in range(given.repeats):
        for name, way in ways.items():
            wall, work = time.perf_counter(), time.process_time()
            maps[name] = way(tower, x, target, params).numpy()
            walls[name].append(time.perf_counter() - wall)
            busy[name].append(time.process_time() - work)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else "?"
    print(
        f"m2ib, {given.architecture}, {given.steps} steps of {given.samples} draws, "
        f"{cores} cores, {torch.get_num_threads()} threads, {given.repeats} repeats"
    )
    for name in ways:
        print(
            f"  {name:22s} {np.median(walls[name]):7.1f} s "
            f"({np.median(busy[name]):7.1f} s of the processor)"
        )
    first, second = ways
    for what, found in (("time", walls), ("work of the processor", busy)):
        ratio = np.median(found[first]) / np.median(found[second])
        print(f"  ratio of medians, {what}: {ratio:.2f}")
    gap = np.abs(maps[first] - maps[second]).max() / np.ptp(maps[first])
    print(f"  largest difference of the maps: {gap:.1e} of their range")


def counts(given: argparse.Namespace) -> None:
    """Count runs of both towers of a tiny model."""
    sys.path.insert(0, str(ROOT))
    from napari_fewshot.data import Hooks, Plane, TextPrompt
    from napari_fewshot.methods import get_method
    from napari_fewshot.models import load_text_model

    folder = Path(tempfile.mkdtemp())
    os.environ["NAPARI_FEWSHOT_HOME"] = str(folder / "home")
    model = load_text_model("biomedclip", _tiny(folder / "model"))
    ran = {"images": 0, "batches": 0, "phrases": 0}
    begin, read = model.tower.begin, model.network.encode_text

    def count_images(x: torch.Tensor) -> torch.Tensor:
        ran["images"] += len(x)
        return begin(x)

    def count_phrases(numbers: Any, *more: Any, **named: Any) -> torch.Tensor:
        ran["batches"] += 1
        ran["phrases"] += len(numbers)
        return read(numbers, *more, **named)

    model.tower.begin, model.network.encode_text = count_images, count_phrases
    random = np.random.default_rng(0)
    images = random.random((given.images, 128, 128, 1), np.float32)
    phrases = {n + 1: TextPrompt(f"thing number {n}") for n in range(given.phrases)}
    method = get_method("clearclip")
    params = method.spec.params(templates="none")
    start = time.perf_counter()
    fitted: Any = method.fit_text(phrases, params, model, Hooks())
    reading = time.perf_counter() - start
    for image in images:
        heat = fitted.heat(Plane(image), Hooks())
        assert heat.maps.shape[0] == given.phrases
    seconds = time.perf_counter() - start - reading
    # The same words again, as for the next folder: read from what is kept.
    method.fit_text(phrases, params, model, Hooks())
    before = dict(ran)
    again = {n: TextPrompt(f"another {n}") for n in phrases}
    method.fit_text(again, params, model, Hooks()).heat(Plane(images[-1]), Hooks())
    print(
        f"clearclip, tiny model, {given.phrases} phrases on {given.images} images: "
        f"{reading:.1f} s for the words, {seconds:.1f} s for the images\n"
        f"  image tower: {before['images']} images\n"
        f"  text tower: {before['phrases']} phrases in {before['batches']} batches "
        "(with those for background and nonsense)\n"
        f"  {given.phrases} new phrases on the last image: "
        f"{ran['images'] - before['images']} images"
    )


def _tiny(folder: Path) -> Path:
    """Write the trained tiny model; one with random weights where there is none."""
    from tests import tiny_clip
    from tests.models.clip import tiny

    if tiny_clip.WEIGHTS.is_file():
        return tiny_clip.write(folder)
    return tiny.write_native(folder)


def main() -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--architecture", default="ViT-B-16")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--phrases", type=int, default=100)
    parser.add_argument("--only", choices=["m2ib", "counts"])
    given = parser.parse_args()
    if given.only != "counts":
        bottleneck(given)
    if given.only != "m2ib":
        counts(given)


if __name__ == "__main__":
    main()
