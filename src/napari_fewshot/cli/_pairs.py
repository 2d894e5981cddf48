"""Examples on a command line: ``--support IMAGE MASK``, and ``--ignore LABEL``.

typer's lists know one value per flag, so `joined` makes one word of the two files, and
of the label that means "nobody knows" where there is one; `support_from` reads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot.data import Support

# Between the parts of one word: no path holds it.
MARK = "\0"


def joined(words: Sequence[str]) -> list[str]:
    """Make one value of the two that follow each ``--support``.

    Parameters
    ----------
    words : sequence of str
        As typed. ``--ignore LABEL`` is taken out: it is said of every mask.

    Raises
    ------
    typer.BadParameter
        If something is missing behind one of the two.
    """
    found, ignored = [], ""
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--ignore":
            ignored = _label(words[at + 1 : at + 2])
            at += 2
            continue
        found.append(word)
        if word == "--support":
            pair = words[at + 1 : at + 3]
            if len(pair) < 2 or any(w.startswith("--") for w in pair):
                raise typer.BadParameter("--support needs two files: IMAGE MASK.")
            found.append(MARK.join(pair))
            at += 2
        at += 1
    if not ignored:
        return found
    if "--support" not in found:
        raise typer.BadParameter(
            "--ignore is said of masks, and there is none: give --support IMAGE MASK."
        )
    after = ["", *found[:-1]]
    return [
        f"{word}{MARK}{ignored}" if before == "--support" else word
        for before, word in zip(after, found, strict=True)
    ]


def _label(words: Sequence[str]) -> str:
    if not words or not words[0].isdigit():
        raise typer.BadParameter(
            "--ignore needs a label, the number that masks hold where nobody knows: "
            "--ignore 255."
        )
    return words[0]


def support_from(image: str, mask: str, **options: Any) -> Support:
    """Return the support of two files.

    Parameters
    ----------
    image, mask : str
        Paths; behind the mask's, perhaps, `MARK` and the label that is ignored.
    **options
        Of `Support`.

    Raises
    ------
    DataError
        If the mask can't be opened or does not hold the label.
    """
    import numpy as np

    from napari_fewshot.data import Support
    from napari_fewshot.errors import DataError
    from napari_fewshot.io import open_labels

    path, _, label = str(mask).partition(MARK)
    if not label:
        return Support(image, mask, **options)
    labels = np.asarray(open_labels(path))
    off = labels == int(label)
    if not off.any():
        raise DataError(
            f"No pixel of {path} has the label {label} that is to be ignored. Check "
            "the number, or leave --ignore out."
        )
    return Support(image, np.where(off, 0, labels), ignore=off, **options)
