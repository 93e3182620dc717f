"""Jobs as Flink's REST interface reports them: their state, restarts and checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orion_beam.monitoring.flink_rest import ENDED_STATES, FlinkRest


@dataclass(frozen=True)
class JobStatus:
    """State of one job that has not ended.

    Attributes:
        name: Name with which the job was submitted.
        id: Flink's id of the job.
        state: Flink's word, such as RUNNING or RESTARTING. It is RUNNING even while tasks wait for a TaskManager.
        completed: Checkpoints completed since submission.
        failed: Checkpoints failed since submission.
        checkpoint_s: Seconds that the last completed checkpoint took. None: there is none.
        checkpoint_at_s: Start of that checkpoint, in seconds since the epoch. None: there is none.
        restarts: Number of restarts.
        tasks_waiting: Tasks that neither run nor have finished.
    """

    name: str
    id: str
    state: str
    completed: int
    failed: int
    checkpoint_s: float | None
    checkpoint_at_s: float | None
    restarts: int
    tasks_waiting: int

    @property
    def runs(self) -> bool:
        """Whether all tasks run or have finished."""
        return self.state == "RUNNING" and not self.tasks_waiting


def jobs_of(address: str) -> tuple[JobStatus, ...] | None:
    """Return the jobs of a JobManager that have not ended. None: it does not answer, or not as Flink does."""
    rest = FlinkRest(address)
    try:
        jobs = rest.get("jobs/overview")["jobs"]
        return tuple(_job(rest, job) for job in jobs if job["state"] not in ENDED_STATES)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _job(rest: FlinkRest, job: Mapping[str, Any]) -> JobStatus:
    checkpoints = rest.get(f"jobs/{job['jid']}/checkpoints")
    last = checkpoints["latest"]["completed"]
    restarts = rest.get(f"jobs/{job['jid']}/metrics?get=numRestarts")
    tasks = job["tasks"]
    return JobStatus(
        name=job["name"],
        id=job["jid"],
        state=job["state"],
        completed=checkpoints["counts"]["completed"],
        failed=checkpoints["counts"]["failed"],
        checkpoint_s=None if last is None else last["end_to_end_duration"] / 1000,
        checkpoint_at_s=None if last is None else last["trigger_timestamp"] / 1000,
        restarts=int(restarts[0]["value"]) if restarts else 0,
        tasks_waiting=tasks["total"] - tasks["running"] - tasks["finished"],
    )
