"""Parts of the cluster that need none: pieces, versions, what crosses, order."""

from __future__ import annotations

import pickle
import socket
import sys
import time
from dataclasses import replace

import dask.array
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import napari_fewshot as nf
from napari_fewshot.data import (
    Image,
    Lattice,
    Support,
    SupportSet,
    WindowedImage,
    intensity_window,
)
from napari_fewshot.inference import PlaneResult, SegmentRequest
from napari_fewshot.methods import block_size
from napari_fewshot.session import _dask_link, _dask_plan, get_executor
from napari_fewshot.session._dask_delivery import Delivery, compact, restored
from napari_fewshot.session._dask_facts import (
    Facts,
    check_weights,
    checkpoints_of,
    compare_versions,
    models_of,
    versions_here,
    weights_here,
)
from napari_fewshot.session._dask_link import connect
from napari_fewshot.session._dask_payload import readable, with_window
from napari_fewshot.session._dask_plan import Planner, together, wanted_planes
from napari_fewshot.session._dask_reach import knock, within
from napari_fewshot.session._dask_remote import Resident, _serving
from napari_fewshot.session._dask_wire import (
    Piece,
    PieceResult,
    TooLarge,
    describe,
    describe_supports,
    restore_supports,
)

MINE = {"napari-fewshot": "1.2.3", "distributed": "2026.8.0", "numpy": "2.4.0"}


def request_of(query, **options):
    image, labels = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)
    image[5:20, 5:20], labels[5:20, 5:20] = 200, 1
    support = SupportSet([(image, labels)])
    return SegmentRequest(Image.from_array(query), support, **options)


def pieces_of(planner, workers, seconds=None):
    found = []
    while planes := planner.next(workers):
        found.append(planes)
        if seconds is not None:
            planner.note(len(planes), seconds * len(planes))
    return found


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 13), st.integers(1, 9), st.floats(0.001, 9))
def test_every_plane_is_in_one_piece(count, block, workers, seconds):
    pieces = pieces_of(Planner(range(count), block, 1), workers, seconds)
    assert [p for piece in pieces for p in piece] == list(range(count))


@settings(deadline=None)
@given(st.integers(2, 200), st.integers(2, 12), st.integers(1, 9))
def test_blocks_do_not_depend_on_workers_or_time(count, block, workers):
    first = pieces_of(Planner(range(count), block, 1), 1, 0.01)
    assert first == pieces_of(Planner(range(count), block, 1), workers, 5.0)
    assert all(piece[0] % block == 0 for piece in first)
    assert all(len(piece) > 1 for piece in first)


def test_pieces_take_seconds_and_leave_work_for_everybody():
    pieces = pieces_of(Planner(range(1000), 1, 1), 4, seconds=0.1)
    # Nothing is known before the first one.
    assert len(pieces[0]) == 1
    assert max(map(len, pieces)) <= _dask_plan.PIECE_SECONDS / 0.1
    assert len(pieces[-1]) == 1
    quick = pieces_of(Planner(range(1000), 1, 1), 4, seconds=0.001)
    assert max(map(len, quick)) <= 1000 / (4 * _dask_plan.PIECES_PER_WORKER) + 1
    assert len(quick) >= 4 * _dask_plan.PIECES_PER_WORKER


def test_pieces_stay_small_in_memory():
    pieces = pieces_of(Planner(range(100), 1, 30 * 2**20), 1, seconds=0.001)
    assert max(map(len, pieces)) == 2


def test_a_lost_piece_goes_out_first_and_in_halves_if_it_kills():
    planner = Planner(range(10), 1, 1)
    first = planner.next(1)
    planner.note(1, 0.1)
    planner.give_back(first)
    assert planner.next(1) == first
    planner.give_back((1, 2, 3), halved=True)
    assert not planner.is_exhausted
    assert [planner.next(1), planner.next(1)] == [(1,), (2, 3)]


