"""Replacement of a running job by another version, by an older one, or by itself at another parallelism.

The job stops with a savepoint, and the other one starts from it. When that one completes no checkpoint, the job before
starts again from the same savepoint. Everything that can be refused is refused before the job is stopped.
"""

import logging
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc

from orion_beam.doctor.findings import require
from orion_beam.errors import JobFailedError, UserError
from orion_beam.inspect.savepoint_graph import changes_between
from orion_beam.jobs.cluster_jobs import ClusterJob, jobs_on
from orion_beam.jobs.events import JobAction, JobEvent
from orion_beam.jobs.history import latest_event, read_history, record_event, require_history
from orion_beam.monitoring.flink_rest import ENDED_STATES, FlinkRest
from orion_beam.runners.cluster.held_signals import held_signals, pass_on
from orion_beam.runners.cluster.job_jar import JobManifest, graph_of, versions_of
from orion_beam.runners.cluster.kept_jars import keep_jar, kept_jar
from orion_beam.runners.cluster.stop import cancel_job, savepoint_directory, stop_with_savepoint
from orion_beam.runners.cluster.submit import await_checkpoint, start_jar
from orion_beam.runners.cluster.unread import UnreadRecords
from orion_beam.runners.doctor.flink_cluster import SLOTS, capacity_checks
from orion_beam.runners.jars.build import Report, silent
from orion_beam.runners.worker_pool.versions import ask_versions, refusal
from orion_beam.telemetry.masking import mask_line

__all__ = [
    "Replacement",
    "await_checkpoint",
    "launch_job",
    "note_event",
    "plan_replacement",
    "replace_job",
    "require_same_graph",
    "way_back",
]

_PATIENCE_S = 120.0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Replacement:
    """A checked plan: nothing has been changed yet.

    Attributes:
        address: Address of the cluster.
        bootstrap_servers: Brokers that keep the history.
        job: The job that runs now.
        event: The newest event of that job.
        old: Its jar.
        new: The jar that takes its place.
        directory: Where the savepoint goes; None: none is made, see `why_offsets`.
        why_offsets: Why the new job goes on from the group's committed offsets; None: it starts from the savepoint.
    """

    address: str
    bootstrap_servers: str
    job: ClusterJob
    event: JobEvent
    old: Path
    new: Path
    directory: str | None
    why_offsets: str | None


def launch_job(
    jar: Path,
    address: str,
    bootstrap_servers: str,
    *,
    savepoint: str | None = None,
    allow_non_restored: bool = False,
    report: Report = silent,
) -> JobEvent:
    """Start the job of a jar, keep the jar, and record the submission; see `start_jar`.

    Returns:
        The event that was recorded.

    Raises:
        UserError: The cluster does not take the job, or the jar cannot be kept.
    """
    manifest = JobManifest.of(jar)
    digest = keep_jar(jar, manifest.name)
    job = start_jar(jar, address, savepoint=savepoint, allow_non_restored=allow_non_restored, report=report)
    event = JobEvent(
        action=JobAction.SUBMITTED,
        version=manifest.version,
        job_id=job.id,
        name=job.name,
        cluster=address,
        group=manifest.group,
        countries=manifest.countries,
        parallelism=manifest.parallelism,
        configuration=manifest.configuration,
        jar=digest,
        savepoint=savepoint,
        states=graph_of(jar),
    )
    note_event(bootstrap_servers, event)
    return event


def note_event(bootstrap_servers: str, event: JobEvent) -> None:
    """Record an event of a change that has been made: the change stands, whether Kafka takes the event or not."""
    try:
        record_event(bootstrap_servers, event)
    except UserError as error:
        _logger.warning("the history lacks that job %s was %s: %s", event.job_id, event.action, error)


def require_same_graph(bootstrap_servers: str, savepoint: str, jar: Path) -> None:
    """Check that a savepoint of the history fits the graph of a jar. Flink judges one that the history does not know.

    Raises:
        UserError: It does not; names the step.
        PrerequisiteError: The broker cannot be reached, or lacks the history's topic.
    """
    made = [event for event in read_history(bootstrap_servers) if event.savepoint == savepoint and event.states]
    for change in changes_between(made[0].states, graph_of(jar)) if made else ():
        if change.breaks:
            raise UserError(
                f"savepoint {savepoint} of job {made[0].job_id} ({made[0].name}) is of another graph than this job:"
                f" {change.operator} {change.what}; without a savepoint, the job goes on from the committed offsets"
            )


