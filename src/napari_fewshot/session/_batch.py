"""Many images, one after the other or several at once, resumable."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_fewshot.data import Image, Progress
from napari_fewshot.errors import Cancelled, DataError, FewShotError, StorageError
from napari_fewshot.io import (
    atomic_write,
    save_prediction,
)
from napari_fewshot.session._api import segment
from napari_fewshot.session._batch_files import (
    FORMATS,
    PARTS,
    Names,
    fingerprint,
    forget,
    gather,
    is_full,
    measured,
)
from napari_fewshot.session._batch_inputs import Asked, Inputs
from napari_fewshot.session._batch_page import PICTURES, picture_name, write_page
from napari_fewshot.session._batch_pool import Pool, work
from napari_fewshot.session._batch_records import Records
from napari_fewshot.session._batch_rows import (
    BEFORE,
    DONE,
    FAILED,
    LEFT,
    fullest_plane,
    head_of,
    printable,
    row_of,
    write_report,
)
from napari_fewshot.session._batch_thumbs import save_thumbnail
from napari_fewshot.session._measuring import measure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_fewshot.data import Prediction
    from napari_fewshot.session._batch_items import Item

    ReadText = Callable[[Sequence[str]], dict[int, Any]]

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Batch:
    """A run over many images.

    Attributes
    ----------
    asked : Asked
    rows : list of dict
        Of the report, in the order of the items; filled by `run`.
    records : Records
        What was finished, now or before.
    stopped : str
        Why it ended early; "" if it did not.
    """

    asked: Asked
    rows: list[dict[str, Any]] = field(default_factory=list)
    stopped: str = ""

    def __post_init__(self) -> None:
        """Refuse what can't be, before anything is opened."""
        if self.asked.format is not None and self.asked.format not in FORMATS:
            raise DataError(
                f"There is no format {self.asked.format!r}. Use one of: "
                f"{', '.join(FORMATS)}."
            )
        self.records = Records(self.asked.out)
        self._names = Names(self.asked.out, self.asked.format)
        self.inputs = Inputs(self.asked)

    def run(
        self,
        items: Sequence[Item],
        on_progress: Callable[[Progress], None] = lambda _: None,
        on_failure: Callable[[str, str], None] = lambda name, reason: None,
    ) -> None:
        """Segment all items; a failure is a row of the report, and the rest goes on.

        Parameters
        ----------
        items : sequence of Item
            What to segment.
        on_progress : callable
            Receives a `Progress` before every item: its name, done, total, time left.
        on_failure : callable
            Receives name and reason.

        Raises
        ------
        KeyboardInterrupt, Cancelled
            If the user stops; what was finished is kept and told.
        StorageError
            If the disk is full; as before.
        """
        self.rows = [{**head_of(i), "status": LEFT} for i in items]
        todo = self._sort_out(items)
        done, start, total = len(items) - len(todo), time.monotonic(), len(items)
        before = done
        try:
            with Pool(self.asked.how["executor"], self.asked.workers) as pool:
                jobs = ((at, items[at], target) for at, target in todo)

                def begin(job: Any) -> None:
                    spent, made = time.monotonic() - start, done - before
                    left = spent / made * (total - done) if made else None
                    on_progress(Progress(job[1].name, done, total, left))

                for (at, item, target), outcome in work(pool, jobs, self._make, begin):
                    self._note(at, item, target, outcome, on_failure)
                    done += 1
            on_progress(Progress("Done", total, total, 0.0))
        except StorageError as error:
            self.stopped = str(error)
            raise
        finally:
            self._finish()

    @property
    def n_failed(self) -> int:
        """Number of images without a result."""
        return sum(row["status"] in (FAILED, LEFT) for row in self.rows)

    def _sort_out(self, items: Sequence[Item]) -> list[tuple[int, Path]]:
        """Return what is left to do, with the file of each result."""
        todo = []
        for at, item in enumerate(items):
            target = self._names.target(item)
            if not self.asked.overwrite and self._is_done(item, target):
                known = self.records.all[target.name].get("report", {})
                here = {"file": printable(target.name)}
                self.rows[at] = {**head_of(item), **known, **here, "status": BEFORE}
            else:
                todo.append((at, target))
        return todo

    def _make(self, job: tuple[int, Item, Path], executor: Any) -> dict[str, Any]:
        """Segment one item and write what comes of it; returns its record."""
        _, item, target = job
        asked = self.asked
        key, query = self.inputs.key(item), fingerprint(item)
        image = self.inputs.open(item)
        # Tiles of large planes, so that a crash costs one of them and not the image.
        parts = asked.out / PARTS / target.name
        arguments = self.inputs.arguments(item, executor)
        prediction = segment(image, parts=parts, keep_probabilities=False, **arguments)
        try:
            row = self._write(item, target, image, prediction)
        finally:
            for array in (prediction.labels, prediction.instances):
                forget(array)
        record = {"request": key, "query": query, **prediction.provenance}
        return {**record, "report": row}

    def _write(
        self, item: Item, target: Path, image: Image, prediction: Prediction
    ) -> dict[str, Any]:
        """Write labels, picture and measurements; returns the row of the report."""
        like = item.query if isinstance(item.query, Path) and not item.inside else None
        save_prediction(target, prediction, image, like)
        row = row_of(printable(target.name), prediction, image)
        if self.asked.measures:
            row["objects"] = self._measure(target, image, prediction)
        if self.asked.pictures:
            plane = fullest_plane(prediction.labels, image)
            path = self.asked.out / PICTURES / picture_name(target.name)
            try:
                save_thumbnail(path, image, prediction.labels, plane)
            except StorageError as error:
                # The result counts; a disk that is full is told.
                if is_full(error):
                    raise
                logger.warning("no picture of %s", target.name, exc_info=True)
        return row

    def _measure(self, target: Path, image: Image, prediction: Prediction) -> int:
        table = measure(prediction, image)
        table["unit"] = image.unit if image.scale is not None else ""
        with atomic_write(measured(target)) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
        return len(table)

    def _note(
        self,
        at: int,
        item: Item,
        target: Path,
        outcome: Any,
        on_failure: Callable[[str, str], None],
    ) -> None:
        """Take in what came of an item; a full disk ends the batch."""
        if isinstance(outcome, dict):
            # A line of the journal: from now on it counts as finished.
            self.records.add(target.name, outcome)
            self.rows[at] = {**head_of(item), "status": DONE, **outcome["report"]}
            return
        if isinstance(outcome, (Cancelled, KeyboardInterrupt)):
            raise outcome
        self.rows[at] = {**head_of(item), "status": FAILED, "message": str(outcome)}
        on_failure(printable(item.name), str(outcome))
        if isinstance(outcome, OSError) and is_full(outcome):
            raise StorageError(
                f"{outcome} The batch stops here; what was finished is kept, and the "
                "same command goes on with the rest."
            ) from outcome

    def _finish(self) -> None:
        """Write records, report and page; each is tried, whatever became of others."""
        out = self.asked.out
        tries: list[Callable[[], None]] = [
            self.records.close,
            lambda: write_report(out / "report.csv", self.rows),
            lambda: write_page(out / "report.html", self.rows),
        ]
        if self.asked.measures:
            tries.append(self._gather)
        with contextlib.suppress(OSError):
            # Only if nothing in it is to be gone on with.
            (out / PARTS).rmdir()
        for attempt in tries:
            try:
                attempt()
            except StorageError as error:
                self.stopped = self.stopped or str(error)
                logger.warning("a report could not be written", exc_info=True)

    def _gather(self) -> None:
        """Write ``measurements.csv``: the tables of all images below one another."""
        out = self.asked.out
        tables = [
            (str(row["image"]), path)
            for row in self.rows
            if row["status"] in (DONE, BEFORE)
            and (path := measured(out / str(row["file"]))).is_file()
        ]
        gather(out / "measurements.csv", tables)

    def _is_done(self, item: Item, target: Path) -> bool:
        record = self.records.all.get(target.name)
        if record is None or not target.exists():
            return False
        if self.asked.measures and not measured(target).exists():
            return False
        try:
            return bool(
                record.get("request") == self.inputs.key(item)
                and record.get("query") == fingerprint(item)
            )
        except FewShotError:
            # Told when it is made.
            return False
