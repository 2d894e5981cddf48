"""The worker process: same results, cancel, crash, idle, nothing left behind."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import zarr

import napari_fewshot as nf
from napari_fewshot.data import Image, SupportSet
from napari_fewshot.inference import SegmentRequest, Summary
from napari_fewshot.session import _process
from napari_fewshot.session._jobs import get_executor
from napari_fewshot.session._process import ProcessExecutor

FAST = {"leave_one_out": False, "trees": 10}
# Only ends a test that hangs: a worker starts slowly on a machine that is busy.
WAIT = 300


@pytest.fixture
def executor():
    """The one of the whole program: it starts once for all tests that need one."""
    return get_executor("process")


@pytest.fixture
def request_of(blob_pair):
    def build(query, **options):
        options = {"method": "pixel", "params": FAST, **options}
        support = SupportSet([blob_pair(0)])
        return SegmentRequest(Image.from_array(query, name="query"), support, **options)

    return build


def start(executor, request, on_plane=lambda r: None, on_progress=lambda p: None):
    return executor.submit(
        request, on_plane=on_plane, on_progress=on_progress, on_done=lambda o: None
    )


@pytest.fixture
def left_behind(monkeypatch):
    """Return a function that names the blocks of this test that are still there."""
    names = []
    make = _process.Block

    def noted(nbytes: int):
        block = make(nbytes)
        names.append(block.name.lstrip("/"))
        return block

    monkeypatch.setattr(_process, "Block", noted)
    return lambda: [n for n in names if Path("/dev/shm", n).exists()] if names else None


def test_the_same_labels_as_inline(executor, blob_pair, left_behind):
    query = np.stack([blob_pair(s)[0] for s in (1, 2, 3)])
    support = nf.Support(*blob_pair(0))
    inline = nf.segment(query, support, method="pixel", **FAST)
    far = nf.segment(query, support, method="pixel", executor=executor, **FAST)
    np.testing.assert_array_equal(far.labels, inline.labels)
    assert far.provenance["executor"] == "process"
    assert far.provenance["inputs"] == inline.provenance["inputs"]
    assert left_behind() == [], "shared memory was left behind"


def test_instances_and_probabilities_come_back(executor, blob_pair):
    far = nf.segment(
        blob_pair(1)[0],
        nf.Support(*blob_pair(0)),
        method="pixel",
        executor=executor,
        instances="components",
        **FAST,
    )
    assert far.probabilities[1].dtype == np.float16
    assert far.instances.max() > 1


def test_lazy_stacks_are_read_in_the_client(executor, request_of, blob_pair, tmp_path):
    planes = np.stack([blob_pair(s)[0] for s in (1, 2, 3)])
    store = zarr.create_array(tmp_path / "a.zarr", data=planes, chunks=(1, 96, 112))
    found = []
    job = start(executor, request_of(store), lambda r: found.append(r.plane))
    assert job.wait(WAIT)
    assert isinstance(job.outcome, Summary), job.outcome
    assert found == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        pytest.param({"params": {"treees": 3}}, TypeError, id="parameter"),
        pytest.param({"method": "nothing"}, nf.ModelError, id="method"),
        pytest.param({"planes": (9,)}, nf.DataError, id="plane"),
    ],
)
def test_errors_cross_with_their_type(executor, request_of, blob_pair, options, error):
    job = start(executor, request_of(blob_pair(1)[0], **options))
    assert job.wait(WAIT)
    assert isinstance(job.outcome, error)


def test_an_array_that_fails_is_an_error_of_the_data(executor, request_of):
    class Broken:
        shape, dtype, ndim = (5, 96, 112), np.dtype("uint8"), 3

        def __getitem__(self, key):
            if key[0] == 3:
                raise OSError("the disk is gone")
            return (
                np.random.default_rng(key[0]).integers(0, 255, (96, 112)).astype("u1")
            )

    job = start(executor, request_of(Broken(), planes=(0, 3)))
    assert job.wait(WAIT)
    assert isinstance(job.outcome, nf.FewShotError)
    assert "the disk is gone" in str(job.outcome)


def long_query(blob_pair):
    plane = blob_pair(1)[0]

    class Long:
        shape, dtype, ndim = (3000, *plane.shape), plane.dtype, 3

        def __getitem__(self, key):
            return np.roll(plane, key[0], axis=0)

    return Long()


def first_plane(executor, request):
    """Start a long job; return it when its first plane has come."""
    came, planes = threading.Event(), []

    def on_plane(result):
        planes.append(result.plane)
        came.set()

    job = start(executor, request, on_plane)
    assert came.wait(WAIT), job.outcome
    return job, planes


def test_cancel_is_cooperative_first(executor, request_of, blob_pair):
    job, planes = first_plane(executor, request_of(long_query(blob_pair)))
    pid = executor.pid
    job.cancel()
    assert job.wait(WAIT)
    assert isinstance(job.outcome, nf.Cancelled)
    assert executor.pid == pid, "a worker that answers is not killed"
    count = len(planes)
    time.sleep(0.2)
    assert len(planes) == count, "work has really stopped"


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGSTOP")
def test_a_worker_that_does_not_answer_is_killed(executor, request_of, blob_pair):
    job, _ = first_plane(executor, request_of(long_query(blob_pair)))
    stuck = executor.pid
    os.kill(stuck, signal.SIGSTOP)
    job.cancel()
    assert job.wait(WAIT)
    assert isinstance(job.outcome, nf.Cancelled)
    assert not psutil.pid_exists(stuck)
    again = start(executor, request_of(blob_pair(1)[0]))
    assert again.wait(WAIT)
    assert isinstance(again.outcome, Summary)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_worker_is_reported_and_replaced(
    executor, request_of, blob_pair, left_behind
):
    job, _ = first_plane(executor, request_of(long_query(blob_pair)))
    os.kill(executor.pid, signal.SIGKILL)
    assert job.wait(WAIT)
    assert isinstance(job.outcome, nf.WorkerError)
    assert "restarted" in str(job.outcome)
    assert left_behind() == [], "shared memory was left behind"
    again = start(executor, request_of(blob_pair(1)[0]))
    assert again.wait(WAIT)
    assert isinstance(again.outcome, Summary)


def test_an_idle_worker_leaves_and_comes_back(request_of, blob_pair, monkeypatch):
    monkeypatch.setenv("NAPARI_FEWSHOT_IDLE_SECONDS", "0.3")
    executor = ProcessExecutor()
    try:
        for _ in range(2):
            job = start(executor, request_of(blob_pair(1)[0]))
            assert job.wait(WAIT)
            assert isinstance(job.outcome, Summary), job.outcome
            deadline = time.monotonic() + WAIT
            while executor.pid is not None and time.monotonic() < deadline:
                time.sleep(0.05)
            assert executor.pid is None, "an idle worker gives its memory back"
    finally:
        executor.close()


def test_closing_ends_the_worker_in_the_middle_of_a_job(request_of, blob_pair):
    executor = ProcessExecutor()
    job, _ = first_plane(executor, request_of(long_query(blob_pair)))
    pid = executor.pid
    executor.close()
    assert job.wait(WAIT)
    assert isinstance(job.outcome, nf.Cancelled)
    assert not psutil.pid_exists(pid)


def test_a_worker_without_its_client_leaves(tmp_path):
    """A client that is killed takes the worker with it."""
    code = (
        "import os, signal, napari_fewshot as nf, numpy as np\n"
        "from napari_fewshot.session._process import ProcessExecutor\n"
        "e = ProcessExecutor(); e.prewarm()\n"
        "import time\n"
        "while e.pid is None: time.sleep(0.05)\n"
        "while not e._worker._ready.is_set(): time.sleep(0.05)\n"
        "print(e.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    import subprocess

    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    pid = int(result.stdout)
    deadline = time.monotonic() + WAIT
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(pid)


def test_latest_wins(executor, blob_pair):
    session = nf.Session(method="pixel", executor=executor, autosave=False)
    session.set_method(params=FAST)
    session.add_support(*blob_pair(0))
    session.set_query(long_query(blob_pair), axes="zyx")
    predictions = []
    session.predicted.connect(predictions.append)
    session.segment(wait=False)
    with pytest.raises(nf.FewShotError, match="already running"):
        session.segment(wait=False)
    session.set_query(blob_pair(1)[0])
    latest = session.segment(wait=True, live=True)
    assert latest.labels.shape == (96, 112)
    assert [p.labels.shape for p in predictions] == [(96, 112)]


def test_unknown_executors(blob_pair):
    with pytest.raises(nf.ModelError, match="'process'"):
        nf.segment(blob_pair(0)[0], blob_pair(1), executor="thread")
