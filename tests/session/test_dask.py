"""A real cluster on this machine: same results, lost workers, bad input, cancel."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import numpy as np
import pytest
import zarr

import napari_fewshot as nf
from napari_fewshot.data import Image, SupportSet
from napari_fewshot.inference import SegmentRequest, Summary
from napari_fewshot.session import InlineExecutor, get_executor
from napari_fewshot.session._dask import DaskExecutor

distributed = pytest.importorskip("distributed", reason="comes with the cluster extra")

pytestmark = [
    # One cluster for all tests here.
    pytest.mark.xdist_group("cluster"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
FAST = {"leave_one_out": False, "trees": 10}
SHAPE = (48, 56)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    home = tmp_path_factory.mktemp("worker-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAPARI_FEWSHOT_HOME", str(home))
        cluster = distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=":0",
            local_directory=str(tmp_path_factory.mktemp("spill")),
        )
        yield cluster
        cluster.close()


@pytest.fixture(scope="module")
def executor(cluster):
    executor = DaskExecutor(cluster.scheduler_address)
    yield executor
    executor.close()


@pytest.fixture
def stack(blob_pair):
    return np.stack([blob_pair(seed, SHAPE)[0] for seed in range(1, 10)])


@pytest.fixture
def request_of(blob_pair):
    def build(query, **options):
        options = {"method": "pixel", "params": FAST, **options}
        support = SupportSet([blob_pair(0, SHAPE)])
        return SegmentRequest(Image.from_array(query, name="query"), support, **options)

    return build


def run(executor, request, on_plane=None):
    """Run a request to its end; returns the outcome and the planes."""
    planes = {}

    def take(result):
        planes[result.plane] = result
        if on_plane is not None:
            on_plane(result)

    job = executor.submit(
        request, on_plane=take, on_progress=lambda p: None, on_done=lambda o: None
    )
    job.wait()
    return job.outcome, planes


def worker_pids(executor):
    return executor._link.client.run(os.getpid)


class OnlyHere:
    """An array that no other process can read."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.lock = threading.Lock()

    def __getitem__(self, key):
        return self.array[key]


def test_a_stack_comes_out_as_in_this_process(cluster, stack, blob_pair):
    support = [blob_pair(0, SHAPE)]
    options = {"method": "pixel", "instances": "components", **FAST}
    here = nf.segment(stack, support, **options)
    there = nf.segment(stack, support, executor=cluster.scheduler_address, **options)
    get_executor(cluster.scheduler_address).close()
    assert np.array_equal(there.labels, here.labels)
    # Objects are numbered over the planes: these came in order.
    assert np.array_equal(there.instances, here.instances)
    assert there.scores == here.scores
    assert there.score_intervals == here.score_intervals
    assert there.present == here.present
    assert there.suggested == here.suggested
    assert np.array_equal(there.plane_scores[1], here.plane_scores[1])
    ours, theirs = here.provenance, dict(there.provenance)
    assert theirs["executor"] == "dask"
    facts = theirs.pop("cluster")
    assert facts["scheduler"] == cluster.scheduler_address
    assert facts["workers"]
    assert facts["versions"]["distributed"] == distributed.__version__
    for key in ours.keys() - {"seconds", "executor"}:
        assert theirs[key] == ours[key], key
    json.dumps(there.provenance)


def test_a_cluster_object_and_a_client_are_places_too(cluster, stack, blob_pair):
    support, options = [blob_pair(0, SHAPE)], {"method": "prototype"}
    here = nf.segment(stack[0], support, **options)
    by_cluster = nf.segment(stack[0], support, executor=cluster, **options)
    with distributed.Client(cluster, set_as_default=False) as client:
        by_client = nf.segment(stack[0], support, executor=client, **options)
        assert client.status == "running"
    for found in (by_cluster, by_client):
        assert np.array_equal(found.labels, here.labels)
        assert np.array_equal(found.probabilities[1], here.probabilities[1])
        assert found.scores == here.scores


def test_planes_that_help_one_another_come_in_blocks(executor, request_of, stack):
    params = {"look": "close", "mirror": "no", "practise": False}
    request = request_of(stack[:3], method="incontext", params=params)
    outcome, planes = run(executor, request)
    expected, here = run(InlineExecutor(), request)
    assert isinstance(outcome, Summary), outcome
    assert isinstance(expected, Summary)
    assert all(np.array_equal(planes[p].labels, here[p].labels) for p in here)
    assert outcome.scores == expected.scores


