"""Stacks of small planes that were interrupted: nothing is lost, nothing differs."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import zarr
from tests import tiny_clip

import napari_fewshot as nf
from napari_fewshot.data import Hooks, Image, SupportSet, TextChoice
from napari_fewshot.errors import FewShotError, StorageError
from napari_fewshot.inference import PlaneResult, SegmentRequest, _planes
from napari_fewshot.inference.tiles import LOCK, Parts, discard
from napari_fewshot.methods import Lesson, Neighbours
from napari_fewshot.session import InlineExecutor, _dask_plan
from napari_fewshot.session._dask_delivery import restored
from napari_fewshot.session._dask_plan import (
    Merger,
    Planner,
    leading_plane,
    together,
    wanted_planes,
)
from napari_fewshot.session._dask_remote import _Work
from napari_fewshot.session._dask_wire import Piece
from napari_fewshot.session._holding import beside_of, held, hold
from napari_fewshot.session._jobs import Job
from napari_fewshot.session._resuming import _Resuming, missing_planes, plan_stack
from napari_fewshot.session._wire import get_result, put_result, result_bytes

pytestmark = [
    # Runs that are torn apart leave files open, as a killed process does.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SHAPE = (48, 56)
FAST = {"method": "pixel", "leave_one_out": False, "trees": 5}
USUAL = {**FAST, "instances": "components"}
PLANES = 6


@pytest.fixture(scope="module")
def stack(blob_pair):
    stack = np.stack([blob_pair(s, SHAPE, 4)[0] for s in range(1, PLANES + 1)])
    stack[1] = 9  # blank
    return stack


@pytest.fixture(scope="module")
def support(blob_pair):
    return nf.Support(*blob_pair(0, SHAPE, 4))


@pytest.fixture(scope="module")
def whole(stack, support):
    return nf.segment(stack, support, **USUAL)


class Killed(BaseException):
    """Nothing catches it, as if the program had ended."""


class Dying(InlineExecutor):
    """Notes which planes were made; may end after some of them."""

    def __init__(self, after=None):
        super().__init__()
        self.after, self.seen = after, []

    def submit(self, request, *, on_plane, on_progress, on_done):
        def count(result):
            if self.after is not None and len(self.seen) >= self.after:
                raise Killed
            self.seen.append(result.plane)
            on_plane(result)

        return super().submit(
            request, on_plane=count, on_progress=on_progress, on_done=on_done
        )


def interrupted(after, *given, **options):
    executor = Dying(after)
    with pytest.raises(Killed):
        nf.segment(*given, executor=executor, **options)
    return executor.seen


def resumed(*given, **options):
    executor = Dying()
    found = nf.segment(*given, executor=executor, **options)
    return found, executor.seen


def parts_of(out):
    return Path(f"{out}.parts")


OWN = ("seconds", "resumed_planes", "executor", "views")


def assert_same(found, wanted):
    """Everything but times is equal, to the last bit."""
    np.testing.assert_array_equal(np.asarray(found.labels), wanted.labels)
    assert (found.instances is None) == (wanted.instances is None)
    if wanted.instances is not None:
        np.testing.assert_array_equal(found.instances, wanted.instances)
    for name in ("probabilities", "plane_scores"):
        left, right = getattr(found, name), getattr(wanted, name)
        assert left.keys() == right.keys()
        for value, array in right.items():
            np.testing.assert_array_equal(left[value], array)
    if wanted.plane_novelty is not None:
        np.testing.assert_array_equal(found.plane_novelty, wanted.plane_novelty)
    for name in (
        "classes",
        "scores",
        "score_intervals",
        "present",
        "support_scores",
        "choice",
        "suggested",
        "redundant",
    ):
        assert getattr(found, name) == getattr(wanted, name), name
    left, right = (
        {k: v for k, v in p.provenance.items() if k not in OWN} for p in (found, wanted)
    )
    assert left == right


@pytest.mark.parametrize("after", [0, 1, 4, PLANES])
@pytest.mark.parametrize("ending", [".zarr", ".tif"])
def test_a_killed_stack_goes_on(after, ending, stack, support, whole, tmp_path):
    out = tmp_path / f"labels{ending}"
    options = {**USUAL, "out": out}
    if after == PLANES:
        # Everything is there but the end.
        first = list(range(PLANES))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_Resuming, "finished", _dies)
            with pytest.raises(Killed):
                nf.segment(stack, support, **options)
    else:
        first = interrupted(after, stack, support, **options)
    assert len(list(parts_of(out).glob("p-*.part"))) == after
    found, second = resumed(stack, support, **options)
    if after < PLANES:
        assert first + second == list(range(PLANES)), "repeated or forgotten"
    else:
        # Looked at again for the summary alone.
        assert second == [PLANES - 1]
    assert_same(found, whole)
    assert found.provenance.get("resumed_planes", 0) == after
    assert not parts_of(out).exists()
    if ending == ".zarr":
        np.testing.assert_array_equal(zarr.open(out)[...], whole.labels)


def _dies(*_):
    raise Killed


def test_killed_again_and_again(stack, support, whole, tmp_path):
    options = {**USUAL, "parts": tmp_path / "unfinished"}
    seen = []
    for _ in range(PLANES - 1):
        seen += interrupted(1, stack, support, **options)
    found, last = resumed(stack, support, **options)
    assert seen + last == list(range(PLANES))
    assert_same(found, whole)
    assert list(tmp_path.iterdir()) == []


def test_blocks_and_notes_cross_to_the_worker_and_back():
    mask = np.zeros(SHAPE, bool)
    mask[3:9, 4:50] = True
    lesson = Lesson.of(2, 7, 0.1 + 0.2, mask)
    np.testing.assert_array_equal(lesson.unpacked(), mask)
    labels = np.ones(SHAPE, np.int32)
    result = PlaneResult(5, labels, {1: 0.5}, follow=3, lessons=(lesson,), notes=("x",))
    room = bytearray(result_bytes(SHAPE, 1))
    back = get_result(room, pickle.loads(pickle.dumps(put_result(room, result))))
    assert (back.follow, back.lessons, back.notes) == (3, (lesson,), ("x",))


def test_maps_classes_and_chosen_parts(stack, support, blob_pair, tmp_path):
    two = np.where(support.labels > 0, 1, 0)
    two[:, : SHAPE[1] // 2] *= 2
    given = stack, nf.Support(support.image, two, classes={1: "left", 2: "right"})
    inside = np.zeros(SHAPE, bool)
    inside[5:40, 9:50] = True
    options = {
        **USUAL,
        "keep_probabilities": True,
        "inside": inside,
        "region": (3, 0, 44, 52),
    }
    wanted = nf.segment(*given, **options)
    out = tmp_path / "labels.tif"
    interrupted(4, *given, out=out, **options)
    found, second = resumed(*given, out=out, **options)
    assert second == [4, 5]
    assert_same(found, wanted)
    assert set(found.probabilities) == {1, 2}


def test_time_and_depth(blob_pair, support, tmp_path):
    planes = np.stack([blob_pair(s, SHAPE, 4)[0] for s in range(1, 7)])
    given = planes.reshape(2, 3, *SHAPE), support
    options = {**FAST, "axes": "tzyx", "link": "auto", "scale": (2.0, 1.0, 1.0)}
    wanted = nf.segment(*given, **options)
    out = tmp_path / "labels.zarr"
    interrupted(4, *given, out=out, **options)
    found, second = resumed(*given, out=out, **options)
    assert second == [4, 5]
    assert_same(found, wanted)
    np.testing.assert_array_equal(found.tracks.points, wanted.tracks.points)
    assert not parts_of(out).exists()


@pytest.mark.parametrize("view", ["three", "stack"])
def test_views_of_a_volume(view, blob_pair, tmp_path):
    image, labels = (np.stack([a[:24, :28]] * 4) for a in blob_pair(1, SHAPE, 9))
    rng = np.random.default_rng(0)
    noisy = np.clip(image + rng.normal(0, 9, image.shape), 0, 255).astype(np.uint8)
    given = noisy, nf.Support(image, labels)
    options = {"method": "panet", "leave_one_out": False, "view": view, "axes": "zyx"}
    whole = Dying()
    wanted = nf.segment(*given, executor=whole, **options)
    out = tmp_path / "labels.zarr"
    first = interrupted(11 if view == "three" else 3, *given, out=out, **options)
    found, second = resumed(*given, out=out, **options)
    # Of a view that was done already one plane is looked at for its summary.
    assert len(first) + len(second) == len(whole.seen) + (view == "three")
    assert_same(found, wanted)
    assert not parts_of(out).exists()


def test_planes_that_teach_one_another(stack, support, tmp_path, monkeypatch):
    monkeypatch.setattr(_planes, "block_size", lambda *_: 2)
    out = tmp_path / "labels.zarr"
    # One executor, so that learning is not paid for again and again.
    executor = Dying()
    options = {"method": "incontext", "keep_probabilities": True, "look": "whole"}
    options |= {"practise": False, "executor": executor}

    def run(after, **more):
        executor.after, executor.seen = after, []
        return nf.segment(stack[2:5], support, **options, **more)

    wanted = run(None)
    # A block is the unit: the first one is begun anew, ...
    with pytest.raises(Killed):
        run(1, out=out)
    with pytest.raises(Killed):
        run(2, out=out)
    assert executor.seen == [0, 1]
    kept = parts_of(out).rename(tmp_path / "kept")
    # ... the last plane is alone now, but has learnt from those before it.
    shutil.copytree(kept, parts_of(out))
    found = run(None, out=out)
    assert executor.seen == [2]
    assert_same(found, wanted)
    shutil.copytree(kept, parts_of(out))
    with monkeypatch.context() as patch:
        patch.setattr(Neighbours, "recall", lambda *_: None)
        other = run(None, out=out)
    assert not np.array_equal(other.probabilities[1], wanted.probabilities[1])
    # What is behind a damaged block is made again, too.
    shutil.copytree(kept, parts_of(out))
    (parts_of(out) / "p-0-0.part").write_bytes(b"no")
    found = run(None, out=out)
    assert executor.seen == [0, 1, 2]
    assert_same(found, wanted)


def test_phrases_are_judged_on_the_same_plane(tmp_path, tmp_path_factory):
    model = tiny_clip.write(tmp_path_factory.mktemp("models") / "tiny-clip")
    planes = [(255 * tiny_clip.scene(s).image).round() for s in (7, 8)]
    blank = np.full_like(planes[0], 7)
    stack = np.stack([blank, *planes]).astype(np.uint8)
    options = {
        "text": "green box",
        "checkpoint": model,
        "decoder": "map",
        "axes": "zyxc",
    }
    wanted = nf.segment(stack, **options)
    out = tmp_path / "labels.zarr"
    interrupted(2, stack, out=out, **options)
    found, second = resumed(stack, out=out, **options)
    # The first plane that is not blank tells whether the phrase is understood.
    assert second == [1, 2]
    assert_same(found, wanted)


def test_prompts_on_some_planes(stack, tmp_path):
    prompts = nf.PromptSet(points=[(p, 20.0, 20.0) for p in (0, 2, 3, 5)])
    wanted = nf.segment(stack, prompts=prompts, axes="zyx")
    out = tmp_path / "labels.zarr"
    first = interrupted(2, stack, prompts=prompts, axes="zyx", out=out)
    found, second = resumed(stack, prompts=prompts, axes="zyx", out=out)
    assert (first, second) == ([0, 2], [3, 5])
    assert_same(found, wanted)


# -- what must not be taken over -----------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [{"trees": 6}, {"min_area": 3}, {"keep_probabilities": True}, {"scale": (2, 2, 2)}],
)
def test_another_request_begins_anew(change, stack, support, tmp_path):
    out = tmp_path / "labels.zarr"
    interrupted(4, stack, support, out=out, **USUAL)
    found, seen = resumed(stack, support, out=out, **{**USUAL, **change})
    assert seen == list(range(PLANES))
    assert "resumed_planes" not in found.provenance


def test_other_supports_begin_anew(stack, support, blob_pair, tmp_path):
    out = tmp_path / "labels.zarr"
    interrupted(4, stack, support, out=out, **USUAL)
    other = nf.Support(*blob_pair(33, SHAPE, 4))
    _, seen = resumed(stack, other, out=out, **USUAL)
    assert seen == list(range(PLANES))


def test_a_plane_that_has_changed_is_made_again(stack, support, tmp_path):
    out, changed = tmp_path / "labels.zarr", stack.copy()
    interrupted(5, stack, support, out=out, **USUAL)
    changed[2, 10:20] = changed[2, 20:30]
    wanted = nf.segment(changed, support, **USUAL)
    found, seen = resumed(changed, support, out=out, **USUAL)
    # Or all of them, if the contrast of the stack is another one now.
    assert seen in ([2, 5], list(range(PLANES)))
    assert_same(found, wanted)


@pytest.mark.parametrize(
    "damage", ["cut", "empty", "flipped", "begun", "other", "facts"]
)
def test_damaged_files_are_made_again(damage, stack, support, whole, tmp_path):
    out = tmp_path / "labels.tif"
    interrupted(4, stack, support, out=out, **USUAL)
    file = parts_of(out) / "p-2-0.part"
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[:-5])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "flipped":
        middle = len(content) // 2
        other = bytes([content[middle] ^ 255])
        file.write_bytes(content[:middle] + other + content[middle + 1 :])
    elif damage == "begun":
        file.rename(file.with_name("p-2-0.123.new"))
    elif damage == "other":
        file.write_bytes((parts_of(out) / "p-3-0.part").read_bytes())
    else:
        # A whole file that says nothing.
        Parts(parts_of(out), _key(out)).put("p", 2, 0, labels=np.zeros(SHAPE, "u1"))
    found, seen = resumed(stack, support, out=out, **USUAL)
    assert seen == [2, 4, 5]
    assert_same(found, whole)


def _key(out):
    return json.loads((parts_of(out) / "run.json").read_text())["key"]


# -- folders ---------------------------------------------------------------------------


def test_nothing_is_written_without_a_place(stack, support, tmp_path, monkeypatch):
    monkeypatch.setattr(Parts, "put", _dies)
    nf.segment(stack, support, **FAST)
    nf.segment(stack[0], support, out=tmp_path / "one.tif", **FAST)
    assert [p.name for p in tmp_path.iterdir()] == ["one.tif"]


def test_two_runs_do_not_write_to_one_place(stack, support, whole, tmp_path):
    out = tmp_path / "labels.zarr"

    class Meanwhile(Dying):
        def submit(self, request, *, on_plane, on_progress, on_done):
            def both(result):
                for more in (
                    ({}, {"parts": tmp_path / "x"}) if result.plane == 3 else ()
                ):
                    with pytest.raises(StorageError, match="Another run"):
                        nf.segment(stack, support, out=out, **FAST, **more)
                on_plane(result)

            return super().submit(
                request, on_plane=both, on_progress=on_progress, on_done=on_done
            )

    found = nf.segment(stack, support, out=out, executor=Meanwhile(), **USUAL)
    assert_same(found, whole)
    np.testing.assert_array_equal(zarr.open(out)[...], whole.labels)
    assert not parts_of(out).exists()


def test_a_full_disk_costs_the_journal_and_not_the_run(
    stack, support, whole, tmp_path, monkeypatch
):
    put = Parts.put

    def full(self, kind, plane, number, **arrays):
        if plane >= 2:
            raise StorageError("Unfinished work can't be kept: the disk is full.")
        put(self, kind, plane, number, **arrays)

    monkeypatch.setattr(Parts, "put", full)
    found = nf.segment(stack, support, out=tmp_path / "labels.tif", **USUAL)
    np.testing.assert_array_equal(found.labels, whole.labels)
    assert any("the disk is full" in n for n in found.provenance["notes"])


def test_folders_of_users_are_left_alone(stack, support, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.new").write_text("years")
    (folder / "empty").mkdir()
    with pytest.raises(StorageError, match="other files"):
        nf.segment(stack, support, parts=folder, **FAST)
    # Where nothing is kept, nothing is removed.
    nf.segment(stack[0], support, parts=folder, **FAST)
    assert sorted(p.name for p in folder.iterdir()) == ["empty", "thesis.new"]
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="can't be kept"):
        nf.segment(stack, support, parts=tmp_path / "file" / "x", **FAST)


def test_a_folder_of_views_can_be_used_by_another_request(
    blob_pair, support, whole, stack, tmp_path
):
    out = tmp_path / "labels.zarr"
    options = {**FAST, "out": out, "axes": "zyx"}
    interrupted(2, stack, support, view="stack", **options)
    assert (parts_of(out) / "planes").is_dir()
    found, seen = resumed(stack, support, **{**USUAL, **options})
    assert len(seen) == PLANES
    np.testing.assert_array_equal(np.asarray(found.labels), whole.labels)
    assert not parts_of(out).exists()


def test_an_error_keeps_what_is_finished(stack, support, whole, tmp_path):
    class Broken:
        shape, dtype, ndim = stack.shape, stack.dtype, 3
        is_gone = False

        def __getitem__(self, key):
            if self.is_gone and key[0] == 4:
                raise OSError("the drive is gone")
            return stack[key]

    class Pulling(Dying):
        def submit(self, request, *, on_plane, on_progress, on_done):
            def pull(result):
                image.is_gone = True
                on_plane(result)

            return super().submit(
                request, on_plane=pull, on_progress=on_progress, on_done=on_done
            )

    image, out = Broken(), tmp_path / "labels.zarr"
    with pytest.raises(FewShotError, match="drive is gone"):
        nf.segment(image, support, out=out, executor=Pulling(), **USUAL)
    kept = list(parts_of(out).glob("*.part"))
    assert len(kept) == 4
    found, seen = resumed(stack, support, out=out, **USUAL)
    assert len(seen) == PLANES - len(kept)
    assert_same(found, whole)


def test_the_folder_is_beside_the_result(tmp_path):
    assert beside_of(Path("a") / "b.zarr") == Path("a") / "b.zarr.parts"
    assert beside_of(Path("a/b.zarr/")) == Path("a") / "b.zarr.parts"
    long = [beside_of(tmp_path / f"{'x' * 249}{n}.tif") for n in (1, 2)]
    assert long[0] != long[1]
    with held(long[0]):
        assert long[0].is_dir()


def test_holding_a_folder(tmp_path):
    folder = tmp_path / "a" / "b"
    with held(folder):
        assert (folder / LOCK).is_file()
        with pytest.raises(StorageError, match="Another run"), held(folder):
            raise AssertionError
        assert (folder / LOCK).is_file()
    assert not folder.exists()
    with pytest.raises(KeyError), held(folder):
        Parts(folder, "k").put("p", 0, 0, labels=np.ones(3))
        raise KeyError
    assert sorted(p.name for p in folder.iterdir()) == ["p-0-0.part", "run.json"]
    file, is_held = hold(folder / LOCK)
    assert is_held
    file.close()
    discard(folder)
    assert [p.name for p in folder.iterdir()] == [LOCK]


SCRIPT = """
    import sys
    import numpy as np
    import napari_fewshot as nf
    image = np.load(sys.argv[1])
    support = nf.Support(np.load(sys.argv[2]), np.load(sys.argv[3]))
    nf.segment(image, support, out=sys.argv[4], method="pixel", leave_one_out=False,
               trees=5, instances="components")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_process_that_is_killed_leaves_nothing_behind(
    stack, support, blob_pair, tmp_path
):
    many = np.concatenate([stack] * 5)
    paths = [tmp_path / n for n in ("stack.npy", "image.npy", "labels.npy")]
    arrays = (many, support.image, support.labels)
    for path, array in zip(paths, arrays, strict=True):
        np.save(path, array)
    out = tmp_path / "labels.zarr"
    words = [sys.executable, "-c", textwrap.dedent(SCRIPT), *map(str, paths), str(out)]
    process = subprocess.Popen(words)
    while not list(parts_of(out).glob("p-*.part")):
        assert process.poll() is None, "it was over too soon"
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = len(list(parts_of(out).glob("p-*.part")))
    assert (parts_of(out) / LOCK).exists()
    found, seen = resumed(many, support, out=out, **USUAL)
    assert len(seen) == len(many) - kept or kept == len(many)
    assert_same(found, nf.segment(many, support, **USUAL))
    assert not parts_of(out).exists()


