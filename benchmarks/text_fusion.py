"""Supports, a phrase, and both: what either adds on synthetic scenes.

Scenes are of `tiny_captions.py`, none of them trained on. Each is asked for one kind of
its objects. The supports are other scenes that hold what the phrase says, often in
another colour, fill or size. The phrase is read by the tiny CLIP of
`tests/data/tiny_clip.npz`; all goes through ``nf.segment``.

Per method that learns from supports and number of supports, mean Dice over scenes:

* supports alone, the phrase alone, and both;
* the gain of both over the supports alone: mean, the worst mean of a kind of phrase
  (its shape; with a colour or without) of at least ``--least`` scenes, and the share
  of scenes that are worse by more than 0.02;
* the same gain with letters without meaning, with words of another world ("car"), and
  with a known word for another thing.

``vlp`` joins phrases and supports itself; its supports alone are those of ``panet``.

``python benchmarks/text_fusion.py --scenes 40 --methods panet,linear,vlp``
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
from text_scenes import dice
from tiny_captions import (
    FOREIGN,
    HELD_OUT,
    NOUNS,
    draw_nonsense,
    draw_scene,
    queries,
)
from tiny_clip_files import unpack_model

if TYPE_CHECKING:
    from tiny_captions import Phrase, Scene

DATA = Path(__file__).resolve().parents[1] / "tests" / "data"
# Scenes from here on are supports, so many of them per scene that is asked.
SUPPORTS, APART = 100_000, 1000
# Pixels of what is asked for, in supports and scenes.
LEAST_AREA = 60
# How much worse a scene may be.
WORSE = 0.02
OTHERS = ("letters", "unknown", "other thing")


def as_bytes(scene: Scene) -> np.ndarray:
    """Return a scene as users have it."""
    found: np.ndarray = np.rint(np.clip(scene.image, 0, 1) * 255).astype(np.uint8)
    return found


def supports_for(phrase: Phrase, number: int, count: int) -> list[Any]:
    """Return other scenes that hold what a phrase says, annotated."""
    import napari_fewshot as nf

    found: list[Any] = []
    for seed in range(APART):
        scene = draw_scene(HELD_OUT + SUPPORTS + number * APART + seed)
        mask = scene.mask(phrase)
        if mask.sum() > LEAST_AREA:
            found.append(nf.Support(as_bytes(scene), mask.astype(np.int32)))
        if len(found) == count:
            break
    return found


def phrases_for(phrase: Phrase, number: int) -> dict[str, str]:
    """Return what is asked for instead, by kind."""
    rng = np.random.default_rng([number, 7])
    letters = draw_nonsense(rng)
    while len(letters.text) < 4 or any(w in letters.text for w in FOREIGN):
        letters = draw_nonsense(rng)
    shape = phrase.says[0]["shape"]
    nouns = {w: s["shape"] for w, s in NOUNS.items() if list(s) == ["shape"]}
    others = [word for word, means in nouns.items() if means != shape]
    texts = (letters.text, str(rng.choice(FOREIGN)), str(rng.choice(others)))
    return dict(zip(OTHERS, texts, strict=True))


def cases_of(count: int, first: int, most: int) -> list[dict[str, Any]]:
    """Return scenes with a phrase, its mask, and supports."""
    rng = np.random.default_rng([first, 11])
    found = []
    for number in range(first, first + count):
        scene = draw_scene(HELD_OUT + number)
        phrase = queries(scene, rng, 1)[0]
        mask = scene.mask(phrase)
        if mask.sum() <= LEAST_AREA:
            continue
        found.append(
            {
                "image": as_bytes(scene),
                "mask": mask,
                "text": phrase.text,
                "kinds": (
                    phrase.says[0]["shape"],
                    "coloured" if "colour" in phrase.says[0] else "plain",
                ),
                "supports": supports_for(phrase, number, most),
                **phrases_for(phrase, number),
            }
        )
    return found


def measured(
    case: dict[str, Any], method: str, count: int, clip: Path, more: dict[str, Any]
) -> dict[str, float]:
    """Return the Dice of every way to ask."""
    import napari_fewshot as nf

    supports, image = case["supports"][:count], case["image"]

    def worth(*given: Any, **how: Any) -> float:
        found = nf.segment(image, *given, **how)
        return dice(np.asarray(found.labels) == 1, case["mask"])

    reads = method == "vlp"
    look = {"method": "panet" if reads else method, **({} if reads else more)}
    both = {"text_model": clip, **look}
    if reads:
        both = {"method": "vlp", "checkpoint": clip}
    row = {
        "supports": worth(supports, **look),
        "text": worth(text=case["text"], checkpoint=clip),
        "both": worth(supports, text=case["text"], **both),
    }
    for name in OTHERS:
        row[name] = worth(supports, text=case[name], **both)
    return row


def summary(rows: list[dict[str, float]], cases: list[Any], least: int) -> dict:
    """Return the row of the table."""
    found: dict[str, Any] = {
        name: float(np.mean([r[name] for r in rows]))
        for name in ("supports", "text", "both")
    }
    gains = np.array([r["both"] - r["supports"] for r in rows])
    found["gain"] = float(gains.mean())
    kinds = sorted({k for c in cases for k in c["kinds"]})
    means = {}
    for kind in kinds:
        chosen = [k for k, c in enumerate(cases) if kind in c["kinds"]]
        if len(chosen) >= least:
            means[kind] = float(gains[chosen].mean())
    worst = min(means, key=lambda k: means[k], default="")
    found["worst kind"] = f"{worst} {means[worst]:+.3f}" if worst else ""
    found["worse"] = float(np.mean(gains < -WORSE))
    for name in OTHERS:
        found[name] = float(np.mean([r[name] - r["supports"] for r in rows]))
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--methods", default="panet,linear,knn,incontext,vlp")
    parser.add_argument("--supports", default="1,3")
    parser.add_argument("--model", default="native", choices=("native", "timm"))
    parser.add_argument("--least", type=int, default=4)
    parser.add_argument(
        "--practise",
        action="store_true",
        help="let the network practise on supports, as is usual in incontext and auto",
    )
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    counts = [int(k) for k in options.supports.split(",")]
    table = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.environ["NAPARI_FEWSHOT_HOME"] = str(Path(folder) / "home")
        clip = unpack_model(
            DATA / "tiny_clip.npz", options.model, Path(folder) / "clip"
        )
        cases = cases_of(options.scenes, options.first, max(counts))
        for method in options.methods.split(","):
            can = method in ("incontext", "auto")
            more = {"practise": options.practise} if can else {}
            for count in counts:
                began = time.perf_counter()
                rows = [measured(c, method, count, clip, more) for c in cases]
                row = {"method": method, "k": count, "scenes": len(cases)}
                row |= summary(rows, cases, options.least)
                row["seconds"] = round(time.perf_counter() - began, 1)
                table.append(row)
                shown = {k: round(v, 3) if isinstance(v, float) else v
                         for k, v in row.items()}  # fmt: skip
                print(json.dumps(shown), flush=True)
    if options.json:
        options.json.write_text(json.dumps(table, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
