"""`Support` and `SupportSet`: the annotated examples (n-way, k-shot)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data._ignored import IGNORED, checked_ignore, with_ignored
from napari_fewshot.data._image import Image
from napari_fewshot.data._levels import common_level, unit_name
from napari_fewshot.errors import DataError, SupportError

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, LabelArray

# So many labels on an image of so few values: an image was taken for the mask.
MANY_LABELS, FEW_VALUES = 32, 3
MAX_NEGATIVE_PLANES = 3
MAX_CLASSES = 255
MAX_COUNTED = 1 << 16


@dataclass(frozen=True, eq=False)
class Support:
    """One annotated example: an image with its labels.

    Parameters
    ----------
    image : array, path or object with ``.data``
        See the coordinate and axes rules of the package. A path is opened when the
        support is used. A layer's ``.scale`` and ``.axis_labels`` are read.
    labels : array, path or object with ``.data``
        Integer or bool labels of the image's shape without its channel axis: 0 is
        background, 1..K are classes. True is class 1; so is 255 when it is the only
        non-zero value. Floats only if every value is a whole number. All-zero labels
        make a negative support: nothing here belongs to any class.
    classes : mapping of int to str, optional
        Names of the label values.
    scale : sequence of float, optional
        Pixel size per spatial axis (z, y, x).
    axes : str, optional
        One letter of ``tzcyx`` per image axis.
    channels : int or sequence of int, optional
        Channels to use.
    name : str, optional
    planes : sequence of int, optional
        Use only these planes of a stack. Default: every plane that has foreground.
    unit : str
        Unit of ``scale``, such as ``"micrometer"``; empty if unknown.
    ignore : array, path or object with ``.data``, optional
        Of the shape of the labels, not zero where nobody knows: nothing is learnt from
        there and no score counts it. For images that are annotated in part: labels of
        zero are "surely not the class" elsewhere only.

    Raises
    ------
    SupportError
        If the labels do not fit the image or can't be read as labels.
    DataError
        If the image can't be used.
    """

    image: Any = field(repr=False)
    labels: Any = field(repr=False)
    classes: Mapping[int, str] | None = None
    scale: Sequence[float] | None = None
    axes: str | None = None
    channels: Any = None
    name: str = ""
    planes: Sequence[int] | None = None
    unit: str = ""
    ignore: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Unwrap layers and check everything that is already in memory."""
        for attribute in ("image", "labels", "ignore"):
            value = getattr(self, attribute)
            if hasattr(value, "data") and hasattr(value, "events"):
                self._adopt_layer(attribute, value)
        if self.classes is not None:
            names = {int(k): str(v) for k, v in self.classes.items()}
            object.__setattr__(self, "classes", names)
        if not self.is_path:
            _ = self.source, self.label_values  # both check

    def _adopt_layer(self, attribute: str, layer: Any) -> None:
        options = layer_options(layer)
        other = self.labels if attribute == "image" else self.image
        options.update(common_level(layer, options, other))
        object.__setattr__(self, attribute, options.pop("array"))
        if attribute == "image":
            for key, value in options.items():
                if not getattr(self, key):
                    object.__setattr__(self, key, value)

    @property
    def is_path(self) -> bool:
        """Whether the image, the labels or what to ignore are still a path."""
        given = (self.image, self.labels, self.ignore)
        return any(isinstance(value, (str, os.PathLike)) for value in given)

    @cached_property
    def source(self) -> Image:
        """The checked image."""
        try:
            return Image.from_array(
                self.image,
                axes=self.axes,
                channels=self.channels,
                scale=self.scale,
                name=self.name or "support",
                unit=self.unit,
            )
        except SupportError:
            raise
        except DataError as error:
            raise SupportError(f"A support can't be used. {error}") from error

    @cached_property
    def _label_array(self) -> Any:
        labels = self.labels
        if not hasattr(labels, "shape") or not hasattr(labels, "dtype"):
            labels = np.asarray(labels)
        wanted, found = self.source.label_shape, tuple(int(n) for n in labels.shape)
        what = f"The mask of support {self.name!r}" if self.name else "The mask"
        if found != wanted:
            raise SupportError(
                f"{what} has another size ({_times(found)}) than its image "
                f"({_times(wanted)}). Choose the matching labels or resample them."
            )
        if np.dtype(labels.dtype).kind not in "buif":
            raise SupportError(
                f"{what} has dtype {labels.dtype}; labels are whole numbers (0 is "
                "background)."
            )
        return labels

    @cached_property
    def _ignore_array(self) -> Any:
        return checked_ignore(self.ignore, self.source.label_shape)

    @cached_property
    def _chosen(self) -> tuple[int, ...]:
        """Planes that may teach: the chosen ones, else all."""
        count = self.source.n_planes
        if self.planes is None:
            return tuple(range(count))
        bad = [p for p in self.planes if not 0 <= int(p) < count]
        if bad:
            raise SupportError(
                f"Support plane {bad[0]} does not exist: planes are 0 to {count - 1}."
            )
        return tuple(int(p) for p in self.planes)

    @cached_property
    def _plane_values(self) -> dict[int, frozenset[int]]:
        """Distinct label values of the chosen planes, read one at a time."""
        return {i: _distinct(self._raw_labels(i)) for i in self._chosen}

    @cached_property
    def _stored_values(self) -> frozenset[int]:
        found = frozenset().union(*self._plane_values.values())
        if found == {IGNORED}:
            raise SupportError(
                f"All of {self.name or 'a support'!r} is ignored, so it teaches "
                "nothing. Ignore less of it, or leave it out."
            )
        return found - {0, IGNORED}

    @cached_property
    def label_values(self) -> tuple[int, ...]:
        """Classes that occur, after 255-only masks became class 1."""
        values = sorted(self._stored_values)
        if values == [255]:
            return (1,)
        if len(values) > MAX_CLASSES:
            raise SupportError(
                f"The labels hold {len(values)} different values. Those look like "
                "object numbers, not classes: use 1 for every object of a class, for "
                "example labels = labels > 0."
            )
        return tuple(values)

    @property
    def is_negative(self) -> bool:
        """Whether the labels say that nothing here belongs to any class."""
        return not self.label_values

    @cached_property
    def used_planes(self) -> tuple[int, ...]:
        """Planes that teach: the chosen ones, else all with foreground.

        A negative stack teaches with up to three evenly spaced planes.
        """
        if self.planes is not None:
            return self._chosen
        found = tuple(i for i, v in self._plane_values.items() if v - {0, IGNORED})
        if found:
            return found
        count = len(self._chosen)
        take = min(count, MAX_NEGATIVE_PLANES)
        return tuple(int(i) for i in np.linspace(0, count - 1, take + 2)[1:-1].round())

    def label_plane(self, plane: int) -> LabelArray:
        """Read the labels of one plane, ``(y, x)`` int32; -1 where they are ignored."""
        labels = self._raw_labels(plane)
        if self._stored_values == {255}:
            labels = np.where(labels == 255, 1, labels)
        found: LabelArray = labels.astype(np.int32)
        return found

    def refuse_swapped(self) -> None:
        """Raise a `SupportError` if image and mask are the wrong way round."""
        if len(self.label_values) < MANY_LABELS:
            return
        pixels = np.unique(self.source.raw_plane(self.used_planes[0]))
        if len(pixels) <= FEW_VALUES:
            raise SupportError(
                f"The mask of {self.name or 'a support'!r} holds "
                f"{len(self.label_values)} labels and its image only {len(pixels)} "
                "values. Are image and mask the wrong way round?"
            )

    def _raw_labels(self, plane: int) -> Any:
        source = self.source
        labels = np.asarray(self._label_array[source.label_key(plane)])
        kind = labels.dtype.kind
        if kind == "b":
            labels = labels.astype(np.uint8)
        if kind == "f" and not (np.isfinite(labels) & (labels == labels.round())).all():
            raise SupportError(
                "The mask holds fractions or NaN; labels are whole numbers. Threshold "
                "it first, for example mask > 0.5."
            )
        if labels.size and labels.min() < 0:
            raise SupportError(
                "The mask holds negative labels; 0 is background and classes start at "
                "1. Set the negative pixels to 0 first; if they mean that nobody "
                "knows, say so by ignore=mask < 0."
            )
        ignore = self._ignore_array
        if ignore is None:
            return labels
        return with_ignored(labels, ignore[self.source.label_key(plane)])


