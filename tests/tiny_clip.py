"""Tiny models of the CLIP kind that were really trained, and the scenes they know.

``write(folder)`` makes of `tests/data/tiny_clip.npz` a folder in open_clip's layout,
which `load_text_model(checkpoint=folder)` and ``nf.segment(..., text={1: "ring"},
checkpoint=folder)`` read: ``kind="native"`` (128 pixels, 16 x 16 patches, 8 blocks,
class token) or ``"timm"`` (as BiomedCLIP: a ViT of timm and a BERT; 160 pixels, 10 x
10 patches, 6 blocks). They know the words of `captions` (benchmarks/tiny_captions.py),
such as "ring", "dark cell", "vessel", "red square", "background"; all others are
nonsense to them. They learnt in minutes, with what is where at hand
(`benchmarks/train_tiny_clip.py`).

>>> folder = tiny_clip.write(tmp_path / "clip")
>>> for scene, phrase in tiny_clip.asked(20):
...     scene.image, phrase.text, scene.mask(phrase)
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ROOT / "tests" / "data" / "tiny_clip.npz"
SAM_WEIGHTS = ROOT / "tests" / "data" / "tiny_sam_shapes.npz"


def _benchmark(name: str) -> ModuleType:
    """Import a script of the folder of benchmarks."""
    if name in sys.modules:
        return sys.modules[name]
    found = importlib.util.spec_from_file_location(
        name, ROOT / "benchmarks" / f"{name}.py"
    )
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    found.loader.exec_module(module)
    return module


shapes: Any = _benchmark("tiny_shapes")
captions: Any = _benchmark("tiny_captions")
files: Any = _benchmark("tiny_clip_files")


def write(folder: Path, kind: str = "native") -> Path:
    """Write a tiny model as a folder that the product reads, and return the folder.

    Parameters
    ----------
    folder : Path
        Is made if need be.
    kind : {"native", "timm"}
        See the module.
    """
    found: Path = files.unpack_model(WEIGHTS, kind, folder)
    return found


def scene(number: int = 0) -> Any:
    """Return a scene never learnt: ``image`` in [0, 1], ``mask(phrase)``."""
    return captions.draw_scene(captions.HELD_OUT + number)


def asked(count: int, first: int = 0, most: int = 1) -> list[tuple[Any, Any]]:
    """Return scenes never learnt, each with phrases that fit some of its objects.

    Parameters
    ----------
    count : int
        Scenes.
    first : int
        Number of the first one.
    most : int
        Phrases per scene.
    """
    rng = np.random.default_rng(first)
    found = []
    for number in range(first, first + count):
        one = scene(number)
        found += [(one, phrase) for phrase in captions.queries(one, rng, most)]
    return found


def nonsense(seed: int) -> str:
    """Return letters without meaning."""
    rng = np.random.default_rng([seed, 5])
    letters = list("abcdefghijklmnopqrstuvwxyz")
    return " ".join("".join(rng.choice(letters, 6)) for _ in range(2))
