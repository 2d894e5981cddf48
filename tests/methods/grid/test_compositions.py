"""Every composition beats the same model without the method, on trained weights.

The weights are tiny, of the published classes and layouts, and trained on synthetic
images alone; `benchmarks/tiny_models.py` does the same at length.
"""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
PROMPTING = (
    "persam",
    "persam-f",
    "p2sam",
    "matcher",
    "gf-sam",
    "dc-sam",
    "med-persam",
    "fob",
    "template-bank",
)


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import tiny_models

        yield tiny_models
        del sys.modules["tiny_models"]


@pytest.fixture(scope="module")
def episodes(bench):
    # Fewer say little: one episode may be easy or hopeless.
    return bench.synthetic(8, shots=2, most=1)


@pytest.fixture(scope="module")
def sam(bench, tmp_path_factory):
    return bench.load("sam/vit_b", tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def best_plain(bench, sam, episodes):
    """Dice of the better way to use SAM alone."""
    return max(bench.compare(sam, [], episodes, ways=("middle", "area")).values())


@pytest.mark.parametrize("name", PROMPTING)
def test_beats_sam_alone(name, bench, sam, episodes, best_plain):
    # With "auto" the similarity map may draw, and SAM would not be asked.
    found = bench.compare(sam, [name], episodes, ways=(), decoder="sam")
    assert found[name] > best_plain + 0.05


def test_beats_nearest_mean_on_vit(bench, tmp_path, episodes):
    model = bench.load("dinov2/vits14", tmp_path)
    found = bench.compare(model, ["panet", "alpnet", "qnet"], episodes)
    plain = found.pop("means")
    assert min(found.values()) > plain


def test_every_prompting_method_is_a_composition(bench):
    assert set(PROMPTING) <= set(bench.compositions())
