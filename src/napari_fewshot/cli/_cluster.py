"""``napari-fewshot cluster``: test a connection, or start workers on this computer."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from napari_fewshot.errors import ModelError

cluster_app = typer.Typer(
    help="Run on the workers of a dask scheduler.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
HOST = "127.0.0.1"


@cluster_app.command("check")
def check(
    address: Annotated[str, typer.Argument(help="tcp://host:port of the scheduler.")],
) -> None:
    """Say whether a cluster can run segmentations, and what to do if not."""
    from napari_fewshot.session._dask import DaskExecutor

    executor = DaskExecutor(address)
    try:
        found = executor.check()
    finally:
        executor.close()
    print(f"{found.address}: {found.text}")
    for worker in found.workers:
        threads = "1 thread" if worker.threads == 1 else f"{worker.threads} threads"
        print(f"  {worker.address} on {worker.host}, {threads}")
    for note in found.notes:
        print(f"  note: {note}")
    if found.dashboard:
        print(f"Dashboard: {found.dashboard}")


@cluster_app.command("local")
def local(
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each.")] = 1,
    host: Annotated[
        str, typer.Option(help="0.0.0.0 lets other computers in; no password guards.")
    ] = HOST,
    port: Annotated[int, typer.Option(help="Of the scheduler; 0 is a free one.")] = 0,
    memory: Annotated[
        str, typer.Option(help="Limit per worker, such as 8GB; auto shares all of it.")
    ] = "auto",
) -> None:
    """Start a scheduler and workers on this computer, until Ctrl-C."""
    try:
        from distributed import LocalCluster
    except ImportError as error:
        from napari_fewshot.session._dask_link import NEEDS_DISTRIBUTED

        raise ModelError(NEEDS_DISTRIBUTED) from error
    options = {"dashboard_address": ":0", "scheduler_port": port, "host": host}
    with LocalCluster(
        n_workers=workers, threads_per_worker=threads, memory_limit=memory, **options
    ) as cluster:
        print(f"Scheduler: {cluster.scheduler_address}", flush=True)
        print(f"Dashboard: {cluster.dashboard_link}", flush=True)
        print(f"{workers} x {threads} threads. Ctrl-C stops them.", flush=True)
        while True:
            time.sleep(1.0)
