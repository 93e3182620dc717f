"""Which JobManager leads is read from lines that Flink writes."""

import pytest

from orion_beam.runners.local.flink import leads

GRANTED = b"ResourceManagerServiceImpl - Resource manager service is granted leadership with session id 5bd7166b.\n"
REVOKED = b"ResourceManagerServiceImpl - Resource manager service is revoked leadership with session id 5bd7166b.\n"
TASK_MANAGER_LOST = b"JobMaster - Disconnect TaskExecutor c2c128 because: Job leader for job id 7b6b lost leadership.\n"
JOB_LED = b"JobMasterServiceLeadershipRunner for job 7b6b was granted leadership with leader id 45b51fd9.\n"


@pytest.mark.parametrize(
    ("log", "is_leader"),
    [
        (b"", False),
        (GRANTED, True),
        (GRANTED + JOB_LED + TASK_MANAGER_LOST, True),
        (GRANTED + JOB_LED + REVOKED, False),
        (GRANTED + REVOKED + GRANTED, True),
        (JOB_LED, False),
    ],
)
def test_a_job_manager_leads_from_when_it_is_told_until_it_is_told_otherwise(log: bytes, is_leader: bool) -> None:
    assert leads(log) is is_leader