class SupportSet(Sequence[Support]):
    """Several supports that are used together.

    Parameters
    ----------
    supports : sequence of Support
        ``(image, labels)`` pairs are accepted too.
    """

    def __init__(self, supports: Sequence[Any] | Support = ()) -> None:
        if isinstance(supports, Support):
            supports = [supports]
        self._supports = tuple(_as_support(item) for item in supports)

    @classmethod
    def of(cls, supports: Any) -> SupportSet:
        """Return a set from a set, one support, an image-labels pair or a list."""
        if isinstance(supports, SupportSet):
            return supports
        if (
            isinstance(supports, tuple)
            and len(supports) == 2
            and not isinstance(supports[0], (Support, tuple, list))
        ):
            supports = [supports]
        return cls(supports)

    def __getitem__(self, index: Any) -> Any:
        found = self._supports[index]
        return SupportSet(found) if isinstance(index, slice) else found

    def __len__(self) -> int:
        return len(self._supports)

    def __iter__(self) -> Iterator[Support]:
        return iter(self._supports)

    def __repr__(self) -> str:
        return f"SupportSet({list(self._supports)!r})"

    @property
    def class_names(self) -> dict[int, str]:
        """Names of all classes that occur or are named, first name wins."""
        names: dict[int, str] = {}
        for support in self:
            for value, name in (support.classes or {}).items():
                names.setdefault(value, name)
        for support in self:
            for value in support.label_values:
                names.setdefault(value, f"class {value}")
        return dict(sorted(names.items()))

    @property
    def label_values(self) -> tuple[int, ...]:
        """Classes that have foreground somewhere."""
        return tuple(sorted({v for s in self for v in s.label_values}))

    def check(self) -> SupportSet:
        """Raise a `SupportError` unless something can be learnt from this set."""
        if not len(self):
            raise SupportError(
                "There is no support yet. Add an image with a mask of what to find, "
                "click on it (prompts), or say what it is (text)."
            )
        if not self.label_values:
            raise SupportError(
                "No support has any foreground. Paint the object in at least one mask "
                "(negative supports alone can't say what to look for)."
            )
        for support in self:
            support.refuse_swapped()
        channels = {s.source.n_channels for s in self}
        if len(channels) > 1:
            raise SupportError(
                f"The supports have different numbers of channels "
                f"({', '.join(map(str, sorted(channels)))}). Use images of one kind or "
                "choose the same channels for all."
            )
        return self


