"""Low-rank updates (LoRA) of SAM files, added to the weights that they update.

Hu et al., LoRA, ICLR 2022: ``W + B A``. Afterwards the layers are SAM's own, as fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_fewshot.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

    from napari_fewshot.models.sam._names import State


def merge_inside(state: State) -> State:
    """Merge the LoRA of finetune-SAM, which lies within the layers it updates.

    Parameters
    ----------
    state : dict of str to tensor
        With ``attn.qkv.qkv.weight`` and ``attn.qkv.linear_a_q.weight``, .. in the
        encoder, ``q_proj.proj.weight`` and ``q_proj.w_a.weight``, .. in the decoder.

    Returns
    -------
    dict of str to tensor
        With ``attn.qkv.weight`` and ``q_proj.weight``; unchanged if there is no LoRA.

    Notes
    -----
    Gu et al., finetune-SAM, 2024: of the joint matrix for queries, keys and values the
    first and the last third are updated.
    """
    merged = {k: v for k, v in state.items() if ".linear_" not in k and ".w_" not in k}
    for key in [k for k in state if k.endswith(".linear_a_q.weight")]:
        layer = key.removesuffix("linear_a_q.weight")
        q, v = (
            _product(
                state, f"{layer}linear_b_{n}.weight", f"{layer}linear_a_{n}.weight"
            )
            for n in "qv"
        )
        weight = add_q_v(merged.pop(f"{layer}qkv.weight"), q, v)
        merged[f"{layer}weight"] = weight
        merged[f"{layer}bias"] = merged.pop(f"{layer}qkv.bias")
    for key in [k for k in state if k.endswith("_proj.w_a.weight")]:
        layer = key.removesuffix("w_a.weight")
        update = _product(state, f"{layer}w_b.weight", key)
        merged[f"{layer}weight"] = merged.pop(f"{layer}proj.weight") + update
        merged[f"{layer}bias"] = merged.pop(f"{layer}proj.bias")
    return merged


def merge_pair(update: State, base: State, name: str) -> State:
    """Merge a LoRA file of SAMed or H-SAM into the SAM it was trained on.

    Parameters
    ----------
    update : dict of str to tensor
        ``w_a_000`` (r, C) and ``w_b_000`` (C, r), ..: of every block the update of
        queries, then that of values; prompt encoder and decoders replace the base's.
    base : dict of str to tensor
        Under Meta's names.
    name : str
        Of the LoRA file, for messages.

    Raises
    ------
    WeightsError
        If they do not belong together.

    Notes
    -----
    Zhang & Liu, SAMed, 2023.
    """
    kept = {k: v for k, v in base.items() if k.startswith("image_encoder.")}
    blocks = sum(key.endswith(".attn.qkv.weight") for key in kept)
    count = sum(key.startswith("w_a_") for key in update)
    if count != 2 * blocks:
        raise WeightsError(
            f"{name} updates {count // 2} blocks and the base file has {blocks}. "
            "Choose the base that it was trained on."
        )
    for block in range(blocks):
        q, v = (
            _product(update, f"w_b_{n:03d}", f"w_a_{n:03d}")
            for n in (2 * block, 2 * block + 1)
        )
        key = f"image_encoder.blocks.{block}.attn.qkv.weight"
        if q.shape[0] * 3 != kept[key].shape[0]:
            raise WeightsError(
                f"{name} is for an encoder of width {q.shape[0]} and the base's is "
                f"{kept[key].shape[0] // 3}. Choose the base that it was trained on."
            )
        kept[key] = add_q_v(kept[key], q, v)
    return kept | {k: v for k, v in update.items() if not k.startswith("w_")}


def add_q_v(weight: Tensor, q: Tensor, v: Tensor) -> Tensor:
    """Return a joint matrix (3 C, C) with updates (C, C) of queries and of values."""
    merged = weight.clone()
    merged[: len(q)] += q
    merged[-len(v) :] += v
    return merged


def _product(state: State, b: str, a: str) -> Tensor:
    missing = [key for key in (a, b) if key not in state]
    if missing or state[b].ndim != 2 or state[b].shape[1:] != state[a].shape[:1]:
        raise WeightsError(
            f"The LoRA of this file is damaged at {(missing or [a])[0]}. Download it "
            "again."
        )
    return state[b].float() @ state[a].float()
