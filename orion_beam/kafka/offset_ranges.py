"""Offset ranges: the offsets that partitions hold, look-up of offsets by time, and a bounded read of ranges."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported implicitly
    AdminClient,
    ListOffsetsResultInfo,
    OffsetSpec,
)

from orion_beam.errors import PrerequisiteError, UserError
from orion_beam.kafka.admin import admin_client, ask_offsets, cluster_metadata, require_among
from orion_beam.kafka.column_consumer import ColumnConsumer, Event, FetchedRecords, HeaderPair
from orion_beam.kafka.login import login_settings
from orion_beam.kafka.retry import DEADLINE_S, KafkaRefusedError, is_retriable, retried
from orion_beam.schemas.fields import LAST_TIME
from orion_beam.schemas.raw import RAW_MESSAGE_SCHEMA
from orion_beam.transforms.stage.batches import MAX_ROWS, batch_of, filter_rows

CLOCK_SKEW = timedelta(minutes=10)
"""Largest difference to expect between the clocks of Kafka's producers, and between theirs and ours."""

STALL_TIMEOUT_S = 60.0
"""Seconds without progress after which a bounded read gives up."""

READERS_GROUP = "orion-beam-ranges"
"""Group of consumers that read given offsets. librdkafka requires one, and asks for its coordinator, for which a user
needs DESCRIBE on the group. Nobody joins it, and nothing is committed."""

_POLL_S = 0.1
_GONE = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}
_HEADERS_TYPE = RAW_MESSAGE_SCHEMA.field("raw_headers").type
_TIMESTAMP_TYPE = RAW_MESSAGE_SCHEMA.field("source_timestamp").type
_LAST_TIMESTAMP_MS = round(LAST_TIME.timestamp() * 1000)

Advance = Callable[[int], None]
"""Callback that gets the number of offsets by which a read has advanced, including offsets without a record."""


class SourcePartition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        """Return the text `topic[partition]`."""
        return f"{self.topic}[{self.partition}]"


class OffsetRange(NamedTuple):
    """Offsets of a partition, from `low` to `high` - 1."""

    low: int
    high: int

    @property
    def offsets(self) -> int:
        """Number of offsets. There may be fewer records: transaction markers and compaction leave gaps."""
        return self.high - self.low


def offset_ranges(
    bootstrap_servers: str, topics: Iterable[str], *, committed_only: bool = False, deadline_s: float = DEADLINE_S
) -> dict[SourcePartition, OffsetRange]:
    """Return the offsets that each partition of the topics holds.

    Args:
        bootstrap_servers: Brokers, `host:port,…`.
        topics: Names of the topics.
        committed_only: Stop before the first transaction that is still open, see `read_ranges`.
        deadline_s: Seconds to wait for the leaders of the partitions.

    Raises:
        PrerequisiteError: The broker cannot be reached, lacks a topic, or a partition has no leader at the deadline.
        KafkaRefusedError: The broker reports another error.
    """
    topics = list(topics)
    admin = admin_client(bootstrap_servers)
    known = cluster_metadata(admin, bootstrap_servers).topics
    require_among(known, bootstrap_servers, topics)
    parts = [SourcePartition(topic, partition) for topic in topics for partition in known[topic].partitions]
    level = IsolationLevel.READ_COMMITTED if committed_only else IsolationLevel.READ_UNCOMMITTED
    low, high = (
        list_offsets(admin, bootstrap_servers, parts, spec, level, deadline_s)
        for spec in (OffsetSpec.earliest(), OffsetSpec.latest())  # type: ignore[no-untyped-call]
    )
    return {part: OffsetRange(low[part].offset, high[part].offset) for part in parts}


def offsets_at(
    bootstrap_servers: str, held: Mapping[SourcePartition, OffsetRange], at: datetime
) -> dict[SourcePartition, int]:
    """Return the offset of each partition's first record with a Kafka timestamp of `at` or later.

    If there is no such record (an empty or quiet partition, or a future time), the result is the partition's end. So
    every record between the offsets of two times is older than the later time. If timestamps are out of order, such a
    record may be older than the earlier time as well, and a record that arrived after younger ones may be missed.

    Args:
        bootstrap_servers: Brokers, `host:port,…`.
        held: Offsets that each partition holds, see `offset_ranges`.
        at: Time with a time zone.

    Raises:
        PrerequisiteError: The broker cannot be reached, or a partition has no leader at the deadline.
        KafkaRefusedError: The broker reports another error.
    """
    milliseconds = round(at.timestamp() * 1000)
    if milliseconds <= 0:
        # Kafka takes negative numbers for something else: -1 is the end of a partition.
        return {part: within.low for part, within in held.items()}
    spec = OffsetSpec.for_timestamp(milliseconds)
    found = list_offsets(admin_client(bootstrap_servers), bootstrap_servers, list(held), spec)
    # The broker answers -1 if there is no such record. A record that has arrived since `held` is beyond its end.
    return {
        part: within.high if found[part].offset < 0 else min(max(found[part].offset, within.low), within.high)
        for part, within in held.items()
    }


