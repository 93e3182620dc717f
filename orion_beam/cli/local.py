"""`orion-beam local`: a Kafka for development on this machine, with the topics of ORION Beam."""

import json
import os
from typing import Annotated

import typer

from orion_beam.cli.alerts import Limits, limits_of
from orion_beam.cli.monitor import FlinkUrls
from orion_beam.cli.shared.given import refuse_unused
from orion_beam.cli.shared.late import late_imports
from orion_beam.cli.shared.options import AsJson, parse_countries
from orion_beam.defaults import BROKER_PORT, WORKERS_PORT
from orion_beam.kafka import CONFIG_VARIABLE

with late_imports():
    from orion_beam.runners.local import development as local
    from orion_beam.runners.monitoring import stack
    from orion_beam.topics.apply import create_topics
    from orion_beam.topics.names import profile_for

app = typer.Typer(help="Start and stop a Kafka on this machine, for development.", no_args_is_help=True)

_NO_PROMETHEUS = "Alerts: none, Prometheus is not installed (Debian: apt-get install prometheus)"
_NO_BROKER_METRICS = "The broker's own metrics: none, it was started without --monitoring"
_INTERVAL = "5s"


@app.command()
def up(
    context: typer.Context,
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="Port of the first broker, on the loopback interface; 0: any."),
    ] = BROKER_PORT,
    brokers: Annotated[
        int | None,
        typer.Option(min=1, max=9, help="Number of brokers; by default as many as there were, at first one."),
    ] = None,
    countries: Annotated[str, typer.Option(help="Countries whose raw topics to create.")] = "FR,TN,MA,SN",
    monitoring: Annotated[
        bool, typer.Option("--monitoring", help="Also start `orion-beam monitor` and, where installed, Prometheus.")
    ] = False,
    flink: FlinkUrls = None,
    workers_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of the workers' metrics: the --metrics-port of the job.")
    ] = WORKERS_PORT,
    limit: Limits = None,
    as_json: AsJson = False,
) -> None:
    """Start Kafka in the background and create missing topics.

    It runs until `orion-beam local down`. Running it again starts brokers that are gone, and changes nothing else.
    With three brokers or more, the topics have the catalogue's production profile, and one broker may fail. The first
    time, the Java part is built, which takes about a minute.

    Example: orion-beam local up --countries FR,SN

    Example: orion-beam local up --brokers 3 --monitoring --limit lag_s=300
    """
    os.environ.pop(CONFIG_VARIABLE, None)  # the login is for another Kafka; this one needs none
    codes = parse_countries(countries)
    limits = limits_of(limit, interval=_INTERVAL)
    if not monitoring:
        refuse_unused(context, ["flink", "workers_port", "limit"], "without --monitoring")
    state, started = local.up(port or None, None, lambda line: typer.echo(line, err=True), brokers, monitoring)
    created = create_topics(state.bootstrap_servers, codes, profile_for(len(state.brokers)))
    watched = stack.start_monitoring(state, flink or (), workers_port, limits) if monitoring else None
    if as_json:
        found = {"running": True, "topics_created": created}
        typer.echo(json.dumps(state.model_dump() | found | ({} if watched is None else watched._asdict())))
        return
    typer.echo(f"Kafka {'is up' if started else 'was up already'} at {state.bootstrap_servers}")
    typer.echo(f"Topics created: {', '.join(created) or 'none, they are all there'}")
    if watched is not None:
        typer.echo(f"Status page: {watched.monitor}")
        typer.echo(f"Alerts: {watched.prometheus}alerts" if watched.prometheus else _NO_PROMETHEUS)
        if not state.metrics_ports:
            typer.echo(_NO_BROKER_METRICS)
    typer.echo(f"Next: give --bootstrap-servers {state.bootstrap_servers} to the other commands.")
    typer.echo("Stop it with: orion-beam local down")


@app.command()
def down(
    purge: Annotated[bool, typer.Option("--purge", help="Also delete all topics and records.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop Kafka. Topics and their records stay for the next `up`, unless purged.

    Example: orion-beam local down --purge
    """
    stack.stop_monitoring()
    stopped = local.down(purge)
    if as_json:
        typer.echo(json.dumps({"running": False, "stopped": stopped, "purged": purge}))
        return
    typer.echo("Kafka is stopped" if stopped else "Kafka was not running")
    if purge:
        typer.echo("Its data is deleted")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Say whether Kafka is running, and where.

    Example: orion-beam local status --json
    """
    state = local.status()
    if as_json:
        typer.echo(json.dumps({"running": False} if state is None else state.model_dump() | {"running": True}))
    elif state is None:
        typer.echo("Kafka is not running. Start it with: orion-beam local up")
    else:
        running = ", ".join(str(broker.pid) for broker in state.running)
        count = "" if state.running == state.brokers else f", {len(state.running)} of {len(state.brokers)} brokers"
        typer.echo(f"Kafka is up at {state.bootstrap_servers}{count} (process {running}, data in {state.data_dir})")
