"""Failures as Flink 1.19 lists them. tests/integration/test_cluster.py asks a real Flink."""

from typing import Any

import pytest

from orion_beam.monitoring.failures import failure_reasons, failures_in

NOW_S = 1_800_000_000.0
LOST = """org.apache.flink.runtime.jobmaster.JobMasterException: TaskManager with id 127.0.0.1:{port}-{id} is no longer
\tat org.apache.flink.runtime.jobmaster.JobMaster.notifyHeartbeatTimeout(JobMaster.java:1)
"""
BUG = """java.lang.Exception: Failed to execute
\tat org.apache.beam.X.run(X.java:1)
Caused by: java.util.concurrent.ExecutionException: java.lang.RuntimeException: Error received from SDK harness
\tat java.base/java.util.X.get(X.java:1)
\t... 3 more
Caused by: java.lang.RuntimeException: Error received from SDK harness for instruction {number}: Traceback (most recent call last):
  File "sdk_worker.py", line 311, in _execute
    response = task()
ValueError: first

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "operations.py", line 2, in process
    raise
OtherVersionError: no schema for 208011234567890, password=hunter2 [while running 'DecodeStage-ptransform-{number}']

\tat org.apache.beam.fn.X.onNext(X.java:180)
"""  # noqa: E501  # as Flink writes it


def answer(*traces: str, every_s: float = 60.0, truncated: bool = False) -> dict[str, Any]:
    """What Flink answers for failures, the last of them first, `every_s` apart."""
    entries = [
        {"exceptionName": "java.lang.Exception", "stacktrace": trace, "timestamp": (NOW_S - every_s * place) * 1000}
        for place, trace in enumerate(traces)
    ]
    return {"exceptionHistory": {"entries": entries, "truncated": truncated}}


def test_a_reason_that_comes_again_is_counted_and_masked() -> None:
    failures = failures_in(answer(*(BUG.format(number=number) for number in range(7))), 600, NOW_S)
    assert str(failures) == (
        "failed 7 times in 10 min for the same reason: OtherVersionError: no schema for 2080••••••••890,"
        " password=•••• [while running 'DecodeStage-ptransform-0']"
    )


def test_the_ids_in_a_reason_do_not_make_it_another() -> None:
    failures = failures_in(answer(LOST.format(port=4001, id="a1f"), LOST.format(port=4002, id="b2e")), 600, NOW_S)
    assert failures is not None
    assert (failures.times, failures.same) == (2, 2)
    assert failures.reason.startswith("JobMasterException: TaskManager with id")


@pytest.mark.parametrize(
    ("history", "says"),
    [
        (answer(LOST.format(port=1, id="a1f")), "failed 1 time in 10 min: JobMasterException"),
        (
            answer(LOST.format(port=1, id="a1"), BUG.format(number=1), LOST.format(port=2, id="b2")),
            "failed 3 times in 10 min, 2 of them for the last reason: JobMasterException",
        ),
        (answer(*[BUG.format(number=1)] * 3, every_s=400), "failed 2 times in 10 min for the same reason: Other"),
        (
            answer(*[BUG.format(number=1)] * 16, every_s=1, truncated=True),
            "failed at least 16 times in 10 min for the same reason: Other",
        ),
        (answer(*[BUG.format(number=1)] * 3, every_s=400, truncated=True), "failed 2 times in 10 min"),
    ],
    ids=["one", "another in between", "older ones", "more than Flink lists", "all within the window are listed"],
)
def test_failures_within_the_window_are_said_in_a_line(history: dict[str, Any], says: str) -> None:
    assert str(failures_in(history, 600, NOW_S)).startswith(says)


@pytest.mark.parametrize("history", [answer(), answer(LOST)], ids=["none ever", "none lately"])
def test_a_job_that_did_not_fail_lately_says_nothing(history: dict[str, Any]) -> None:
    assert failures_in(history, 600, NOW_S + 601) is None


def test_reasons_are_listed_once_with_their_count_the_latest_first() -> None:
    reasons = failure_reasons(answer(LOST.format(port=1, id="a1"), BUG.format(number=1), LOST.format(port=2, id="b2")))
    assert [(each.times, each.last_at_s) for each in reasons] == [(2, NOW_S), (1, NOW_S - 60)]
    assert reasons[1].reason.startswith("OtherVersionError: no schema for 2080••••••••890, password=••••")