def offsets_between(
    bootstrap_servers: str,
    held: Mapping[SourcePartition, OffsetRange],
    start: datetime | None,
    end: datetime | None,
) -> dict[SourcePartition, OffsetRange]:
    """Return the offsets of the times `[start, end)`, by Kafka timestamp; see `offsets_at`.

    None means no bound. It is not looked up by time, so a timestamp in the future cannot hide the records after it.
    """
    lows = {part: within.low for part, within in held.items()}
    highs = {part: within.high for part, within in held.items()}
    if start is not None:
        lows = offsets_at(bootstrap_servers, held, start)
    if end is not None:
        highs = offsets_at(bootstrap_servers, held, end)
    return {part: OffsetRange(lows[part], max(lows[part], highs[part])) for part in held}


def ends_ahead_of_now(
    bootstrap_servers: str,
    held: Mapping[SourcePartition, OffsetRange],
    ranges: Mapping[SourcePartition, OffsetRange],
) -> dict[SourcePartition, datetime]:
    """Return the partitions whose range ends at a record with a timestamp in the future, and that timestamp.

    Such a timestamp comes from a wrong clock. The records after it may be older than the requested end, but Kafka's
    time index does not show that.
    """
    ends = {part: OffsetRange(of.high, of.high + 1) for part, of in ranges.items() if of.high < held[part].high}
    if not ends:
        return {}
    latest = datetime.now(UTC) + CLOCK_SKEW
    found = {}
    for batch in read_ranges(bootstrap_servers, ends):
        for row in batch.select(["source_topic", "source_partition", "source_timestamp"]).to_pylist():
            if row["source_timestamp"] is not None and row["source_timestamp"] > latest:
                found[SourcePartition(row["source_topic"], row["source_partition"])] = row["source_timestamp"]
    return found


def early_end(part: SourcePartition, offset: int, timestamp: datetime) -> str:
    """Return a line for people about a partition that `ends_ahead_of_now` has found."""
    return (
        f"{part}: the record at offset {offset} has the timestamp {timestamp.isoformat(timespec='seconds')}, which is"
        " ahead of now; what lies behind it is left out, even if it is older than --to: --offsets reads it"
    )


def list_offsets(
    admin: AdminClient,
    bootstrap_servers: str,
    parts: Sequence[SourcePartition],
    spec: OffsetSpec,
    level: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    deadline_s: float = DEADLINE_S,
) -> dict[SourcePartition, ListOffsetsResultInfo]:
    """Return the offset that `spec` asks for of each partition, and its Kafka timestamp. The partitions must exist.

    Raises:
        PrerequisiteError: A partition has no leader at the deadline.
        KafkaRefusedError: The broker reports another error.
    """
    if not parts:
        return {}

    def ask(timeout_s: float) -> dict[SourcePartition, ListOffsetsResultInfo]:
        found = ask_offsets(admin, [TopicPartition(*part) for part in parts], spec, timeout_s, level)
        return {SourcePartition(of.topic, of.partition): of_it for of, of_it in found.items()}

    topics = ", ".join(sorted({part.topic for part in parts}))
    return retried(f"offsets of {topics}", bootstrap_servers, ask, topics_exist=True, deadline_s=deadline_s)


def committed_offsets(
    consumer: Consumer,
    bootstrap_servers: str,
    group_id: str,
    parts: Sequence[SourcePartition],
    deadline_s: float = DEADLINE_S,
) -> dict[SourcePartition, int]:
    """Return the committed offset of a consumer's group for each partition that has one.

    A Consumer asks, since an AdminClient crashes the process while the broker creates its offsets topic. The first
    request about any group creates that topic.

    Raises:
        PrerequisiteError: No coordinator answers before the deadline.
        KafkaRefusedError: The broker reports another error.
    """
    if not parts:
        return {}

    def ask(timeout_s: float) -> dict[SourcePartition, int]:
        answers = consumer.committed([TopicPartition(*part) for part in parts], timeout=timeout_s)
        for answer in answers:
            if answer.error is not None:
                raise KafkaException(answer.error)
        return {SourcePartition(of.topic, of.partition): of.offset for of in answers if of.offset >= 0}

    what = f"what group {group_id} has committed"
    return retried(what, bootstrap_servers, ask, topics_exist=True, deadline_s=deadline_s)


