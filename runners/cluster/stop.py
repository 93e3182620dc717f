"""Stop of a job on a Flink cluster: with a savepoint, or cancelled."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from orion_beam.errors import JobFailedError, UserError
from orion_beam.jobs.cluster_jobs import ClusterJob
from orion_beam.monitoring.flink_rest import ENDED_STATES, FlinkRefusedError, FlinkRest
from orion_beam.runners.cluster.held_signals import held_signals
from orion_beam.runners.jars.build import Report, silent

__all__ = ["Stopped", "cancel_job", "require_running", "savepoint_directory", "stop_with_savepoint"]

_PATIENCE_S = 120.0
"""Longest time without an answer of a JobManager that elects a leader or restarts."""
_LOOK_EVERY_S = 0.2
_TELL_EVERY_S = 10.0


class Stopped(NamedTuple):
    """A job that has been stopped.

    Attributes:
        savepoint: Path of its savepoint.
        held: Signals that came meanwhile and take no effect yet, see `held_signals`.
    """

    savepoint: str
    held: list[int]


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
) -> Stopped:
    """Stop a job: it makes a savepoint, commits the offsets that it holds, and ends.

    A job that cannot make the savepoint goes on running. Flink goes on with a stop that has begun, so this waits for
    its end even when it is interrupted. A second interrupt ends the wait.

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

    def tell() -> None:
        report("the stop has begun, so this waits for its end; a second interrupt ends the wait only")

    try:
        with held_signals(tell) as held:
            trigger = rest.post(f"jobs/{job.id}/stop", {"targetDirectory": directory, "drain": drain})["request-id"]
            while (done := _operation(rest, job, trigger)) is None:
                time.sleep(_LOOK_EVERY_S)
                if time.monotonic() - told >= _TELL_EVERY_S:
                    told = time.monotonic()
                    report(f"waiting for the savepoint for {told - began:.0f} s")
    except FlinkRefusedError as error:
        raise JobFailedError(f"job {job.id} is not stopped: {error}") from None
    if "location" not in done:
        reason = FlinkRefusedError(0, done["failure-cause"]["stack-trace"])
        raise JobFailedError(f"job {job.id} makes no savepoint, and goes on: {reason}")
    return Stopped(str(done["location"]), held)


def _operation(rest: FlinkRest, job: ClusterJob, trigger: str) -> Mapping[str, Any] | None:
    """Return how a stop has ended; None: it goes on."""
    answer = rest.get(f"jobs/{job.id}/savepoints/{trigger}", _PATIENCE_S)
    if answer["status"]["id"] != "COMPLETED":
        return None
    operation: Mapping[str, Any] = answer["operation"]
    has_ended = rest.get(f"jobs/{job.id}", _PATIENCE_S)["state"] in ENDED_STATES
    return operation if has_ended or "location" not in operation else None


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
