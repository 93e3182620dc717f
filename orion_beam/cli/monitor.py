"""`orion-beam monitor`: metrics and a status page of Kafka, the jobs' progress and the dead letters."""

import logging
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from orion_beam.cli.shared import interrupts
from orion_beam.cli.shared.late import late_imports
from orion_beam.cli.shared.options import OWN, BootstrapServers, MetricsToken, WatchedGroup, parse_countries
from orion_beam.defaults import Role
from orion_beam.errors import UserError
from orion_beam.telemetry.logs import say

with late_imports():
    from orion_beam.access.rights import fix_of, lacking, words_of
    from orion_beam.access.roles import Resource, rights_of
    from orion_beam.countries import profiles_of
    from orion_beam.kafka.lease import lease_group
    from orion_beam.monitoring.monitor import Monitor, MonitorConfig
    from orion_beam.monitoring.reading import READING_TIMEOUT_S
    from orion_beam.monitoring.server import monitor_pages, serving
    from orion_beam.text_files.private import read_token

DEFAULT_LISTEN = "127.0.0.1:9310"

WatchedCountries = Annotated[str | None, typer.Option(help="Countries to watch.", show_default="FR,MA,SN,TN")]
FlinkUrls = Annotated[
    list[str] | None,
    typer.Option("--flink", help="REST address of a Flink cluster: its JobManagers, with commas; repeatable."),
]
WorkerPages = Annotated[
    list[str] | None,
    typer.Option("--workers", help="Address of a worker pool's metrics, host:port: what is slow, stages or brokers."),
]
Interval = Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")]


def monitor(
    bootstrap_servers: BootstrapServers,
    countries: WatchedCountries = None,
    group_id: WatchedGroup = OWN,
    flink: FlinkUrls = None,
    workers: WorkerPages = None,
    disk: Annotated[
        list[Path] | None, typer.Option(help="Directory whose file system must not run full, such as Kafka's data.")
    ] = None,
    listen: Annotated[
        str, typer.Option(help="Address to serve on; port 0 is any. Beyond this host it needs a token.")
    ] = DEFAULT_LISTEN,
    metrics_token: MetricsToken = None,
    interval: Interval = 5.0,
) -> None:
    """Serve metrics of Kafka and the jobs at /metrics, for Prometheus, and a status page at /.

    It keeps running when Kafka or Flink do not answer, and says so. It joins no consumer group and commits nothing.

    Example: orion-beam monitor --bootstrap-servers localhost:9092 --flink http://localhost:8081
    """
    config = config_of(bootstrap_servers, countries, group_id, flink, workers, interval, disk, metrics_token)
    interrupts.clean_up_on_sigterm()
    watched = Monitor(config)
    with serving(listen, monitor_pages(watched), metrics_token) as url, watched:
        warn_of_missing_rights(config)
        typer.echo(f"status page {url}/  metrics {url}/metrics  (Ctrl-C stops)")
        interrupts.await_signal()


def warn_of_missing_rights(config: "MonitorConfig") -> None:
    """Say which rights this user lacks to watch all that is to be watched; nothing if Kafka does not answer."""
    names = {
        Resource.SOURCES: [profile.topic for profile in config.profiles.values()],
        Resource.FINAL: [config.final_topic],
        Resource.DEAD_LETTERS: [config.dead_letter_topic],
        Resource.GROUP: [config.group_id],
        Resource.LEASE: [lease_group(config.group_id)],
    }
    with suppress(UserError):
        if lacks := lacking(config.bootstrap_servers, rights_of(Role.MONITOR, names), READING_TIMEOUT_S):
            say(
                f"warning: this user may not {words_of(lacks)}, so figures are missing: {fix_of(Role.MONITOR)}",
                logging.WARNING,
            )


def config_of(
    bootstrap_servers: str,
    countries: str | None,
    group_id: str,
    flink: list[str] | None,
    workers: list[str] | None,
    interval_s: float,
    disks: list[Path] | None = None,
    metrics_token: Path | None = None,
) -> MonitorConfig:
    """Return the monitor's configuration from the options.

    Raises:
        UserError: a country has no profile, or the token file cannot be used.
    """
    if metrics_token is not None:
        read_token(metrics_token)
    return MonitorConfig(
        bootstrap_servers=bootstrap_servers,
        group_id=group_id,
        profiles=profiles_of(parse_countries(countries)),
        flink_urls=tuple(flink or ()),
        workers=tuple(workers or ()),
        metrics_token=metrics_token,
        disks=tuple(disks or ()),
        interval_s=interval_s,
    )