def group_offsets(
    bootstrap_servers: str, group_id: str, parts: Sequence[SourcePartition]
) -> dict[SourcePartition, int]:
    """Return the committed offset of a group for each partition that has one, over a connection of its own.

    Raises:
        PrerequisiteError: No coordinator answers before the deadline.
        KafkaRefusedError: The broker reports another error.
    """
    consumer = Consumer(
        login_settings()
        | {
            "bootstrap.servers": bootstrap_servers,
            "group.id": group_id,
            "log_level": 0,
            # The call's own result says what went wrong.
            "error_cb": lambda _: None,
        }
    )
    try:
        return committed_offsets(consumer, bootstrap_servers, group_id, parts)
    finally:
        consumer.close()


def read_ranges(
    bootstrap_servers: str,
    ranges: Mapping[SourcePartition, OffsetRange],
    *,
    max_rows: int = MAX_ROWS,
    committed_only: bool = False,
    advance: Advance | None = None,
) -> Iterator[pa.RecordBatch]:
    """Read exactly the records of offset ranges, and end.

    The read belongs to no consumer group and commits nothing. It skips offsets without a record (transaction markers,
    records that compaction has removed), also at the ends of a range.

    Args:
        bootstrap_servers: Brokers, `host:port,…`.
        ranges: Offsets to read, by partition; the partition must hold them.
        max_rows: Maximum rows of a batch.
        committed_only: Skip records of aborted transactions (`read_committed`), as the stream does. The default reads
            them, as Kafka's consumers do by default.
        advance: Called after each batch with the number of offsets by which the read has advanced.

    Yields:
        Batches of `raw.RAW_MESSAGE_SCHEMA`, each of one topic. The rows of a partition are in order. The timestamp is
        null for a record without one.

    Raises:
        UserError: A partition no longer, or not yet, holds the offsets; names the partition and the offsets.
        PrerequisiteError: The broker hands out nothing for STALL_TIMEOUT_S.
        KafkaRefusedError: The broker reports another error.
    """
    wanted = {part: offsets for part, offsets in ranges.items() if offsets.offsets > 0}
    by_topic: dict[str, _TopicRead] = {}
    for part, offsets in wanted.items():
        by_topic.setdefault(part.topic, _TopicRead(part.topic)).add(part.partition, offsets)
    with ColumnConsumer(_reader_config(bootstrap_servers, committed_only)) as consumer:
        consumer.assign({part: offsets.low for part, offsets in wanted.items()})
        least, give_up = sum(read.left for read in by_topic.values()), time.monotonic() + STALL_TIMEOUT_S
        while left := sum(read.left for read in by_topic.values()):
            # The call asks for no more than is left, so it returns with the last record, not after the timeout.
            fetched = consumer.consume(min(max_rows, left), _POLL_S)
            if left < least:
                least, give_up = left, time.monotonic() + STALL_TIMEOUT_S
            elif time.monotonic() > give_up and not fetched.records:
                slow = next(read for read in by_topic.values() if read.left)
                raise PrerequisiteError(f"Kafka at {bootstrap_servers} returns no more records of {slow}: is it up?")
            for topic, read in by_topic.items():
                before = read.left
                if topic in fetched.records:
                    batch = read.take(fetched.records[topic])
                    if batch.num_rows:
                        yield batch
                # The event of a partition's end follows its records, so it is handled after them.
                for event in fetched.events:
                    read.note(event)
                if finished := read.pop_finished():
                    consumer.unassign([(topic, partition) for partition in finished])
                if advance is not None:
                    advance(before - read.left)


def _reader_config(bootstrap_servers: str, committed_only: bool) -> dict[str, Any]:
    return login_settings() | {
        "bootstrap.servers": bootstrap_servers,
        "group.id": READERS_GROUP,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # Reports a partition's end even if its last offsets hold no record, so that the read does not wait for one.
        "enable.partition.eof": True,
        # Missing offsets raise an error; the read never jumps to other offsets.
        "auto.offset.reset": "error",
        "isolation.level": "read_committed" if committed_only else "read_uncommitted",
        "fetch.wait.max.ms": 50,
        # Small, so that a batch has records of many partitions, as the stream's frames have; clients.py says why.
        "fetch.message.max.bytes": 256 << 10,
        # Limits the memory of the records that wait: each partition has a queue, and several are read at a time.
        "queued.max.messages.kbytes": 16 << 10,
        "log_level": 0,
    }


