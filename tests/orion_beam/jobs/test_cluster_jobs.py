"""The job that a user means. tests/integration/test_jobs.py asks a real Flink."""

import pytest

from orion_beam.errors import UserError
from orion_beam.jobs.cluster_jobs import ClusterJob, job_meant


def job(job_id: str, name: str, state: str, started_at_s: float = 0.0) -> ClusterJob:
    return ClusterJob(job_id, name, state, started_at_s, 1.0, 1, 1)


JOBS = [
    job("abcd1234", "orion-beam-FR", "RUNNING"),
    job("abcd9999", "orion-beam-SN", "FINISHED", 1),
    job("ef010000", "orion-beam-SN", "FAILED", 2),
    job("ef020000", "orion-beam-FR", "CANCELED", 3),
]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("abcd1234", "abcd1234"),
        ("abcd1", "abcd1234"),
        ("orion-beam-FR", "abcd1234"),
        ("orion-beam-SN", "ef010000"),
        ("ef02", "ef020000"),
    ],
    ids=["an id", "the beginning of one", "a name: the one that runs", "a name: the latest that ended", "an ended one"],
)
def test_a_job_is_found_by_id_by_prefix_and_by_name(wanted: str, found: str) -> None:
    assert job_meant(JOBS, wanted).id == found


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ("abcd", "abcd may be any of abcd1234 .*, abcd9999 .*: give more of the id"),
        ("orion-beam-TN", "there is no job orion-beam-TN on the cluster: abcd1234 .orion-beam-FR, RUNNING."),
        ("abc", "there is no job abc"),
        ("99", "there is no job 99"),
    ],
)
def test_what_means_no_job_or_several_is_refused(wanted: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        job_meant(JOBS, wanted)


def test_two_jobs_of_a_name_that_run_are_not_confused() -> None:
    with pytest.raises(UserError, match="orion-beam-FR may be any of"):
        job_meant([*JOBS, job("ff000000", "orion-beam-FR", "RESTARTING")], "orion-beam-FR")


def test_a_cluster_without_jobs_says_so() -> None:
    with pytest.raises(UserError, match="it has none"):
        job_meant([], "orion-beam-FR")
