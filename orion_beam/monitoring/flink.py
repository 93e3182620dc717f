"""Jobs as Flink's REST interface reports them: their state, restarts, checkpoints, and where they press."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orion_beam.monitoring.flink_rest import ENDED_STATES, FlinkRest

HELD_RATIO = 0.5
"""Part of the time for which a read must be held back before what follows it counts as too slow."""

_READ_OF = re.compile(r"^Source: .*?/Read (?P<topic>[^/ ]+)")
"""The task that reads a topic, by its name in Beam's translation of our graph."""
_STAGES = "]{"
"""In the name of a task: what Python workers run of our graph, `[10]{DecodeCdrs, ValidateCdrs, …}`. For a job over one
country, Flink makes one task of this and the read. No task holds it back then, and Flink does not measure how busy the
task of a source is. The times of workers tell it: `monitor.fused_reads`."""
_HELD, _BUSY = "backPressuredTimeMsPerSecond", "busyTimeMsPerSecond"


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
        held: Part of the time (0 to 1) for which the read of a topic is held back by what follows, by topic. A read
            that is one task with its stages is not in it.
        busy: Part of the time for which the busiest of the tasks that follow the reads works, or waits for its workers.
            None: Flink does not say.
        fused: Subtasks of each read that is one task with its stages, by topic.
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
    held: Mapping[str, float] = field(default_factory=dict)
    busy: float | None = None
    fused: Mapping[str, int] = field(default_factory=dict)

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
    tasks = job["tasks"]
    waiting = tasks["total"] - tasks["running"] - tasks["finished"]
    if job["state"] == "INITIALIZING":
        # Flink answers no question of such a job.
        return JobStatus(
            name=job["name"],
            id=job["jid"],
            state=job["state"],
            completed=0,
            failed=0,
            checkpoint_s=None,
            checkpoint_at_s=None,
            restarts=0,
            tasks_waiting=waiting,
        )
    checkpoints = rest.get(f"jobs/{job['jid']}/checkpoints")
    last = checkpoints["latest"]["completed"]
    restarts = rest.get(f"jobs/{job['jid']}/metrics?get=numRestarts")
    held, busy, fused = _pressure(rest, job["jid"]) if job["state"] == "RUNNING" else ({}, None, {})
    return JobStatus(
        name=job["name"],
        id=job["jid"],
        state=job["state"],
        completed=checkpoints["counts"]["completed"],
        failed=checkpoints["counts"]["failed"],
        checkpoint_s=None if last is None else last["end_to_end_duration"] / 1000,
        checkpoint_at_s=None if last is None else last["trigger_timestamp"] / 1000,
        restarts=int(restarts[0]["value"]) if restarts else 0,
        tasks_waiting=waiting,
        held=held,
        busy=busy,
        fused=fused,
    )


def _pressure(rest: FlinkRest, job_id: str) -> tuple[dict[str, float], float | None, dict[str, int]]:
    """Return `held`, `busy` and `fused` of a job.

    The subtask for which a ratio is highest counts, since one that stands still holds back all others.
    """
    held: dict[str, float] = {}
    busy: float | None = None
    fused: dict[str, int] = {}
    for task in rest.get(f"jobs/{job_id}")["vertices"]:
        path = f"jobs/{job_id}/vertices/{task['id']}/subtasks/metrics?get={_HELD},{_BUSY}&agg=max"
        # A task that has just started has no metrics. Flink says "NaN" where it measures nothing.
        of_task = {metric["id"]: float(metric["max"]) / 1000 for metric in rest.get(path)}
        read = _READ_OF.match(task["name"])
        if read and _STAGES in task["name"]:
            fused[read["topic"]] = task["parallelism"]
        elif read and of_task.get(_HELD, -1) >= 0:
            held[read["topic"]] = of_task[_HELD]
        elif not read and of_task.get(_BUSY, -1) >= 0:
            busy = max(busy or 0.0, of_task[_BUSY])
    return held, busy, fused
