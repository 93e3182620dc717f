"""What a cluster's settings say of restarts, of high availability and of metaspace.

tests/integration/test_doctor.py asks a real cluster.
"""

import pytest

from orion_beam.doctor.findings import Status
from orion_beam.runners.doctor.flink_cluster import check_availability, check_metaspace, check_restarts

BY_DELAY = {"restart-strategy.type": "exponential-delay"}
MOST = "restart-strategy.exponential-delay.attempts-before-reset-backoff"


@pytest.mark.parametrize(
    ("settings", "status", "found"),
    [
        ({}, Status.OK, "for ever"),
        (BY_DELAY, Status.OK, "for ever"),
        (BY_DELAY | {MOST: "10"}, Status.OK, "10 times until the job runs well for a while"),
        ({"restart-strategy.type": "fixed-delay"}, Status.WARNING, "restart-strategy.type is fixed-delay: a job ends"),
        ({"restart-strategy": "none"}, Status.WARNING, "restart-strategy.type is none: a job ends"),
    ],
    ids=["Flink's default", "by delay", "bounded by rate", "a lifetime count", "none, by its old name"],
)
def test_a_lifetime_count_of_restarts_is_warned_of(settings: dict[str, str], status: Status, found: str) -> None:
    check = check_restarts(settings)
    assert check.status is status
    assert check.found.startswith(found)


@pytest.mark.parametrize(
    ("settings", "status", "found"),
    [
        ({}, Status.WARNING, "none: when the JobManager ends, its jobs end"),
        ({"high-availability.type": "NONE"}, Status.WARNING, "none"),
        ({"high-availability": "none"}, Status.WARNING, "none"),
        (
            {"high-availability.type": "zookeeper", "high-availability.storageDir": "s3://b/h"},
            Status.OK,
            "zookeeper, s3",
        ),
        ({"high-availability": "kubernetes"}, Status.OK, "kubernetes"),
    ],
    ids=["Flink's default", "none", "none, by its old name", "ZooKeeper", "Kubernetes, by its old name"],
)
def test_a_cluster_whose_jobs_end_with_their_job_manager_is_warned_of(
    settings: dict[str, str], status: Status, found: str
) -> None:
    check = check_availability(settings)
    assert check.status is status
    assert check.found.startswith(found)
    assert bool(check.fix) is (status is Status.WARNING)


@pytest.mark.parametrize(
    ("slots", "metaspace_mb", "status", "said"),
    [
        ([2], 256, Status.OK, "55 MiB for each job"),
        ([2, 4], 256, Status.WARNING, "256 MiB on a task manager of 4 slots: with a job in each slot it runs out"),
        ([4], 315, Status.OK, "55 MiB for each job"),
        ([], 256, Status.SKIPPED, "no task manager yet"),
    ],
)
def test_a_task_manager_whose_jobs_outgrow_its_metaspace_is_warned_of(
    slots: list[int], metaspace_mb: int, status: Status, said: str
) -> None:
    check = check_metaspace(
        [{"slotsNumber": number, "memoryConfiguration": {"jvmMetaspace": metaspace_mb << 20}} for number in slots]
    )
    assert check.status is status
    assert check.found.startswith(said)
    if status is Status.WARNING:
        assert check.fix.startswith("set taskmanager.memory.jvm-metaspace.size to 315m")