def layer_options(layer: Any) -> dict[str, Any]:
    """Read array, scale and axes of a napari layer by duck typing.

    Returns
    -------
    dict
        ``array``, ``name``, ``scale`` (None unless set), ``unit`` (empty for pixels)
        and ``axes`` (None unless the layer's axis labels are letters of ``tzcyx``).
    """
    array = layer.data
    if getattr(layer, "multiscale", False):
        array = array[0]
    ndim = len(array.shape) - bool(getattr(layer, "rgb", False))
    labels = "".join(str(a) for a in getattr(layer, "axis_labels", ()))
    axes: str | None = labels + ("c" if getattr(layer, "rgb", False) else "")
    if len(labels) != ndim or set(labels) - set("tzcyx"):
        axes = "yxc" if getattr(layer, "rgb", False) and ndim == 2 else None
        if axes is None and ndim == 3:
            axes = "zyxc" if getattr(layer, "rgb", False) else "zyx"
    scale = tuple(float(s) for s in getattr(layer, "scale", ()))[-ndim:]
    known = any(s != 1 for s in scale)
    spatial: tuple[float, ...] | None = scale if known else None
    if spatial is not None and axes is not None:
        letters = [a for a in axes if a != "c"]
        if len(letters) == len(spatial):
            spatial = tuple(
                s for s, a in zip(spatial, letters, strict=True) if a in "zyx"
            )
    return {
        "array": array,
        "name": str(getattr(layer, "name", "")),
        "scale": spatial,
        "axes": axes,
        "unit": unit_name(next(reversed(getattr(layer, "units", None) or ()), "")),
    }


def _as_support(item: Any) -> Support:
    if isinstance(item, Support):
        return item
    if isinstance(item, Sequence) and len(item) == 2:
        return Support(item[0], item[1])
    raise SupportError(
        "A support is nf.Support(image, labels) or an (image, labels) pair; got "
        f"{type(item).__name__}."
    )


def _distinct(labels: AnyArray) -> frozenset[int]:
    """Return the distinct values; much faster than sorting for small whole numbers."""
    if labels.size == 0 or not labels.any():
        return frozenset({0})
    if labels.dtype.kind != "f" and 0 <= labels.min() <= labels.max() < MAX_COUNTED:
        return frozenset(int(v) for v in np.flatnonzero(np.bincount(labels.ravel())))
    return frozenset(int(v) for v in np.unique(labels))


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
