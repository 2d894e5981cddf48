"""Text on synthetic scenes: the tiny CLIP's maps, and masks with a tiny SAM.

Scenes are of `tiny_captions.py`, none of them trained on; the models are those of
`tests/data/tiny_clip.npz` and, to draw masks, `tests/data/tiny_sam_shapes.npz`, which
are installed as anybody's weights are, in a folder that is removed afterwards. All goes
through the product: ``nf.where`` for maps, ``nf.segment`` for masks. Every scene is
asked for one of its objects, then for letters without meaning, which must fail, and for
an object of another scene that is not there: how often something is found all the same.

Per method, over scenes: pointing (how often the highest place of the map is in what was
asked for), Dice of the map at one threshold for all scenes, and of the masks.

``python benchmarks/text_scenes.py --scenes 40 --json text_scenes.json``
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tiny_captions import HELD_OUT, draw_nonsense, draw_scene, queries
from tiny_clip_files import unpack_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiny_captions import Phrase, Scene

    # A scene, what is there, letters, and what is not there.
    Asked = tuple[Scene, Phrase, str, str]

DATA = Path(__file__).resolve().parents[1] / "tests" / "data"
# Scenes whose objects are asked for elsewhere.
OTHERS = 5000
MAPS = ("maskclip", "clearclip", "sclip", "surgery", "proxy", "gscorecam", "m2ib")
PRESETS = ("medclip-sam", "medclip-samv2")


def asked(count: int, first: int = 0) -> list[Asked]:
    """Return scenes with a phrase for one kind of its objects, and letters."""
    rng, apart = (np.random.default_rng([first, n]) for n in (3, 4))
    found = []
    for number in range(HELD_OUT + first, HELD_OUT + first + count):
        scene = draw_scene(number)
        nonsense = draw_nonsense(rng)
        while len(nonsense.text) < 4:
            nonsense = draw_nonsense(rng)
        phrase = queries(scene, rng, 1)[0]
        other = number + OTHERS
        while not (absent := absent_from(scene, draw_scene(other), apart)):
            other += 1
        found.append((scene, phrase, nonsense.text, absent))
    return found


def absent_from(scene: Scene, other: Scene, rng: np.random.Generator) -> str:
    """Return a phrase for something of another scene that is not on this one."""
    for phrase in queries(other, rng, 4):
        if not scene.mask(phrase).any():
            return str(phrase.text)
    return ""


def pixels(scene: Scene) -> np.ndarray:
    """Return a scene as cameras give it, (S, S, 3) uint8."""
    return np.rint(255 * scene.image).astype(np.uint8)


def dice(found: np.ndarray, mask: np.ndarray) -> float:
    """Return the Dice of two masks; of two empty ones it is 1."""
    total = int(found.sum()) + int(mask.sum())
    return 2 * int((found & mask).sum()) / total if total else 1.0


def install(home: Path) -> None:
    """Install the tiny SAM, in a home of this process alone."""
    os.environ["NAPARI_FEWSHOT_HOME"] = str(home)
    from tiny_models import unpack

    from napari_fewshot.io import import_weights

    file = DATA / "tiny_sam_shapes.npz"
    import_weights(unpack(file if file.exists() else DATA / "tiny_sam.npz", home),
                   "sam/vit_b")  # fmt: skip


def maps_of(method: str, checkpoint: Path, rows: Sequence[Asked]) -> dict[str, float]:
    """Return what the maps of a method are worth."""
    import napari_fewshot as nf

    own, other, masks = [], [], []
    for scene, phrase, nonsense, _ in rows:
        for text, kept in ((phrase.text, own), (nonsense, other)):
            how: dict[str, Any] = {"method": method, "checkpoint": checkpoint}
            found = nf.where(pixels(scene), text, **how)
            kept.append(found[1].maps["heat map"])
        masks.append(scene.mask(phrase))
    levels = np.linspace(0.05, 0.95, 19)
    each = [
        np.mean([dice(h > v, m) for h, m in zip(own, masks, strict=True)])
        for v in levels
    ]
    best = float(levels[int(np.argmax(each))])
    pairs = {"": own, " of letters": other}
    figures: dict[str, float] = {}
    for name, heats in pairs.items():
        hits = [m.flat[h.argmax()] for h, m in zip(heats, masks, strict=True)]
        drawn = [dice(h > best, m) for h, m in zip(heats, masks, strict=True)]
        figures[f"pointing{name}"] = float(np.mean(hits))
        figures[f"map Dice{name}"] = float(np.mean(drawn))
    return figures


def masks_of(
    method: str, checkpoint: Path, rows: Sequence[Asked], decoder: str
) -> dict[str, float]:
    """Return what the masks of a method are worth."""
    import napari_fewshot as nf

    own, other, absent = [], [], []
    for scene, phrase, nonsense, missing in rows:
        mask = scene.mask(phrase)
        for text in (phrase.text, nonsense, missing):
            found = nf.segment(
                pixels(scene),
                text={1: text},
                method=method,
                checkpoint=checkpoint,
                decoder=decoder,
            )
            inside = np.asarray(found.labels) == 1
            if text is missing:
                absent.append(bool(inside.any()))
            else:
                kept = own if text is phrase.text else other
                kept.append(dice(inside, mask))
    return {
        f"Dice, {decoder}": float(np.mean(own)),
        f"Dice of letters, {decoder}": float(np.mean(other)),
        f"found though absent, {decoder}": float(np.mean(absent)),
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--methods", default=",".join((*MAPS, *PRESETS)))
    parser.add_argument("--models", default="native,timm")
    parser.add_argument("--decoders", default="sam,map")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    table = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        install(Path(folder))
        rows = asked(options.scenes)
        for kind in options.models.split(","):
            model = unpack_model(DATA / "tiny_clip.npz", kind, Path(folder) / kind)
            for method in options.methods.split(","):
                began = time.perf_counter()
                row: dict[str, Any] = {"model": kind, "method": method}
                if method in MAPS:
                    row |= maps_of(method, model, rows)
                for decoder in filter(None, options.decoders.split(",")):
                    row |= masks_of(method, model, rows, decoder)
                row["seconds"] = time.perf_counter() - began
                table.append(row)
                shown = {k: round(v, 3) if isinstance(v, float) else v
                         for k, v in row.items()}  # fmt: skip
                print(json.dumps(shown), flush=True)
    if options.json:
        options.json.write_text(json.dumps(table, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
