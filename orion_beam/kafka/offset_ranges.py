"""Offset ranges: which offsets partitions hold or held at some time, and a bounded read of exactly those wanted."""

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
"""How far the clocks of those who write to Kafka may differ from one another, and from ours."""

STALL_TIMEOUT_S = 60.0
"""How long a broker may hand out nothing before a bounded read gives up."""

_POLL_S = 0.1
_GONE = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}
_HEADERS_TYPE = RAW_MESSAGE_SCHEMA.field("raw_headers").type
_TIMESTAMP_TYPE = RAW_MESSAGE_SCHEMA.field("source_timestamp").type
_LAST_TIMESTAMP_MS = round(LAST_TIME.timestamp() * 1000)

Advance = Callable[[int], None]
"""Told how many offsets further a read is: of a range all, also those that hold no record (any more)."""


class SourcePartition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        """Return it as `topic[partition]`."""
        return f"{self.topic}[{self.partition}]"


class OffsetRange(NamedTuple):
    """Offsets of a partition, from `low` to `high` - 1."""

    low: int
    high: int

    @property
    def offsets(self) -> int:
        """How many there are. Records may be fewer: transaction markers and compaction leave gaps."""
        return self.high - self.low


def offset_ranges(
    bootstrap_servers: str, topics: Iterable[str], *, committed_only: bool = False, deadline_s: float = DEADLINE_S
) -> dict[SourcePartition, OffsetRange]:
    """Return the offsets that each partition of the topics holds.

    Args:
        bootstrap_servers: the brokers.
        topics: their names.
        committed_only: up to the first transaction that is still open, see `read_ranges`.
        deadline_s: how long leaders of the partitions are waited for.

    Raises:
        PrerequisiteError: the broker cannot be reached, lacks a topic, or nobody leads it before the deadline.
        KafkaRefusedError: the broker reports another error.
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

    Where there is none (an empty or quiet partition, or a time to come) it is the end of what the partition holds. So
    between the offsets at two times, every record is older than the later time. Where timestamps are out of order, a
    record may be older than the earlier time as well, and one that arrived behind younger ones may be left out.

    Args:
        bootstrap_servers: the brokers.
        held: what each partition holds, see `offset_ranges`.
        at: a time with a zone.

    Raises:
        PrerequisiteError: the broker cannot be reached, or nobody leads a partition before the deadline.
        KafkaRefusedError: the broker reports another error.
    """
    spec = OffsetSpec.for_timestamp(round(at.timestamp() * 1000))
    found = list_offsets(admin_client(bootstrap_servers), bootstrap_servers, list(held), spec)
    # The broker answers -1 for none, and a record that has come since `held` was asked for lies beyond it.
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
    """Return the offsets of `[start, end)` by Kafka timestamp, see `offsets_at`.

    None has no bound: it is not looked for by time, so no timestamp that is ahead of now can hide what lies behind it.
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
    """Return the partitions whose range ends at a record with a timestamp ahead of now, and that timestamp.

    A wrong clock made it. What lies behind it may be older than the end that was asked for, and Kafka's index does not
    say so.
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
    """Return, for people, what `ends_ahead_of_now` has found."""
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
    """Return an offset of each partition, and its Kafka timestamp. The partitions must be there.

    Raises:
        PrerequisiteError: nobody leads a partition before the deadline.
        KafkaRefusedError: the broker reports another error.
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
    """Return the offsets at which a consumer's group goes on, of those partitions of which it has committed any.

    Not by an AdminClient: one that asks a broker whose topic of offsets is just being created crashes the process. It
    is created by the first question about any group.

    Raises:
        PrerequisiteError: no coordinator answers before the deadline.
        KafkaRefusedError: the broker reports another error.
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


