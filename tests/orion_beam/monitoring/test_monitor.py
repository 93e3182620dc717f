"""The monitor's own thread, and where records are held up."""

import pytest

from orion_beam.countries import profiles_of
from orion_beam.monitoring.flink import JobStatus
from orion_beam.monitoring.monitor import Monitor, MonitorConfig, fused_reads, places, pressed_at, with_busy
from orion_beam.telemetry.worker_time import PoolTime, PoolTimes
from tests.integration.harness import await_until


def test_whatever_a_look_raises_the_next_one_is_made(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks = []

    def look(self: Monitor) -> None:
        looks.append(self)
        raise RuntimeError("208011234567890")

    monkeypatch.setattr(Monitor, "look", look)
    config = MonitorConfig("127.0.0.1:1", "group", profiles_of(["FR"]), interval_s=0.01)
    with Monitor(config):
        await_until(lambda: len(looks) > 2, 600, "it looks again")
    assert {record.event for record in caplog.records} == {"look_failed"}
    assert "RuntimeError at test_monitor.py:" in caplog.text
    assert "208011234567890" not in caplog.text


@pytest.mark.parametrize(
    ("held_ratio", "lag_s", "sink_ratio", "place"),
    [
        (None, 600, 1.0, None),
        (0.1, 10, 1.0, None),
        (0.1, 600, 1.0, "source"),
        (0.9, 10, 0.9, "sink"),
        (0.9, 10, 0.1, "python"),
        (0.9, 600, None, "workers"),
    ],
)
def test_records_are_held_up_at_the_first_place_that_is_slower_than_what_comes_before_it(
    held_ratio: float | None, lag_s: float, sink_ratio: float | None, place: str | None
) -> None:
    assert pressed_at(held_ratio, lag_s, sink_ratio) == place


CODES = {"cdr.raw.FR": "FR", "cdr.raw.TN": "TN"}
FUSED = JobStatus("cdr", "0a", "RUNNING", 5, 1, 0.25, None, 2, 0, fused={"cdr.raw.FR": 4})


def pools(*spent: tuple[str, float, float], elapsed_s: float = 30.0) -> PoolTimes:
    """Pools that work for one country each, and how many seconds each has spent in stages, and for brokers."""
    before = tuple(PoolTime(100.0, 50.0, {country: 1_000}) for country, *_ in spent)
    after = tuple(PoolTime(100.0 + stages, 50.0 + sink, {country: 2_000}) for country, stages, sink in spent)
    return PoolTimes(elapsed_s, before, after)


@pytest.mark.parametrize(
    ("stages", "sink", "lag_s", "busy", "place"),
    [
        (50.0, 10.0, 600, 1.0, "python"),
        (10.0, 50.0, 600, 1.0, "sink"),
        (12.0, 6.0, 600, 0.3, "source"),
        # A few records a second: most of the time goes to their acknowledgements, and none waits on its topic.
        (3.0, 45.0, 10, 0.8, None),
        # Idle, or in a stage that has not returned yet.
        (0.0, 0.0, 600, None, None),
    ],
)
def test_where_the_read_is_one_task_with_its_stages_the_workers_say_what_holds_it_up(
    stages: float, sink: float, lag_s: float, busy: float | None, place: str | None
) -> None:
    # Of four subtasks, two have a partition to read. The pool of another country has nothing to do with it.
    found = fused_reads([FUSED], pools(("FR", stages, sink), ("TN", 120.0, 0.0)), CODES, {"cdr.raw.FR": 2})
    lags_s = {"cdr.raw.FR": lag_s, "cdr.raw.TN": 600.0}
    assert places(lags_s, [FUSED], 0.1, {}) == {}
    assert with_busy(FUSED, {}).busy is None
    assert places(lags_s, [FUSED], 0.1, found) == ({"cdr.raw.FR": place} if place else {})
    assert with_busy(FUSED, found).busy == busy


def test_where_nobody_can_tell_whose_time_it_is_no_place_is_named() -> None:
    before, after = (PoolTime(spent, 0.0, {"FR": read, "TN": read}) for spent, read in ((0.0, 10), (120.0, 20)))
    partitions = {topic: 12 for topic in CODES}
    assert fused_reads([FUSED], PoolTimes(30.0, (before,), (after,)), CODES, partitions) == {}
    unwatched = JobStatus("cdr", "0b", "RUNNING", 5, 1, 0.25, None, 2, 0, fused={"cdr.raw.MA": 4})
    assert fused_reads([unwatched], pools(("MA", 60.0, 0.0)), CODES, partitions) == {}


def test_where_flink_measures_the_reads_it_alone_says_how_busy_the_workers_are_and_what_is_held_back() -> None:
    job = JobStatus("cdr", "0a", "RUNNING", 5, 1, 0.25, None, 2, 0, {"cdr.raw.FR": 0.9, "cdr.raw.TN": 0.1}, 0.7)
    found = fused_reads([job], pools(("FR", 120.0, 0.0)), CODES, {topic: 12 for topic in CODES})
    assert found == {}
    assert with_busy(job, found) == job
    assert places({"cdr.raw.FR": 10.0, "cdr.raw.TN": 600.0}, [job], 0.75, found) == {
        "cdr.raw.FR": "sink",
        "cdr.raw.TN": "source",
    }
