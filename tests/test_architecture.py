"""The house rules, checked by machine: layers, sizes, surface, import cost, docs."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import napari_fewshot as nf

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "napari_fewshot"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_FILE = 400
MAX_FUNCTION = 80
MAX_IMPORT_SECONDS = 0.3

PUBLIC = [
    "Cancelled",
    "Concept",
    "DataError",
    "Embedding",
    "FewShotError",
    "ModelError",
    "Prediction",
    "PromptError",
    "PromptSet",
    "Session",
    "StorageError",
    "Support",
    "SupportError",
    "SupportSet",
    "TextPrompt",
    "WeightsError",
    "WorkerError",
    "__version__",
    "check_supports",
    "check_text",
    "compare",
    "evaluate",
    "estimate",
    "explain",
    "finetune_clip",
    "fit_text_head",
    "link_instances",
    "list_methods",
    "list_models",
    "load_concept",
    "load_model",
    "measure",
    "propagate",
    "rank_phrases",
    "save_concept",
    "segment_everything",
    "segment_many",
    "segment",
    "where",
]


def module_id(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def run_python(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_imports_point_down():
    pytest.importorskip("importlinter", reason="import-linter comes with the dev extra")
    result = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout


def public_definitions(tree: ast.Module):
    """Yield every public class, function and method of a module, and the module."""
    yield "module", tree
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                for item in node.body:
                    if isinstance(item, ast.FunctionDef) and item.name[0] != "_":
                        yield f"{node.name}.{item.name}", item


def undocumented(tree: ast.Module) -> list[str]:
    """Return the names of what is public and has no docstring."""
    return [
        name
        for name, node in public_definitions(tree)
        if ast.get_docstring(node) is None
        # A setter shares the docstring of its property; an overload that of its body.
        and not any(
            isinstance(d, ast.Attribute | ast.Name)
            and getattr(d, "attr", getattr(d, "id", "")) in ("setter", "overload")
            for d in getattr(node, "decorator_list", ())
        )
    ]


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_rules_of_a_module(path: Path):
    """Files and functions are short, what is public is described, nothing asserts."""
    text = path.read_text()
    tree = ast.parse(text)
    assert text.count("\n") <= MAX_FILE, f"{path.name} has {text.count(chr(10))} lines"
    broken = [f"{name} has no docstring" for name in undocumented(tree)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            broken.append(f"an assert statement guards input in line {node.lineno}")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            # What a function does; what is said of it may be longer.
            said = ast.get_docstring(node) or ""
            length = (node.end_lineno or 0) - node.lineno - said.count("\n")
            if length > MAX_FUNCTION:
                broken.append(f"{node.name} has {length} lines")
    assert not broken, f"{path.name}: {'; '.join(broken)}"


def test_the_rules_see_what_is_wrong(tmp_path):
    long = "\n".join(["    x = 1"] * (MAX_FUNCTION + 1))
    bad = tmp_path / "bad.py"
    bad.write_text(f'"""Bad."""\ndef f():\n    """Long."""\n{long}\n')
    with pytest.raises(AssertionError, match="f has 8"):
        test_rules_of_a_module(bad)
    bad.write_text('"""Bad."""\nclass A:\n    """A."""\n    def b(self): assert 1\n')
    with pytest.raises(AssertionError, match=r"A\.b has no docstring; an assert"):
        test_rules_of_a_module(bad)
    bad.write_text('"""Bad."""\n' + "x = 1\n" * MAX_FILE)
    with pytest.raises(AssertionError, match="has 401 lines"):
        test_rules_of_a_module(bad)


def test_public_surface_is_pinned():
    assert sorted(nf.__all__) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_exists(name: str):
    assert getattr(nf, name) is not None


def test_error_tree():
    assert issubclass(nf.SupportError, ValueError)
    assert issubclass(nf.PromptError, ValueError)
    assert issubclass(nf.DataError, ValueError)
    assert issubclass(nf.ModelError, RuntimeError)
    assert issubclass(nf.WeightsError, RuntimeError)
    assert not issubclass(nf.Cancelled, ValueError | RuntimeError)
    for name in ("SupportError", "PromptError", "DataError", "ModelError", "Cancelled"):
        assert issubclass(getattr(nf, name), nf.FewShotError)


def test_import_is_cheap():
    """Best of five fresh processes: the machine's noise is not the package's cost."""
    code = (
        "import sys, time, json; start = time.perf_counter(); import napari_fewshot;"
        "seconds = time.perf_counter() - start;"
        "print(json.dumps([seconds, sorted(sys.modules)]))"
    )
    runs = [json.loads(run_python(code)) for _ in range(5)]
    heavy = {"torch", "qtpy", "napari", "numpy", "pandas", "scipy", "dask", "zarr"}
    assert not heavy & set(runs[0][1]), "importing the package imports something heavy"
    assert min(seconds for seconds, _ in runs) <= MAX_IMPORT_SECONDS


def test_core_runs_without_napari_and_qt():
    """Segment, evaluate and use a session with napari and Qt made unimportable."""
    loaded = run_python(
        """
import sys

class Blocker:
    blocked = {"napari", "qtpy", "PyQt6", "PySide6", "magicgui", "superqt", "vispy"}

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.blocked:
            raise ImportError(f"{name} must not be needed here")

sys.meta_path.insert(0, Blocker())
import numpy as np
import napari_fewshot as nf

image = np.random.default_rng(0).normal(100, 5, (64, 64)).astype("float32")
labels = np.zeros((64, 64), int)
labels[20:40, 20:40] = 1
image[labels == 1] += 60
p = nf.segment(image, nf.Support(image, labels), method="pixel")
table = nf.evaluate(p.labels, labels)
assert table["dice"][0] > 0.9, table
session = nf.Session(method="pixel")
session.add_support(image, labels)
session.set_query(image)
assert session.segment(wait=True).labels.shape == (64, 64)
import napari_fewshot.cli
loaded = {name.split(".")[0] for name in sys.modules} & Blocker.blocked
assert not loaded, loaded
print(sorted(loaded))
"""
    )
    assert loaded.strip() == "[]"


def test_versions_agree():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {nf.__version__}" in citation
    assert nf.__version__ in (ROOT / "CHANGELOG.md").read_text()


def test_one_manifest():
    """The manifest at the top level is a link to the one that is installed."""
    top, installed = ROOT / "napari.yaml", PACKAGE / "napari.yaml"
    assert top.is_symlink()
    assert top.resolve() == installed.resolve()
