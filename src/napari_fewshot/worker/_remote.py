"""Images and supports whose pixels lie in the client's process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Image, Support, SupportSet, WindowedImage

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, LabelArray
    from napari_fewshot.session._wire import ImageHead, SupportHead

Need = Callable[[str, int, int], Any]


class _Header:
    """Shape and dtype without pixels."""

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)

    def __getitem__(self, key: Any) -> Any:
        raise TypeError("remote pixels are read plane by plane")


class RemoteImage(Image):
    """An `Image` that asks the client for every plane."""

    def raw_plane(self, plane: int) -> AnyArray:
        """Fetch one plane."""
        return self.__dict__["fetch"](plane)  # type: ignore[no-any-return]


class RemoteWindows(WindowedImage):
    """A `WindowedImage` that asks the client for every window."""

    def read(self, plane: int) -> AnyArray:
        """Fetch one window."""
        return self.__dict__["fetch"](plane)  # type: ignore[no-any-return]


class RemoteSupport(Support):
    """A `Support` that asks the client for every plane."""

    def __init__(self, head: SupportHead, number: int, need: Need) -> None:
        source = remote_image(head.image, lambda plane: need("support", number, plane))
        # The fields of a frozen dataclass, and the cached properties, in one go.
        self.__dict__.update(
            image=None,
            labels=None,
            classes=head.classes,
            scale=head.image.scale,
            axes=head.image.axes,
            channels=None,
            name=head.name,
            planes=head.used_planes,
            source=source,
            label_values=head.label_values,
            used_planes=head.used_planes,
            fetch=lambda plane: need("labels", number, plane),
        )

    def label_plane(self, plane: int) -> LabelArray:
        """Fetch the labels of one plane."""
        return self.__dict__["fetch"](plane)  # type: ignore[no-any-return]


def remote_image(head: ImageHead, fetch: Callable[[int], Any]) -> Image:
    """Return an image that fetches its planes.

    Parameters
    ----------
    head : ImageHead
        All but the pixels.
    fetch : callable
        Plane number to pixels.
    """
    image = RemoteImage(
        _Header(head.shape, head.dtype), head.axes, head.channels, head.scale, head.name
    )
    image.__dict__.update(fetch=fetch, window=head.window)
    if head.lattice is None:
        return image
    windows = RemoteWindows(
        image.array,
        *(head.axes, head.channels, head.scale, head.name),
        base=image,
        lattice=head.lattice,
        limits=head.limits,
    )
    windows.__dict__["fetch"] = fetch
    return windows


def remote_supports(heads: Sequence[SupportHead], need: Need) -> SupportSet:
    """Return supports that fetch their planes.

    Parameters
    ----------
    heads : sequence of SupportHead
        All but the pixels.
    need : callable
        Source, number of the support and plane to pixels.
    """
    return SupportSet([RemoteSupport(h, i, need) for i, h in enumerate(heads)])
