"""Turn a training checkpoint into the weights file that ships.

``python -m napari_fewshot.adapt.export CHECKPOINT FILE`` writes the averaged network as
float16 safetensors and prints its SHA-256, which belongs into the model's spec.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import torch
import typer
from safetensors.torch import save


def export(checkpoint: Path, path: Path) -> str:
    """Write the weights and return their SHA-256."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    half = {k: v.half().contiguous() for k, v in state["average"].items()}
    data = save(half)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)
    return hashlib.sha256(data).hexdigest()


def main(
    checkpoint: Annotated[Path, typer.Argument(help="Written by adapt.pretrain.")],
    path: Annotated[Path, typer.Argument(help="Where the weights go.")],
) -> None:
    """Write the averaged network of a checkpoint as safetensors."""
    typer.echo(export(checkpoint, path))


if __name__ == "__main__":
    typer.run(main)
