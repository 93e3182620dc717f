"""`orion-beam workers`: the Python workers of a Flink cluster's task manager."""

import signal
from typing import Annotated

import typer

from orion_beam.cli.shared import interrupts
from orion_beam.cli.shared.late import late_imports

with late_imports():
    from orion_beam.runners.worker_pool.pool import worker_pool


def workers(
    listen: Annotated[str, typer.Option(help="Where task managers ask for workers.")] = "127.0.0.1:50000",
    metrics_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port at which to serve the metrics of all workers.")
    ] = None,
) -> None:
    """Start Python workers when Flink asks for them. Run it beside each TaskManager, and leave it running.

    A job finds them by `--environment_type=EXTERNAL --environment_config=localhost:50000`.

    Example: orion-beam workers --metrics-port 9311
    """
    interrupts.clean_up_on_sigterm()
    metrics_listen = None if metrics_port is None else f"{listen.rpartition(':')[0]}:{metrics_port}"
    with worker_pool(listen, metrics_listen) as address:
        served = "" if metrics_listen is None else f", metrics at http://{metrics_listen}/metrics"
        typer.echo(f"workers at {address}{served}  (Ctrl-C stops)")
        signal.pause()
