"""Propagation with a memory of earlier planes (SAM 2, Ravi et al., 2024).

Every object has a memory of its own; all of them read the same encoded plane. A plane
is read when its turn comes and forgotten afterwards; of the memory only what the
network will read again is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_fewshot.data import Embedding
from napari_fewshot.errors import PromptError
from napari_fewshot.models._device import autocast
from napari_fewshot.models.hf._model import HfModel
from napari_fewshot.models.sam._frame import Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from napari_fewshot._types import FloatArray

    Check = Callable[[int, int], None]
    Prompts = Mapping[int, Mapping[str, Any]]
    Found = FloatArray | dict[int, FloatArray]

# What a prompt of one plane may hold, as for `HfModel.predict`; the mask is of pixels.
PARTS = {"points", "point_labels", "boxes", "mask"}
# Labels of a box's first and last corner among points.
CORNERS = (2, 3)


class Maps(NamedTuple):
    """An encoded plane as the session wants it.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns of the plane.
    features : dict
        Maps of the encoder and the code of places.
    """

    shape: tuple[int, int]
    features: dict[str, list[Tensor]]


class Track:
    """One object on its way through the planes.

    Parameters
    ----------
    model : VideoModel
    count : int
        Number of planes.
    prompts : dict of int to dict
        By plane.
    """

    def __init__(self, model: VideoModel, count: int, prompts: Prompts) -> None:
        import transformers

        self.model, self.prompts, self.first = model, prompts, min(prompts)
        self.shapes: dict[int, tuple[int, int]] = {}
        self.session: Any = transformers.Sam2VideoInferenceSession(
            inference_device=model.device,
            inference_state_device=model.device,
            dtype=torch.float32,
        )
        # Only their number is asked for: maps are given, not pixels.
        self.session.processed_frames = dict.fromkeys(range(count))
        self.session.obj_id_to_idx(1)

    def learn(self, plane: int, maps: Maps) -> None:
        """Take the prompts of a plane, if there are some."""
        given = self.prompts.get(plane)
        if given is None:
            return
        self.shapes[plane] = maps.shape
        frame = Frame(maps.shape, self.model.side, self.model.preset)
        if given.get("mask") is not None:
            mask = _mask_inputs(given, frame).to(self.model.device)
            self.session.add_mask_inputs(0, plane, mask)
        else:
            self.session.add_point_inputs(0, plane, _point_inputs(given, frame))
        self.session.obj_with_new_inputs = [1]
        self._run(plane, maps, False)

    def follow(self, plane: int, maps: Maps | None, reverse: bool) -> FloatArray:
        """Return the object's logits (H, W) on a plane; learnt ones need no maps."""
        known = maps is None or plane in self.prompts
        low = self._run(plane, None if known else maps, reverse)
        shape = self.shapes[plane] if maps is None else maps.shape
        found: FloatArray = self.model.restore(low, shape)[0]
        return found

    def turn_round(self) -> None:
        """Forget everything but the planes with prompts."""
        self._outputs("non_cond_frame_outputs").clear()

    def _run(self, plane: int, maps: Maps | None, reverse: bool) -> FloatArray:
        if maps is not None:
            self.session.cache.cache_vision_features(plane, maps.features)
        with torch.inference_mode(), autocast(self.model.device, self.model.precision):
            out = self.model.network(self.session, frame_idx=plane, reverse=reverse)
        self._forget(plane)
        low: FloatArray = out.pred_masks[0].float().cpu().numpy()
        return low

    def _outputs(self, kind: str) -> dict[int, dict[str, Any]]:
        found: dict[int, dict[str, Any]] = self.session.output_dict_per_obj[0][kind]
        return found

    def _forget(self, plane: int) -> None:
        """Drop what the network will not read on the next plane or later."""
        config = self.model.network.config
        passed = self._outputs("non_cond_frame_outputs")
        for frame, kept in list(passed.items()):
            ago = abs(plane - frame) + 1
            if ago >= max(config.max_object_pointers_in_encoder, config.num_maskmem):
                del passed[frame]
            elif ago >= config.num_maskmem:
                passed[frame] = {"object_pointer": kept["object_pointer"]}
        for outputs in (passed, self._outputs("cond_frame_outputs")):
            for kept in outputs.values():
                kept.pop("high_res_masks", None)
        self.session.frames_tracked_per_obj[0].clear()


