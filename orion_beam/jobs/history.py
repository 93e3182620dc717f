"""History of jobs on Flink clusters: the topic `orion.jobs`, one JobEvent a message, keyed by the job's name."""

from pydantic import ValidationError

from orion_beam.access.rights import require_rights
from orion_beam.access.roles import Resource
from orion_beam.defaults import Role
from orion_beam.jobs.events import JobAction, JobEvent
from orion_beam.kafka.admin import require_topics
from orion_beam.kafka.entries import read_entries, write_entry
from orion_beam.kafka.offset_ranges import READERS_GROUP
from orion_beam.telemetry.masking import without_secrets
from orion_beam.topics.names import own_topics

__all__ = ["history_topic", "latest_event", "read_history", "record_event", "require_history"]


def history_topic() -> str:
    """Return the name of the history's topic in this environment."""
    return own_topics().jobs.name


def require_history(bootstrap_servers: str) -> None:
    """Check that the history can be kept, before anything is changed.

    Raises:
        PrerequisiteError: The broker cannot be reached, or lacks the topic, or this user may not use it; names the fix.
    """
    require_topics(bootstrap_servers, [history_topic()])
    names = {Resource.HISTORY: [history_topic()], Resource.READERS: [READERS_GROUP]}
    require_rights(bootstrap_servers, Role.JOBS, names)


def read_history(bootstrap_servers: str, name: str | None = None) -> list[JobEvent]:
    """Return the events of all jobs, or of those with one name, from the oldest to the newest.

    Messages that are no events are skipped, as are those of kinds that a newer version has added.

    Raises:
        PrerequisiteError: The broker cannot be reached, or lacks the topic.
    """
    events = []
    for key, entry in read_entries(bootstrap_servers, history_topic()):
        if name is not None and key != name:
            continue
        try:
            events.append(JobEvent.model_validate(entry))
        except ValidationError:
            continue
    return events


def latest_event(bootstrap_servers: str, job_id: str, name: str, cluster: str) -> JobEvent:
    """Return the newest event of a job; a new one for a job that was submitted by other means.

    Raises:
        PrerequisiteError: The broker cannot be reached, or lacks the topic.
    """
    events = [event for event in read_history(bootstrap_servers, name) if event.job_id == job_id]
    unknown = JobEvent(action=JobAction.SUBMITTED, job_id=job_id, name=name, cluster=cluster, version="unknown")
    return events[-1] if events else unknown


def record_event(bootstrap_servers: str, event: JobEvent) -> None:
    """Append an event; the broker has it when this returns.

    Raises:
        UserError: The broker did not take it before the deadline.
    """
    told = event.model_copy(update={"cluster": without_secrets(event.cluster)})
    write_entry(bootstrap_servers, history_topic(), event.name, told.model_dump(mode="json"))