def test_what_must_stay_together():
    stack = np.random.default_rng(0).integers(0, 255, (9, 40, 40)).astype(np.uint8)
    one = request_of(stack, method="pixel")
    assert together(one, 9) == 1
    several = request_of(stack, method="auto")
    assert together(several, 9) == block_size((40, 40), 1)
    alone = request_of(stack, method="auto", params={"neighbours": False})
    assert together(alone, 9) == 1
    assert together(replace(one, task="propagate"), 9) == 9
    assert together(replace(one, task="encode"), 9) == 1
    windows = WindowedImage.over(one.query, Lattice.of((40, 40), (24, 24), 8))
    assert together(replace(several, query=windows), 36) == 1


def test_prompts_choose_planes():
    request = request_of(np.zeros((5, 40, 40), np.uint8))
    assert wanted_planes(request) == (0, 1, 2, 3, 4)
    prompts = {1: nf.PromptSet(points=[(3, 5, 5)])}
    alone = replace(request, support=SupportSet(()), prompts=prompts)
    assert wanted_planes(alone) == (3,)
    with pytest.raises(nf.PromptError, match="none of the chosen planes"):
        wanted_planes(replace(alone, planes=(0, 1)))


def test_equal_versions_say_nothing_and_small_differences_are_notes():
    assert compare_versions(MINE, Facts("a", "host", MINE), "worker") == []
    other = Facts(
        "tcp://a:1", "box", {**MINE, "numpy": "2.3.0", "distributed": "2026.8.1"}
    )
    notes = compare_versions(MINE, other, "worker")
    assert len(notes) == 2
    assert "numpy 2.3.0, not 2.4.0" in notes[1]


@pytest.mark.parametrize("name", ["napari-fewshot", "distributed"])
@pytest.mark.parametrize("version", ["1.9.0", "3.2.3", ""])
def test_other_versions_name_worker_and_command(name, version):
    other = Facts("tcp://a:1", "box", {**MINE, name: version})
    with pytest.raises(nf.WorkerError, match="tcp://a:1") as caught:
        compare_versions(MINE, other, "worker")
    assert f'pip install "{name}=={MINE[name]}"' in str(caught.value)
    assert "box" in str(caught.value)


def test_versions_here_are_those_of_the_packages():
    found = versions_here()
    assert found["numpy"] == np.__version__
    assert found["napari-fewshot"] == nf.__version__
    assert found["python"].split(".")[0] == str(sys.version_info[0])


def test_weights_are_compared_by_what_is_in_them(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(b"one")
    _, files = weights_here((), [str(path), str(tmp_path / "no"), str(tmp_path)])
    assert files[str(tmp_path)] == "folder"
    assert files[str(tmp_path / "no")] == ""
    check_weights({}, {str(path): files[str(path)]}, "w1")
    path.write_bytes(b"another")
    with pytest.raises(nf.WeightsError, match=r"worker w1 holds other weights"):
        check_weights({}, {str(path): files[str(path)]}, "w1")
    path.unlink()
    with pytest.raises(nf.WeightsError, match=r"w1 can't find"):
        check_weights({}, {str(path): files[str(path)]}, "w1")
    with pytest.raises(nf.WeightsError, match="models download sam/vit_b"):
        check_weights({"sam/vit_b": {"a": "b"}}, {}, "w1")


def test_models_that_take_part():
    stack = np.zeros((2, 40, 40), np.uint8)
    assert models_of(request_of(stack)) == ()
    assert models_of(request_of(stack, model="sam/vit_b")) == ("sam/vit_b",)
    given_ = request_of(stack, model="sam/vit_b", checkpoint=("a", "b"))
    assert models_of(given_) == ()
    assert checkpoints_of(given_) == ("a", "b")


def test_arrays_in_files_are_described_and_others_are_not(tmp_path):
    stack = np.random.default_rng(0).integers(0, 255, (6, 128, 128)).astype(np.uint8)
    np.save(tmp_path / "q.npy", stack)
    store = zarr.create_array(
        tmp_path / "q.zarr", shape=stack.shape, chunks=(1, 128, 128), dtype="uint8"
    )
    store[:] = stack
    lazy = dask.array.from_zarr(str(tmp_path / "q.zarr")) + 0
    for array in (np.load(tmp_path / "q.npy", mmap_mode="r"), store, lazy):
        image = Image.from_array(array)
        _ = image.window
        content = describe(image, with_pixels=False)
        assert len(content) < stack.nbytes / 4
        opened = _serving(pickle.loads(content), Piece((0,)))
        assert opened.window == image.window
        assert opened.plane_digest(4) == image.plane_digest(4)
    memory = zarr.create_array({}, shape=stack.shape, chunks=(1, 128, 128), dtype="u1")
    view = np.load(tmp_path / "q.npy", mmap_mode="r")[1:]
    for array in (stack, memory, view, dask.array.from_array(stack)):
        with pytest.raises(TooLarge):
            describe(Image.from_array(array), with_pixels=False)


class Broken:
    """An array of which some planes can't be read."""

    def __init__(self, array, bad):
        self.array, self.bad = array, bad
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, key):
        if key[0] in self.bad:
            raise OSError("bad sector")
        return self.array[key]


