"""Files of tensors with facts beside them: complete or not there, and no pickle."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from napari_fewshot.errors import StorageError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

FACTS = "napari_fewshot"


def replaced(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place and rename it there when it is complete.

    Parameters
    ----------
    path : Path
        Its folder is made if it is missing.
    write : callable
        Gets the path to write to.

    Raises
    ------
    StorageError
        If it can't be written; what was there stays.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(path.suffix, ".writing-", path.parent)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise StorageError(
            f"{path} can't be written ({getattr(error, 'strerror', None) or error}). "
            "Free space or choose another place; nothing that was there has changed."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
) -> None:
    """Write tensors and facts (JSON) into one safetensors file, atomically."""
    plain = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in tensors.items()
    }
    said = {FACTS: json.dumps(facts, ensure_ascii=False, sort_keys=True)}
    replaced(path, lambda target: save_file(plain, target, said))


def read_tensors(path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_tensors` wrote.

    Parameters
    ----------
    path : Path
        Of the file.
    what : str
        It should be, for the message: ``"text head"``.

    Raises
    ------
    WeightsError
        If there is no such file, or it is damaged or something else.
    """
    if not path.is_file():
        raise WeightsError(f"There is no {what} at {path}. Check the path.")
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {}).get(FACTS, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, OSError, RecursionError) as error:
        raise WeightsError(
            f"{path} is no {what}, or it is damaged. Train it again, or use a copy."
        ) from error
    if not isinstance(facts, dict):
        raise WeightsError(
            f"{path} holds weights, but no {what} of napari-fewshot. Choose another "
            "file."
        )
    bad = [n for n, t in tensors.items() if t.is_floating_point() and not finite(t)]
    if bad:
        raise WeightsError(
            f"{path} holds numbers that are infinite or none ({bad[0]}). It is "
            "damaged; train it again."
        )
    return tensors, facts


def finite(tensor: Tensor) -> bool:
    """Whether all numbers are finite."""
    return bool(torch.isfinite(tensor).all())


def pack_optimiser(
    optimiser: torch.optim.Optimizer, names: Sequence[str]
) -> dict[str, Tensor]:
    """Return all that AdamW remembers of parameters, by name.

    Parameters
    ----------
    optimiser : Optimizer
        With one group of parameters.
    names : sequence of str
        Of its parameters, in order.
    """
    kept = optimiser.state_dict()["state"]
    return {
        f"optimiser.{key}.{names[number]}": torch.as_tensor(value)
        for number, state in kept.items()
        for key, value in state.items()
    }


def restore_optimiser(
    optimiser: torch.optim.Optimizer,
    names: Sequence[str],
    tensors: Mapping[str, Tensor],
) -> None:
    """Give back what `pack_optimiser` returned."""
    number = {name: i for i, name in enumerate(names)}
    state: dict[int, dict[str, Tensor]] = {}
    for full, tensor in tensors.items():
        kind, _, rest = full.partition(".")
        if kind == "optimiser":
            key, _, name = rest.partition(".")
            state.setdefault(number[name], {})[key] = tensor
    whole = optimiser.state_dict()
    whole["state"] = state
    optimiser.load_state_dict(whole)