def read_ranges(
    bootstrap_servers: str,
    ranges: Mapping[SourcePartition, OffsetRange],
    *,
    max_rows: int = MAX_ROWS,
    committed_only: bool = False,
    advance: Advance | None = None,
) -> Iterator[pa.RecordBatch]:
    """Read exactly the records of these offsets, and end.

    It belongs to no consumer group and commits nothing. Offsets without a record (transaction markers, records that
    compaction has removed) are passed over, wherever in a range they are.

    Args:
        bootstrap_servers: the brokers.
        ranges: the offsets to read, by partition; they must lie within what the partition holds.
        max_rows: rows of a batch at most.
        committed_only: leave out records of transactions that were aborted (`read_committed`), as the stream does. The
            default reads them, as Kafka's consumers do by default.
        advance: told, after each batch has been taken, how many offsets the read has got on.

    Yields:
        Batches of `raw.RAW_MESSAGE_SCHEMA`, each of one topic; the rows of a partition are in order. A record
        without a timestamp has a null one.

    Raises:
        UserError: a partition no longer, or not yet, holds the offsets; names it and them.
        PrerequisiteError: the broker hands out nothing for STALL_TIMEOUT_S.
        KafkaRefusedError: the broker reports another error.
    """
    wanted = {part: offsets for part, offsets in ranges.items() if offsets.offsets > 0}
    by_topic: dict[str, _TopicRead] = {}
    for part, offsets in wanted.items():
        by_topic.setdefault(part.topic, _TopicRead(part.topic)).add(part.partition, offsets)
    with ColumnConsumer(_reader_config(bootstrap_servers, committed_only)) as consumer:
        consumer.assign({part: offsets.low for part, offsets in wanted.items()})
        least, give_up = sum(read.left for read in by_topic.values()), time.monotonic() + STALL_TIMEOUT_S
        while left := sum(read.left for read in by_topic.values()):
            # Asked for no more than there is, it comes back with the last record, and not when the time is up.
            fetched = consumer.consume(min(max_rows, left), _POLL_S)
            if left < least:
                least, give_up = left, time.monotonic() + STALL_TIMEOUT_S
            elif time.monotonic() > give_up and not fetched.records:
                slow = next(read for read in by_topic.values() if read.left)
                raise PrerequisiteError(f"Kafka at {bootstrap_servers} hands out no more of {slow}: is it up?")
            for topic, read in by_topic.items():
                before = read.left
                if topic in fetched.records:
                    batch = read.take(fetched.records[topic])
                    if batch.num_rows:
                        yield batch
                # The end of a partition comes behind its records.
                for event in fetched.events:
                    read.note(event)
                if finished := read.pop_finished():
                    consumer.unassign([(topic, partition) for partition in finished])
                if advance is not None:
                    advance(before - read.left)


def _reader_config(bootstrap_servers: str, committed_only: bool) -> dict[str, Any]:
    return login_settings() | {
        "bootstrap.servers": bootstrap_servers,
        # librdkafka wants a name; without subscription and commits the broker never hears of the group.
        "group.id": "orion-beam-ranges",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # The end of a partition is told even where the last offsets hold no record, so that nobody waits for one.
        "enable.partition.eof": True,
        # Offsets that are gone are an error, not a reason to go on elsewhere.
        "auto.offset.reset": "error",
        "isolation.level": "read_committed" if committed_only else "read_uncommitted",
        "fetch.wait.max.ms": 50,
        # Small, so that a batch has records of many partitions, as the stream's frames have: see clients.py.
        "fetch.message.max.bytes": 256 << 10,
        # A partition's queue is this long at most: records wait in memory, and several partitions are read at a time.
        "queued.max.messages.kbytes": 16 << 10,
        "log_level": 0,
    }


class _TopicRead:
    """How far the read of one topic's ranges has come: the next offset and the end, by partition."""

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
        """Offsets that are still to be read."""
        return int((self._end - self._next).sum())

    def add(self, partition: int, offsets: OffsetRange) -> None:
        """Want these offsets of a partition."""
        missing = partition + 1 - len(self._next)
        if missing > 0:
            self._next, self._end = (np.pad(each, (0, missing)) for each in (self._next, self._end))
        self._next[partition], self._end[partition] = offsets
        self._open.add(partition)

    def take(self, records: FetchedRecords) -> pa.RecordBatch:
        """Return those of the records that are wanted."""
        partitions, offsets = records.partitions, records.offsets
        is_wanted = (offsets >= self._next[partitions]) & (offsets < self._end[partitions])
        # Of several with one index, numpy keeps the last, and the last of a partition is its highest.
        self._next[partitions] = np.minimum(offsets + 1, self._end[partitions])
        return filter_rows(_batch_of(records, self._topic), is_wanted)

    def pop_finished(self) -> list[int]:
        """Return the partitions that have come to their end since the last call."""
        finished = [partition for partition in self._open if self._next[partition] >= self._end[partition]]
        self._open.difference_update(finished)
        return finished

    def note(self, event: Event) -> None:
        """Take in the end of a partition; raise on an error that stays, unless it is of another topic's."""
        error, topic, partition, reached = event
        is_end = error.code() == KafkaError._PARTITION_EOF
        # librdkafka goes on by itself behind an error that passes.
        if topic not in (self._topic, "") or is_retriable(error) or (is_end and partition not in self._open):
            return
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
            raise UserError(f"{where} holds no longer what was to be read from offset {start} on")
        else:
            raise refusal


def _batch_of(records: FetchedRecords, topic: str) -> pa.RecordBatch:
    count, stamps = len(records.offsets), records.timestamps
    # What is negative is none; what no calendar of four digits holds becomes its last, which is as little believed.
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
