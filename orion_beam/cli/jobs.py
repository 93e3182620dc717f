"""`orion-beam jobs`: the jobs on a Flink cluster: listed, shown, stopped, upgraded, rolled back."""

import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from orion_beam.cli.shared import interrupts
from orion_beam.cli.shared.console import console_of
from orion_beam.cli.shared.late import late_imports
from orion_beam.cli.shared.options import AsJson, BootstrapServers, duration_of
from orion_beam.doctor.findings import require
from orion_beam.errors import PrerequisiteError, UserError
from orion_beam.telemetry.logs import say
from orion_beam.telemetry.masking import mask_line

with late_imports():
    from orion_beam.jobs.cluster_jobs import ClusterJob, JobDetails, details_of, job_meant, jobs_on
    from orion_beam.jobs.events import JobAction, JobEvent, version_before
    from orion_beam.jobs.history import latest_event, read_history, require_history
    from orion_beam.monitoring.flink_rest import FlinkRest
    from orion_beam.runners.cluster.held_signals import held_signals, pass_on
    from orion_beam.runners.cluster.job_jar import JobManifest, with_parallelism
    from orion_beam.runners.cluster.kept_jars import kept_jar
    from orion_beam.runners.cluster.replace import Replacement, note_event, plan_replacement, replace_job, way_back
    from orion_beam.runners.cluster.stop import (
        cancel_job,
        require_running,
        savepoint_directory,
        savepoint_of,
        stop_with_savepoint,
    )
    from orion_beam.runners.doctor.flink_cluster import check_flink

app = typer.Typer(help="List, show, stop, upgrade and roll back the jobs on a Flink cluster.", no_args_is_help=True)

JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="A job's name, its id, or the beginning of its id.", show_default=False)
]
Cluster = Annotated[str, typer.Option("--flink", help="REST address of the cluster's JobManagers, http://HOST:PORT,…")]
OptionalServers = Annotated[
    str | None, typer.Option("--bootstrap-servers", help="Kafka brokers, host:port,…; they keep the jobs' history.")
]
SavepointDirectory = Annotated[
    str | None,
    typer.Option(
        help="Where the savepoint goes, as the cluster sees it.", show_default="the cluster's state.savepoints.dir"
    ),
]
FromOffsets = Annotated[
    bool,
    typer.Option(
        "--from-offsets", help="Leave the savepoint's state behind, and go on from the group's committed offsets."
    ),
]
RunningJar = Annotated[
    Path | None,
    typer.Option(help="Jar of the running version, for the way back.", show_default="the one that this host has kept"),
]
Timeout = Annotated[str, typer.Option(help="Longest time until the first checkpoint of the new job: 90s, 5m.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command("ls", epilog="Example: orion-beam jobs ls --flink http://jobmanager:8081")
def list_jobs(cluster: Cluster, bootstrap_servers: OptionalServers = None, as_json: AsJson = False) -> None:
    """List the jobs that a cluster knows, the latest first; with brokers, with their versions."""
    jobs = jobs_on(FlinkRest(cluster), cluster)
    latest = {event.job_id: event for event in _history(bootstrap_servers)}
    if as_json:
        typer.echo(json.dumps([asdict(job) | _from_history(latest.get(job.id)) for job in jobs], indent=2))
        return
    table = Table()
    for column in ("job", "name", "state", "tasks", "for", "version"):
        table.add_column(column, overflow="fold")
    for job in jobs:
        event = latest.get(job.id)
        tasks = f"{job.tasks_running} of {job.tasks} run"
        table.add_row(job.id, job.name, job.state, tasks, _for(job.duration_s), event.version if event else "")
    console_of().print(table if jobs else "The cluster has no jobs.")


@app.command(epilog="Example: orion-beam jobs show orion-orion-beam-FR --flink http://jobmanager:8081")
def show(
    job: JobArgument, cluster: Cluster, bootstrap_servers: OptionalServers = None, as_json: AsJson = False
) -> None:
    """Show a job: state, checkpoints, restarts and their reasons, and with brokers its history.

    A job that the cluster has forgotten is still shown from its history.
    """
    rest = FlinkRest(cluster)
    history = _history(bootstrap_servers)
    jobs = jobs_on(rest, cluster)
    found, details = None, None
    try:
        found = job_meant(jobs, job)
        details = details_of(rest, found)
    except OSError as error:
        raise PrerequisiteError(f"{cluster} does not tell about job {job}: {error}") from None
    except UserError:
        if not any(_means(event, job) for event in history):
            raise
    name = found.name if found else next(event.name for event in reversed(history) if _means(event, job))
    events = [event for event in history if event.name == name]
    if as_json:
        shown: dict[str, Any] = {"job": None, "history": [event.model_dump(mode="json") for event in events]}
        typer.echo(json.dumps(({**shown, **asdict(details)}) if details else shown, indent=2))
        return
    console = console_of(soft_wrap=True, highlight=False)
    if details:
        _print_details(console, details)
    else:
        console.print(f"{name}: the cluster does not know it any more.")
    _print_history(console, events)


@app.command(epilog="Example: orion-beam jobs logs orion-orion-beam-FR --flink http://jobmanager:8081 --lines 50")
def logs(
    job: JobArgument,
    cluster: Cluster,
    lines: Annotated[int, typer.Option(min=1, help="Last lines of each log.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Print a job's failures, and the ends of the logs of the JobManager and of the job's TaskManagers.

    Subscribers' numbers and secrets are masked. A cluster that writes no log files gives none.
    """
    rest = FlinkRest(cluster)
    found = job_meant(jobs_on(rest, cluster), job)
    try:
        details = details_of(rest, found)
        tails = {"jobmanager": _tail(rest, "jobmanager", lines)}
        tails |= {each: _tail(rest, f"taskmanagers/{each}", lines) for each in details.task_managers}
    except OSError as error:
        raise PrerequisiteError(f"{cluster} does not tell about job {found.id}: {error}") from None
    if as_json:
        failures = [asdict(each) for each in details.failures]
        typer.echo(json.dumps({"failures": failures, "logs": tails}, indent=2))
        return
    for each in details.failures:
        typer.echo(f"failed {each.times} times, last at {_at(each.last_at_s)}: {each.reason}")
    for name, kept in tails.items():
        typer.echo(f"--- {name}, last {len(kept)} lines" if kept else f"--- {name}: no log")
        for line in kept:
            typer.echo(line)


@app.command("stop", epilog="Example: orion-beam jobs stop orion-orion-beam-FR --flink http://jobmanager:8081")
def stop_job(
    job: JobArgument,
    cluster: Cluster,
    bootstrap_servers: BootstrapServers,
    drain: Annotated[
        bool, typer.Option("--drain", help="Let all timers fire first: for a job that will not go on.")
    ] = False,
    savepoint_dir: SavepointDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Stop a job with a savepoint, and print the savepoint's path. The offsets that it holds are committed.

    Submitted again, the job goes on from there: nothing is lost, and nothing comes out twice. When this command is
    interrupted, the cluster goes on with the stop. For a job that is stopped already, it prints the savepoint.
    """
    rest = FlinkRest(cluster)
    found = job_meant(jobs_on(rest, cluster), job)
    made = savepoint_of(rest, found.id) if found.state == "FINISHED" else None
    if made is None:
        require_running(found)
    require_history(bootstrap_servers)
    event = latest_event(bootstrap_servers, found.id, found.name, cluster)

    def note(savepoint: str) -> None:
        note_event(bootstrap_servers, event.then(JobAction.STOPPED, savepoint=savepoint))

    held: list[int] = []
    if made is None:
        directory = savepoint_directory(rest, savepoint_dir)
        if directory is None:
            raise UserError(
                "--savepoint-dir: the cluster has no directory for savepoints: give one that all its hosts share, or"
                " set state.savepoints.dir on the cluster; `orion-beam jobs cancel` stops without one"
            )
        made, held = stop_with_savepoint(rest, found, directory, note=note, drain=drain, report=say)
    elif event.action is not JobAction.STOPPED:
        # The command that stopped it was broken off.
        note(made)
    typer.echo(json.dumps({"job": found.id, "name": found.name, "savepoint": made}, indent=2) if as_json else made)
    pass_on(held)


@app.command(epilog="Example: orion-beam jobs cancel orion-orion-beam-FR --flink http://jobmanager:8081 --yes")
def cancel(
    job: JobArgument, cluster: Cluster, bootstrap_servers: BootstrapServers, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Cancel a job, without a savepoint. Asks first.

    Submitted again, it goes on from the offsets of its last checkpoint: nothing is lost, but what came after that
    checkpoint comes out twice.
    """
    rest = FlinkRest(cluster)
    found = job_meant(jobs_on(rest, cluster), job)
    require_history(bootstrap_servers)
    if not yes and not found.has_ended:
        typer.confirm(
            f"Cancel {found.name} ({found.id})? What it wrote since its last checkpoint comes out twice when it is"
            " submitted again; `orion-beam jobs stop` avoids that.",
            abort=True,
            err=True,
        )
    event = latest_event(bootstrap_servers, found.id, found.name, cluster)
    with held_signals() as held:
        cancel_job(rest, found)
        note_event(bootstrap_servers, event.then(JobAction.CANCELLED))
    done = {"job": found.id, "name": found.name, "state": "CANCELED"}
    typer.echo(json.dumps(done, indent=2) if as_json else f"{found.name} ({found.id}) is cancelled")
    pass_on(held)


@app.command(epilog="Example: orion-beam jobs upgrade orion-orion-beam-FR --jar job.jar --flink http://jobmanager:8081")
def upgrade(
    job: JobArgument,
    cluster: Cluster,
    bootstrap_servers: BootstrapServers,
    jar: Annotated[Path, typer.Option(help="Jar of the new version, which `orion-beam submit --to-jar` writes.")],
    from_offsets: FromOffsets = False,
    savepoint_dir: SavepointDirectory = None,
    running_jar: RunningJar = None,
    timeout: Timeout = "5m",
    as_json: AsJson = False,
) -> None:
    """Replace a running job by another version of it.

    The job stops with a savepoint, and the new version starts from it. If the new version completes no checkpoint, the
    old one starts again from the same savepoint, and the exit code is 1. So it does when this command is interrupted.
    A job that cannot make a savepoint is cancelled, and the new version goes on from the group's committed offsets.
    """
    found, event, old = _running(job, cluster, bootstrap_servers, running_jar)
    plan = plan_replacement(
        cluster, bootstrap_servers, found, event, old, jar, savepoint_dir=savepoint_dir, from_offsets=from_offsets
    )
    _replace(plan, JobAction.UPGRADED, timeout, as_json)


@app.command(epilog="Example: orion-beam jobs rollback orion-orion-beam-FR --flink http://jobmanager:8081")
def rollback(
    job: JobArgument,
    cluster: Cluster,
    bootstrap_servers: BootstrapServers,
    jar: Annotated[
        Path | None, typer.Option(help="Jar of the previous version.", show_default="the one that this host has kept")
    ] = None,
    from_offsets: FromOffsets = False,
    savepoint_dir: SavepointDirectory = None,
    running_jar: RunningJar = None,
    timeout: Timeout = "5m",
    as_json: AsJson = False,
) -> None:
    """Replace a running job by its previous version in the history, as `upgrade` does by a newer one."""
    found, event, old = _running(job, cluster, bootstrap_servers, running_jar)
    if jar is None:
        before = version_before(read_history(bootstrap_servers, found.name), event)
        if before is None:
            raise UserError(f"the history of {found.name} has no version before the one that runs")
        jar = kept_jar(found.name, before.jar)
        if jar is None:
            raise UserError(
                f"--jar: this host does not keep the jar of version {before.version}, configuration"
                f" {before.configuration}: name it, or run this on the host that submitted job {before.job_id}"
            )
    plan = plan_replacement(
        cluster, bootstrap_servers, found, event, old, jar, savepoint_dir=savepoint_dir, from_offsets=from_offsets
    )
    _replace(plan, JobAction.ROLLED_BACK, timeout, as_json)


@app.command(epilog="Example: orion-beam jobs scale orion-orion-beam-FR --parallelism 4 --flink http://jobmanager:8081")
def scale(
    job: JobArgument,
    cluster: Cluster,
    bootstrap_servers: BootstrapServers,
    parallelism: Annotated[int, typer.Option(min=1, help="Parallel subtasks of each step.")],
    savepoint_dir: SavepointDirectory = None,
    running_jar: RunningJar = None,
    timeout: Timeout = "5m",
    as_json: AsJson = False,
) -> None:
    """Let a running job go on at another parallelism, from a savepoint. If it does not run so, the old one goes on."""
    found, event, old = _running(job, cluster, bootstrap_servers, running_jar)
    if (present := JobManifest.of(old).parallelism) == parallelism:
        raise UserError(f"--parallelism {parallelism}: job {found.id} ({found.name}) runs at {present} already")
    with tempfile.TemporaryDirectory(prefix="orion-beam-") as directory:
        jar = Path(directory, "job.jar")
        with_parallelism(old, parallelism, jar)
        plan = plan_replacement(cluster, bootstrap_servers, found, event, old, jar, savepoint_dir=savepoint_dir)
        _replace(plan, JobAction.SCALED, timeout, as_json)


def _running(
    job: str, cluster: str, bootstrap_servers: str, running_jar: Path | None
) -> tuple[ClusterJob, JobEvent, Path]:
    """Return a job that runs, its newest event, and its jar: without it, there is no way back.

    Raises:
        UserError: There is no such job, no history, or no jar.
    """
    require([check_flink(cluster)])
    found = job_meant(jobs_on(FlinkRest(cluster), cluster), job)
    require_history(bootstrap_servers)
    return (found, *way_back(cluster, bootstrap_servers, found, running_jar))


def _replace(plan: Replacement, action: JobAction, timeout: str, as_json: bool) -> None:
    wait_s = duration_of(timeout, "--timeout")
    interrupts.clean_up_on_sigterm()
    event = replace_job(plan, action, timeout_s=wait_s, report=say)
    if as_json:
        typer.echo(event.model_dump_json(indent=2, exclude={"states"}))
    else:
        typer.echo(f"{event.name} is {event.action}: job {event.job_id} runs version {event.version}")


def _history(bootstrap_servers: str | None) -> list[JobEvent]:
    """Return the history as far as it can be read: who looks at a cluster wants to see it also without Kafka."""
    if bootstrap_servers is None:
        return []
    try:
        return read_history(bootstrap_servers)
    except UserError as error:
        say(f"warning: no history: {error}", logging.WARNING)
        return []


def _means(event: JobEvent, wanted: str) -> bool:
    return event.name == wanted or event.job_id.startswith(wanted)


def _from_history(event: JobEvent | None) -> dict[str, Any]:
    keys = ("version", "configuration", "group", "countries")
    return dict.fromkeys(keys) if event is None else event.model_dump(mode="json", include=set(keys))


def _tail(rest: FlinkRest, where: str, lines: int) -> list[str]:
    """Return the last lines of the log of a JobManager or TaskManager, masked; none if it writes no file."""
    try:
        return [mask_line(line) for line in rest.last_lines(f"{where}/log", lines)]
    except OSError:
        return []


def _print_details(console: Console, details: JobDetails) -> None:
    job, checkpoints = details.job, details.checkpoints
    console.print(f"{job.name}  {job.id}")
    runs = "" if job.has_ended else f", {job.tasks_running} of {job.tasks} tasks run"
    console.print(f"  state        {job.state} for {_for(job.duration_s)} since {_at(job.started_at_s)}{runs}")
    console.print(f"  parallelism  {details.parallelism}")
    last = (
        "none is complete"
        if checkpoints.last_at_s is None
        else f"the last at {_at(checkpoints.last_at_s)}, {checkpoints.last_s:.1f} s, {checkpoints.last_bytes:,} bytes"
    )
    console.print(f"  checkpoints  {checkpoints.completed} complete, {checkpoints.failed} failed; {last}")
    if checkpoints.restored_from:
        console.print(f"  started from {checkpoints.restored_from}")
    console.print(f"  restarts     {details.restarts}")
    for failure in details.failures:
        again = f"{failure.times} times for the same reason, last " if failure.times > 1 else ""
        console.print(f"  failed       {again}at {_at(failure.last_at_s)}: {failure.reason}", markup=False)


def _print_history(console: Console, events: Sequence[JobEvent]) -> None:
    if not events:
        return
    table = Table(title="History")
    for column in ("when", "what", "who", "job", "version", "configuration", "savepoint or reason"):
        table.add_column(column, overflow="fold")
    for event in events:
        table.add_row(
            f"{event.at:%Y-%m-%dT%H:%M:%SZ}",
            event.action,
            event.who,
            event.job_id[:8],
            event.version,
            event.configuration or "",
            event.reason or event.savepoint or "",
        )
    console.print(table)


def _at(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _for(seconds: float) -> str:
    """Return a time as its two largest units, such as `2 d 3 h`."""
    whole = int(seconds)
    parts = [(whole // 86_400, "d"), (whole // 3_600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    first = next((place for place, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2])
