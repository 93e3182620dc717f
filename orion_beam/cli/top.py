"""`orion-beam top`: rates, lag, rejects and checkpoints in the terminal, live."""

import json
import sys
import time
from contextlib import closing
from typing import Annotated

import typer
from rich.live import Live

from orion_beam.cli.monitor import FlinkUrls, Interval, WatchedCountries, WorkerPages, config_of, warn_of_missing_rights
from orion_beam.cli.shared.console import console_of
from orion_beam.cli.shared.late import late_imports
from orion_beam.cli.shared.options import OWN, BootstrapServers, MetricsToken, WatchedGroup
from orion_beam.errors import PrerequisiteError

with late_imports():
    from orion_beam.monitoring.monitor import Monitor
    from orion_beam.monitoring.status import status_of
    from orion_beam.monitoring.view import top_view


def top(
    bootstrap_servers: BootstrapServers,
    countries: WatchedCountries = None,
    group_id: WatchedGroup = OWN,
    flink: FlinkUrls = None,
    workers: WorkerPages = None,
    metrics_token: MetricsToken = None,
    interval: Interval = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look twice, print once, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print once, as JSON.")] = False,
) -> None:
    """Show rates, lag, rejects by code and checkpoints of each country, until Ctrl-C.

    It reads Kafka and Flink itself and needs no running monitor. Without a terminal it prints once.

    Example: orion-beam top --bootstrap-servers localhost:9092
    """
    config = config_of(bootstrap_servers, countries, group_id, flink, workers, interval, metrics_token=metrics_token)
    names = {code: profile.name for code, profile in config.profiles.items()}
    warn_of_missing_rights(config)
    watched = Monitor(config)
    watched.look()
    if once or as_json or not sys.stdout.isatty():
        with closing(watched):
            # Rates need two looks.
            time.sleep(interval)
            seen = watched.look()
            if not seen.is_up:
                raise PrerequisiteError(seen.problem)
            if as_json:
                typer.echo(json.dumps(status_of(watched)))
            else:
                console_of().print(top_view(watched.history, names))
        return
    with watched, Live(console=console_of(), screen=True, auto_refresh=False) as live:
        while True:
            live.update(top_view(watched.history, names), refresh=True)
            time.sleep(interval)