def way_back(
    address: str, bootstrap_servers: str, job: ClusterJob, running_jar: Path | None = None
) -> tuple[JobEvent, Path]:
    """Return the newest event of a job that runs, and its jar, from which it is started again if need be.

    Args:
        address: Address of the cluster.
        bootstrap_servers: Brokers that keep the history.
        job: The job.
        running_jar: Its jar, if the user names it; None for the one that this host keeps.

    Raises:
        UserError: This host does not keep the jar.
        PrerequisiteError: The broker cannot be reached, or lacks the history's topic.
    """
    event = latest_event(bootstrap_servers, job.id, job.name, address)
    jar = running_jar or kept_jar(job.name, event.jar)
    if jar is None:
        raise UserError(
            f"this host does not keep the jar of job {job.id} ({job.name}), and without it there is no way back: name"
            " it (`orion-beam jobs upgrade --running-jar`), or run this on the host that submitted the job"
        )
    return event, jar


def plan_replacement(
    address: str,
    bootstrap_servers: str,
    job: ClusterJob,
    event: JobEvent,
    old: Path,
    new: Path,
    *,
    savepoint_dir: str | None = None,
    from_offsets: bool = False,
) -> Replacement:
    """Check whether a jar can take the place of a running job.

    Args:
        address: Address of the cluster.
        bootstrap_servers: Brokers that keep the history.
        job: The job that runs.
        event: Its newest event.
        old: Its jar, for the way back.
        new: The jar that takes its place.
        savepoint_dir: Where the savepoint goes; None for the cluster's own directory.
        from_offsets: Whether the new job leaves the state behind, and goes on from the committed offsets.

    Raises:
        UserError: It cannot; names the reason and the fix. Nothing has been changed.
        OSError: The cluster does not answer.
    """
    if job.has_ended:
        raise UserError(f"job {job.id} ({job.name}) has ended, it is {job.state}: `orion-beam submit` starts it again")
    require_history(bootstrap_servers)
    was, will = JobManifest.of(old), JobManifest.of(new)
    for what, before, after in (
        ("consumer group", was.group, will.group),
        ("countries", was.countries, will.countries),
        ("name", job.name, will.name),
    ):
        if before != after:
            raise UserError(
                f"{new} is of another job: its {what} is {_text(after)}, and that of {job.id} {_text(before)}"
            )
    for jar, manifest in ((new, will), (old, was)):
        _require_pool(jar, manifest)
    rest = FlinkRest(address)
    _require_slots(address, was, will)
    directory = savepoint_directory(rest, savepoint_dir)
    why = "as --from-offsets says" if from_offsets else None
    if directory is None:
        why = "the cluster has no directory for savepoints (--savepoint-dir)"
    elif job.state != "RUNNING" or job.tasks_running < job.tasks:
        directory, why = None, f"the job makes no savepoint now: {job.tasks_running} of {job.tasks} tasks run"
    breaking = [each for each in changes_between(graph_of(old), graph_of(new)) if each.breaks]
    if why is None and breaking:
        raise UserError(
            f"a savepoint of job {job.id} is of another graph than {new}: {breaking[0].operator} {breaking[0].what};"
            " --from-offsets leaves the state behind, and goes on from the committed offsets"
        )
    return Replacement(address, bootstrap_servers, job, event, old, new, directory, why)


def _require_pool(jar: Path, manifest: JobManifest) -> None:
    """Check that the worker pool of a jar has the jar's versions, if the pool can be asked from here."""
    if manifest.workers is None:
        return
    pool = None
    with suppress(grpc.RpcError):
        pool = ask_versions(manifest.workers)
    if pool is not None and (why := refusal(versions_of(jar), pool)):
        raise UserError(
            f"{jar}, worker pool {manifest.workers}: {why}; each version needs a pool of its own: start one beside the"
            " other, at another port"
        )


def _require_slots(address: str, was: JobManifest, will: JobManifest) -> None:
    """Check that the slots are free which the new job needs beyond those of the job that runs."""
    more = will.parallelism - was.parallelism
    if more > 0:
        require(check for check in capacity_checks(address, more) if check.name == SLOTS)