def test_the_window_is_of_planes_that_can_be_read():
    stack = np.random.default_rng(0).integers(0, 255, (9, 40, 40)).astype(np.uint8)
    whole = with_window(request_of(stack))
    assert whole.query.window == Image.from_array(stack).window
    part = with_window(request_of(Broken(stack, {0, 4})))
    others = [stack[i] for i in (1, 2, 3, 5, 6, 7, 8)]
    assert part.query.window == intensity_window(others)
    with pytest.raises(nf.DataError, match="bad sector"):
        with_window(request_of(Broken(stack, set(range(9)))))


@pytest.mark.parametrize("is_windowed", [False, True])
def test_without_its_file_an_image_serves_the_planes_it_was_given(is_windowed):
    stack = np.random.default_rng(0).integers(0, 255, (3, 300, 320)).astype(np.uint16)
    image = Image.from_array(stack, scale=(2, 1, 1), name="q")
    if is_windowed:
        image = WindowedImage.over(image, Lattice.of((300, 320), (160, 160), 32))
        image.raw_plane(0)
    _ = image.window
    content = describe(image, with_pixels=True)
    assert len(content) < 10_000
    planes = (1, 2)
    piece = Piece(planes, pixels=readable(image, planes))
    served = _serving(pickle.loads(content), piece)
    for plane in planes:
        assert np.array_equal(served.plane(plane), image.plane(plane))
        assert served.plane_digest(plane) == image.plane_digest(plane)
        assert served.relative_position(plane) == image.relative_position(plane)
    assert served.plane_shape == image.plane_shape
    assert served.n_planes == image.n_planes
    with pytest.raises(nf.DataError):
        served.plane(0)


def test_supports_cross_with_the_planes_that_teach_only():
    images = np.random.default_rng(0).integers(0, 255, (8, 300, 300)).astype(np.uint8)
    labels = np.zeros((8, 300, 300), np.uint8)
    labels[3, 20:60, 20:60] = 255
    given_ = SupportSet([Support(images, labels, classes={1: "cell"}, name="a")])
    sent = pickle.dumps(describe_supports(given_))
    assert len(sent) < 8 * 90_000
    found = restore_supports(pickle.loads(sent))
    assert found.label_values == given_.label_values == (1,)
    assert found.class_names == given_.class_names
    assert found[0].used_planes == (3,)
    assert np.array_equal(found[0].label_plane(3), given_[0].label_plane(3))
    assert np.array_equal(found[0].source.plane(3), given_[0].source.plane(3))
    found.check()


@pytest.mark.parametrize("top", [1, 255, 256, 65_535, 70_000, -1])
def test_labels_come_back_as_they_were(top):
    labels = np.array([[0, top], [0, 1]], np.int32)
    result = PlaneResult(0, labels, {1: 0.5}, labels)
    back = restored(pickle.loads(pickle.dumps(compact(result))))
    assert back.labels.dtype == back.instances.dtype == np.int32
    assert np.array_equal(back.labels, labels)
    assert compact(result).labels.nbytes <= labels.nbytes


