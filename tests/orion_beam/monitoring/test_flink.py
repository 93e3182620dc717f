"""What is taken from the answers of Flink's REST interface about a job."""

import json
from typing import Any

from orion_beam.monitoring.flink import JobStatus, jobs_of
from orion_beam.monitoring.server import Answer, Page, serving

JOB = "de6ca5f3dc6c42b280368a5569064576"
STAGES = "Flat Map -> Map -> [10]{ReadRawCdrs, DecodeCdrs, FlattenDeadLetters, JoinCountries, WriteDeadLetters, "
STAGES += "ValidateCdrs, NormalizeCdrs, EnrichCdrs, EncodeCdrs, WriteCdrs}"
OVERVIEW = {
    "jobs": [
        {
            "jid": JOB,
            "name": "orion-orion-beam-SN",
            "state": "RUNNING",
            "tasks": {"total": 4, "running": 4, "finished": 0},
        }
    ]
}
CHECKPOINTS = {"counts": {"completed": 5, "failed": 1}, "latest": {"completed": None}}

Task = tuple[str, float | str, float | str]
"""Name of a task, for how many milliseconds of a second it is held back, and how many it is busy."""


def read(country: str) -> str:
    name = f"ReadRawCdrs/ReadKafka/Read cdr.raw.{country}/ExternalTransform(orion:kafka_batches:v1)/ReadFrames"
    return f"Source: {name}"


def job_of(*tasks: Task) -> JobStatus:
    """Return what is made of a job with these tasks, of four subtasks each."""

    def page(answer: Any) -> Page:
        def found(_: str) -> Answer:
            return "application/json", json.dumps(answer).encode()

        return found

    vertices = [{"id": str(place), "name": name, "parallelism": 4} for place, (name, *_) in enumerate(tasks)]
    answers: dict[str, Any] = {
        "jobs/overview": OVERVIEW,
        f"jobs/{JOB}": {"vertices": vertices},
        f"jobs/{JOB}/checkpoints": CHECKPOINTS,
        f"jobs/{JOB}/metrics": [{"id": "numRestarts", "value": "2"}],
    }
    for place, (_, held, busy) in enumerate(tasks):
        answers[f"jobs/{JOB}/vertices/{place}/subtasks/metrics"] = [
            {"id": "backPressuredTimeMsPerSecond", "max": held},
            {"id": "busyTimeMsPerSecond", "max": busy},
        ]
    with serving("127.0.0.1:0", {f"/v1/{path}": page(each) for path, each in answers.items()}) as url:
        (job,) = jobs_of(url) or ()
    return job


def test_of_a_read_that_is_one_task_with_its_stages_flink_measures_nothing() -> None:
    # As Flink 1.19 answers of a job over Senegal.
    job = job_of((f"{read('SN')} -> {STAGES}", 0.0, "NaN"))
    assert (job.held, job.busy) == ({}, None)
    assert job.fused == {"cdr.raw.SN": 4}


def test_reads_that_are_tasks_of_their_own_are_held_back_by_the_busiest_that_follows() -> None:
    job = job_of((read("FR"), 900.0, "NaN"), (read("TN"), 100.0, "NaN"), (STAGES, 0.0, 950.0), ("Map", 0.0, 10.0))
    assert job.held == {"cdr.raw.FR": 0.9, "cdr.raw.TN": 0.1}
    assert (job.busy, job.fused) == (0.95, {})
