"""Turn a file that could run code into one that can't, once its source is trusted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from napari_fewshot.errors import WeightsError

# Where this package lies; an isolated child does not know it otherwise.
ROOT = str(Path(__file__).parents[3])
CHILD = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from napari_fewshot.models.sam._convert import write; write(*sys.argv[2:])"
)


def convert(path: str | os.PathLike[str], out: str | os.PathLike[str]) -> Path:
    """Write the tensors of a weights file as safetensors under Meta's names.

    The file may run code while it is read, so it is opened in a process of its own;
    ask the user first.

    Parameters
    ----------
    path : path
        What ``torch.save`` wrote.
    out : path
        New file; replaced only when the new one is complete.

    Returns
    -------
    Path
        The new file.

    Raises
    ------
    WeightsError
        If it can't be read, holds no tensors, or the new file can't be written.
    """
    source, target = Path(path), Path(out)
    if not source.is_file():
        raise WeightsError(f"There is no weights file {source}. Check its path.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(
            f"{target} cannot be written ({error.strerror}). Choose another place."
        ) from error
    part = target.with_name(f".{target.name}.{os.getpid()}.part").resolve()
    try:
        child = [sys.executable, "-I", "-c", CHILD, ROOT]
        command = [*child, str(source.resolve()), str(part)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not part.is_file():
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise WeightsError(f"{source.name} cannot be converted: {reason}")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def write(source: str, target: str) -> None:
    """Do it, in this very process: code in ``source`` runs.

    Parameters
    ----------
    source, target : str
        Paths.
    """
    import torch
    from safetensors.torch import save_file

    from napari_fewshot.models.sam._names import plain_names, unwrap

    found = torch.load(source, map_location="cpu", weights_only=False)
    # A pickled network is taken apart.
    state = plain_names(unwrap(getattr(found, "state_dict", lambda: found)()))
    if not state:
        sys.exit("it holds no tensors.")
    # Tensors of a safetensors file must not share memory.
    save_file({k: v.detach().clone().contiguous() for k, v in state.items()}, target)
