"""What a run would take: pixels to look at, seconds, memory, disk. Nothing is run.

Seconds come from runs on this machine: every run leaves how long it took on so many
pixels. The rest is arithmetic on shapes, on the generous side.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.inference._reading import leading_method
from napari_fewshot.inference.tiles import plan_tiles
from napari_fewshot.models import get_model_spec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot.inference._request import SegmentRequest

# Where nothing was measured: seconds to learn, and per megapixel; of a model that is
# downloaded per plane. They are those of two cores of an ordinary processor.
GUESS_FIT, GUESS_MEGAPIXEL, GUESS_ENCODE = 10.0, 10.0, 10.0
# Bytes at the peak per pixel that is looked at at once, found by trial: the pixels in
# 32 bits and twice over, features; then per class maps, masks and their distances.
PER_PIXEL, PER_CHANNEL, PER_CLASS = 320, 24, 64
# The package with torch, and what a model needs beside its weights.
BASE, WEIGHTS_SHARE = 1.2e9, 1.5
LABEL_BYTES, PROBABILITY_BYTES = 4, 2
# Labels and maps are mostly flat: what is left of them when packed, and not less than
# that of noisy masks.
PACKED = 0.125
# Bytes of an embedding in 16 bits: 256 channels of 64 x 64.
EMBEDDING = 2 * 256 * 64 * 64
MAX_IN_MEMORY = 256 * 1024**2
KEPT_SAMPLES = 16


@dataclass(frozen=True)
class Work:
    """How much there is to look at.

    Attributes
    ----------
    n_planes : int
        Planes that are wanted.
    n_windows : int
        What is looked at one by one: planes, or tiles of large ones.
    window : (int, int)
        Rows and columns of one.
    n_classes, n_channels : int
    label_pixels : int
        Of the whole result.
    is_tiled : bool
    """

    n_planes: int
    n_windows: int
    window: tuple[int, int]
    n_classes: int
    n_channels: int
    label_pixels: int
    is_tiled: bool

    @property
    def megapixels(self) -> float:
        """Millions of pixels of one window."""
        return math.prod(self.window) / 1e6


def work_of(request: SegmentRequest) -> Work:
    """Count what a request asks for.

    Parameters
    ----------
    request : SegmentRequest
        Not yet run.

    Raises
    ------
    DataError
        If the region or the mask does not fit the image.
    """
    query = request.query
    plan = plan_tiles(request)
    every = range(query.n_planes) if request.planes is None else request.planes
    n_planes = n_windows = len(every)
    window = query.plane_shape
    if plan is not None:
        n_planes, n_windows = len(plan.windows), len(plan.numbers)
        window = plan.lattice.size
    values = {*request.support.label_values, *request.text, *request.prompts}
    return Work(
        n_planes=n_planes,
        n_windows=n_windows,
        window=window,
        n_classes=max(1, len(values)),
        n_channels=query.n_channels,
        label_pixels=math.prod(query.label_shape),
        is_tiled=plan is not None,
    )


def memory_of(request: SegmentRequest, work: Work, *, is_stored: bool) -> int:
    """Return the bytes of memory that a run takes at its peak.

    Parameters
    ----------
    request : SegmentRequest
        Not yet run.
    work : Work
        From `work_of`.
    is_stored : bool
        Whether the result is written to a store as it comes.
    """
    pixels = math.prod(work.window)
    each = PER_PIXEL + PER_CHANNEL * work.n_channels + PER_CLASS * work.n_classes
    planes = [math.prod(s.source.plane_shape) for s in request.support]
    learnt = max(planes, default=0) * each
    labels = LABEL_BYTES * work.label_pixels
    held = 0 if is_stored or labels > MAX_IN_MEMORY else labels
    maps = _maps(request, work)
    held += maps if maps <= MAX_IN_MEMORY * work.n_classes else 0
    weights = WEIGHTS_SHARE * 1e6 * _size_mb(request)
    return int(BASE + weights + max(pixels * each, learnt) + held)


def disk_of(
    request: SegmentRequest, work: Work, *, has_out: bool, is_stored: bool
) -> tuple[int, int]:
    """Return the bytes that are written where the result goes, and to the cache.

    Parameters
    ----------
    request : SegmentRequest
        Not yet run.
    work : Work
        From `work_of`.
    has_out, is_stored : bool
        Whether the result is written, and to a store as it comes.
    """
    labels = int(PACKED * LABEL_BYTES * work.label_pixels)
    out = labels if has_out else 0
    cache = 0
    is_large = LABEL_BYTES * work.label_pixels > MAX_IN_MEMORY
    if is_large and not is_stored:
        cache += labels
    if work.is_tiled and is_stored:
        # Parts that wait for their neighbours.
        maps = PROBABILITY_BYTES * work.n_classes * work.label_pixels
        out += int(PACKED * maps)
    maps = _maps(request, work)
    if maps > MAX_IN_MEMORY * work.n_classes:
        cache += int(PACKED * maps)
    if _size_mb(request) and request.model != "auto":
        cache += EMBEDDING * work.n_windows
    return out, cache


def _maps(request: SegmentRequest, work: Work) -> int:
    """Return the bytes of the probabilities that are kept."""
    keeps = request.keep_probabilities
    if keeps is None:
        keeps = request.query.n_planes == 1
    return PROBABILITY_BYTES * work.n_classes * work.label_pixels if keeps else 0


def _size_mb(request: SegmentRequest) -> float:
    """Return the size of the model that a user named; others are small."""
    if request.model == "auto":
        return 0.0
    spec = get_model_spec(request.model)
    return float(spec.size_mb or 0.0) if spec.needs_download else 0.0


@dataclass
class Speeds:
    """How long runs took on this machine.

    Attributes
    ----------
    samples : dict of str to list
        Per method, model and device: megapixels of a window, seconds per window, and
        seconds of learning (None if it was known), of the last runs.
    """

    samples: dict[str, list[list[float | None]]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Speeds:
        """Read what `text` wrote; what is damaged counts as nothing."""
        try:
            content = json.loads(text)
            kept = {
                str(key): [[float(r[0]), float(r[1]), _number(r[2])] for r in rows]
                for key, rows in content.items()
            }
        except (ValueError, TypeError, AttributeError, IndexError):
            return cls()
        return cls(kept)

    def text(self) -> str:
        """Return everything as JSON."""
        return json.dumps(self.samples)

    def note(self, record: Mapping[str, Any], work: Work) -> bool:
        """Take in the provenance of a run; returns whether it tells anything.

        Parameters
        ----------
        record : dict
            Provenance: method, model, device, seconds.
        work : Work
            What was looked at.
        """
        seconds = record.get("seconds", {})
        spent = float(seconds.get("predict", 0.0))
        if not work.n_windows or spent <= 0:
            return False
        learnt = float(seconds.get("fit", 0.0)) + float(seconds.get("assess", 0.0))
        key = speed_key(record["method"], record.get("model"), record.get("device"))
        rows = self.samples.setdefault(key, [])
        each = spent / work.n_windows
        # A plane that was just seen costs nothing: that is no speed.
        alike = [
            float(r[1] or 0)
            for r in rows
            if r[0] and abs(math.log(r[0] / work.megapixels)) < math.log(1.5)
        ]
        if alike and each < 0.1 * float(np.median(alike)):
            return False
        fit = round(learnt, 3) if float(seconds.get("assess", 0.0)) else None
        rows.append([round(work.megapixels, 4), round(each, 4), fit])
        del rows[:-KEPT_SAMPLES]
        return True

    def predict(
        self, request: SegmentRequest, device: str, work: Work, workers: int = 1
    ) -> tuple[float, bool]:
        """Return the seconds of a run, and whether they are but a guess.

        Parameters
        ----------
        request : SegmentRequest
            Not yet run.
        device : str
            Where it will be computed.
        work : Work
            From `work_of`.
        workers : int
            How many share the windows; each is taken to be as fast as this machine.
        """
        method, _ = leading_method(request)
        rounds = math.ceil(work.n_windows / max(1, workers))
        rows = self._rows(method.spec.name, request.model, device)
        fits = [float(r[2]) for r in rows if r[2] is not None]
        needs_fit = bool(len(request.support))
        fit = (float(np.median(fits)) if fits else GUESS_FIT) if needs_fit else 0.0
        if not rows:
            encode = GUESS_ENCODE if _size_mb(request) else 0.0
            each = GUESS_MEGAPIXEL * work.megapixels + encode
            return fit + each * rounds, True
        each = _per_window(rows, work.megapixels)
        return fit + each * rounds, False

    def _rows(self, method: str, model: str, device: str) -> list[list[float | None]]:
        """Return runs of a method; of any of its models if none was named."""
        if model != "auto":
            return self.samples.get(speed_key(method, model, device), [])
        head, tail = f"{method} ", f" {device}"
        keys = [k for k in self.samples if k.startswith(head) and k.endswith(tail)]
        return [row for key in keys for row in self.samples[key]]


def speed_key(method: Any, model: Any, device: Any) -> str:
    """Return the name of samples.

    Parameters
    ----------
    method, model, device : str
        As provenance has them.
    """
    return f"{method} {model or 'none'} {str(device or 'cpu').partition(':')[0]}"


def _per_window(rows: Sequence[Sequence[float | None]], size: float) -> float:
    """Return seconds per window of a size: a constant part and one that grows.

    With sizes that are too alike to tell the parts, everything grows with the pixels,
    and a smaller window takes no less than half of what it took.
    """
    sizes = np.array([float(r[0] or 0) for r in rows])
    spent = np.array([float(r[1] or 0) for r in rows])
    near = np.abs(np.log(sizes / size)) < math.log(1.5)
    if near.any():
        return float(np.median(spent[near])) * size / float(np.median(sizes[near]))
    if sizes.max() > 2 * sizes.min():
        slope, constant = np.polyfit(sizes, spent, 1)
        if slope >= 0 and constant >= 0:
            return float(constant + slope * size)
    closest = int(np.abs(np.log(sizes / size)).argmin())
    return float(spent[closest] * max(0.5, size / sizes[closest]))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
