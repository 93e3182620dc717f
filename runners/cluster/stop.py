"""Stop of a job on a Flink cluster: with a savepoint, or cancelled."""

import time

from orion_beam.errors import JobFailedError, UserError
from orion_beam.jobs.cluster_jobs import ClusterJob
from orion_beam.monitoring.flink_rest import ENDED_STATES, FlinkRefusedError, FlinkRest
from orion_beam.runners.jars.build import Report, silent

__all__ = ["cancel_job", "require_running", "savepoint_directory", "stop_with_savepoint"]

_PATIENCE_S = 120.0
"""Longest time without an answer of a JobManager that elects a leader or restarts."""
_LOOK_EVERY_S = 0.2
_TELL_EVERY_S = 10.0


def require_running(job: ClusterJob) -> None:
    """Check that a job can make a savepoint: all its tasks run.

    Raises:
        UserError: It has ended, or its tasks do not run now; says what else can be done.
    """
    if job.has_ended:
        raise UserError(f"job {job.id} ({job.name}) has ended: it is {job.state}")
    if job.state != "RUNNING" or job.tasks_running < job.tasks:
        raise UserError(
            f"job {job.id} ({job.name}) makes no savepoint now: it is {job.state}, {job.tasks_running} of {job.tasks}"
            " tasks run; wait until it runs, or cancel it, and it goes on from the committed offsets when it is"
            " submitted again"
        )


def savepoint_directory(rest: FlinkRest, wanted: str | None) -> str | None:
    """Return where a savepoint goes: `wanted`, else the cluster's own directory; None if there is neither.

    Raises:
        OSError: The cluster does not answer.
    """
    if wanted:
        return wanted
    settings = {entry["key"]: entry["value"] for entry in rest.get("jobmanager/config", _PATIENCE_S)}
    # Flink 1.19 has two names for it.
    return settings.get("execution.checkpointing.savepoint-dir") or settings.get("state.savepoints.dir") or None


def stop_with_savepoint(
    rest: FlinkRest, job: ClusterJob, directory: str, *, drain: bool = False, report: Report = silent
) -> str:
    """Stop a job: it makes a savepoint, commits the offsets that it holds, and ends. Return the savepoint's path.

    Flink goes on with this when this process ends. A job that cannot make the savepoint goes on running.

    Args:
        rest: Client of the cluster.
        job: The job, see `require_running`.
        directory: Where the savepoint goes, as the cluster sees it.
        drain: Whether its timers fire and its windows close first. Such a job is over for good.
        report: Receives a line at the start, and one every 10 s.

    Raises:
        JobFailedError: The savepoint has failed, and the job goes on; says why.
        OSError: The cluster does not answer any more.
    """
    report(f"stopping {job.name} ({job.id}) with a savepoint in {directory}")
    began = told = time.monotonic()
    try:
        trigger = rest.post(f"jobs/{job.id}/stop", {"targetDirectory": directory, "drain": drain})["request-id"]
        while True:
            answer = rest.get(f"jobs/{job.id}/savepoints/{trigger}", _PATIENCE_S)
            if answer["status"]["id"] == "COMPLETED":
                break
            if time.monotonic() - told >= _TELL_EVERY_S:
                told = time.monotonic()
                report(f"waiting for the savepoint for {told - began:.0f} s")
            time.sleep(_LOOK_EVERY_S)
    except FlinkRefusedError as error:
        raise JobFailedError(f"job {job.id} is not stopped: {error}") from None
    operation = answer["operation"]
    if "location" not in operation:
        reason = FlinkRefusedError(0, operation["failure-cause"]["stack-trace"])
        raise JobFailedError(f"job {job.id} makes no savepoint, and goes on: {reason}")
    while rest.get(f"jobs/{job.id}", _PATIENCE_S)["state"] not in ENDED_STATES:
        time.sleep(_LOOK_EVERY_S)
    return str(operation["location"])


def cancel_job(rest: FlinkRest, job: ClusterJob) -> None:
    """Cancel a job and wait until it has ended.

    Raises:
        UserError: It has ended already.
        JobFailedError: It has not ended within a minute, or the cluster refuses.
    """
    if job.has_ended:
        raise UserError(f"job {job.id} ({job.name}) has ended already: it is {job.state}")
    try:
        rest.cancel(job.id)
    except OSError as error:
        raise JobFailedError(f"job {job.id} is not cancelled: {error}") from None
