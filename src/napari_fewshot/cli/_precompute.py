"""``encode``: planes of files into the embedding cache, resumable.

A first pass reads all planes and finds those that are not in the cache yet, so that
what is promised then is what is left to do.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from napari_fewshot.cli._segment import (
    DONE,
    FAILED_ALL,
    FAILED_SOME,
    INTERRUPTED,
    find_files,
)
from napari_fewshot.errors import DataError, FewShotError, StorageError
from napari_fewshot.inference._checks import is_constant
from napari_fewshot.inference._embeddings import get_cache
from napari_fewshot.io import open_image
from napari_fewshot.models import load_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_fewshot.data import Embedding, Image
    from napari_fewshot.inference._embeddings import EmbeddingCache
    from napari_fewshot.models import Encoder

# Of a number in the cache: float16.
BYTES = 2


@dataclass(frozen=True)
class EncodeOptions:
    """Options of ``encode`` as typed."""

    model: str
    checkpoint: Path | None
    axes: str | None
    channels: str | None
    device: str
    yes: bool


@dataclass
class _Plan:
    """What a first look found.

    Attributes
    ----------
    todo : list of (Path, list of int)
        Planes to encode of each file.
    held, blank : int
        Planes in the cache, and planes of one value.
    """

    todo: list[tuple[Path, list[int]]] = field(default_factory=list)
    held: int = 0
    blank: int = 0

    @property
    def count(self) -> int:
        """Planes to encode."""
        return sum(len(planes) for _, planes in self.todo)


def precompute(paths: Sequence[str], options: EncodeOptions) -> int:
    """Encode the planes of all files; returns the exit code.

    Parameters
    ----------
    paths : sequence of str
        Files, folders and globs.
    options : EncodeOptions
        Everything else.

    Raises
    ------
    FewShotError
        If nothing can be started: no file, no model, no cache.
    """
    files = find_files(paths)
    if not files:
        raise DataError("No image was named. Name files, a folder, or a pattern.")
    cache = get_cache()
    _check(cache)
    model = load_model(options.model, options.checkpoint, options.device)
    work = _Work(cache, model, options)
    try:
        work.look(files)
        if work.plan.count and work.agree():
            work.encode_all()
    except KeyboardInterrupt:
        work.say(
            f"Interrupted. {work.done} encoded planes are kept; the same command goes "
            "on from there."
        )
        return INTERRUPTED
    except StorageError as error:
        if not work.done:
            raise
        work.say(f"{error} {work.done} encoded planes are kept.", style="red")
        return FAILED_SOME
    if len(work.failed) == len(files):
        return FAILED_ALL
    return FAILED_SOME if work.failed else DONE


class _Work:
    """A command that runs."""

    def __init__(
        self, cache: EmbeddingCache, model: Encoder, options: EncodeOptions
    ) -> None:
        self.cache, self.model, self.options = cache, model, options
        self.channels = _channels(options.channels)
        self.plan = _Plan()
        self.done = 0
        self.failed: set[Path] = set()
        self._console = Console(stderr=True)

    def say(self, words: str, **style: Any) -> None:
        """Print a line beside the progress bar."""
        self._console.print(words, highlight=False, soft_wrap=True, **style)

    def look(self, files: Sequence[Path]) -> None:
        """Find out which planes are to be encoded."""
        plan = self.plan
        with self._bar() as bar:
            task = bar.add_task("Looking", total=len(files))
            for path in files:
                try:
                    planes = self._look_at(path)
                except FewShotError as error:
                    self._fail(path, error)
                else:
                    plan.todo += [(path, planes)] if planes else []
                bar.advance(task)
        self.say(
            f"{plan.count} planes to encode with {self.model.spec.name}; {plan.held} "
            f"are in the cache already, {plan.blank} are blank, {len(self.failed)} of "
            f"{len(files)} files can't be used."
        )

    def agree(self) -> bool:
        """Encode a plane, say what all of them need, and ask if it is too much."""
        usage = self.cache.usage()
        path, planes = self.plan.todo[0]
        start = time.perf_counter()
        found = self._encode(self._open(path), planes[0])
        seconds = time.perf_counter() - start
        numbers = sum(a.size for a in (found.array, *found.extras.values()))
        left, need = self.plan.count - 1, BYTES * numbers * self.plan.count
        self.say(
            f"A plane takes {seconds:.1f} s and {BYTES * numbers / 1e6:.1f} MB: about "
            f"{_duration(seconds * left)} and {need / 1e9:.2f} GB for all. The cache "
            f"held {usage.bytes / 1e9:.2f} of {usage.quota / 1e9:.2f} GB before."
        )
        if usage.bytes + need <= usage.quota or self.options.yes:
            return True
        self.say(
            "That is more than the quota: planes that were not used for longest are "
            "removed for it. NAPARI_FEWSHOT_CACHE_GB sets another quota."
        )
        return typer.confirm("Go on?")

    def encode_all(self) -> None:
        """Encode what is left, and tell how long it will take."""
        with self._bar() as bar:
            task = bar.add_task("Encoding", total=self.plan.count, completed=self.done)
            for number, (path, planes) in enumerate(self.plan.todo):
                bar.update(task, description=path.name)
                try:
                    image = self._open(path)
                    # The very first plane was measured.
                    for plane in planes[1:] if number == 0 else planes:
                        self._encode(image, plane)
                        bar.advance(task)
                except FewShotError as error:
                    if isinstance(error, StorageError):
                        raise
                    self._fail(path, error)
        self.say(f"{self.done} planes encoded.")

    def _fail(self, path: Path, error: FewShotError) -> None:
        """Go on without a file."""
        self.failed.add(path)
        self.say(f"{path.name}: {error}", style="red")

    def _look_at(self, path: Path) -> list[int]:
        """Return the planes of a file that are to be encoded."""
        image, wanted = self._open(path), []
        held = blank = 0
        for plane in range(image.n_planes):
            # A run does not ask the model about blank planes either.
            if is_constant(image, plane):
                blank += 1
            elif self.cache.holds(self.model, image.plane(plane)):
                held += 1
            else:
                wanted.append(plane)
        self.plan.held += held
        self.plan.blank += blank
        return wanted

    def _encode(self, image: Image, plane: int) -> Embedding:
        """Encode a plane as a run sees it.

        Raises
        ------
        StorageError
            If it can't be kept: a night of computing would be for nothing.
        """
        found = self.cache.encode(self.model, image.plane(plane))
        _check(self.cache)
        self.done += 1
        return found

    def _open(self, path: Path) -> Image:
        return open_image(path, axes=self.options.axes, channels=self.channels)

    def _bar(self) -> Progress:
        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
        )


def _check(cache: EmbeddingCache) -> None:
    """Refuse to compute what can't be kept."""
    if cache.status:
        raise StorageError(f"Embeddings can't be kept. {cache.status}")


def _channels(words: str | None) -> list[int] | None:
    """``0,2`` to ``[0, 2]``."""
    if words is None:
        return None
    try:
        return [int(word) for word in words.split(",")]
    except ValueError:
        raise DataError(
            f"--channels {words} is not of the form 0,2 (whole numbers from 0)."
        ) from None


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
