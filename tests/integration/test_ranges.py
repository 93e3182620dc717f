"""The bounded read on a real Kafka: exactly the offsets that are wanted, whatever lies in them, and then its end."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.cimpl import NewTopic

from orion_beam.errors import UserError
from orion_beam.kafka.offset_ranges import OffsetRange, SourcePartition, offset_ranges, offsets_at, read_ranges
from orion_beam.runners.local.kafka import LocalKafka
from orion_beam.schemas.raw import RAW_MESSAGE_SCHEMA
from tests.integration.harness import await_until, placed

pytestmark = pytest.mark.integration

NOON = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)


class Broker:
    """Topics of any make, and what is read of them."""

    def __init__(self, servers: str) -> None:
        self.servers = servers
        self.admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})

    def create(self, topic: str, partitions: int = 1, **settings: str) -> SourcePartition:
        config = {name.replace("_", "."): value for name, value in settings.items()}
        self.admin.create_topics([NewTopic(topic, partitions, 1, config=config)])[topic].result()
        return SourcePartition(topic, 0)

    def send(self, part: SourcePartition, *values: str, key: str | None = None, at: datetime = NOON) -> None:
        producer = Producer({"bootstrap.servers": self.servers, "log_level": 0})
        self._send(producer, part, values, key, at)
        assert producer.flush(600) == 0

    def transact(self, part: SourcePartition, *values: str, commit: bool) -> None:
        producer = Producer({"bootstrap.servers": self.servers, "transactional.id": f"{part}-{values}"})
        producer.init_transactions()
        producer.begin_transaction()
        self._send(producer, part, values, None, NOON)
        if commit:
            producer.commit_transaction()
        else:
            # An abort also forgets what has not left yet, and these are to be on the broker.
            assert producer.flush(600) == 0
            producer.abort_transaction()

    def delete_before(self, part: SourcePartition, offset: int) -> None:
        (deleted,) = self.admin.delete_records([TopicPartition(*part, offset)]).values()
        deleted.result()

    def compact_at_once(self) -> None:
        frequent = ConfigEntry("log.cleaner.backoff.ms", "50", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.BROKER, "1", incremental_configs=[frequent])
        (altered,) = self.admin.incremental_alter_configs([resource]).values()
        altered.result()

    def held(self, part: SourcePartition) -> OffsetRange:
        return offset_ranges(self.servers, [part.topic])[part]

    def read(self, part: SourcePartition, **options: Any) -> list[str]:
        return values_of(read_ranges(self.servers, {part: self.held(part)}, **options))

    @staticmethod
    def _send(producer: Producer, part: SourcePartition, values: Any, key: str | None, at: datetime) -> None:
        for value in values:
            producer.produce(part.topic, value, key, part.partition, timestamp=round(at.timestamp() * 1000))


def values_of(batches: Iterator[pa.RecordBatch]) -> list[str]:
    return [value.decode() for batch in batches for value in batch.column("raw_value").to_pylist()]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with LocalKafka(tmp_path_factory.mktemp("ranges") / "kafka") as kafka:
        yield Broker(kafka.bootstrap_servers)


def test_a_range_is_read_with_all_that_its_messages_have_and_nothing_beyond(broker: Broker) -> None:
    part = broker.create("whole", partitions=3)
    producer = Producer({"bootstrap.servers": broker.servers, "log_level": 0})
    at = round(NOON.timestamp() * 1000)
    producer.produce("whole", b"0", partition=0, timestamp=at)
    producer.produce("whole", b"1", b"key", 0, timestamp=at + 1, headers=[("a", b"x"), ("a", None), ("b", b"\xff")])
    producer.produce("whole", None, b"key", 0, timestamp=at + 2)
    producer.produce("whole", b"3", b"key", 0, timestamp=at + 3)
    assert producer.flush(600) == 0

    (batch,) = read_ranges(broker.servers, {part: OffsetRange(1, 3)})

    assert batch.schema.equals(RAW_MESSAGE_SCHEMA)
    batch.validate(full=True)
    common = {"raw_key": b"key", "source_topic": "whole", "source_partition": 0}
    headers = [{"key": "a", "value": b"x"}, {"key": "a", "value": None}, {"key": "b", "value": b"\xff"}]
    second, third = NOON + timedelta(milliseconds=1), NOON + timedelta(milliseconds=2)
    assert batch.to_pylist() == [
        {"raw_value": b"1", "raw_headers": headers, "source_offset": 1, "source_timestamp": second, **common},
        {"raw_value": None, "raw_headers": [], "source_offset": 2, "source_timestamp": third, **common},
    ]


def test_partitions_of_several_topics_are_read_at_once_each_in_order(broker: Broker) -> None:
    parts = [broker.create(topic, partitions=2) for topic in ("left", "right")]
    parts += [SourcePartition(part.topic, 1) for part in parts]
    for part in parts:
        broker.send(part, *(f"{part}{number}" for number in range(500)))
    held = offset_ranges(broker.servers, ["left", "right"])
    got_on: list[int] = []

    batches = list(read_ranges(broker.servers, held, max_rows=64, advance=got_on.append))

    assert all(len(set(batch.column("source_topic").to_pylist())) == 1 for batch in batches)
    assert max(batch.num_rows for batch in batches) <= 64
    rows = [row for batch in batches for row in batch.to_pylist()]
    for part in parts:
        offsets = [row["source_offset"] for row in rows if (row["source_topic"], row["source_partition"]) == part]
        assert offsets == list(range(500))
    assert sum(got_on) == 2000


def test_empty_and_deleted_partitions_are_at_their_end_at_once(broker: Broker) -> None:
    part = broker.create("empty")
    assert broker.read(part) == []
    broker.send(part, "a", "b")
    broker.delete_before(part, 2)
    assert broker.held(part) == (2, 2)
    assert broker.read(part) == []


@pytest.mark.parametrize("commit", [True, False], ids=["committed", "aborted"])
def test_a_partition_that_ends_with_markers_or_aborted_records_is_read_to_its_end(broker: Broker, commit: bool) -> None:
    part = broker.create(f"transactions-{commit}")
    broker.send(part, "plain")
    broker.transact(part, "a", "b", commit=commit)
    assert broker.held(part) == (0, 4)  # the last offset is the marker's

    assert broker.read(part) == ["plain", "a", "b"]
    assert broker.read(part, committed_only=True) == (["plain", "a", "b"] if commit else ["plain"])
    assert values_of(read_ranges(broker.servers, {part: OffsetRange(3, 4)})) == []


def test_gaps_that_compaction_has_left_are_passed_over_within_a_range_and_at_its_ends(broker: Broker) -> None:
    broker.compact_at_once()
    part = broker.create("compacted", cleanup_policy="compact", segment_ms="1", min_cleanable_dirty_ratio="0.01")
    # Records more than a millisecond apart have a segment each.
    for number in range(6):
        broker.send(part, f"old-{number}", key="same", at=NOON + timedelta(seconds=number))
    broker.send(part, "other", key="other", at=NOON + timedelta(seconds=6))
    # The last segment is never compacted.
    broker.send(part, "last", key="last", at=NOON + timedelta(seconds=7))
    everything = {part: OffsetRange(0, 8)}
    await_until(
        lambda: values_of(read_ranges(broker.servers, everything)) == ["old-5", "other", "last"], 60, "compaction"
    )

    got_on: list[int] = []
    assert values_of(read_ranges(broker.servers, {part: OffsetRange(1, 5)}, advance=got_on.append)) == []
    assert sum(got_on) == 4
    assert values_of(read_ranges(broker.servers, {part: OffsetRange(2, 7)})) == ["old-5", "other"]


def test_offsets_that_are_gone_or_not_there_yet_are_named(broker: Broker) -> None:
    part = broker.create("short")
    broker.send(part, *"abcde")
    with pytest.raises(UserError, match=r"short\[0\] ends at offset 5, and was to be read up to 9"):
        list(read_ranges(broker.servers, {part: OffsetRange(3, 9)}))
    broker.delete_before(part, 3)
    with pytest.raises(UserError, match=r"short\[0\] no longer holds the records to read from offset 1 on"):
        list(read_ranges(broker.servers, {part: OffsetRange(1, 5)}))
    assert broker.read(part) == ["d", "e"]


def test_a_time_is_the_offset_of_the_first_record_of_then_or_later(broker: Broker) -> None:
    part = broker.create("times", partitions=2)
    for minutes in (0, 10, 5, 20):
        broker.send(part, f"{minutes}", at=NOON + timedelta(minutes=minutes))
    held = offset_ranges(broker.servers, ["times"])

    def at(minutes: float) -> int:
        offsets = offsets_at(broker.servers, held, NOON + timedelta(minutes=minutes))
        assert offsets[SourcePartition("times", 1)] == 0  # it is empty
        return offsets[part]

    # What is out of order (5, after 10) is found by its place, not by its time.
    assert [at(minutes) for minutes in (-60, 0, 5, 10, 15, 20, 21, 60 * 24 * 365)] == [0, 0, 1, 1, 3, 3, 4, 4]
    # To Kafka, -1 millisecond is the end.
    assert offsets_at(broker.servers, held, datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC))[part] == 0
    broker.delete_before(part, 2)
    held = offset_ranges(broker.servers, ["times"])
    assert [at(minutes) for minutes in (-60, 10, 15)] == [2, 3, 3]


def test_records_that_were_acknowledged_without_an_offset_are_found(broker: Broker) -> None:
    part = broker.create("acknowledged")
    broker.send(part, "a", "b", "c", "of another producer", "d")
    assert dict(placed(broker.servers, part, {0, 2}, {b"b": "first", b"d": "second"})) == {1: "first", 4: "second"}
