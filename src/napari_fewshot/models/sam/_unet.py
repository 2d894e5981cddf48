"""ScribblePrompt-UNet: prompts are channels beside the image.

Wong et al., ScribblePrompt, ECCV 2024. Channels: grey image in [0, 1], filled box,
positive clicks, negative clicks, earlier logits. Names of parameters as published.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_fewshot.data import Embedding
from napari_fewshot.models._device import autocast
from napari_fewshot.models.sam._promptable import Promptable, Prompts

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_fewshot._types import FloatArray
    from napari_fewshot.models._spec import ModelSpec
    from napari_fewshot.models.sam._presets import Preset

CHANNELS = 5


class Conv(nn.Module):
    """A convolution and a PReLU with one slope."""

    def __init__(self, channels: int, out: int, kernel: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(channels, out, kernel, padding=kernel // 2)
        ]
        if kernel > 1:
            layers.append(nn.PReLU())
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, out, H, W)."""
        found: Tensor = self.conv(x)
        return found


class ClickUnet(nn.Module):
    """A U-Net with one convolution per level.

    Parameters
    ----------
    widths : tuple of int
        Channels of the levels.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        inputs = (CHANNELS, *widths[:-1])
        self.downs = nn.ModuleList(
            Conv(a, b) for a, b in zip(inputs, widths, strict=True)
        )
        ups: list[nn.Module] = []
        for width in reversed(widths):
            # As published every level has a layer that enlarges and one that learns.
            ups += [nn.UpsamplingBilinear2d(scale_factor=2), Conv(2 * width, width)]
        self.ups = nn.ModuleList(ups)
        self.bottleneck = Conv(widths[-1], widths[-1])
        self.final_conv = Conv(widths[0], 1, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5, S, S) to logits (B, 1, S, S)."""
        skips = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottleneck(x)
        for number, skip in enumerate(reversed(skips)):
            enlarged = self.ups[2 * number](x)
            x = self.ups[2 * number + 1](torch.cat([skip, enlarged], 1))
        found: Tensor = self.final_conv(x)
        return found


class UnetModel(Promptable):
    """The U-Net with weights on a device; its embedding is the grey image.

    Parameters
    ----------
    network : ClickUnet
        With weights.
    spec : ModelSpec
        Facts about it.
    preset : Preset
        How it wants its images.
    device, precision : str
        Where, and with how many bits it computes.
    sha256 : str
        Of the weights file.
    """

    # It takes prompts only.
    classes = 0

    def __init__(
        self,
        network: ClickUnet,
        spec: ModelSpec,
        preset: Preset,
        device: str = "cpu",
        precision: str = "fp32",
        sha256: str = "",
    ) -> None:
        super().__init__(spec, preset, preset.side, device, precision, sha256)
        self.network = network.eval().to(device)

    @property
    def embedding_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of an embedding."""
        return 1, self.side, self.side

    @property
    def mask_side(self) -> int:
        """Side of the logits that may be given as a mask."""
        return self.side

    def encode(
        self, image: Any, check: Callable[[int, int], None] | None = None
    ) -> Embedding:
        """Return the grey image as the network sees it.

        Parameters
        ----------
        image : array (H, W) or (H, W, C)
            See `SamModel.encode`.
        check : callable, optional
            Called once, with 0 and 1; may raise to cancel.

        Returns
        -------
        Embedding
            (1, 128, 128) in [0, 1].

        Raises
        ------
        DataError
            If it is no plane.
        """
        pixels, frame = self._plane(image)
        if check is not None:
            check(0, 1)
        grey = frame.image(pixels)[0, :1].numpy()
        return Embedding(grey, frame.shape, self.spec.name, frame.valid)

    @torch.inference_mode()
    def decode(
        self,
        embedding: Embedding,
        points: Any = None,
        point_labels: Any = None,
        boxes: Any = None,
        mask: Any = None,
        multimask: bool = True,
    ) -> tuple[FloatArray, FloatArray]:
        """Return logits of one or many objects.

        Parameters
        ----------
        embedding : Embedding
            From this model.
        points, point_labels, boxes, mask
            See `SamModel.decode`; a mask is (128, 128).
        multimask : bool
            There is one mask whatever is asked for.

        Returns
        -------
        logits : array (B, 1, 128, 128) float32
        scores : array (B, 1) float32
            The network predicts no quality. This is the soft intersection over union
            of the mask and its own probabilities.

        Raises
        ------
        PromptError
            If there is no prompt, or it does not fit the plane or the model.
        """
        prompts = self._prompts(embedding, points, point_labels, boxes, mask)
        x = channels(torch.from_numpy(embedding.array).to(self.device), prompts)
        with autocast(self.device, self.precision):
            logits = self.network(x).float()
        share, inside = logits.sigmoid(), (logits > 0).float()
        both = (share * inside).sum((2, 3))
        either = (share + inside - share * inside).sum((2, 3)).clamp_min(1e-6)
        return logits.cpu().numpy(), (both / either).cpu().numpy()


def channels(grey: Tensor, prompts: Prompts) -> Tensor:
    """Return what the network reads, (B, 5, S, S).

    Parameters
    ----------
    grey : tensor (1, S, S)
        In [0, 1].
    prompts : Prompts
        Coordinates are cut off to whole pixels; of two clicks on one the last counts.
    """
    count, side = max(prompts.counts), grey.shape[-1]
    planes = np.zeros((count, CHANNELS - 2, side, side), np.float32)
    if prompts.boxes is not None:
        corners = prompts.boxes.cpu().numpy().astype(int).clip(0, side)
        for plane, (x0, y0, x1, y1) in zip(planes[:, 0], corners, strict=True):
            plane[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = 1
    if prompts.points is not None and prompts.labels is not None:
        places = prompts.points.cpu().numpy().astype(int).clip(0, side - 1)
        signs = prompts.labels.cpu().numpy().astype(np.float32)
        for plane, xy, sign in zip(planes[:, 1:], places, signs, strict=True):
            plane[0, xy[:, 1], xy[:, 0]] = sign
            plane[1, xy[:, 1], xy[:, 0]] = 1 - sign
    drawn = torch.from_numpy(planes).to(grey.device)
    past = torch.zeros_like(grey)[None] if prompts.mask is None else prompts.mask
    image, past = (t.expand(count, -1, -1, -1) for t in (grey[None], past))
    return torch.cat([image, drawn, past], 1)


def widths(state: dict[str, Tensor]) -> tuple[int, ...]:
    """Return the channels of the levels that a file holds.

    Parameters
    ----------
    state : dict of str to tensor
        Under the published names.
    """
    levels: list[int] = []
    while (key := f"downs.{len(levels)}.conv.0.weight") in state:
        levels.append(len(state[key]))
    return tuple(levels)
