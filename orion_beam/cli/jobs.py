"""`orion-beam jobs`: the jobs on a Flink cluster: listed, shown, stopped, upgraded, rolled back."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from orion_beam.cli.shared.late import late_imports
from orion_beam.cli.shared.options import AsJson, BootstrapServers
from orion_beam.errors import PrerequisiteError, UserError
from orion_beam.telemetry.logs import say
from orion_beam.telemetry.masking import mask_line

with late_imports():
    from orion_beam.jobs.cluster_jobs import ClusterJob, JobDetails, details_of, find_job, jobs_on
    from orion_beam.jobs.events import JobAction, JobEvent
    from orion_beam.jobs.history import read_history, record_event, require_history
    from orion_beam.monitoring.flink_rest import FlinkRest
    from orion_beam.runners.cluster.stop import (
        cancel_job,
        require_running,
        savepoint_directory,
        stop_with_savepoint,
    )

app = typer.Typer(help="List, show, stop, upgrade and roll back the jobs on a Flink cluster.", no_args_is_help=True)

JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="A job's name, its id, or the beginning of its id.", show_default=False)
]
Cluster = Annotated[str, typer.Option("--flink", help="REST address of the cluster's JobManager, http://HOST:PORT.")]
OptionalServers = Annotated[
    str | None, typer.Option("--bootstrap-servers", help="Kafka brokers, host:port,…; they keep the jobs' history.")
]
SavepointDirectory = Annotated[
    str | None,
    typer.Option(
        help="Where the savepoint goes, as the cluster sees it.", show_default="the cluster's state.savepoints.dir"
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command(epilog="Example: orion-beam jobs ls --flink http://jobmanager:8081")
def ls(cluster: Cluster, bootstrap_servers: OptionalServers = None, as_json: AsJson = False) -> None:
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
    Console().print(table if jobs else "The cluster has no jobs.")


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
        found = find_job(jobs, job)
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
    console = Console(soft_wrap=True, highlight=False)
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
    found = find_job(jobs_on(rest, cluster), job)
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


@app.command(epilog="Example: orion-beam jobs stop orion-orion-beam-FR --flink http://jobmanager:8081")
def stop(
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
    interrupted, the cluster goes on with the stop.
    """
    rest = FlinkRest(cluster)
    found = find_job(jobs_on(rest, cluster), job)
    require_running(found)
    require_history(bootstrap_servers)
    directory = savepoint_directory(rest, savepoint_dir)
    if directory is None:
        raise UserError(
            "--savepoint-dir: the cluster has no directory for savepoints: give one that all its hosts share, or set"
            " state.savepoints.dir on the cluster; `orion-beam jobs cancel` stops without one"
        )
    event = _last_event(bootstrap_servers, found, cluster)
    path = stop_with_savepoint(rest, found, directory, drain=drain, report=say)
    record_event(bootstrap_servers, event.then(JobAction.STOPPED, savepoint=path))
    typer.echo(json.dumps({"job": found.id, "name": found.name, "savepoint": path}, indent=2) if as_json else path)


@app.command(epilog="Example: orion-beam jobs cancel orion-orion-beam-FR --flink http://jobmanager:8081 --yes")
def cancel(
    job: JobArgument, cluster: Cluster, bootstrap_servers: BootstrapServers, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Cancel a job, without a savepoint. Asks first.

    Submitted again, it goes on from the offsets of its last checkpoint: nothing is lost, but what came after that
    checkpoint comes out twice.
    """
    rest = FlinkRest(cluster)
    found = find_job(jobs_on(rest, cluster), job)
    require_history(bootstrap_servers)
    if not yes and not found.has_ended:
        typer.confirm(
            f"Cancel {found.name} ({found.id})? What it wrote since its last checkpoint comes out twice when it is"
            " submitted again; `orion-beam jobs stop` avoids that.",
            abort=True,
            err=True,
        )
    event = _last_event(bootstrap_servers, found, cluster)
    cancel_job(rest, found)
    record_event(bootstrap_servers, event.then(JobAction.CANCELLED))
    done = {"job": found.id, "name": found.name, "state": "CANCELED"}
    typer.echo(json.dumps(done, indent=2) if as_json else f"{found.name} ({found.id}) is cancelled")


def _history(bootstrap_servers: str | None) -> list[JobEvent]:
    """Return the history as far as it can be read: who looks at a cluster wants to see it also without Kafka."""
    if bootstrap_servers is None:
        return []
    try:
        return read_history(bootstrap_servers)
    except UserError as error:
        say(f"warning: no history: {error}", logging.WARNING)
        return []


def _last_event(bootstrap_servers: str, job: ClusterJob, cluster: str) -> JobEvent:
    """Return the newest event of a job; a new one for a job that was submitted by other means."""
    events = [event for event in read_history(bootstrap_servers, job.name) if event.job_id == job.id]
    submitted = JobEvent(action=JobAction.SUBMITTED, job_id=job.id, name=job.name, cluster=cluster, version="unknown")
    return events[-1] if events else submitted


def _means(event: JobEvent, wanted: str) -> bool:
    return event.name == wanted or event.job_id.startswith(wanted)


def _from_history(event: JobEvent | None) -> dict[str, Any]:
    keys = ("version", "configuration", "group", "countries")
    return dict.fromkeys(keys) if event is None else event.model_dump(mode="json", include=set(keys))


def _tail(rest: FlinkRest, where: str, lines: int) -> list[str]:
    """Return the last lines of the log of a JobManager or TaskManager, masked; none if it writes no file."""
    try:
        return [mask_line(line) for line in rest.text(f"{where}/log").splitlines()[-lines:]]
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
