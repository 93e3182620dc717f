"""`orion-beam workers`: the Python workers of a Flink cluster's task manager."""

import time
from pathlib import Path
from typing import Annotated

import typer

from orion_beam.cli.shared import interrupts
from orion_beam.cli.shared.given import local_path
from orion_beam.cli.shared.late import late_imports
from orion_beam.cli.shared.options import MetricsToken, duration_of
from orion_beam.errors import UserError
from orion_beam.sizes import parse_size_bytes

with late_imports():
    from orion_beam.runners.worker_pool.pool import PoolLimits, worker_pool
    from orion_beam.runners.worker_pool.worker import load_code

_LEAST_MEMORY = 512 << 20


def workers(
    pool_listen: Annotated[
        str, typer.Option("--listen", help="Address at which task managers ask for workers.")
    ] = "127.0.0.1:50000",
    pool_metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics-listen",
            help="HOST:PORT of /metrics (all workers), /live and /ready. Beyond this host it needs a token.",
        ),
    ] = None,
    spares: Annotated[
        int, typer.Option(min=0, max=256, help="Workers that are kept loaded, so that a job starts at once.")
    ] = 2,
    worker_memory: Annotated[
        str | None,
        typer.Option(help="Memory of a worker: above it, it finishes its bundles and is replaced; 512MiB, 2GiB."),
    ] = None,
    drain_limit: Annotated[
        str, typer.Option(help="How long workers may finish their bundles after SIGTERM or Ctrl-C: 30s, 2m.")
    ] = "30s",
    token_file: Annotated[
        Path | None,
        typer.Option(
            callback=local_path,
            envvar="ORION_WORKERS_TOKEN_FILE",
            help="File with a token that whoever asks for a worker must know; needed with other hosts in --listen.",
        ),
    ] = None,
    metrics_token: MetricsToken = None,
    warm: Annotated[
        bool, typer.Option("--warm", help="Compile the hot path, so that later starts are quick, and end.")
    ] = False,
) -> None:
    """Start Python workers when Flink asks for them. Run it beside each TaskManager, and leave it running.

    A job finds them by `--environment_type=EXTERNAL --environment_config=localhost:50000`.

    Example: orion-beam workers --metrics-listen 127.0.0.1:9311 --worker-memory 2GiB
    """
    limits = PoolLimits(
        spares=spares,
        keeps_spares=True,
        memory_bytes=None if worker_memory is None else _size_of(worker_memory),
        drain_s=duration_of(drain_limit, "--drain-limit"),
    )
    if warm:
        began = time.monotonic()
        load_code()
        typer.echo(f"the hot path is compiled, in {time.monotonic() - began:.1f} s")
        return
    interrupts.clean_up_on_sigterm()
    with worker_pool(
        pool_listen, pool_metrics, limits=limits, token_file=token_file, metrics_token=metrics_token
    ) as address:
        served = "" if pool_metrics is None else f", metrics and probes at http://{pool_metrics}"
        typer.echo(f"workers at {address}{served}  (Ctrl-C stops)")
        interrupts.await_signal()


def _size_of(text: str) -> int:
    try:
        size = parse_size_bytes(text)
    except ValueError as error:
        raise UserError(f"--worker-memory {error}") from None
    if size < _LEAST_MEMORY:
        raise UserError(
            f"--worker-memory {text}: expected 512MiB or more; a worker has 400 MiB before its first record"
        )
    return size
