"""CLIPSeg: a map from a phrase, from an example, or from both.

Lüddecke & Ecker, Image segmentation using text and image prompts, CVPR 2022.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as blurring

from napari_fewshot.errors import PromptError
from napari_fewshot.models._pixels import rgb_bytes
from napari_fewshot.models.grounding._reader import Reader, plain
from napari_fewshot.models.grounding._windows import is_large, windows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray, FloatArray
    from napari_fewshot.models.grounding._reader import Check

# Phrases that are decoded at a time.
AT_ONCE = 16
# The background of an example: how bright it stays, and how far it is blurred, as a
# share of the crop. The paper's best combination dims, blurs and crops.
DIM, BLUR, MARGIN = 0.1, 0.03, 0.25


class ClipSeg(Reader):
    """CLIPSeg with weights; see the module."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        config = self.network.config
        self.context_length = int(config.text_config.max_position_embeddings)
        self.size = int(self.processor.image_processor.size["height"])
        self.width = int(config.projection_dim)

    @torch.inference_mode()
    def heat(
        self,
        image: Any,
        phrases: Sequence[str],
        exemplars: Sequence[tuple[Any, Any]] = (),
        weight: float = 0.5,
        *,
        windows: str = "off",
        check: Check | None = None,
    ) -> FloatArray:
        """Say where phrases fit.

        Parameters
        ----------
        image : array (H, W) or (H, W, C)
            uint8, floats in [0, 1], or numbers that are windowed. It is squashed to
            the square that the network reads.
        phrases : sequence of str
            One map each; an empty one is allowed where exemplars count alone.
        exemplars : sequence of (image, mask), optional
            Planes with a mask (H, W) of what is meant, for all phrases: the condition
            of the decoder becomes (1 - a) text + a mean of exemplars.
        weight : float
            a, in [0, 1].
        windows : str
            ``"on"``, ``"off"``, or ``"auto"``, on for planes twice as large as what
            is read: the mean of the whole plane and of overlapping windows.
        check : callable, optional
            Called with the number of the block and of all blocks; may raise to cancel.

        Returns
        -------
        array (P, h, w) float32
            Logits; above 0 fits. The grid covers the whole plane.

        Raises
        ------
        PromptError
            If there is no phrase, one is empty without exemplars, or a mask does not
            fit its plane.
        DataError
            If it is no plane.
        """
        rgb = self._plane(image)
        conditions = self.conditions(phrases, exemplars, weight)
        whole = self._maps(rgb, conditions, check)
        shape = (int(rgb.shape[0]), int(rgb.shape[1]))
        if windows == "off" or (windows == "auto" and not is_large(shape, self.size)):
            return whole
        return self._through_windows(rgb, conditions, whole, check)

    @torch.inference_mode()
    def conditions(
        self,
        phrases: Sequence[str],
        exemplars: Sequence[tuple[Any, Any]] = (),
        weight: float = 0.5,
    ) -> Tensor:
        """Return what the decoder is conditioned on, (P, E); see `heat`."""
        share = float(weight) if len(exemplars) else 0.0
        if not 0 <= share <= 1:
            raise PromptError(
                f"The weight of exemplars is between 0 and 1, not {weight}."
            )
        if share == 1.0 and len(phrases):
            text = torch.zeros((len(phrases), self.width), device=self.device)
        else:
            ids, mask = self._padded(self._words(phrases))
            found = self.network.clip.get_text_features(ids, attention_mask=mask)
            text = found.pooler_output.float()
        if not share:
            return text
        seen = torch.stack([self._shown(plane, mask) for plane, mask in exemplars])
        return (1 - share) * text + share * seen.mean(0)

    def _shown(self, image: Any, mask: Any) -> Tensor:
        """Return the embedding (E,) of an exemplar."""
        prompt = visual_prompt(self._plane(image), mask)
        work = partial(self._watched, self._pooled, prompt, None)
        return self._known(prompt, partial(self.within_memory, work))

    def _pooled(self, rgb: AnyArray) -> Tensor:
        found = self.network.clip.get_image_features(**self._pixels(rgb))
        vector: Tensor = found.pooler_output[0].float()
        return vector

    def _activations(self, rgb: AnyArray) -> tuple[Tensor, ...]:
        """Return the tokens of the blocks that the decoder reads."""
        found = self.network.clip.get_image_features(
            **self._pixels(rgb),
            interpolate_pos_encoding=True,
            output_hidden_states=True,
        )
        # The first of the hidden states are the embeddings.
        return tuple(
            found.hidden_states[i + 1].float() for i in self.network.extract_layers
        )

    def _maps(
        self, rgb: AnyArray, conditions: Tensor, check: Check | None
    ) -> FloatArray:
        tokens = self._encoded(rgb, self._activations, check)
        found = []
        for part in conditions.to(self.device).split(AT_ONCE):
            many = [t.expand(len(part), -1, -1) for t in tokens]
            found.append(self.network.decoder(many, part).logits.float())
        logits: FloatArray = torch.cat(found).cpu().numpy()
        return logits

    def _through_windows(
        self,
        rgb: AnyArray,
        conditions: Tensor,
        whole: FloatArray,
        check: Check | None,
    ) -> FloatArray:
        """Return the mean of the maps of the whole plane and of its windows."""
        shape = rgb.shape[:2]
        boxes = windows_of((int(shape[0]), int(shape[1])), self.size)
        scale = self.size / max(boxes[0][2] - boxes[0][0], boxes[0][3] - boxes[0][1])
        scale = min(1.0, scale)
        grid = tuple(max(1, round(n * scale)) for n in shape)
        total = np.zeros((len(whole), *grid), np.float32)
        count = np.zeros(grid, np.float32)
        for box in boxes:
            y0, x0, y1, x1 = box
            seen = self._maps(rgb[y0:y1, x0:x1], conditions, check)
            a, b, c, d = (round(n * scale) for n in box)
            total[:, a:c, b:d] += resized(seen, (c - a, d - b))
            count[a:c, b:d] += 1
        mean = total / np.maximum(count, 1)
        found: FloatArray = ((mean + resized(whole, mean.shape[1:])) / 2).astype(
            np.float32
        )
        return found

    def too_long(self, phrases: Sequence[str]) -> tuple[str, ...]:
        """Return the phrases of which only the beginning is read."""
        return super().too_long([p for p in phrases if plain(p)])