def piece_result(planes, *, objects=False, failed=()):
    labels = np.zeros((4, 4), np.int32)
    results = tuple(
        PlaneResult(p, labels, {}, labels if objects else None) for p in planes
    )
    return PieceResult(results, (), None, dict.fromkeys(failed, "bad"), "w", "h", 1.0)


def test_planes_come_as_they_are_done_but_objects_in_order():
    seen = []
    delivery = Delivery(tuple(range(6)), lambda r: seen.append(r.plane))
    delivery.take(piece_result((2, 3)))
    delivery.take(piece_result((0, 1)))
    assert seen == [2, 3, 0, 1]
    seen.clear()
    delivery = Delivery(tuple(range(6)), lambda r: seen.append(r.plane))
    delivery.take(piece_result((4, 5), objects=True))
    assert seen == []
    assert delivery.waiting_bytes == 2 * 2 * 4 * 4 * 4
    delivery.take(piece_result((0,), objects=True, failed=(1,)))
    assert seen == [0]
    delivery.take(piece_result((2, 3), objects=True))
    assert seen == [0, 2, 3, 4, 5]
    assert delivery.waiting_bytes == 0


def test_after_a_stop_everything_that_is_there_is_handed_out():
    seen = []
    delivery = Delivery(tuple(range(6)), lambda r: seen.append(r.plane))
    delivery.take(piece_result((4, 5), objects=True))
    delivery.hand_out(everything=True)
    assert seen == [4, 5]


@pytest.mark.parametrize(
    "address", ["tcp://", "tcp://host", "tcp://host:port", "tcp://host:99999999", "tcp"]
)
def test_what_is_no_address_is_told_at_once(address):
    with pytest.raises(nf.WorkerError, match="no address of a scheduler"):
        knock(address)


def test_nobody_at_an_address_says_what_to_check():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(nf.WorkerError, match="No scheduler answers") as caught:
        connect(f"tcp://127.0.0.1:{port}")
    assert "firewall" in str(caught.value)
    image, labels = np.eye(32, dtype=np.uint8), np.eye(32, dtype=np.uint8)
    with pytest.raises(nf.WorkerError, match="No scheduler answers"):
        nf.segment(image, (image, labels), executor=f"tcp://127.0.0.1:{port}")


def test_somebody_else_at_an_address_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(_dask_link, "CONNECT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(nf.WorkerError, match="No scheduler answers"):
            connect(f"tcp://127.0.0.1:{port}")


def test_one_executor_per_address():
    first = get_executor("tcp://127.0.0.1:1")
    assert get_executor("tcp://127.0.0.1:1") is first
    assert get_executor(first) is first
    assert first.name == "dask"
    first.close()


def test_without_the_package_the_error_has_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(nf.ModelError, match=r"pip install .*cluster"):
        connect("tcp://127.0.0.1:1")


def test_what_hangs_is_given_up_and_can_be_stopped():
    with pytest.raises(nf.WorkerError, match="too long"):
        within(0.05, lambda: time.sleep(1), "too long")
    with pytest.raises(nf.Cancelled):
        within(9, lambda: time.sleep(1), "too long", lambda: True)
    with pytest.raises(KeyError):
        within(9, lambda: {}["a"], "too long")
    assert within(9, lambda: 3, "too long") == 3


def test_a_worker_computes_one_piece_at_a_time():
    resident, stop = Resident(), []
    from napari_fewshot.data import Hooks

    with resident.turn(Hooks()):
        hooks = Hooks(is_cancelled=lambda: bool(stop.append(1)) or len(stop) > 1)
        with pytest.raises(nf.Cancelled), resident.turn(hooks):
            raise AssertionError("two at once")
    with resident.turn(Hooks()):
        assert len(stop) == 2
