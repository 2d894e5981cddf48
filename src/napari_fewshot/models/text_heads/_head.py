"""`TextHead`: a trained head with what it belongs to, and its file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from napari_fewshot.errors import ModelError, WeightsError
from napari_fewshot.models.text_heads._clipseg import ClipSegHead
from napari_fewshot.models.text_heads._dynamic import DynamicHead
from napari_fewshot.models.text_heads._parts import centred
from napari_fewshot.models.text_heads._query import QueryHead, cross_predicted
from napari_fewshot.models.text_heads._states import read_tensors, write_tensors
from napari_fewshot.models.text_heads._vlp import (
    Shown,
    VlpTokens,
    check_sam,
    sam_logits,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Embedding
    from napari_fewshot.models.text_heads._seen import Seen

FORMAT, VERSION = "napari-fewshot text head", 1
KINDS: dict[str, Any] = {
    "query": QueryHead,
    "clipseg": ClipSegHead,
    "dynamic": DynamicHead,
    "vlp": VlpTokens,
}
# A file may ask for modules up to these sizes: no more than any CLIP has.
MOST = {"words": 8192, "width": 16384, "levels": 8, "patch": 64}


@dataclass(eq=False)
class TextHead:
    """A head that answers for any phrase.

    Attributes
    ----------
    kind : str
        A key of `KINDS`.
    module : Module
        Trained; in evaluation mode.
    sizes : dict
        From `Seen.sizes`.
    model, sha256 : str
        The CLIP whose features it reads, and its weights.
    sam : str
        Name of the SAM that draws, for ``"vlp"``.
    sam_sha256 : str
        Its weights.
    templates : str
        Sentences in which phrases were learnt.
    classes : dict of int to tuple of str
        Phrases that were learnt.
    shown : dict of int to Shown
        What the supports showed, for ``"vlp"``.
    facts : dict
        How it was trained; JSON.
    centre : tensor (E,), optional
        What is taken off every phrase; see `Phrases.centre`.
    """

    kind: str
    module: nn.Module = field(repr=False)
    sizes: Mapping[str, int]
    model: str
    sha256: str = ""
    sam: str = ""
    sam_sha256: str = ""
    templates: str = "none"
    classes: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    shown: Mapping[int, Shown] = field(default_factory=dict, repr=False)
    facts: Mapping[str, Any] = field(default_factory=dict)
    centre: Tensor | None = field(default=None, repr=False)

    def check(self, model: Any) -> None:
        """Refuse another CLIP than the one it was trained on.

        Raises
        ------
        ModelError
            Naming both.
        """
        other = getattr(model, "sha256", "")
        if self.sha256 and other and other != self.sha256:
            raise ModelError(
                f"This text head was trained on other weights ({self.model}) than "
                f"those of {model.spec.name} that are loaded. Load the same weights, "
                "or train the head again."
            )

    def class_of(self, phrases: Sequence[str]) -> int | None:
        """Return the learnt class that shares a phrase, but for case; or None."""
        asked = {p.casefold() for p in phrases}
        for value, known in self.classes.items():
            if asked & {p.casefold() for p in known}:
                return value
        return None

    @torch.no_grad()
    def answer(
        self,
        seen: Seen,
        words: FloatArray,
        values: Sequence[int | None] = (),
        *,
        sam: Any = None,
        embedding: Embedding | None = None,
        again: bool = False,
    ) -> FloatArray:
        """Return logits of phrases on one plane, above 0 inside.

        Parameters
        ----------
        seen : Seen
            One plane, from the same CLIP.
        words : array (C, E)
            A phrase each, of length one; need not have been learnt.
        values : sequence of int or None, optional
            The learnt class of each, for ``"vlp"``.
        sam, embedding : SamModel, Embedding
            Who draws and how it sees the plane, for ``"vlp"``.
        again : bool
            Let ``"query"`` correct its own answer, in two halves.

        Returns
        -------
        array (C, h, w) float32
            The grid covers the whole plane.
        """
        if seen.sizes != dict(self.sizes):
            raise ModelError(
                f"This text head reads features of {self.model}, which have other "
                "sizes. Choose that model, or train the head again."
            )
        self.module.to(seen.cells.device)
        given = torch.from_numpy(words).to(seen.cells)
        if self.centre is not None:
            given = centred(given, self.centre.to(given))
        module: Any = self.module
        if isinstance(module, VlpTokens):
            return self._drawn(seen, given, values, sam, embedding)
        found = module(seen, given)
        if again and isinstance(module, QueryHead):
            found = cross_predicted(module, seen, given, found.sigmoid())
        shape = [n // 2 for n in seen.pixels.shape[-2:]]
        logits: FloatArray = (
            F.interpolate(found, shape, mode="bilinear")[0].float().cpu().numpy()
        )
        return logits

    def _drawn(
        self,
        seen: Seen,
        words: Tensor,
        values: Sequence[int | None],
        sam: Any,
        embedding: Embedding | None,
    ) -> FloatArray:
        check_sam(sam)
        if self.sam_sha256 and sam.sha256 and sam.sha256 != self.sam_sha256:
            raise ModelError(
                f"This text head was trained with {self.sam}; other weights of a SAM "
                "are loaded. Load the same ones, or train the head again."
            )
        if embedding is None:
            raise ModelError("Learnt tokens need SAM's embedding of the plane.")
        device = seen.cells.device
        known = [self.shown.get(v) if v is not None else None for v in values]
        given = [
            None if s is None else Shown(s.look.to(device), s.patches.to(device))
            for s in known or [None] * len(words)
        ]
        module: Any = self.module
        tokens = module(seen, words, given)
        low = sam_logits(sam, embedding, tokens).float().cpu().numpy()
        found: FloatArray = sam.restore(low, embedding.image_shape)
        return found


def new_module(kind: str, sizes: Mapping[str, int]) -> nn.Module:
    """Make an untrained module.

    Raises
    ------
    ModelError
        For an unknown kind.
    """
    if kind not in KINDS:
        raise ModelError(f"There is no text head {kind!r}. Kinds: {', '.join(KINDS)}.")
    module: nn.Module = KINDS[kind](dict(sizes))
    return module


def save_head(head: TextHead, path: str | os.PathLike[str]) -> Path:
    """Write a head into one safetensors file, complete or not at all.

    Parameters
    ----------
    head : TextHead
        Any.
    path : path
        ``.safetensors`` is added where it is missing.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    StorageError
        If it can't be written.
    """
    target = Path(path)
    if target.suffix != ".safetensors":
        target = target.with_name(target.name + ".safetensors")
    tensors = {f"module.{n}": t for n, t in head.module.state_dict().items()}
    for value, shown in head.shown.items():
        tensors[f"shown.{value}.look"] = shown.look
        tensors[f"shown.{value}.patches"] = shown.patches
    if head.centre is not None:
        tensors["centre"] = head.centre
    facts = {
        "format": FORMAT,
        "version": VERSION,
        "kind": head.kind,
        "sizes": dict(head.sizes),
        "model": head.model,
        "sha256": head.sha256,
        "sam": head.sam,
        "sam_sha256": head.sam_sha256,
        "templates": head.templates,
        "classes": {str(v): list(p) for v, p in head.classes.items()},
        "facts": dict(head.facts),
    }
    write_tensors(target, tensors, facts)
    return target


def load_head(path: str | os.PathLike[str]) -> TextHead:
    """Read a head that `save_head` wrote.

    Raises
    ------
    WeightsError
        If it is missing, damaged, of a newer version or something else.
    """
    source = Path(path)
    tensors, facts = read_tensors(source, "text head")
    if facts.get("format") != FORMAT:
        raise WeightsError(
            f"{source} is no text head ({str(facts.get('format'))[:40]}). Choose "
            "another file."
        )
    if facts.get("version") != VERSION:
        raise WeightsError(
            f"{source} was written by a newer napari-fewshot (version "
            f"{str(facts.get('version'))[:20]}). Update napari-fewshot."
        )
    try:
        return _restored(tensors, facts)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise WeightsError(
            f"{source} is a damaged text head. Train it again, or use a copy."
        ) from error


def _restored(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> TextHead:
    """Make a head of what a file holds; whatever is wrong raises."""
    sizes = {name: int(facts["sizes"][name]) for name in MOST}
    if any(not 1 <= sizes[name] <= most for name, most in MOST.items()):
        raise ValueError("sizes of no model")
    if facts["kind"] not in KINDS:
        raise ValueError("an unknown kind")
    # Made without memory first: the file must hold every one of its parameters.
    with torch.device("meta"):
        module = new_module(facts["kind"], sizes)
    state = {n[7:]: t for n, t in tensors.items() if n.startswith("module.")}
    module.load_state_dict(state, assign=True)
    classes = {int(v): tuple(map(str, p)) for v, p in facts["classes"].items()}
    shown = {}
    for value in classes:
        if f"shown.{value}.look" in tensors:
            look, patches = (tensors[f"shown.{value}.{n}"] for n in ("look", "patches"))
            if look.shape != (sizes["words"],) or patches.shape[1:] != look.shape:
                raise ValueError("what was shown has other sizes")
            shown[value] = Shown(look, patches)
    centre = tensors.get("centre")
    if centre is not None and centre.shape != (sizes["words"],):
        raise ValueError("the centre has another size")
    names = ("model", "sha256", "sam", "sam_sha256", "templates")
    said = {name: str(facts[name]) for name in names}
    return TextHead(
        facts["kind"],
        module.eval(),
        sizes,
        classes=classes,
        shown=shown,
        facts=dict(facts["facts"]),
        centre=centre,
        **said,
    )
