"""Which model a weights file is: by its names, its digest, then its file name."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from napari_fewshot.errors import WeightsError
from napari_fewshot.models._catalogue import SAM_FAMILY
from napari_fewshot.models.sam._configs import kind
from napari_fewshot.models.sam._files import read_state
from napari_fewshot.models.sam._presets import FAMILIES

# SHA-256 of published files to the name of their model.
DIGESTS = {spec.sha256: spec.name for spec in SAM_FAMILY if spec.sha256}
# Parts of file names, lower case, in this order; the first that fits decides.
FILE_NAMES = (
    (r"lite[-_]?medsam", "medsam/lite"),
    (r"medsam-?ix", "medsamix/vit_b"),
    (r"medico[-_]?sam|medical_imaging", "medicosam/vit_b"),
    (r"sam-?med2d|ft-sam_b", "sammed2d/vit_b"),
    (r"scribbleprompt", "scribbleprompt/vit_b"),
    (r"mobile[-_]?sam", "mobilesam/vit_t"),
    (r"(vit_[tbl])_(lm|em)(?![a-z0-9])", r"microsam/\1_\2"),
    (r"(vit_[blh])_histopathology", r"microsam/\1_histopathology"),
    (r"medsam", "medsam/vit_b"),
    (r"^sam_(vit_[blh])(?:_[0-9a-f]{6})?\.", r"sam/\1"),
)


def identify(path: Any) -> tuple[str, ...]:
    """Return the names of the models that a file may hold weights of.

    Parameters
    ----------
    path : path or pair of paths
        safetensors, or what ``torch.save`` wrote; of a pair the first file tells.

    Returns
    -------
    tuple of str
        One name if the parts in the file, its digest or its file name tell; else all
        that share its shapes.

    Raises
    ------
    WeightsError
        If it is no weights file that can be loaded here.
    """
    file = _first(path)
    names = fitting(*kind(read_state(file, lazy=True), file.name))
    if len(names) == 1:
        return names
    with file.open("rb") as opened:
        known = DIGESTS.get(hashlib.file_digest(opened, "sha256").hexdigest())
    if known is not None:
        return (known,)
    for pattern, name in FILE_NAMES:
        match = re.search(pattern, file.name.lower())
        if match and match.expand(name) in names:
            return (match.expand(name),)
    return names


def fitting(found: str, size: str) -> tuple[str, ...]:
    """Return the names of the models that come in files of a kind and size.

    Parameters
    ----------
    found, size : str
        From `_configs.kind`; a size of "" fits every model.
    """
    return tuple(
        name
        for name, family in sorted(FAMILIES.items(), key=lambda item: _rank(item[0]))
        if found in family.kinds and (not size or family.size == size)
    )


def choose(path: Any) -> str:
    """Return the name of the model that a file holds weights of.

    Parameters
    ----------
    path : path or pair of paths
        See `identify`.

    Raises
    ------
    WeightsError
        If several are possible, with their names, or the file can't be loaded.
    """
    names = identify(path)
    if len(names) == 1:
        return names[0]
    raise WeightsError(
        f"{_first(path).name} may be weights of {', '.join(names)}; they look alike "
        "and want different images. Say which with model=."
    )


def _first(path: Any) -> Path:
    return Path(path[0] if isinstance(path, (tuple, list)) else path)


def _rank(name: str) -> tuple[bool, str]:
    """The original first, the others by name."""
    return not name.startswith("sam/"), name
