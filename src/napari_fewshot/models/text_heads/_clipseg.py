"""CLIPSeg's decoder on any CLIP: three looks, mixed under a phrase.

Tokens of a quarter, a half and three quarters of the tower are reduced and read from
the deepest on; the phrase scales and shifts the first (FiLM); a transposed convolution
makes pixels of patches (Lüddecke and Ecker, CVPR 2022). On BiomedCLIP it is the
BiomedCLIPSeg of Poudel et al. (MIDL 2024). Weights of the published decoder fit by
`ClipSegHead.load_published`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fewshot.models.text_heads._seen import Seen

WIDTH, HEADS, FEED = 64, 4, 2048
_LAYER = {
    "self_attn.out_proj": "self_attn.out_proj",
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "mlp.fc1": "linear1",
    "mlp.fc2": "linear2",
}


class ClipSegHead(nn.Module):
    """Phrases to logits; see the module.

    Parameters
    ----------
    sizes : dict
        From `Seen.sizes`.
    feed : int
        Width of the perceptrons.
    """

    def __init__(self, sizes: dict[str, int], feed: int = FEED) -> None:
        super().__init__()
        self.film_mul = nn.Linear(sizes["words"], WIDTH)
        self.film_add = nn.Linear(sizes["words"], WIDTH)
        self.reduces = nn.ModuleList(
            nn.Linear(sizes["width"], WIDTH) for _ in range(sizes["levels"])
        )
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(WIDTH, HEADS, feed, 0.0, batch_first=True)
            for _ in range(sizes["levels"])
        )
        step = max(1, sizes["patch"] // 4)
        self.transposed_convolution = nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(WIDTH, WIDTH // 2, step, step),
            nn.ReLU(),
            nn.ConvTranspose2d(WIDTH // 2, 1, step, step),
        )

    def forward(self, seen: Seen, words: Tensor) -> Tensor:
        """Return logits (N, C, h, w) of phrases (C, E), about a pixel each.

        Phrases are read one by one: they do not compete.
        """
        every, count = len(seen), len(words)
        scale = self.film_mul(words)[None, :, None]
        shift = self.film_add(words)[None, :, None]
        deepest, *others = zip(
            reversed(seen.levels), self.reduces, self.layers, strict=True
        )
        level, reduce, layer = deepest
        first = scale * reduce(level)[:, None] + shift
        found: Tensor = layer(first.flatten(0, 1))
        for level, reduce, layer in others:
            more = reduce(level).repeat_interleave(count, 0)
            found = layer(found + more)
        cells = found[:, seen.prefix :].transpose(1, 2).unflatten(2, seen.grid)
        logits: Tensor = self.transposed_convolution(cells)
        return logits.view(every, count, *logits.shape[-2:])

    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of a published decoder.

        Parameters
        ----------
        state : dict of str to tensor
            Names after ``decoder.`` of CLIPSeg in the Hugging Face layout, with the
            finer of the two transposed convolutions ("refined").
        """
        own: dict[str, Tensor] = {}
        for name, tensor in state.items():
            parts = name.split(".")
            if parts[0] != "layers":
                own[name] = tensor
                continue
            start, rest, kind = ".".join(parts[:2]), ".".join(parts[2:-1]), parts[-1]
            if rest in _LAYER:
                own[f"{start}.{_LAYER[rest]}.{kind}"] = tensor
            elif rest == "self_attn.q_proj":
                three = [state[f"{start}.self_attn.{k}_proj.{kind}"] for k in "qkv"]
                own[f"{start}.self_attn.in_proj_{kind}"] = torch.cat(three)
        self.load_state_dict(own)