def test_workers_read_a_zarr_by_themselves(executor, request_of, stack, tmp_path):
    store = zarr.create_array(
        tmp_path / "q.zarr", shape=stack.shape, chunks=(1, *SHAPE), dtype=stack.dtype
    )
    store[:] = stack
    outcome, planes = run(executor, request_of(store))
    assert isinstance(outcome, Summary), outcome
    assert sorted(planes) == list(range(len(stack)))
    assert outcome.provenance["cluster"]["notes"] == []


def test_what_workers_cannot_open_is_sent_to_them(executor, request_of, stack):
    outcome, planes = run(executor, request_of(OnlyHere(stack)))
    _, here = run(InlineExecutor(), request_of(stack))
    assert isinstance(outcome, Summary), outcome
    assert all(np.array_equal(planes[p].labels, here[p].labels) for p in here)


def test_another_image_at_the_same_path_is_noticed(
    executor, request_of, stack, tmp_path, monkeypatch
):
    # As on a worker whose disk holds another file of this name.
    path = tmp_path / "q.npy"
    np.save(path, stack)
    mapped = np.load(path, mmap_mode="r")
    from napari_fewshot.session import _dask_payload

    monkeypatch.setattr(
        _dask_payload, "_fingerprint", lambda query, planes: (0, "other")
    )
    outcome, planes = run(executor, request_of(mapped))
    assert isinstance(outcome, Summary), outcome
    assert "pixels were sent" in outcome.provenance["cluster"]["notes"][0]
    assert len(planes) == len(stack)


def test_a_corrupt_chunk_fails_alone(executor, request_of, stack, tmp_path):
    store = zarr.create_array(
        tmp_path / "q.zarr", shape=stack.shape, chunks=(1, *SHAPE), dtype=stack.dtype
    )
    store[:] = stack
    (tmp_path / "q.zarr" / "c" / "3" / "0" / "0").write_bytes(b"not a chunk")
    outcome, planes = run(executor, request_of(store))
    assert isinstance(outcome, nf.DataError)
    assert "1 of 9 planes" in str(outcome)
    assert "plane 3" in str(outcome)
    assert sorted(planes) == [0, 1, 2, 4, 5, 6, 7, 8]


def test_what_is_wrong_with_all_planes_is_said_once(executor, request_of, stack):
    outcome, planes = run(executor, request_of(stack + np.float32("nan")))
    assert isinstance(outcome, nf.DataError)
    assert "NaN" in str(outcome)
    assert not planes


def test_a_killed_worker_costs_only_its_pieces(executor, request_of, stack):
    executor.check()
    request = request_of(np.concatenate([stack] * 2))
    _, here = run(InlineExecutor(), request)
    killed = []

    def kill(result):
        if not killed:
            killed.append(next(iter(worker_pids(executor).values())))
            os.kill(killed[0], signal.SIGKILL)

    outcome, planes = run(executor, request, kill)
    assert isinstance(outcome, Summary), outcome
    assert killed
    assert sorted(planes) == list(range(18))
    assert all(np.array_equal(planes[p].labels, here[p].labels) for p in here)


def test_cancel_stops_the_pieces_and_the_cluster_stays_usable(
    executor, request_of, stack
):
    executor.check()
    job, planes = None, []
    began = threading.Event()

    def take(result):
        planes.append(result.plane)
        began.set()

    job = executor.submit(
        request_of(np.concatenate([stack] * 20)),
        on_plane=take,
        on_progress=lambda p: None,
        on_done=lambda o: None,
    )
    began.wait()
    job.cancel()
    job.wait()
    assert isinstance(job.outcome, nf.Cancelled)
    assert 0 < len(planes) < 180
    client = executor._link.client
    while any(client.processing().values()):
        time.sleep(0.05)
    outcome, _ = run(executor, request_of(stack[:2]))
    assert isinstance(outcome, Summary), outcome


def test_missing_weights_name_the_worker_and_the_command(
    executor, request_of, stack, tiny_sam
):
    from napari_fewshot.io import import_weights

    import_weights(tiny_sam, "sam/vit_b")
    request = request_of(
        stack[0],
        method="auto",
        model="sam/vit_b",
        params={},
    )
    outcome, _ = run(executor, request)
    assert isinstance(outcome, nf.WeightsError)
    assert "tcp://127.0.0.1" in str(outcome)
    assert "napari-fewshot models download sam/vit_b" in str(outcome)