class VideoModel(HfModel):
    """A network that also follows objects through planes or time."""

    def propagate(
        self,
        planes: Any,
        prompts: Any,
        count: int | None = None,
        check: Check | None = None,
    ) -> Iterator[tuple[int, Found]]:
        """Follow objects from the planes with prompts to all the others.

        Each object is followed from its first plane with prompts to the end, then
        from there back to the first plane. Planes are read one at a time.

        Parameters
        ----------
        planes : sequence or callable
            ``planes[i]`` or ``planes(i)`` is plane i: an image as for `encode`, or its
            embedding from this model.
        prompts : dict
            Of one object: plane -> dict with any of points, point_labels, boxes (one)
            as for `predict`, or a mask (H, W) of the object on that plane. Of several
            objects: object id -> such a dict.
        count : int, optional
            Number of planes, if ``planes`` is a callable.
        check : callable, optional
            Called with the number of steps that are done and of all; may raise to
            cancel.

        Yields
        ------
        plane : int
            Every plane comes once per direction in which an object is followed there.
        logits : array (H, W) float32, or dict of object id to that
            Above 0 inside; -1024 everywhere where the object is not seen.

        Raises
        ------
        PromptError
            If there is no prompt, or it does not fit its plane.
        """
        many = _of_many(prompts)
        given: dict[int, Prompts] = prompts if many else {0: prompts}
        if count is None and not hasattr(planes, "__len__"):
            raise PromptError("Say how many planes there are: count=...")
        total = len(planes) if count is None else int(count)
        for plane_prompts in given.values():
            _check_prompts(plane_prompts, total)
        tracks = {i: Track(self, total, p) for i, p in given.items()}
        read = planes if callable(planes) else planes.__getitem__
        steps = self._steps(tracks, total, read, check)
        if many:
            return steps
        return ((plane, found[0]) for plane, found in steps)

    def _steps(
        self,
        tracks: dict[int, Track],
        total: int,
        read: Callable[[int], Any],
        check: Check | None,
    ) -> Iterator[tuple[int, dict[int, FloatArray]]]:
        firsts = [track.first for track in tracks.values()]
        ahead = [(plane, False) for plane in range(min(firsts), total)]
        back = [(plane, True) for plane in range(max(firsts) - 1, -1, -1)]
        number = 0

        def look(*_: int) -> None:
            if check is not None:
                check(number, len(ahead) + len(back))

        for plane in sorted({p for track in tracks.values() for p in track.prompts}):
            shown = self._read(read, plane, look)
            for track in tracks.values():
                track.learn(plane, shown)
        for order in (ahead, back):
            for plane, reverse in order:
                look()
                here = {
                    i: track
                    for i, track in tracks.items()
                    if (plane < track.first) == reverse
                }
                known = all(plane in track.prompts for track in here.values())
                maps = None if known else self._read(read, plane, look)
                found = {i: t.follow(plane, maps, reverse) for i, t in here.items()}
                number += 1
                yield plane, found
            for track in tracks.values():
                track.turn_round()
        look()

    def _read(self, read: Callable[[int], Any], plane: int, look: Check) -> Maps:
        found = read(plane)
        if not isinstance(found, Embedding):
            found = self.encode(found, look)
        *fine, coarse = self.maps(found)
        # Planes with a memory come without what stands for none.
        coarse = coarse - self.network.no_memory_embedding.reshape(1, -1, 1, 1)
        code = self.network.vision_encoder.neck.position_encoding(
            coarse.shape, coarse.device, coarse.dtype
        )
        features = [_flat(x) for x in (*fine, coarse)]
        return Maps(
            found.image_shape,
            {"vision_feats": features, "vision_pos_embeds": [_flat(code)]},
        )


def _flat(x: Tensor) -> Tensor:
    """(1, C, h, w) to (h w, 1, C)."""
    return x.flatten(2).permute(2, 0, 1)


def _of_many(prompts: Any) -> bool:
    """Tell prompts of several objects from those of one."""
    if not prompts:
        raise PromptError(
            "There is no prompt: give points, a box or a mask of a plane."
        )
    inner = [key for of in prompts.values() for key in of]
    return bool(inner) and not any(isinstance(key, str) for key in inner)


def _check_prompts(prompts: Prompts, total: int) -> None:
    if not prompts:
        raise PromptError("An object has no prompt: give points, a box or a mask.")
    for plane, given in prompts.items():
        if not 0 <= plane < total:
            raise PromptError(
                f"There are prompts on plane {plane}, and planes 0 to {total - 1}."
            )
        unknown = set(given) - PARTS
        if unknown:
            raise PromptError(
                f"A prompt has no part {min(unknown)!r}; its parts are "
                f"{', '.join(sorted(PARTS))}."
            )
        if given.get("mask") is not None and any(
            given.get(part) is not None for part in ("points", "boxes")
        ):
            raise PromptError(
                f"On plane {plane} there is a mask besides points or a box; a mask is "
                "taken as it is, so give one or the other."
            )


def _point_inputs(given: Mapping[str, Any], frame: Frame) -> dict[str, Tensor]:
    """Return points of one object, the corners of its box first."""
    places, labels = [], []
    if given.get("boxes") is not None:
        corners = frame.boxes(given["boxes"])
        if len(corners) != 1:
            raise PromptError(
                f"One object has one box on a plane, and not {len(corners)}."
            )
        places.append(corners.reshape(1, 2, 2))
        labels.append(torch.tensor([CORNERS]))
    if given.get("points") is not None:
        points, signs = frame.points(given["points"], given.get("point_labels"))
        places.append(points)
        labels.append(signs)
    if not sum(part.shape[1] for part in places):
        raise PromptError("There is no prompt: give points, a box or a mask.")
    return {
        "point_coords": torch.cat(places, 1)[None],
        "point_labels": torch.cat(labels, 1)[None],
    }


def _mask_inputs(given: Mapping[str, Any], frame: Frame) -> Tensor:
    """Return a mask in the frame, (1, 1, side, side)."""
    mask = np.asarray(given["mask"])
    if mask.shape != frame.shape:
        raise PromptError(
            f"A mask of a plane has its shape {frame.shape}; this one has {mask.shape}."
        )
    whole = torch.from_numpy(mask != 0).float()[None, None]
    size = (frame.side, frame.side)
    small = F.interpolate(whole, size, mode="bilinear", antialias=True)
    return (small >= 0.5).float()
