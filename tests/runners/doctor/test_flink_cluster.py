"""What a cluster's settings say of restarts. tests/integration/test_doctor.py asks a real cluster."""

import pytest

from orion_beam.doctor.findings import Status
from orion_beam.runners.doctor.flink_cluster import check_restarts

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
