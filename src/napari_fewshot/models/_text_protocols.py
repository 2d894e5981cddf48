"""What models that understand words offer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_fewshot._types import AnyArray, FloatArray
    from napari_fewshot.data import Embedding
    from napari_fewshot.models._spec import ModelSpec


class Tower(Protocol):
    """An image tower taken apart, so that maps of where it looks need no hooks.

    Tokens are tensors (N, T, D); the first ``prefix`` of the T tokens are no patches.
    Gradients flow through every part, but the weights need none.

    Attributes
    ----------
    depth, heads, width, prefix : int
        Blocks, heads of attention, D, tokens before the patches.
    grid : (int, int)
        Rows and columns of patches; T is their product plus ``prefix``.
    """

    depth: int
    heads: int
    width: int
    prefix: int
    grid: tuple[int, int]

    def begin(self, x: Tensor) -> Tensor:
        """Return what the first block reads, of images (N, 3, S, S)."""

    def run(self, tokens: Tensor, first: int, last: int) -> Tensor:
        """Return tokens after blocks ``first`` to ``last - 1``."""

    def qkv(self, tokens: Tensor, block: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of a block, each (N, heads, T, D / heads).

        The norm before attention is applied; nothing is scaled.
        """

    def merged(self, attended: Tensor, block: int) -> Tensor:
        """Return attention's output (N, T, D) of values (N, heads, T, D / heads).

        The residual is not added; the layer scale, if there is one, is applied.
        """

    def attended(self, tokens: Tensor, block: int) -> Tensor:
        """Return tokens after the first half of a block, residual included."""

    def normed(self, tokens: Tensor, block: int) -> Tensor:
        """Return tokens after the norm before a block's perceptron."""

    def perceptron(self, normed: Tensor, block: int) -> Tensor:
        """Return what a block's perceptron adds, of tokens after its norm."""

    def project(self, tokens: Tensor) -> Tensor:
        """Return every token in the space of words, (N, T, E), not of length one."""

    def pooled(self, tokens: Tensor) -> Tensor:
        """Return images in the space of words, (N, E), not of length one."""


class TextModel(Protocol):
    """A model of the CLIP kind.

    Attributes
    ----------
    spec : ModelSpec
    tower : Tower
    size : int
        Pixels along both sides of what the tower reads; planes are squashed to it.
    context_length : int
        Tokens of a phrase that are read.
    logit_scale : float
        What cosines are multiplied with, exp of the learnt temperature.
    device, precision, sha256 : str
    notes : tuple of str
        What the user should know.
    """

    spec: ModelSpec
    tower: Tower
    size: int
    context_length: int
    logit_scale: float
    device: Any
    precision: str
    sha256: str
    notes: tuple[str, ...]

    def encode(self, image: AnyArray) -> Embedding:
        """Return features of a plane in the space of words; see `Encoder.encode`."""

    def prepared(self, image: AnyArray) -> Tensor:
        """Return what the tower reads, (1, 3, size, size), of a plane (H, W[, C])."""

    def encode_text(self, phrases: Sequence[str]) -> FloatArray:
        """Return phrases in the space of words, (n, E) float32, rows of length one."""

    def too_long(self, phrases: Sequence[str]) -> tuple[str, ...]:
        """Return the phrases of which only the beginning is read."""
