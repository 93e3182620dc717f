"""Events of jobs: what the topic `orion.jobs` keeps, and what an older version reads of a newer one's."""

import json

import pytest
from pydantic import ValidationError

from orion_beam.jobs.events import JobAction, JobEvent, runs_of, version_before

EVENT = JobEvent(
    action=JobAction.SUBMITTED,
    job_id="a1",
    name="orion-beam-FR",
    cluster="http://flink:8081",
    countries=("FR",),
    jar="ab",
)


def test_an_event_says_who_and_when_and_comes_back_from_json_as_it_was() -> None:
    assert "@" in EVENT.who
    assert EVENT.at.tzinfo is not None
    assert JobEvent.model_validate(json.loads(EVENT.model_dump_json())) == EVENT


def test_the_next_event_of_a_job_keeps_the_job_and_tells_its_own() -> None:
    stopped = EVENT.then(JobAction.STOPPED, savepoint="file:/sp/1", reason="asked")
    assert (stopped.action, stopped.savepoint, stopped.jar, stopped.job_id) == ("stopped", "file:/sp/1", "ab", "a1")
    assert stopped.then(JobAction.RUNNING).savepoint is None
    assert stopped.then(JobAction.RUNNING).reason is None


def test_a_field_of_a_newer_version_is_ignored_and_a_new_kind_of_event_is_not_read() -> None:
    newer = EVENT.model_dump(mode="json") | {"weather": "fine"}
    assert JobEvent.model_validate(newer) == EVENT
    with pytest.raises(ValidationError):
        JobEvent.model_validate(newer | {"action": "teleported"})


def test_runs_are_grouped_by_job_in_their_order() -> None:
    second = EVENT.model_copy(update={"job_id": "b2"})
    events = [EVENT, second, EVENT.then(JobAction.STOPPED), second.then(JobAction.RUNNING)]
    assert [[event.action for event in run] for run in runs_of(events)] == [
        ["submitted", "stopped"],
        ["submitted", "running"],
    ]


def run(job_id: str, jar: str, *actions: JobAction) -> list[JobEvent]:
    first = EVENT.model_copy(update={"job_id": job_id, "jar": jar})
    return [first, *(first.then(action) for action in actions)]


def test_the_version_before_is_the_last_one_that_ran_and_is_another() -> None:
    first = run("1", "a", JobAction.RUNNING, JobAction.STOPPED)
    failed = run("2", "b", JobAction.FAILED)
    again = run("3", "a", JobAction.ROLLED_BACK)
    newest = run("4", "c", JobAction.UPGRADED)
    events = [*first, *failed, *again, *newest]
    before = version_before(events, newest[-1])
    assert before is not None
    assert (before.job_id, before.jar) == ("3", "a")
    assert version_before(events, again[-1]) is None
    assert version_before(first, first[-1]) is None
