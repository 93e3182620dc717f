"""Stop of a job on a Flink cluster: with a savepoint, or cancelled."""

import time
import uuid
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from orion_beam.errors import JobFailedError, UserError
from orion_beam.jobs.cluster_jobs import ClusterJob
from orion_beam.monitoring.flink_rest import ENDED_STATES, FlinkRefusedError, FlinkRest
from orion_beam.runners.cluster.held_signals import held_signals
from orion_beam.runners.jars.build import Report, silent

__all__ = [
    "Stopped",
    "cancel_job",
    "require_running",
    "savepoint_directory",
    "savepoint_of",
    "stop_with_savepoint",
]

_PATIENCE_S = 120.0
"""Longest time without an answer of a JobManager that elects a leader or restarts."""
_RECOVERY_S = 300.0
"""Longest time in which a job runs again under another JobManager."""
_LOOK_EVERY_S = 0.2
_TELL_EVERY_S = 10.0
_FORGOTTEN: Mapping[str, Any] = {"failure-cause": {"stack-trace": "the cluster does not know of it"}}
"""Outcome of a stop that a JobManager has taken with it."""


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


def savepoint_of(rest: FlinkRest, job_id: str) -> str | None:
    """Return the last savepoint of a job that a cluster still knows; None if it has made none.

    Raises:
        OSError: The cluster does not answer, or has forgotten the job.
    """
    made = rest.get(f"jobs/{job_id}/checkpoints", _PATIENCE_S)["latest"]["savepoint"]
    return None if made is None else str(made["external_path"])


def stop_with_savepoint(
    rest: FlinkRest,
    job: ClusterJob,
    directory: str,
    *,
    note: Callable[[str], None],
    drain: bool = False,
    report: Report = silent,
) -> Stopped:
    """Stop a job: it makes a savepoint, commits the offsets that it holds, and ends.

    A job that cannot make the savepoint goes on running. Flink goes on with a stop that has begun, so this waits for
    its end even when it is interrupted. A second interrupt ends the wait. When another JobManager becomes the leader,
    it restarts the job and knows nothing of the stop, so it is asked again.

    Args:
        rest: Client of the cluster.
        job: The job, see `require_running`.
        directory: Where the savepoint goes, as the cluster sees it.
        note: Called with the savepoint's path when the job has ended; no interrupt comes in between.
        drain: Whether its timers fire and its windows close first. Such a job is over for good.
        report: Receives a line at the start, and one every 10 s.

    Raises:
        JobFailedError: The savepoint has failed, and the job goes on; says why. Or the job has ended, and the
            JobManager that knows the savepoint is gone; says where to look.
        OSError: The cluster does not answer any more.
    """
    report(f"stopping {job.name} ({job.id}) with a savepoint in {directory}")
    began = told = time.monotonic()
    # With an id that is chosen here, a request that is repeated cannot begin a second stop.
    trigger = uuid.uuid4().hex
    request = {"targetDirectory": directory, "drain": drain, "triggerId": trigger}

    def tell() -> None:
        report("the stop has begun, so this waits for its end; a second interrupt ends the wait only")

    try:
        with held_signals(tell) as held:
            while True:
                rest.post(f"jobs/{job.id}/stop", request, _PATIENCE_S)
                while not (done := _operation(rest, job, trigger)):
                    time.sleep(_LOOK_EVERY_S)
                    if time.monotonic() - told >= _TELL_EVERY_S:
                        told = time.monotonic()
                        report(f"waiting for the savepoint for {told - began:.0f} s")
                if done is not _FORGOTTEN:
                    break
                report("another JobManager leads now, and does not know of the stop")
                if (savepoint := _await_running_again(rest, job, directory)) is not None:
                    done = {"location": savepoint}
                    break
            if "location" in done:
                with held_signals() as later:
                    note(str(done["location"]))
                held += later
    except FlinkRefusedError as error:
        raise JobFailedError(f"job {job.id} is not stopped: {error}") from None
    if "location" not in done:
        reason = FlinkRefusedError(0, done["failure-cause"]["stack-trace"])
        raise JobFailedError(f"job {job.id} makes no savepoint, and goes on: {reason}")
    return Stopped(str(done["location"]), held)


def _operation(rest: FlinkRest, job: ClusterJob, trigger: str) -> Mapping[str, Any]:
    """Return how a stop has ended; nothing while it goes on, and _FORGOTTEN if the cluster does not know it."""
    try:
        answer = rest.get(f"jobs/{job.id}/savepoints/{trigger}", _PATIENCE_S)
        if answer["status"]["id"] != "COMPLETED":
            return {}
        operation: Mapping[str, Any] = answer["operation"]
        has_ended = rest.get(f"jobs/{job.id}", _PATIENCE_S)["state"] in ENDED_STATES
    except FlinkRefusedError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return _FORGOTTEN
    return operation if has_ended or "location" not in operation else {}


def _await_running_again(rest: FlinkRest, job: ClusterJob, directory: str) -> str | None:
    """Wait until all tasks of a job run under another JobManager; return the savepoint if the job has ended instead."""
    give_up = time.monotonic() + _RECOVERY_S
    while time.monotonic() < give_up:
        try:
            found = rest.get(f"jobs/{job.id}", _PATIENCE_S)
            if found["state"] in ENDED_STATES and (savepoint := savepoint_of(rest, job.id)) is not None:
                return savepoint
        except FlinkRefusedError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            found = {"state": "FINISHED"}
        if found["state"] in ENDED_STATES:
            raise JobFailedError(
                f"job {job.id} has ended, and the JobManager that leads now does not know its savepoint: look for it in"
                f" {directory}; without it, the job goes on from the committed offsets when it is submitted again"
            )
        if found["state"] == "RUNNING" and all(vertex["status"] == "RUNNING" for vertex in found["vertices"]):
            return None
        time.sleep(_LOOK_EVERY_S)
    raise JobFailedError(f"job {job.id} is not stopped: its tasks do not run again under another JobManager")


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
