"""Precision and batches by measurement, and what is given up when memory runs out."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import napari_fewshot as nf
from napari_fewshot.io import save_settings
from napari_fewshot.models import Settings, _measure
from napari_fewshot.models._device import faster_precision, resolve_precision
from napari_fewshot.models._ladder import Economical, is_out_of_memory
from napari_fewshot.models._registry import automatic
from napari_fewshot.models.sam import _load, _promptable

CPU = torch.device("cpu")
IMAGE = np.random.default_rng(0).integers(0, 255, (90, 130), dtype=np.uint8)


@pytest.fixture
def forgetful(monkeypatch):
    """A process that has measured nothing, and models that nobody has changed."""
    monkeypatch.setattr(_measure, "_known", {})
    # Random weights pass the task that files of one's own do first.
    monkeypatch.setattr(_promptable, "SELF_TEST", 0.0)
    monkeypatch.setattr(_promptable, "_tested", {})
    _load._load.cache_clear()
    yield
    _load._load.cache_clear()


@pytest.fixture
def sam(forgetful, tiny_sam):
    return nf.load_model("sam/vit_b", tiny_sam, "cpu", "fp32")


@pytest.fixture
def boxes():
    low = np.random.default_rng(1).uniform(0, 50, (10, 2))
    return np.concatenate([low, low + 30], 1)


def remember(what, **times):
    """Write times as an earlier process did, and forget them in this one."""
    path = _measure.measurements_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({_measure.machine(CPU): {what: times}}))
    _measure._known.clear()


def test_precision_is_measured_once_per_machine(forgetful):
    chosen = faster_precision(CPU)
    kept = json.loads(_measure.measurements_file().read_text())
    (machine,) = kept
    assert torch.__version__ in machine
    assert f"{torch.get_num_threads()} threads" in machine
    times = kept[machine]["product bf16"]
    assert (chosen == "bf16") == (times["fp32"] >= 1.5 * times["bf16"])
    # The next process believes the file and measures nothing.
    remember("product bf16", fp32=10.0, bf16=2.0)
    assert faster_precision(CPU) == "bf16"
    remember("product bf16", fp32=10.0, bf16=9.0)
    assert faster_precision(CPU) == "fp32"


@pytest.mark.parametrize("held", ["{", "[]", '{"%s": {"some": {"a": "x"}}}'])
def test_damaged_measurements_are_made_again(forgetful, held):
    path = _measure.measurements_file()
    path.parent.mkdir(parents=True)
    path.write_text(held.replace("%s", _measure.machine(CPU)))
    assert _measure.measured("some", CPU, lambda: {"a": 3.0}) == {"a": 3.0}
    assert json.loads(path.read_text())[_measure.machine(CPU)]["some"] == {"a": 3.0}


def test_without_a_cache_folder(forgetful, home):
    (home / "cache").write_text("a file where a folder should be")
    assert _measure.measured("some", CPU, lambda: {"a": 3.0}) == {"a": 3.0}
    assert _measure.measured("some", CPU, lambda: {"a": 9.0}) == {"a": 3.0}


def test_fast_takes_half_only_where_masks_stay(forgetful, tiny_sam):
    remember("product bf16", fp32=10.0, bf16=2.0)
    for name in ("sam/vit_h", "microsam/vit_b_lm"):
        assert automatic(name, "cpu", "fast") == ("cpu", "bf16")
        assert automatic(name, "cpu") == ("cpu", "fp32")
    for name in ("medsam/vit_b", "mobilesam/vit_t", "hqsam/vit_b", "auto", "filters"):
        assert automatic(name, "cpu", "fast") == ("cpu", "fp32")
    assert nf.load_model("sam/vit_b", tiny_sam, "cpu", "fast").precision == "bf16"
    assert nf.load_model("sam/vit_b", tiny_sam, "cpu").precision == "fp32"
    assert nf.load_model("medsam/vit_b", tiny_sam, "cpu", "fast").precision == "fp32"
    save_settings(Settings("auto", "fast"))
    assert nf.load_model("sam/vit_b", tiny_sam, "cpu").precision == "bf16"
    # What is asked for is done.
    assert resolve_precision("cpu", "fp32", same_masks=True) == "fp32"
    assert resolve_precision("cpu", "bf16") == "bf16"


class Stopwatch:
    """Time that passes only when work is done, whatever else the machine does."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def spend(self, seconds):
        self.now += seconds


def test_batch_sizes():
    watch = Stopwatch()
    crowded = _measure.batch_times(
        lambda n: watch.spend(0.002 * n * n), (1, 4, 8), clock=watch
    )
    assert crowded == pytest.approx({"1": 2, "4": 8})
    assert _measure.best_size(crowded) == 1
    shared = _measure.batch_times(lambda _: watch.spend(0.01), (1, 4, 8), clock=watch)
    assert _measure.best_size(shared) == 8
    # Two things cost 0.8 s: eight more would pass the budget of two seconds.
    dear = _measure.batch_times(
        lambda n: watch.spend(0.4 * n), (1, 2, 8), budget=2, clock=watch
    )
    assert list(dear) == ["1", "2"]
    assert list(_measure.batch_times(lambda _: None, (1, 4), budget=0)) == ["1"]
    assert _measure.best_size({"1": 10.0, "4": 8.1, "8": 8.0, "16": 30.0}) == 4