def refuse_group(error: KafkaError) -> None:
    """Raise if an error says that this user may not look for the coordinator of READERS_GROUP.

    Raises:
        KafkaRefusedError: It says so; names the right.
    """
    if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
        raise KafkaRefusedError(f"Kafka refuses to be read: this user may not DESCRIBE group {READERS_GROUP}", error)


class _TopicRead:
    """Progress of the read of one topic's ranges: the next offset and the end of each partition."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._next: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._end: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._open: set[int] = set()

    def __str__(self) -> str:
        partition = min(self._open)
        return f"{self._topic}[{partition}] from offset {self._next[partition]} on"

    @property
    def left(self) -> int:
        """Number of offsets that are still to be read."""
        return int((self._end - self._next).sum())

    def add(self, partition: int, offsets: OffsetRange) -> None:
        """Add a partition's range to the read."""
        missing = partition + 1 - len(self._next)
        if missing > 0:
            self._next, self._end = (np.pad(each, (0, missing)) for each in (self._next, self._end))
        self._next[partition], self._end[partition] = offsets
        self._open.add(partition)

    def take(self, records: FetchedRecords) -> pa.RecordBatch:
        """Return the records that are within the ranges, and advance behind them."""
        partitions, offsets = records.partitions, records.offsets
        is_wanted = (offsets >= self._next[partitions]) & (offsets < self._end[partitions])
        # For repeated indexes numpy keeps the last assignment: the last record of a partition has its highest offset.
        self._next[partitions] = np.minimum(offsets + 1, self._end[partitions])
        return filter_rows(_batch_of(records, self._topic), is_wanted)

    def pop_finished(self) -> list[int]:
        """Return the partitions that have been read to their end since the last call."""
        finished = [partition for partition in self._open if self._next[partition] >= self._end[partition]]
        self._open.difference_update(finished)
        return finished

    def note(self, event: Event) -> None:
        """Handle the end of a partition, or raise on a permanent error; ignore events of other topics."""
        error, topic, partition, reached = event
        is_end = error.code() == KafkaError._PARTITION_EOF
        # librdkafka continues by itself after a transient error.
        if topic not in (self._topic, "") or is_retriable(error) or (is_end and partition not in self._open):
            return
        refuse_group(error)
        where = SourcePartition(self._topic, partition)
        refusal = KafkaRefusedError(f"Kafka refuses to read {where}: {error.str()}", error)
        if partition not in self._open:
            raise refusal
        start, end = int(self._next[partition]), int(self._end[partition])
        if is_end:
            if reached < end:
                raise UserError(f"{where} ends at offset {reached}, and was to be read up to {end}")
            self._next[partition] = end
        elif error.code() in _GONE:
            raise UserError(f"{where} no longer holds the records to read from offset {start} on")
        else:
            raise refusal


def _batch_of(records: FetchedRecords, topic: str) -> pa.RecordBatch:
    count, stamps = len(records.offsets), records.timestamps
    # A negative timestamp becomes null. A time after LAST_TIME becomes LAST_TIME, which is just as implausible.
    is_none, stamps = stamps < 0, np.minimum(stamps, _LAST_TIMESTAMP_MS)
    columns = {
        "raw_key": records.keys,
        "raw_value": records.values,
        "raw_headers": _no_headers(count) if records.headers is None else _headers_of(records.headers),
        "source_topic": pa.repeat(pa.scalar(topic, pa.string()), count),
        "source_partition": pa.array(records.partitions, pa.int32()),
        "source_offset": pa.array(records.offsets, pa.int64()),
        "source_timestamp": pa.array(stamps, pa.int64(), mask=is_none if is_none.any() else None).cast(_TIMESTAMP_TYPE),
    }
    return batch_of(columns, RAW_MESSAGE_SCHEMA)


def _no_headers(count: int) -> pa.ListArray:
    offsets = pa.py_buffer(bytes(4 * (count + 1)))
    return pa.Array.from_buffers(
        _HEADERS_TYPE, count, [None, offsets], children=[pa.array([], _HEADERS_TYPE.value_type)]
    )


def _headers_of(headers: list[list[HeaderPair]]) -> pa.ListArray:
    names = pa.array([name for each in headers for name, _ in each], pa.string())
    values = pa.array([value for each in headers for _, value in each], pa.binary())
    starts = np.zeros(len(headers) + 1, np.int32)
    np.cumsum([len(each) for each in headers], out=starts[1:])
    pairs = pa.StructArray.from_arrays([names, values], fields=list(_HEADERS_TYPE.value_type))
    return pa.ListArray.from_arrays(pa.array(starts), pairs, type=_HEADERS_TYPE)