# -- clusters --------------------------------------------------------------------------


class Cluster:
    """Cuts a stack into pieces as a cluster does, and stops after some of them."""

    name, divides = "dask", True

    def __init__(self, pieces=None):
        self.pieces, self.seen = pieces, []
        self._inner = InlineExecutor()

    def submit(self, request, *, on_plane, on_progress, on_done):
        planes = wanted_planes(request)
        planner = Planner(planes, together(request, len(planes)), 0)
        merger, job, results = Merger(request, planes), Job(on_done), []
        while not planner.is_exhausted:
            if self.pieces is not None and len(self.seen) >= self.pieces:
                raise Killed
            piece = Piece(planner.next(1), leading_plane(request, planes))
            found = _Work(request, piece, Hooks()).done()
            self.seen.append(piece.planes)
            merger.add(found)
            results += [restored(r) for r in found.results]
            if len(results) == 2 or planner.is_exhausted:
                # Two at once, the later one first: the order is not that of planes.
                for result in reversed(results):
                    on_plane(result)
                results.clear()
        job.finish(merger.summary(1.0, {"workers": ["w"]}))
        return job


def test_a_cluster_is_asked_for_what_had_not_come_back(stack, support, tmp_path):
    wanted = nf.segment(stack, support, executor=Cluster(), **FAST)
    out = tmp_path / "labels.zarr"
    first, second = Cluster(5), Cluster()
    with pytest.raises(Killed):
        nf.segment(stack, support, executor=first, out=out, **FAST)
    found = nf.segment(stack, support, executor=second, out=out, **FAST)
    # The fifth piece was under way to the user.
    assert second.seen == [(4,), (5,)]
    assert_same(found, wanted)
    # What began there can go on here, and the other way round.
    with pytest.raises(Killed):
        nf.segment(stack, support, executor=Cluster(2), out=out, **FAST)
    here, seen = resumed(stack, support, out=out, **FAST)
    assert seen == [2, 3, 4, 5]
    assert_same(here, nf.segment(stack, support, **FAST))