def test_boxes_are_decoded_in_measured_batches(sam, boxes):
    embedding = sam.encode(IMAGE)
    seen = []
    sam.network.mask_decoder.register_forward_pre_hook(
        lambda _, given: seen.append(len(given[2]))
    )
    assert sam.batch_for(embedding) in _measure.SIZES
    assert seen[0] == 1
    remember("decode sam/vit_b 128 fp32", **{"1": 5.0, "4": 4.0, "8": 9.0})
    seen.clear()
    masks = sam.predict(embedding, boxes=boxes)[0]
    assert seen == [4, 4, 2]
    assert masks.shape == (10, 3, 90, 130)


class Stand(Economical):
    """A model on a card that is always full."""

    def work(self):
        state = (self.device.type, self.at_once, self.decoding, self.precision)
        self.states.append(state)
        if self.device.type != "cpu":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return "done"


@pytest.mark.parametrize("card", ["cuda", "mps"])
def test_from_a_card_to_the_processor(card, caplog):
    remember("product bf16", fp32=10.0, bf16=2.0)
    model = Stand(card, "fp32")
    model.states = []
    assert model.within_memory(model.work, decoder=True, objects=20) == "done"
    half = {s[2] for s in model.states if s[0] == card} - {"fp32"}
    assert len(half) == 1
    # Once more after freeing memory, then step by step.
    assert [s[1] for s in model.states[2:5]] == [5, 1, 1]
    assert [s[2] for s in model.states[:4]] == ["fp32"] * 4
    assert model.states[4][2] in half
    assert model.states[5] == ("cpu", 1, "fp32", "fp32")
    assert len(model.states) == 6
    assert len(model.notes) == 4
    assert [r.getMessage() for r in caplog.records] == model.notes
    assert f"Memory ran out on {card}" in model.notes[0]
    assert "processor" in model.notes[-1]


def test_fewer_objects_at_once(sam, boxes):
    embedding = sam.encode(IMAGE)
    expected = sam.decode(embedding, boxes=boxes)

    def small_card(_, given):
        if len(given[2]) > 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    sam.network.mask_decoder.transformer.register_forward_pre_hook(small_card)
    found = sam.decode(embedding, boxes=boxes)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    assert sam.at_once == 2
    assert len(sam.notes) == 1
    assert "at most 2" in sam.notes[0]
    assert sam.batch_for(embedding) <= 2


def test_encoding_falls_to_half_precision_then_says_what_to_do(sam, tiny_sam):
    remember("product bf16", fp32=10.0, bf16=2.0)
    small = True

    def little_memory(*_):
        if small or not torch.is_autocast_enabled("cpu"):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    sam.network.image_encoder.blocks[1].register_forward_pre_hook(little_memory)
    with pytest.raises(nf.ModelError, match="not enough memory"):
        sam.encode(IMAGE)
    assert "bf16" in sam.notes[-1]
    small = False
    found = sam.encode(IMAGE).array
    assert sam.precision == "bf16"
    expected = nf.load_model("sam/vit_b", tiny_sam, "cpu", "bf16").encode(IMAGE).array
    np.testing.assert_array_equal(found, expected)


def test_other_errors_are_no_lack_of_memory(sam):
    def broken(*_):
        raise RuntimeError("shapes do not fit")

    sam.network.image_encoder.blocks[0].register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        sam.encode(IMAGE)
    assert not sam.notes
    assert sam.precision == "fp32"
    assert not is_out_of_memory(nf.ModelError("There is not enough memory."))


LIMITED = """
import resource, sys, warnings
import numpy as np, psutil
import napari_fewshot as nf

model = nf.load_model("sam/vit_b", sys.argv[1], "cpu", "fp32")
embedding = model.encode(np.zeros((90, 130), np.uint8))
boxes = np.tile([10.0, 10, 60, 70], (500, 1))
model.decode(embedding, boxes=boxes[:2])
limit = psutil.Process().memory_info().vms + 150 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
logits, scores = model.decode(embedding, boxes=boxes, multimask=False)
print(logits.shape, np.ptp(logits, 0).max() < 1e-4, model.precision, model.notes[1:])
"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="limits of memory as Linux has them"
)
def test_a_process_with_little_memory(tiny_sam):
    out = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tiny_sam)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.returncode == 0, out.stderr
    assert out.stdout.startswith("(500, 1, 32, 32) True fp32 ['Memory ran out on cpu")


@pytest.mark.slow
def test_what_can_not_be_compiled_computes_as_it_is(
    sam, tiny_sam, tmp_path, monkeypatch
):
    from torch._inductor import config

    expected = sam.encode(IMAGE).array
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(config.cpp, "cxx", (str(tmp_path / "no-compiler"),))
    model = nf.load_model("sam/vit_b", tiny_sam, "cpu", "fp32", compile=True)
    names = set(model.network.state_dict())
    np.testing.assert_array_equal(model.encode(IMAGE).array, expected)
    assert len(model.notes) == 1
    assert "can't be compiled" in model.notes[0]
    assert names == set(sam.network.state_dict())
    model.encode(IMAGE)
    assert len(model.notes) == 1


def test_other_models_are_not_compiled():
    with pytest.raises(nf.ModelError, match="filters can't be compiled"):
        nf.load_model("filters", compile=True)
