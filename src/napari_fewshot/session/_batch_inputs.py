"""What a batch is asked for, and what that means for each of its images."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Image, Support, SupportSet, fit_level
from napari_fewshot.io import open_image, resolve_support
from napari_fewshot.session._batch_plates import plate_image
from napari_fewshot.session._concept_files import load_concept

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from napari_fewshot.data import PromptSet
    from napari_fewshot.session._batch_items import Item

    ReadText = Callable[[Sequence[str]], dict[int, Any]]


@dataclass(frozen=True, eq=False)
class Asked:
    """What is wanted of every image.

    Attributes
    ----------
    out : Path
        Folder of the results.
    supports : SupportSet
    how : dict
        Arguments of `segment`: method, model, text, ...
    params : dict
        Of the method.
    record : list
        JSON of all that decides the result, besides supports and image options.
    options : dict
        ``axes``, ``scale``, ``channels`` and ``level``, unless an image has its own.
    prompts : dict of int to PromptSet, optional
        The same for all images.
    where : dict
        ``region`` and ``inside`` of `segment`; empty for whole images.
    format : str, optional
        Of the labels; default that of the image.
    overwrite, measures, pictures : bool
        Do finished images again; write tables of objects; make small pictures.
    workers : int
        Images at once.
    read_text : callable, optional
        Turns phrases of a job file into those of `segment`.
    """

    out: Path
    supports: SupportSet
    how: Mapping[str, Any]
    params: Mapping[str, Any]
    record: Sequence[Any]
    options: Mapping[str, Any]
    prompts: Mapping[int, PromptSet] | None = None
    where: Mapping[str, Any] = field(default_factory=dict)
    format: str | None = None
    overwrite: bool = False
    measures: bool = False
    pictures: bool = True
    workers: int = 1
    read_text: ReadText | None = None


class Inputs:
    """Images and supports of a batch; supports are opened once.

    Parameters
    ----------
    asked : Asked
        What is wanted.
    """

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self._keys: dict[Any, str] = {}
        self._opened: dict[Any, SupportSet] = {}

    def arguments(self, item: Item, executor: Any) -> dict[str, Any]:
        """Return what `segment` is given besides the image."""
        asked = self.asked
        how = {**asked.how, "executor": executor, **asked.where}
        if item.text and asked.read_text is not None:
            how["text"] = asked.read_text(item.text)
        how["prompts"] = asked.prompts
        return {**how, "support": self.supports(item), **asked.params}

    def open(self, item: Item) -> Image:
        """Open an image, at the level that suits its supports.

        Raises
        ------
        DataError
            If it can't be read.
        """
        options = {**self.asked.options, **item.options}
        if not item.inside:
            image = open_image(item.query, **options)
            if self.asked.prompts or self.asked.where:
                # These lie in pixels of the finest level, unless one is named.
                return image
            return fit_level(image, self.supports(item))
        array, axes, scale = plate_image(item.query, item.inside)
        return Image.from_array(
            array,
            axes=options.get("axes") or axes,
            scale=scale if options.get("scale") is None else options["scale"],
            channels=options.get("channels"),
            name=item.name,
        )

    def supports(self, item: Item) -> SupportSet:
        """Return the supports of an item: its own, or those of all."""
        if not item.supports:
            return self.asked.supports
        if item.supports not in self._opened:
            found: list[Support] = []
            for given in item.supports:
                if isinstance(given, tuple):
                    found.append(resolve_support(Support(given[0], given[1])))
                else:
                    found += load_concept(given).support
            self._opened[item.supports] = SupportSet(found)
        return self._opened[item.supports]

    def key(self, item: Item) -> str:
        """Return a fingerprint of everything but the query."""
        asked = self.asked
        options = {"axes": None, "scale": None, "channels": None}
        options.update({**asked.options, **item.options})
        words = json.dumps([asked.record, options, item.text], sort_keys=True)
        known = (item.supports, words)
        if known not in self._keys:
            digest = hashlib.blake2b(digest_size=16)
            for support in self.supports(item):
                for plane in support.used_planes:
                    digest.update(support.source.plane_digest(plane).encode())
                    digest.update(np.asarray(support.label_plane(plane)).tobytes())
            digest.update(words.encode())
            self._keys[known] = digest.hexdigest()
        return self._keys[known]
