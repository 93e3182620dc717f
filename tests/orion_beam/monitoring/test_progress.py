"""What is made of one reading after the other."""

import pytest

from orion_beam.kafka.offset_ranges import OffsetRange, SourcePartition
from orion_beam.monitoring.progress import Progress
from orion_beam.monitoring.reading import PartitionReading, Reading

TOPIC = "cdr.raw.FR"
RETENTION_S = 1000.0


def reading(at_s: float, *parts: PartitionReading, retention_s: float | None = RETENTION_S) -> Reading:
    return Reading(
        at_s=at_s,
        brokers=1,
        under_replicated=0,
        leaderless=0,
        partitions={SourcePartition(TOPIC, number): part for number, part in enumerate(parts)},
        retention_ms={TOPIC: None if retention_s is None else round(retention_s * 1000)},
    )


def part(low: int, high: int, committed: int | None, next_s: float | None = None) -> PartitionReading:
    return PartitionReading(OffsetRange(low, high), committed, None if next_s is None else round(next_s * 1000))


@pytest.fixture
def progress() -> Progress:
    return Progress({TOPIC: "FR"})


def test_lag_counts_from_the_commit_or_from_what_is_there(progress: Progress) -> None:
    status = progress.add(reading(100, part(0, 10, 4), part(5, 10, None), part(5, 10, 2), part(0, 10, 11)))["FR"]
    assert status.lag == 6 + 5 + 5 + 0


def test_lag_in_seconds_is_the_age_of_the_oldest_record_that_is_not_processed(progress: Progress) -> None:
    status = progress.add(reading(100, part(0, 10, 4, next_s=70), part(0, 10, 4, next_s=95), part(0, 10, 10)))["FR"]
    assert status.lag_s == pytest.approx(30)
    assert status.data_loss_s == pytest.approx(RETENTION_S - 30)


def test_a_record_from_the_future_is_no_negative_lag(progress: Progress) -> None:
    assert progress.add(reading(100, part(0, 10, 4, next_s=170)))["FR"].lag_s == 0


def test_nothing_is_lost_where_records_are_kept_for_ever(progress: Progress) -> None:
    assert progress.add(reading(100, part(0, 10, 4, next_s=70), retention_s=None))["FR"].data_loss_s is None


def test_rates_are_means_over_the_window(progress: Progress) -> None:
    for at_s in range(0, 101, 5):
        status = progress.add(reading(at_s, part(0, 20 * at_s, 10 * at_s)))["FR"]
    assert status.ingestion_rate == pytest.approx(20)
    assert status.processing_rate == pytest.approx(10)
    for at_s in range(105, 141, 5):
        status = progress.add(reading(at_s, part(0, 2000, 1000)))["FR"]
    assert (status.ingestion_rate, status.processing_rate) == (0, 0)


def test_a_partition_stands_still_when_it_has_lag_and_no_commit_moves(progress: Progress) -> None:
    assert progress.add(reading(0, part(0, 10, 4), part(0, 10, 4)))["FR"].standstill_s == 0
    assert progress.add(reading(50, part(0, 20, 4), part(0, 20, 9)))["FR"].standstill_s == 50
    assert progress.add(reading(60, part(0, 20, 5), part(0, 20, 9)))["FR"].standstill_s == 10


def test_offsets_that_hold_no_record_are_no_lag(progress: Progress) -> None:
    marker = part(0, 10, 9)._replace(next_offset=10)
    progress.add(reading(0, marker))
    status = progress.add(reading(500, marker))["FR"]
    assert (status.lag, status.lag_s, status.standstill_s) == (0, 0, 0)
    behind_a_marker = part(0, 13, 9, next_s=499)._replace(next_offset=10)
    assert progress.add(reading(505, behind_a_marker))["FR"].lag == 3


def test_partitions_that_were_added_are_unread_and_not_stuck(progress: Progress) -> None:
    progress.add(reading(0, part(0, 10, 4), part(0, 0, None)))
    status = progress.add(reading(500, part(0, 20, 20), part(0, 5, None), part(0, 0, None)))["FR"]
    assert (status.unread_partitions, status.standstill_s, status.lag) == (2, 0, 5)
    # Before a job's first commit nothing is known of any of them.
    assert Progress({TOPIC: "FR"}).add(reading(0, part(0, 5, None), part(0, 5, None)))["FR"].unread_partitions == 0


def test_a_quiet_partition_does_not_stand_still(progress: Progress) -> None:
    progress.add(reading(0, part(0, 10, 10)))
    assert progress.add(reading(500, part(0, 10, 10)))["FR"].standstill_s == 0
    # What has just come cannot have been committed yet.
    assert progress.add(reading(505, part(0, 11, 10)))["FR"].standstill_s == 0
    assert progress.add(reading(510, part(0, 12, 10)))["FR"].standstill_s == 5


def test_the_age_of_the_commit_is_known_once_one_was_seen(progress: Progress) -> None:
    assert progress.add(reading(0, part(0, 10, 4)))["FR"].commit_age_s is None
    assert progress.add(reading(10, part(0, 10, 5)))["FR"].commit_age_s == 0
    assert progress.add(reading(25, part(0, 10, 5)))["FR"].commit_age_s == 15


def test_what_retention_deletes_unprocessed_is_lost_once(progress: Progress) -> None:
    assert progress.add(reading(0, part(0, 100, 10)))["FR"].lost == 0
    assert progress.add(reading(5, part(30, 100, 10)))["FR"].lost == 20
    assert progress.add(reading(10, part(30, 100, 10)))["FR"].lost == 20
    assert progress.add(reading(15, part(40, 100, 10)))["FR"].lost == 30
    status = progress.add(reading(20, part(40, 100, 60)))["FR"]
    assert status.lost == 30
    assert status.processed == 20


def test_a_group_that_never_committed_loses_nothing(progress: Progress) -> None:
    progress.add(reading(0, part(0, 100, None)))
    assert progress.add(reading(5, part(50, 100, None)))["FR"].lost == 0


def test_a_country_without_its_topic_has_no_state() -> None:
    progress = Progress({TOPIC: "FR", "cdr.raw.TN": "TN"})
    assert list(progress.add(reading(0, part(0, 1, 0)))) == ["FR"]
