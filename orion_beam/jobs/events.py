"""JobEvent: what happened to a job on a Flink cluster, as the topic `orion.jobs` keeps it."""

import getpass
import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from orion_beam.schemas import VERSION

__all__ = ["JobAction", "JobEvent", "runs_of", "version_before"]


class JobAction(StrEnum):
    """What happened to a job."""

    SUBMITTED = "submitted"
    """Flink has accepted it."""
    RUNNING = "running"
    """All its tasks run, and its first checkpoint is complete."""
    STOPPED = "stopped"
    """It ended with a savepoint."""
    UPGRADED = "upgraded"
    """It stands in the place of the job before, and runs."""
    SCALED = "scaled"
    """The same, with another parallelism."""
    ROLLED_BACK = "rolled back"
    """It runs again in the place of a version that was given up."""
    CANCELLED = "cancelled"
    """It ended without a savepoint."""
    FAILED = "failed"
    """It was given up, or ended by itself."""


_RAN = {JobAction.RUNNING, JobAction.UPGRADED, JobAction.SCALED, JobAction.ROLLED_BACK}
"""Events of a job that has completed a checkpoint."""


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _who() -> str:
    # A container may have a user id without a name.
    user = str(os.getuid())
    with suppress(KeyError, OSError):
        user = getpass.getuser()
    return f"{user}@{socket.gethostname()}"


class JobEvent(BaseModel):
    """One event of a job. A field of a newer version is ignored, so an older version can read the history.

    Attributes:
        action: What happened.
        at: When, in UTC.
        who: `user@host` of the command.
        version: Version of ORION Beam that the job was built with.
        job_id: Flink's id of the job.
        name: Name of the job.
        cluster: Address of the cluster's REST interface, without user and password.
        group: Consumer group.
        countries: Countries whose records the job reads.
        parallelism: Parallelism of the job.
        configuration: SHA-256 of the job's configuration, in hex.
        jar: SHA-256 of the job's jar, in hex.
        jar_id: Flink's name of the jar on the cluster.
        savepoint: The savepoint that was taken (stopped), or that the job started from.
        states: What a savepoint of the job holds, see `orion_beam.inspect.savepoint_graph`.
        reason: Why it was given up, without subscribers' numbers and secrets.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    action: JobAction
    at: AwareDatetime = Field(default_factory=_now)
    who: str = Field(default_factory=_who)
    version: str = VERSION
    job_id: str
    name: str
    cluster: str
    group: str | None = None
    countries: tuple[str, ...] = ()
    parallelism: int | None = None
    configuration: str | None = None
    jar: str | None = None
    jar_id: str | None = None
    savepoint: str | None = None
    states: Mapping[str, str] = {}
    reason: str | None = None

    def then(self, action: JobAction, **changes: object) -> "JobEvent":
        """Return a new event of the same job: now, by this user."""
        return JobEvent.model_validate(
            self.model_dump(exclude={"at", "who", "reason", "savepoint"}) | {"action": action} | changes
        )


def runs_of(events: Iterable[JobEvent]) -> list[list[JobEvent]]:
    """Group the events of jobs of one name by the job's id, in the order of their first events."""
    runs: dict[str, list[JobEvent]] = {}
    for event in events:
        runs.setdefault(event.job_id, []).append(event)
    return list(runs.values())


def version_before(events: Iterable[JobEvent], present: JobEvent) -> JobEvent | None:
    """Return the last event of the newest job before the present one that has run, and from another jar.

    Args:
        events: Events of jobs of one name.
        present: An event of the job that runs now.
    """
    runs = runs_of(events)
    ids = [run[0].job_id for run in runs]
    earlier = runs[: ids.index(present.job_id)] if present.job_id in ids else runs
    for run in reversed(earlier):
        if run[-1].jar != present.jar and any(event.action in _RAN for event in run):
            return run[-1]
    return None
