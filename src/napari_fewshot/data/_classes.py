"""`ClassTable`: label value, name and colour of every class."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_fewshot.errors import SupportError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

GOLDEN_RATIO = 0.618033988749895


def default_colour(value: int) -> str:
    """Return a ``#rrggbb`` colour that is far from those of neighbouring values."""
    hue = (0.02 + value * GOLDEN_RATIO) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 0.95)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


@dataclass(frozen=True)
class SegmentClass:
    """One class: its label value (1 or more), name and ``#rrggbb`` colour."""

    value: int
    name: str
    colour: str


@dataclass(frozen=True)
class ClassTable:
    """The classes of a session, ordered by label value.

    Attributes
    ----------
    entries : tuple of SegmentClass
    """

    entries: tuple[SegmentClass, ...] = ()

    @classmethod
    def from_names(
        cls, names: Mapping[int, str], colours: Mapping[int, str] | None = None
    ) -> ClassTable:
        """Build a table from ``{value: name}`` and optional ``{value: "#rrggbb"}``."""
        colours = colours or {}
        entries = []
        for value in sorted(names):
            if int(value) < 1:
                raise SupportError(
                    f"Class {value} is not allowed: 0 is the background, classes "
                    "start at 1."
                )
            name = str(names[value]).strip() or f"class {value}"
            colour = colours.get(value) or default_colour(int(value))
            entries.append(SegmentClass(int(value), name, colour))
        return cls(tuple(entries))

    @property
    def names(self) -> dict[int, str]:
        """``{value: name}``."""
        return {c.value: c.name for c in self.entries}

    @property
    def colours(self) -> dict[int, str]:
        """``{value: "#rrggbb"}``."""
        return {c.value: c.colour for c in self.entries}

    def merged(self, names: Mapping[int, str]) -> ClassTable:
        """Return a table that also holds classes it did not know; known names stay."""
        return ClassTable.from_names({**names, **self.names}, self.colours)

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[SegmentClass]:
        return iter(self.entries)

    def __contains__(self, value: object) -> bool:
        return value in self.names
