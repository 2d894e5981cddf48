"""``compare``: several methods and models on the same images, and where they differ."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from napari_fewshot.data import Concept
    from napari_fewshot.session import Comparison


def compare_command(
    queries: Annotated[list[str], typer.Argument(metavar="QUERY...")],
    support: Annotated[
        list[str] | None,
        typer.Option("--support", metavar="IMAGE MASK", help="An example; repeatable."),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Methods, by commas; see: methods. Default: auto,template; with "
            "--concept: auto."
        ),
    ] = None,
    concept: Annotated[
        list[Path] | None,
        typer.Option(
            help="A .fewshot file, with supports of its own; repeatable. Without "
            "--support the methods learn from the first."
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(help="Save one of them as a .fewshot file; see --use."),
    ] = None,
    use: Annotated[
        str | None,
        typer.Option(help="Which, by name; default: highest expected Dice."),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(help="Models for the methods that use one. See: models list"),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path(
        "results"
    ),
    axes: Annotated[str | None, typer.Option(help="E.g. zyx, tyxc.")] = None,
    scale: Annotated[str | None, typer.Option(help="Pixel size z,y,x.")] = None,
    channels: Annotated[str | None, typer.Option(help="E.g. 0,2.")] = None,
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Name of a class, 1=nucleus.")
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", help="Parameter of a method, method.name=value."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Segment images with several methods and models and compare the results."""
    supports = [tuple(item.split("\0", 1)) for item in support or []]
    usual = "auto" if concept else "auto,template"
    job = CompareJob(
        supports=[(a, b) for a, b in supports],
        methods=[*_names(usual if methods is None else methods), *(concept or [])],
        save=save,
        use=use,
        models=None if models is None else _names(models),
        params=read_params(param or []),
        classes=classes or [],
        axes=axes,
        scale=None if scale is None else [float(s) for s in scale.split(",")],
        channels=None if channels is None else [int(c) for c in channels.split(",")],
        device=device,
        out=out,
    )
    raise typer.Exit(job.run(queries))


@dataclass(frozen=True)
class CompareJob:
    """Options of ``compare``, checked one by one when they are used."""

    supports: Sequence[tuple[str, str]]
    methods: Sequence[Any]
    models: Sequence[str] | None
    params: Mapping[str, Mapping[str, Any]]
    classes: Sequence[str]
    axes: str | None
    scale: Sequence[float] | None
    channels: Sequence[int] | None
    device: str
    out: Path
    save: Path | None = None
    use: str | None = None

    def run(self, queries: Sequence[str]) -> int:
        """Compare on every image; returns the exit code.

        Parameters
        ----------
        queries : sequence of str
            Files, folders and globs.

        Raises
        ------
        FewShotError
            If nothing can be started: no image, bad supports, unknown method.
        """
        import pandas as pd

        from napari_fewshot.cli._segment import (
            DONE,
            FAILED_ALL,
            FAILED_SOME,
            find_files,
        )
        from napari_fewshot.session._contenders import make_contenders

        found = make_contenders(self.methods, self.models, self.params)
        self._check_use([candidate.name for candidate in found])
        supports = self._open_supports()
        tables: list[pd.DataFrame] = []
        records: dict[str, Any] = {}
        concepts: dict[str, Concept] = {}
        names: set[str] = set()
        for path in find_files(queries):
            stem = _unique(path, names)
            tables.append(self._one(path, stem, supports, records, concepts))
            # After every image: an interruption keeps what is done.
            self._report(pd.concat(tables, ignore_index=True), records)
        table = pd.concat(tables, ignore_index=True)
        print(_shown(table))
        self._save(table, concepts)
        failed = int((table["status"] != "done").sum())
        if not failed:
            return DONE
        return FAILED_ALL if failed == len(table) else FAILED_SOME

    def _open_supports(self) -> Any:
        from napari_fewshot.cli._given import parse_pairs
        from napari_fewshot.cli._pairs import support_from
        from napari_fewshot.data import SupportSet
        from napari_fewshot.io import is_concept, resolve_support

        pairs = parse_pairs(self.classes, "--class")
        names = {number: words[0] for number, words in pairs.items()} or None
        supports = SupportSet(
            [
                resolve_support(support_from(a, b, classes=names))
                for a, b in self.supports
            ]
        )
        if len(supports) or not any(is_concept(item) for item in self.methods):
            supports.check()
        return supports

    def _check_use(self, names: Sequence[str]) -> None:
        from napari_fewshot.errors import DataError

        if self.use is None:
            return
        if self.save is None:
            raise DataError("--use says what --save keeps. Give --save FILE, too.")
        if self.use not in names:
            raise DataError(
                f"--use {self.use} is none of what is compared: {', '.join(names)}."
            )

    def _save(self, table: pd.DataFrame, concepts: Mapping[str, Concept]) -> None:
        """Save the chosen candidate, or the best, as a concept."""
        from napari_fewshot.errors import DataError
        from napari_fewshot.session import save_concept

        if self.save is None:
            return
        name = self.use
        if name is None and concepts:
            done = table[table["status"] == "done"]
            means = done.groupby("name")["expected dice"].mean()
            name = str(means.idxmax()) if means.notna().any() else None
        if name is None or name not in concepts:
            raise DataError(
                "Nothing could be saved as a concept: what was to be saved did not run."
            )
        path = save_concept(self.save, concepts[name])
        print(f"{name} is saved: {path}")

    def _one(
        self,
        path: Path,
        stem: str,
        supports: Any,
        records: dict[str, Any],
        concepts: dict[str, Concept],
    ) -> pd.DataFrame:
        """Compare on one image and write what came of it; returns its rows."""
        import pandas as pd
        from rich.console import Console

        from napari_fewshot.cli._segment import _progress_bar
        from napari_fewshot.data import Hooks
        from napari_fewshot.errors import FewShotError
        from napari_fewshot.session import compare

        console = Console(stderr=True)
        try:
            with _progress_bar() as bar:
                task = bar.add_task(path.name, total=None)
                hooks = Hooks(
                    lambda p: bar.update(
                        task,
                        description=f"{path.name}, {p.stage}",
                        completed=p.done,
                        total=p.total,
                    )
                )
                found = compare(
                    path,
                    supports,
                    self.methods,
                    self.models,
                    params=self.params,
                    axes=self.axes,
                    scale=self.scale,
                    channels=self.channels,
                    device=self.device,
                    hooks=hooks,
                )
            table = found.table
            files = _write(self.out, path, stem, found, records)
            concepts.update({name: found.concept(name) for name in found.predictions})
            table.insert(0, "file", [files.get(n, "") for n in table["name"]])
        except FewShotError as error:
            failed = {"file": "", "name": "", "status": "failed"}
            table = pd.DataFrame([{**failed, "message": str(error)}])
        table.insert(0, "image", path.name)
        for _, row in table[table["status"] == "failed"].iterrows():
            console.print(f"{path.name}: {row['name']} {row['message']}", style="red")
        return table

    def _report(self, table: pd.DataFrame, records: dict[str, Any]) -> None:
        from napari_fewshot.io import write_text

        last = [c for c in table.columns if c != "message"]
        write_text(
            self.out / "comparison.csv",
            table[[*last, "message"]].to_csv(index=False, float_format="%.4f"),
        )
        write_text(self.out / "provenance.json", json.dumps(records, indent=1))