def test_a_checkpoint_that_workers_lack_is_told(
    executor, request_of, stack, tmp_path, monkeypatch
):
    request = request_of(stack[0], method="auto", checkpoint=str(tmp_path / "no.pth"))
    outcome, _ = run(executor, replace_params(request))
    assert isinstance(outcome, nf.WeightsError)
    assert "no.pth" in str(outcome)


def replace_params(request):
    from dataclasses import replace

    return replace(request, params={})


def test_prompts_alone_come_out_as_here(executor, stack):
    prompts = {1: nf.PromptSet(points=[(2, 20, 20), (5, 30, 30)])}
    request = SegmentRequest(
        Image.from_array(stack), SupportSet(()), prompts=prompts, method="auto"
    )
    outcome, planes = run(executor, request)
    expected, here = run(InlineExecutor(), request)
    assert isinstance(outcome, Summary), outcome
    assert sorted(planes) == sorted(here) == [2, 5]
    assert all(np.array_equal(planes[p].labels, here[p].labels) for p in here)
    assert outcome.scores == expected.scores


def test_the_command_line_runs_there(cluster, stack, blob_pair, tmp_path, capsys):
    import tifffile

    from napari_fewshot.cli import main

    image, labels = blob_pair(0, SHAPE)
    for name, array in (("a", image), ("m", labels.astype("u1")), ("q", stack[0])):
        tifffile.imwrite(tmp_path / f"{name}.tif", array)
    words = ["segment", str(tmp_path / "q.tif"), "--scheduler"]
    words += [cluster.scheduler_address, "--method", "prototype", "--support"]
    words += [str(tmp_path / "a.tif"), str(tmp_path / "m.tif")]
    with pytest.raises(SystemExit) as done:
        main([*words, "--out", str(tmp_path / "out")])
    get_executor(cluster.scheduler_address).close()
    assert done.value.code == 0, capsys.readouterr().err
    found = tifffile.imread(tmp_path / "out" / "q_labels.tif")
    here = nf.segment(stack[0], [(image, labels)], method="prototype")
    assert np.array_equal(found, here.labels)
    record = (tmp_path / "out" / "provenance.json").read_text()
    assert cluster.scheduler_address in record


def test_the_connection_can_be_tested_from_the_command_line(cluster, capsys):
    from napari_fewshot.cli import main

    with pytest.raises(SystemExit) as done:
        main(["cluster", "check", cluster.scheduler_address])
    assert done.value.code == 0
    said = capsys.readouterr().out
    assert "2 workers on 1 computer" in said
    assert "1 thread" in said


def test_nobody_at_the_address_is_one_sentence(capsys):
    from napari_fewshot.cli import main

    with pytest.raises(SystemExit) as done:
        main(["cluster", "check", "tcp://127.0.0.1:1"])
    assert done.value.code == 1
    assert "No scheduler answers" in capsys.readouterr().err


def test_a_session_moves_between_places(cluster, stack, blob_pair):
    session = nf.Session(autosave=False)
    session.add_support(*blob_pair(0, SHAPE))
    session.set_query(stack[0])
    session.set_method("prototype")
    here = session.segment()
    session.run_on(cluster)
    there = session.segment()
    assert there.provenance["executor"] == "dask"
    assert np.array_equal(there.labels, here.labels)
    session.run_on("inline")
    assert session.segment().provenance["executor"] == "inline"
    session.close()


def test_a_scheduler_that_goes_away_ends_the_run(request_of, stack, monkeypatch):
    from napari_fewshot.session import _dask_run

    monkeypatch.setattr(_dask_run, "GONE_SECONDS", 1.0)
    cluster = distributed.LocalCluster(
        n_workers=1, processes=False, protocol="tcp://", dashboard_address=":0"
    )
    executor = DaskExecutor(cluster.scheduler_address)
    gone = []

    def go(result):
        if not gone:
            gone.append(result.plane)
            cluster.close()

    outcome, planes = run(executor, request_of(np.concatenate([stack] * 20)), go)
    assert isinstance(outcome, nf.WorkerError), outcome
    assert "is gone" in str(outcome)
    assert cluster.scheduler_address in str(outcome)
    assert 0 < len(planes) < 180
    # The next run says so at once.
    outcome, _ = run(executor, request_of(stack))
    assert isinstance(outcome, nf.WorkerError)
    assert "No scheduler answers" in str(outcome)
    executor.close()
