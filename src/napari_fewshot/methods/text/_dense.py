"""`DenseMethod`: cells of a plane in the space of words, compared with phrases."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from napari_fewshot.methods.text._attention import last_block
from napari_fewshot.methods.text._base import TextMethod
from napari_fewshot.methods.text._heat import Heat
from napari_fewshot.methods.text._knowledge import with_knowledge
from napari_fewshot.methods.text._seen import KEPT, Seen, fits_of, key_of, within_memory
from napari_fewshot.methods.text._windows import Blend, lay_out, resized
from napari_fewshot.methods.text._words import unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks, Plane
    from napari_fewshot.methods.text._words import TextBank

# Views that go through a tower at once: on a processor one by one is as fast.
AT_ONCE = 16
# How much the view of the whole plane counts beside the windows.
WHOLE_SHARE = 0.5


class DenseMethod(TextMethod):
    """Base of the methods that compare every cell of a plane with the phrases.

    A plane is squashed to what the model reads, so that the grid covers all of it.
    Large planes are looked at through overlapping windows as well (`lay_out`), and the
    maps of the windows and of the whole are averaged. Cells of every view are kept for
    a while: a new phrase on the same plane needs no tower.

    Attributes
    ----------
    fine : int
        Cells of a window's map per patch and axis.
    """

    fine: ClassVar[int] = 1

    @abstractmethod
    def cells(
        self, model: Any, tokens: Tensor, images: Sequence[FloatArray], params: Any
    ) -> tuple[Tensor, tuple[int, int], Tensor]:
        """Return cells in the space of words.

        Parameters
        ----------
        model : TextModel
            With its tower.
        tokens : tensor (N, T, D)
            After the first `begins` blocks.
        images : sequence of N arrays (H, W, C)
            The views.
        params : TextParams
            Of this method.

        Returns
        -------
        cells : tensor (N, h * w, E)
        grid : (int, int)
            h and w.
        own : tensor (N, T, D)
            What the tower itself makes of the tokens, after its last block.
        """

    def begins(self, depth: int) -> int:
        """Return how many blocks of the tower are run as they are."""
        return depth - 1

    def what(self, params: Any) -> str:
        """Return what cells depend on besides pixels and weights."""
        return str(self.spec.name)

    def compared(self, seen: Seen, bank: TextBank, params: Any) -> FloatArray:
        """Return maps (K, h, w) of a view, in the order that `heat_of` reads."""
        return cosines(seen, informed(seen, bank) if params.knowledge else bank)

    def heat_of(self, maps: FloatArray, bank: TextBank) -> Heat:
        """Return the heat of maps that were averaged over all views."""
        count = len(bank.classes)
        background = maps[2 * count] if len(bank.background) else None
        negative = maps[count : 2 * count].copy()
        bare = [not len(words.negative) for words in bank.classes]
        negative[np.array(bare)] = -1.0
        return Heat(
            maps[:count],
            "cosine",
            background,
            None if all(bare) else negative,
        )

    def heat(
        self, model: Any, plane: Plane, bank: Any, params: Any, hooks: Hooks
    ) -> Heat:
        """Compare every cell with every phrase; see `TextMethod.heat`."""
        hooks.check()
        image = np.ascontiguousarray(plane.image)
        maps, pooled = self._looked(model, [image], bank, params)[0]
        hooks.check()
        fine = (model.tower.grid[0] * self.fine, model.tower.grid[1] * self.fine)
        shape = (int(image.shape[0]), int(image.shape[1]))
        layout = lay_out(shape, model.size, fine, params.windows)
        if layout is not None:
            blend = Blend(layout, len(maps))
            step = 1 if str(model.device).startswith("cpu") else AT_ONCE
            for first in range(0, len(layout.places), step):
                hooks.report("Looking closer", first, len(layout.places))
                places = layout.places[first : first + step]
                crops = [layout.crop(image, place) for place in places]
                looks = self._looked(model, crops, bank, params)
                for place, (part, _) in zip(places, looks, strict=True):
                    blend.add(part, place)
            whole = resized(maps, layout.canvas)
            maps = WHOLE_SHARE * whole + (1 - WHOLE_SHARE) * blend.mean()
        found = self.heat_of(np.nan_to_num(maps).astype(np.float32), bank)
        fits, baseline = fits_of(bank, pooled)
        return Heat(
            found.maps, found.kind, found.background, found.negative, fits, baseline
        )

    def _looked(
        self, model: Any, images: Sequence[FloatArray], bank: TextBank, params: Any
    ) -> list[tuple[FloatArray, FloatArray]]:
        """Return maps (K, h, w) and the pooled view (E,), mirrored views averaged."""
        seen = self._seen(model, images, params)
        plain = [(self.compared(s, bank, params), s.pooled) for s in seen]
        if not params.flips:
            return plain
        turned = [np.ascontiguousarray(image[:, ::-1]) for image in images]
        mirrored = self._seen(model, turned, params)
        found = []
        for (maps, pooled), s in zip(plain, mirrored, strict=True):
            both: FloatArray = maps + self.compared(s, bank, params)[:, :, ::-1]
            found.append((both * np.float32(0.5), unit(pooled + s.pooled)))
        return found

    def _seen(
        self, model: Any, images: Sequence[FloatArray], params: Any
    ) -> list[Seen]:
        """Return views in the space of words, computed or kept."""
        keys = [key_of(model, image, self.what(params)) for image in images]
        held = {key: KEPT.get(key) for key in keys}
        found: dict[str, Seen] = {k: s for k, s in held.items() if s is not None}
        new = {k: i for k, i in zip(keys, images, strict=True) if k not in found}
        if new:
            work = partial(self._encoded, model, list(new.values()), params)
            made = within_memory(model, work)
            for key, seen in zip(new, made, strict=True):
                KEPT.put(key, seen)
                found[key] = seen
        return [found[key] for key in keys]

    def _encoded(
        self, model: Any, images: Sequence[FloatArray], params: Any
    ) -> list[Seen]:
        import torch

        tower = model.tower
        with torch.no_grad():
            x = torch.cat([model.prepared(image) for image in images])
            tokens = tower.run(tower.begin(x), 0, self.begins(tower.depth))
            cells, (rows, columns), own = self.cells(model, tokens, images, params)
            pooled = tower.pooled(own).float().cpu().numpy()
            array = cells.float().cpu().numpy()
        shaped = array.reshape(len(images), rows, columns, -1)
        return [
            Seen(unit(np.nan_to_num(c)), unit(np.nan_to_num(p)))
            for c, p in zip(shaped, pooled, strict=True)
        ]


class LastBlockMethod(DenseMethod):
    """Base of the methods that only do the last block another way.

    Attributes
    ----------
    variant : str
        One of `_attention.VARIANTS`.
    """

    variant: ClassVar[str] = "vanilla"

    def cells(
        self, model: Any, tokens: Tensor, images: Sequence[FloatArray], params: Any
    ) -> tuple[Tensor, tuple[int, int], Tensor]:
        """Do the last block this way, and as the tower does; see `DenseMethod`."""
        tower = model.tower
        made = tower.project(last_block(tower, tokens, self.variant))
        own = tower.run(tokens, tower.depth - 1, tower.depth)
        return made[:, tower.prefix :], tower.grid, own


def informed(seen: Seen, bank: TextBank) -> TextBank:
    """Return words with the attributes that a view shows; see `with_knowledge`.

    Parameters
    ----------
    seen : Seen
        Cells of length one.
    bank : TextBank
        Classes without attributes stay as they are.
    """
    cells = seen.cells.reshape(-1, seen.cells.shape[-1])
    classes = tuple(
        replace(words, positive=with_knowledge(cells, words)[None])
        if len(words.attributes)
        else words
        for words in bank.classes
    )
    return replace(bank, classes=classes)


def cosines(seen: Seen, bank: TextBank) -> FloatArray:
    """Return cosines of cells with words, (2 C + 1, h, w), or 2 C of no background.

    First of every class the best of its phrases, then of every class the best of what
    it is not (-1 where nothing is named), last the best of the background.

    Parameters
    ----------
    seen : Seen
        Cells of length one.
    bank : TextBank
        Words of length one.
    """
    groups = [
        *(words.positive for words in bank.classes),
        *(words.negative for words in bank.classes),
        bank.background,
    ]
    rows, columns, width = seen.cells.shape
    flat = np.concatenate(groups) @ seen.cells.reshape(-1, width).T
    ends = np.cumsum([len(g) for g in groups])[:-1]
    parts = np.split(flat, ends)
    if not len(bank.background):
        parts = parts[:-1]
    best = [p.max(0) if len(p) else np.full(rows * columns, -1.0) for p in parts]
    found: FloatArray = np.stack(best).reshape(-1, rows, columns).astype(np.float32)
    return found