def visual_prompt(image: Any, mask: Any) -> AnyArray:
    """Return an exemplar as CLIPSeg reads it best: cropped, the rest dim and blurred.

    Parameters
    ----------
    image : array (H, W) or (H, W, C)
        The plane.
    mask : array (H, W)
        What is meant.

    Returns
    -------
    array (h, w, 3) uint8

    Raises
    ------
    PromptError
        If the mask is empty or has another shape.
    """
    rgb = rgb_bytes(np.asarray(image))
    shown = np.asarray(mask) != 0
    if shown.shape != rgb.shape[:2]:
        raise PromptError(
            f"The mask of an example has the shape {shown.shape} and its plane "
            f"{rgb.shape[:2]}. Give one of the same shape."
        )
    if not shown.any():
        raise PromptError("The mask of an example is empty. Mark what is meant.")
    rows, columns = (np.flatnonzero(shown.any(axis)) for axis in (1, 0))
    margin = max(2, round(MARGIN * max(np.ptp(rows), np.ptp(columns)) + 1))
    top, left = max(0, rows[0] - margin), max(0, columns[0] - margin)
    cut = np.s_[top : rows[-1] + 1 + margin, left : columns[-1] + 1 + margin]
    crop, inside = rgb[cut], shown[cut]
    kernel = 2 * max(1, round(BLUR * max(inside.shape))) + 1
    x = torch.from_numpy(np.ascontiguousarray(crop)).permute(2, 0, 1)
    # A kernel that is wider than the crop can't be mirrored at its edges.
    width = min(kernel, 2 * (min(inside.shape) // 2) - 1)
    soft = blurring.gaussian_blur(x, [width, width]) if width >= 3 else x
    around = soft.permute(1, 2, 0).numpy() * DIM
    found: AnyArray = np.where(inside[..., None], crop, around).astype(np.uint8)
    return found


def resized(maps: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Return maps (P, h, w) at another size, bilinearly.

    Parameters
    ----------
    maps : array (P, h, w)
        Of any size.
    shape : (int, int)
        Rows and columns.
    """
    x = torch.from_numpy(np.ascontiguousarray(maps, np.float32))[None]
    found: FloatArray = functional.interpolate(x, shape, mode="bilinear")[0].numpy()
    return found
