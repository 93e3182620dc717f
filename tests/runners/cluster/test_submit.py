"""Which job on a cluster is the same as one that shall be submitted."""

import pytest

from orion_beam.runners.cluster.submit import RunningJob, same_job


def running(name: str, group: str, *countries: str) -> RunningJob:
    return RunningJob(name, name, "hash", "1.0.0", group, countries)


RUNNING = [running("one", "a", "FR"), running("two", "b", "TN", "MA"), running("three", "a", "SN", "MA")]


@pytest.mark.parametrize(
    ("group", "countries", "found"),
    [
        ("a", ["FR"], "one"),
        ("a", ["TN"], None),
        ("b", ["FR", "MA"], "two"),
        ("a", ["MA", "TN"], "three"),
        ("c", ["FR"], None),
    ],
)
def test_the_same_job_has_the_group_and_one_of_the_countries(
    group: str, countries: list[str], found: str | None
) -> None:
    job = same_job(RUNNING, group, countries)
    assert (job.id if job else None) == found
