"""Jobs as a Flink cluster reports them: what `orion-beam jobs` lists and shows, and how it finds one."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from orion_beam.errors import PrerequisiteError, UserError
from orion_beam.monitoring.failures import FailureReason, failure_reasons
from orion_beam.monitoring.flink_rest import ENDED_STATES, NO_LEADER_FIX, FlinkRefusedError, FlinkRest

__all__ = ["Checkpoints", "ClusterJob", "JobDetails", "details_of", "job_meant", "jobs_on"]

_ID = re.compile(r"[0-9a-f]{4,32}")
"""An id or a prefix of one."""
_WAIT_S = 10.0
"""Seconds for which a cluster may have no leader, or restart."""


@dataclass(frozen=True)
class ClusterJob:
    """A job that a cluster knows.

    Attributes:
        id: Flink's id of the job.
        name: Name with which it was submitted.
        state: Flink's word, such as RUNNING, RESTARTING or CANCELED.
        started_at_s: Start, in seconds since the epoch.
        duration_s: Seconds since the start, or from start to end.
        tasks_running: Tasks that run.
        tasks: All tasks.
    """

    id: str
    name: str
    state: str
    started_at_s: float
    duration_s: float
    tasks_running: int
    tasks: int

    @property
    def has_ended(self) -> bool:
        """Whether the job is over."""
        return self.state in ENDED_STATES


@dataclass(frozen=True)
class Checkpoints:
    """Checkpoints of a job since it was submitted.

    Attributes:
        completed: Completed checkpoints.
        failed: Failed checkpoints.
        last_at_s: Start of the last completed one, in seconds since the epoch; None if there is none.
        last_s: Seconds that it took.
        last_bytes: Its size.
        restored_from: Path of the checkpoint or savepoint from which the job started the last time; None for none.
    """

    completed: int
    failed: int
    last_at_s: float | None
    last_s: float | None
    last_bytes: int | None
    restored_from: str | None


@dataclass(frozen=True)
class JobDetails:
    """What a cluster tells of one job.

    Attributes:
        job: The job.
        parallelism: Highest parallelism among its steps.
        checkpoints: Its checkpoints.
        restarts: Restarts since it was submitted.
        failures: Reasons of its last failures, the latest first.
        task_managers: Ids of the task managers that run its tasks.
    """

    job: ClusterJob
    parallelism: int
    checkpoints: Checkpoints
    restarts: int
    failures: tuple[FailureReason, ...]
    task_managers: tuple[str, ...]


def jobs_on(rest: FlinkRest, address: str) -> list[ClusterJob]:
    """Return the jobs that a cluster knows, the latest first. It forgets those that ended long ago.

    Args:
        rest: Client of the cluster.
        address: Its address, for the error message.

    Raises:
        PrerequisiteError: The cluster does not answer as Flink does.
    """
    try:
        found = [
            ClusterJob(
                each["jid"],
                each["name"],
                each["state"],
                each["start-time"] / 1000,
                each["duration"] / 1000,
                each["tasks"]["running"],
                each["tasks"]["total"],
            )
            for each in rest.get("jobs/overview", _WAIT_S)["jobs"]
        ]
    except FlinkRefusedError as error:
        fix = NO_LEADER_FIX if error.passes else "check --flink"
        raise PrerequisiteError(f"Flink at {address} does not answer ({error}): {fix}") from None
    except OSError as error:
        raise PrerequisiteError(
            f"no Flink cluster answers at {address} ({error}): check --flink, or start the cluster"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise PrerequisiteError(f"{address} does not answer as Flink's REST interface does: check --flink") from None
    return sorted(found, key=lambda job: job.started_at_s, reverse=True)


def job_meant(jobs: Sequence[ClusterJob], wanted: str) -> ClusterJob:
    """Return the job that a user means by its name, its id or the beginning of its id.

    Of jobs with one name, the one that has not ended is meant, else the latest one.

    Raises:
        UserError: There is no such job, or there are several; names them.
    """
    named = [job for job in jobs if job.name == wanted]
    if going_on := [job for job in named if not job.has_ended]:
        return _only(going_on, wanted)
    if named:
        return max(named, key=lambda job: job.started_at_s)
    if _ID.fullmatch(wanted) and (found := [job for job in jobs if job.id.startswith(wanted)]):
        return _only(found, wanted)
    raise UserError(f"there is no job {wanted} on the cluster: {_listed(jobs) or 'it has none'}")


def _only(found: Sequence[ClusterJob], wanted: str) -> ClusterJob:
    if len(found) > 1:
        raise UserError(f"{wanted} may be any of {_listed(found)}: give more of the id")
    return found[0]


def _listed(jobs: Iterable[ClusterJob]) -> str:
    return ", ".join(f"{job.id} ({job.name}, {job.state})" for job in jobs)


def details_of(rest: FlinkRest, job: ClusterJob) -> JobDetails:
    """Return what a cluster tells of a job.

    Raises:
        OSError: The cluster does not answer, or has forgotten the job.
    """
    path = f"jobs/{job.id}"
    vertices = rest.get(path, _WAIT_S)["vertices"]
    restarts = rest.get(f"{path}/metrics?get=numRestarts")
    tasks = [each for vertex in vertices for each in rest.get(f"{path}/vertices/{vertex['id']}")["subtasks"]]
    return JobDetails(
        job=job,
        parallelism=max((vertex["parallelism"] for vertex in vertices), default=0),
        checkpoints=_checkpoints(rest.get(f"{path}/checkpoints")),
        restarts=int(restarts[0]["value"]) if restarts else 0,
        failures=tuple(failure_reasons(rest.get(f"{path}/exceptions"))),
        task_managers=tuple(sorted({each["taskmanager-id"] for each in tasks} - {"(unassigned)"})),
    )


def _checkpoints(answer: Any) -> Checkpoints:
    counts, last, restored = answer["counts"], answer["latest"]["completed"], answer["latest"]["restored"]
    return Checkpoints(
        completed=counts["completed"],
        failed=counts["failed"],
        last_at_s=None if last is None else last["trigger_timestamp"] / 1000,
        last_s=None if last is None else last["end_to_end_duration"] / 1000,
        last_bytes=None if last is None else last["state_size"],
        restored_from=None if restored is None else restored["external_path"],
    )
