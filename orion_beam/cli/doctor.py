"""`orion-beam doctor`: checks of everything that a job needs before it is submitted."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from orion_beam.cli.shared.console import console_of
from orion_beam.cli.shared.given import refuse_unused
from orion_beam.cli.shared.job_defaults import beam_arguments, job_of, stages_of
from orion_beam.cli.shared.late import late_imports
from orion_beam.cli.shared.options import (
    OWN,
    Cells,
    ConsumerSettings,
    CountriesOption,
    GroupId,
    ProducerSettings,
    Publish,
    StartFrom,
    Subscribers,
    duration_of,
    kafka_needs,
    parse_countries,
    parse_list,
    parse_pairs,
    parse_stage,
)
from orion_beam.defaults import CELLS, SUBSCRIBERS
from orion_beam.doctor.findings import Check, Status, ok, refused, skipped
from orion_beam.errors import UserError

with late_imports():
    from orion_beam.chain import load_reference
    from orion_beam.config import KafkaSink
    from orion_beam.doctor.kafka_checks import KafkaNeeds, group_checks, loss_checks, other_checks, start_checks
    from orion_beam.kafka.clients import consumer_config, producer_config
    from orion_beam.runners.doctor.flink_cluster import capacity_checks, check_flink
    from orion_beam.runners.doctor.machine import machine_checks
    from orion_beam.runners.doctor.worker_pool import check_pool, checks_from_workers
    from orion_beam.runners.flink_parts.beam_options import check_beam_options, check_environment
    from orion_beam.runners.job_target import JobTarget

_COLOURS = {Status.OK: "green", Status.WARNING: "yellow", Status.FAILED: "bold red", Status.SKIPPED: "dim"}


def doctor(
    context: typer.Context,
    bootstrap_servers: Annotated[
        str | None, typer.Option(help="Kafka brokers, host:port,…; without them Kafka is left out.")
    ] = None,
    countries: CountriesOption = None,
    group_id: GroupId = OWN,
    publish: Publish = "",
    start_from: StartFrom = None,
    cells: Cells = CELLS,
    subscribers: Subscribers = SUBSCRIBERS,
    consumer_settings: ConsumerSettings = None,
    producer_settings: ProducerSettings = None,
    replay_window: Annotated[str, typer.Option(help="How far back a replay must be able to reach: 12h, 7d.")] = "1d",
    from_workers: Annotated[
        bool, typer.Option("--from-workers", help="Start a worker in the pool, and look at Kafka from there, too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Check what a job needs before it is submitted, and say how to fix what is wrong. Changes nothing.

    It takes the options of `orion-beam run` that say what a job needs. Beam's options, after `--`, say which Flink
    cluster and which worker pool to check. A line names the place of its check when that is not this machine. Exit code
    1 when a check failed; warnings leave it 0.

    Example: orion-beam doctor

    Example: orion-beam doctor --bootstrap-servers broker:9092 --countries FR --from-workers --
    --flink_master=http://jobmanager:8081 --environment_type=EXTERNAL --environment_config=localhost:50000
    """
    beam_options = beam_arguments(context)
    check_beam_options(beam_options, ["FlinkRunner"])
    cluster = JobTarget.of(beam_options)
    job = job_of(context)
    savepoints = None if job is None else job.settings.flink.savepoint_directory
    if from_workers and (cluster.pool is None or bootstrap_servers is None):
        raise UserError(
            "--from-workers needs --bootstrap-servers HOST:PORT and, behind `--`, the pool:"
            " --environment_type=EXTERNAL --environment_config=HOST:PORT"
        )
    consumer = parse_pairs(consumer_settings, "--consumer-config")
    producer = parse_pairs(producer_settings, "--producer-config")
    needs = kafka_needs(
        KafkaSink(bootstrap_servers=bootstrap_servers or ""),
        group_id,
        parse_countries(countries),
        [parse_stage(name, "--publish") for name in parse_list(publish)],
        None if start_from is None else parse_stage(start_from, "--start-from"),
    )
    window_ms = duration_of(replay_window, "--replay-window") * 1_000
    if bootstrap_servers is None:
        of_kafka = ["countries", "group_id", "publish", "start_from", "replay_window"]
        refuse_unused(context, of_kafka, "without --bootstrap-servers: Kafka is left out")

    def all_checks() -> Iterator[Check]:
        yield from machine_checks()
        yield from _given_checks(cells, subscribers, needs, consumer, producer)
        if job is not None and job.settings.stages:
            yield _check_stages(context)
        if bootstrap_servers is not None:
            yield from _kafka_checks(needs, window_ms)
        yield from _cluster_checks(cluster, beam_options, savepoints)
        if from_workers and cluster.pool is not None:
            yield from checks_from_workers(cluster.pool, needs.bootstrap_servers)

    checks = _gathered(all_checks(), is_quiet=as_json)
    is_ready = all(check.status is not Status.FAILED for check in checks)
    if as_json:
        typer.echo(json.dumps({"ok": is_ready, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        console_of(markup=True).print(_table(checks))
    if not is_ready:
        raise typer.Exit(1)


def _given_checks(
    cells: str, subscribers: str, needs: KafkaNeeds, consumer: dict[str, str], producer: dict[str, str]
) -> Iterator[Check]:
    """Check what the options give: reference data, and Kafka settings that are known to lose records."""
    try:
        yield ok("reference data", f"version {load_reference(cells, subscribers).version}")
    except UserError as error:
        yield refused("reference data", error)
    try:
        consumer_config(needs.bootstrap_servers, needs.group_id, consumer)
        producer_config(needs.bootstrap_servers, producer)
        yield ok("Kafka settings", "none is known to lose records")
    except UserError as error:
        yield refused("Kafka settings", error)


def _check_stages(context: typer.Context) -> Check:
    """Check that the user's own stages can be imported, and take their options."""
    try:
        return ok("stages", ", ".join(stage.name for stage in stages_of(context)))
    except UserError as error:
        return refused("stages", error)


def _kafka_checks(needs: KafkaNeeds, window_ms: int) -> Iterator[Check]:
    for check in start_checks(needs):
        yield check
        if check.status is Status.FAILED:
            yield skipped("rest of Kafka", "only when topics and rights are there")
            return
    yield from loss_checks(needs)
    yield from group_checks(needs)
    yield from other_checks(needs, window_ms)


def _cluster_checks(cluster: JobTarget, beam_arguments: Sequence[str], savepoints: str | None) -> Iterator[Check]:
    try:
        check_environment(beam_arguments)
    except UserError as error:
        yield refused("Python workers", error)
    if cluster.master is not None:
        reached = check_flink(cluster.master)
        yield reached
        if reached.status is Status.OK:
            yield from capacity_checks(cluster.master, cluster.parallelism, savepoints)
    if cluster.pool is not None:
        yield check_pool(cluster.pool, cluster.master)


def _gathered(checks: Iterator[Check], *, is_quiet: bool) -> list[Check]:
    """Make the checks; on a terminal, show the latest one."""
    console = console_of(markup=True, stderr=True, quiet=is_quiet)
    found = []
    with console.status("checking") as status:
        for check in checks:
            found.append(check)
            status.update(f"checking; {escape(check.name)}: {check.status}")
    return found


def _table(checks: Sequence[Check]) -> Table:
    table = Table("check", "", "found, and what to do", title="Before the job is submitted")
    for check in checks:
        status = f"[{_COLOURS[check.status]}]{check.status}[/]"
        fix = f"\n[bold]fix:[/] {escape(check.fix)}" if check.fix else ""
        table.add_row(check.name, status, escape(check.found) + fix)
    return table
