"""The line a minute of a stream."""

from orion_beam.kafka.offset_ranges import OffsetRange, SourcePartition
from orion_beam.monitoring.minute import line_of
from orion_beam.monitoring.reading import PartitionReading, Reading

TOPIC = "cdr.raw.FR"
SINKS = ("cdr.final", "cdr.dlq")


def reading(at_s: float, committed: list[int | None], high: int, written: int, rejected: int, jobs: int = 1) -> Reading:
    parts = {
        SourcePartition(TOPIC, number): PartitionReading(OffsetRange(0, high), offset)
        for number, offset in enumerate(committed)
    }
    return Reading(at_s, 1, 0, 0, parts, {TOPIC: None}, {"cdr.final": written, "cdr.dlq": rejected}, {TOPIC: jobs})


def test_it_tells_what_was_read_written_and_rejected_and_what_waits() -> None:
    before, now = reading(100, [10, None], 5_000, 7, 1), reading(160, [1_210, 1_200], 5_000, 2_307, 101)
    assert line_of(before, now, [TOPIC], SINKS) == (
        "last 60 s: 2,400 read (40/s), 2,300 written to cdr.final, 100 rejected to cdr.dlq; lag 7,590"
    )


def test_it_tells_of_partitions_that_were_added_and_of_a_second_job() -> None:
    line = line_of(reading(0, [0], 0, 0, 0), reading(60, [0, None], 0, 0, 0, jobs=2), [TOPIC], SINKS)
    assert "; 1 partitions were added, and are read within a minute" in line
    assert "not read" not in line
    assert line.endswith("; 2 jobs of this group read cdr.raw.FR")


def test_it_tells_of_partitions_that_nobody_has_read_for_a_minute() -> None:
    assert line_of(reading(0, [0, None], 0, 0, 0), reading(60, [0, None], 0, 0, 0), [TOPIC], SINKS).endswith(
        "; 1 partitions are not read"
    )
    # Before its first checkpoint, a job has read none.
    assert "not read" not in line_of(
        reading(0, [None, None], 0, 0, 0), reading(60, [None, None], 0, 0, 0), [TOPIC], SINKS
    )


def test_it_tells_of_a_topic_that_cannot_be_seen() -> None:
    unseen = reading(60, [], 0, 0, 0)
    line = line_of(reading(0, [0], 0, 0, 0), unseen, [TOPIC], SINKS)
    assert line.endswith("; cdr.raw.FR cannot be seen: the topic is gone, or this user has no right to read it")
    assert "added" not in line_of(unseen, reading(120, [0], 0, 0, 0), [TOPIC], SINKS), "when it is seen again"
