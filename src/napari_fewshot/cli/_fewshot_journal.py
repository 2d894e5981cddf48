"""What a benchmark has done so far, one line per episode, so that it can go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_fewshot.errors import StorageError
from napari_fewshot.evaluation import EpisodeScore
from napari_fewshot.io import write_text

if TYPE_CHECKING:
    import os


class Journal:
    """Scores of finished episodes in a JSONL file.

    Parameters
    ----------
    path : path, optional
        Of the file; None keeps nothing.
    resume : bool
        Read what is there; else begin anew.

    Raises
    ------
    StorageError
        If the file can't be written.
    """

    def __init__(self, path: str | os.PathLike[str] | None, *, resume: bool) -> None:
        self._path = None if path is None else Path(path)
        self._known: dict[str, dict[str, Any]] = {}
        if self._path is None:
            return
        if resume and self._path.exists():
            self._read(self._path)
        lines = [json.dumps([json.loads(k), s]) for k, s in self._known.items()]
        write_text(self._path, "".join(line + "\n" for line in lines))

    def __len__(self) -> int:
        """Return how many episodes are known."""
        return len(self._known)

    def _read(self, path: Path) -> None:
        """Read whole lines; the last one may be cut off where the run was stopped."""
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                key, score = json.loads(line)
            except ValueError:
                continue
            self._known[_text(key)] = score

    def get(self, key: dict[str, Any]) -> EpisodeScore | None:
        """Return the score of an episode, or None.

        Parameters
        ----------
        key : dict
            Everything that the score depends on.
        """
        found = self._known.get(_text(key))
        return None if found is None else EpisodeScore.from_dict(found)

    def put(self, key: dict[str, Any], score: EpisodeScore) -> None:
        """Append a score.

        Parameters
        ----------
        key : dict
            As for `get`.
        score : EpisodeScore
            To be kept.

        Raises
        ------
        StorageError
            If the file can't be written.
        """
        if self._path is None:
            return
        self._known[_text(key)] = score.as_dict()
        line = json.dumps([key, score.as_dict()], allow_nan=False)
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise StorageError(
                f"{self._path} can't be written ({error.strerror or error}). Free "
                "space, then go on with --resume."
            ) from error


def _text(key: dict[str, Any]) -> str:
    return json.dumps(key, sort_keys=True)