def replace_job(plan: Replacement, action: JobAction, *, timeout_s: float, report: Report = silent) -> JobEvent:
    """Stop the job of a plan and start the other one; go back to the job before, if that one does not run.

    Args:
        plan: The plan.
        action: What the history says: UPGRADED, SCALED or ROLLED_BACK.
        timeout_s: Longest time until the new job has completed its first checkpoint, and has processed records.
        report: Receives progress lines.

    Returns:
        The event of the new job, recorded.

    Raises:
        JobFailedError: The job could not be stopped and goes on, or the new one does not run and the job before runs
            again; the message says which and why. Or neither runs; the message says how to start one.
        BaseException: An interrupt; the job before runs again.
    """
    known = {job.id for job in jobs_on(FlinkRest(plan.address), plan.address)}
    savepoint, held = _stop(plan, report)
    start = None if plan.why_offsets else savepoint
    origin = f"savepoint {start}" if start else f"the committed offsets of group {plan.event.group}: {plan.why_offsets}"
    started: list[JobEvent] = []
    try:
        report(f"starting from {origin}")
        pass_on(held)
        unread = _unread(plan, report)
        with held_signals() as held:
            started.append(launch_job(plan.new, plan.address, plan.bootstrap_servers, savepoint=start, report=report))
        pass_on(held)
        await_checkpoint(plan.address, started[0].job_id, timeout_s, report, unread)
    except BaseException as error:
        why = mask_line(" ".join(str(error).split())) if isinstance(error, Exception) else "interrupted"
        back = _roll_back(plan, started[0] if started else None, known, savepoint, why, timeout_s, report)
        if not isinstance(error, JobFailedError | UserError | OSError):
            raise
        raise JobFailedError(
            f"the new version was given up: {why}; job {back.job_id} runs the version before, from"
            f" {f'savepoint {savepoint}' if savepoint else 'the committed offsets'}"
        ) from None
    event = started[0].then(action, savepoint=start, reason=None if start else f"from {origin}")
    note_event(plan.bootstrap_servers, event)
    return event


def _unread(plan: Replacement, report: Report) -> UnreadRecords | None:
    """Return what waits for the new job; None if Kafka does not say, for instance for lack of a right."""
    manifest = JobManifest.of(plan.new)
    try:
        return UnreadRecords(plan.bootstrap_servers, manifest.group, manifest.topics)
    except UserError as error:
        report(f"only the first checkpoint counts, since nobody can see what the job has read: {error}")
        return None


def _stop(plan: Replacement, report: Report) -> tuple[str | None, list[int]]:
    """Stop the job; return the savepoint's path, or None if it was cancelled, and the signals that are held back."""
    rest, event = FlinkRest(plan.address), plan.event
    if plan.directory is not None:

        def note(savepoint: str) -> None:
            note_event(plan.bootstrap_servers, event.then(JobAction.STOPPED, savepoint=savepoint))

        stopped = stop_with_savepoint(rest, plan.job, plan.directory, note=note, report=report)
        return stopped.savepoint, stopped.held
    report(f"cancelling {plan.job.name} ({plan.job.id}): what it wrote since its last checkpoint comes out twice")
    with held_signals() as held:
        cancel_job(rest, plan.job)
        note_event(plan.bootstrap_servers, event.then(JobAction.CANCELLED, reason=plan.why_offsets))
    return None, held


def _roll_back(
    plan: Replacement,
    failed: JobEvent | None,
    known: Collection[str],
    savepoint: str | None,
    why: str,
    timeout_s: float,
    report: Report,
) -> JobEvent:
    report(f"the new version is given up: {why}")
    if failed is not None:
        note_event(plan.bootstrap_servers, failed.then(JobAction.FAILED, reason=why))
    report("starting the version before again")
    try:
        # A cluster that has not answered may have started the new version all the same.
        for job in jobs_on(FlinkRest(plan.address), plan.address):
            if job.name == plan.job.name and job.id not in known:
                _end(plan.address, job.id)
        with held_signals() as held:
            event = launch_job(plan.old, plan.address, plan.bootstrap_servers, savepoint=savepoint, report=report)
        pass_on(held)
        await_checkpoint(plan.address, event.job_id, timeout_s, report)
    except (JobFailedError, UserError, OSError) as error:
        origin = f"with savepoint {savepoint}" if savepoint else "from the committed offsets"
        raise JobFailedError(
            f"the new version was given up ({why}), and the version before does not start {origin} ({error});"
            f" nothing is lost: mend the cluster, and submit {plan.old} again"
        ) from None
    event = event.then(JobAction.ROLLED_BACK, savepoint=savepoint, reason=why)
    note_event(plan.bootstrap_servers, event)
    return event


def _end(address: str, job_id: str) -> None:
    """Cancel a job that may have ended already."""
    rest = FlinkRest(address)
    if rest.get(f"jobs/{job_id}", _PATIENCE_S)["state"] not in ENDED_STATES:
        rest.cancel(job_id)


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