def read_params(words: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return parameters by method from ``method.name=value`` words.

    Raises
    ------
    DataError
        For a word of another form.
    """
    from napari_fewshot.cli._given import parse_words
    from napari_fewshot.errors import DataError

    by_method: dict[str, list[str]] = {}
    for word in words:
        method, dot, rest = word.partition(".")
        if not dot or "=" in method:
            raise DataError(f"--param {word} is not of the form method.name=value.")
        by_method.setdefault(method, []).append(rest)
    return {method: parse_words(method, rest) for method, rest in by_method.items()}


def _write(
    out: Path, path: Path, stem: str, found: Comparison, records: dict[str, Any]
) -> dict[str, str]:
    """Write labels of every candidate and the disagreement; returns file names."""
    from napari_fewshot.io import labels_suffix, save_labels

    image, files = found.query, {}
    for name, prediction in found.predictions.items():
        words = re.sub(r"[^\w.]+", "-", name).strip("-")
        files[name] = f"{stem}_{words}_labels{labels_suffix(path)}"
        save_labels(
            out / files[name],
            prediction.labels,
            like=path,
            scale=image.scale,
            axes=image.label_axes,
        )
        records[files[name]] = prediction.provenance
    _write_disagreement(out / f"{stem}_disagreement.tif", found)
    return files


def _write_disagreement(path: Path, found: Comparison) -> None:
    """Write a float TIFF, plane by plane, so that memory stays small."""
    import tifffile

    from napari_fewshot.io import atomic_write

    planes = range(found.query.n_planes)
    with atomic_write(path) as temporary:
        tifffile.imwrite(
            temporary,
            data=(found.disagreement_plane(i) for i in planes),
            shape=found.query.label_shape,
            dtype="float32",
            compression="zlib",
            metadata={"axes": found.query.label_axes.upper()},
        )


def _unique(path: Path, names: set[str]) -> str:
    """Return a stem for the files of an image; equal names get a number."""
    from napari_fewshot.io import stem_of

    stem, number = stem_of(path), 2
    while stem in names:
        stem, number = f"{stem_of(path)}_{number}", number + 1
    names.add(stem)
    return stem


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _shown(table: pd.DataFrame) -> str:
    """Return what people read of a table: names, expected Dice, areas, agreement."""
    wanted = ("image", "name", "status", "expected dice", "area", "dice with")
    kept = [c for c in table.columns if str(c).startswith(wanted)]
    return table[kept].to_string(
        index=False, na_rep="", float_format=lambda value: f"{value:.2f}"
    )