def test_blocks_of_a_cluster_stay_the_same_blocks(stack, support, monkeypatch):
    monkeypatch.setattr(_dask_plan, "block_size", lambda *_: 2)
    image = Image.from_array(np.concatenate([stack] * 2)[:9])
    request = SegmentRequest(image, SupportSet([support]), method="incontext")
    plan = plan_stack(request, Cluster())
    assert plan.pieces == ((0, 1), (2, 3), (4, 5), (6, 7, 8))
    facts = {p: {"lessons": (), "follow": 0} for p in (0, 1, 3, 4, 5, 6, 8)}
    missing, lessons = missing_planes(plan, facts)
    assert (missing, lessons) == ((2, 3, 6, 7, 8), None)
    again = plan_stack(dataclasses.replace(request, planes=missing), Cluster())
    assert again.pieces == ((2, 3), (6, 7, 8))
    # One after the other, they are another request: they know what came before.
    assert plan_stack(request, InlineExecutor()).key != plan.key


def test_what_can_not_go_on_is_passed_on(stack, support):
    image, supports = Image.from_array(stack), SupportSet([support])

    def plan(**changes):
        base = {"method": "pixel"} | changes
        return plan_stack(SegmentRequest(image, supports, **base), InlineExecutor())

    assert plan() is not None
    assert plan(planes=(1,)) is None
    assert plan(planes=(1, 1)) is None
    assert plan(planes=(0, 99)) is None
    assert plan(task="encode") is None
    assert plan(method="nonsense") is None
    assert plan(params={"trees": "many"}) is None
    text = {1: nf.TextPrompt("green box")}
    reading = TextChoice(params={"through": "anchors"})
    assert plan(text=text, reading=reading) is not None
    reading = TextChoice(params={"through": "anchors"}, share="alone")
    assert plan(text=text, reading=reading) is None
