"""One look at Kafka: each raw partition's offsets, commit and lag, the next record's time, and the jobs that read.

It costs the brokers one request for metadata, two per broker for offsets, one for the group's commits, two per broker
for the jobs that are alive, and a fetch for each partition whose commit has moved.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported implicitly
    ClusterMetadata,
    ConfigResource,
    OffsetSpec,
    ResourceType,
)

from orion_beam.errors import UserError
from orion_beam.kafka.admin import admin_client
from orion_beam.kafka.lease import Lease
from orion_beam.kafka.login import login_settings
from orion_beam.kafka.offset_ranges import OffsetRange, SourcePartition, committed_offsets, list_offsets
from orion_beam.kafka.retry import retried

READING_TIMEOUT_S = 5.0
"""Time that a broker may take for one answer before it counts as down; it is short because the next look comes soon."""

_RETENTION_REFRESH_S = 300.0
_FETCH_BYTES = 16_384
"""Bytes to fetch for the timestamp of one record; a broker sends at least one batch of records, however large."""


class PartitionReading(NamedTuple):
    """State of a raw topic's partition at one moment.

    Attributes:
        held: Offsets that the partition holds.
        committed: Offset where the group goes on. None: it has committed nothing and starts with the oldest record.
        next_timestamp_ms: Kafka timestamp of the first unprocessed record. None: there is no such record, or it has no
            timestamp.
        next_offset: Offset of that record, or the first offset that may hold one. None: it was not looked for.
    """

    held: OffsetRange
    committed: int | None
    next_timestamp_ms: int | None = None
    next_offset: int | None = None

    @property
    def position(self) -> int:
        """The first unprocessed offset."""
        return max(self.held.low, self.held.low if self.committed is None else self.committed)

    @property
    def lag(self) -> int:
        """Number of unprocessed records; offsets before `next_offset` hold transaction markers and do not count."""
        return max(0, self.held.high - max(self.position, self.next_offset or 0))


@dataclass(frozen=True)
class Reading:
    """State of Kafka at one moment.

    Attributes:
        at_s: Time, in seconds since the epoch.
        brokers: Number of brokers.
        under_replicated: Partitions of all topics with fewer replicas in sync than they should have.
        leaderless: Partitions of all topics that have no leader.
        partitions: State of each partition of the raw topics.
        retention_ms: Retention of each raw topic, if it is read. None: records are kept for ever.
        written: Sum of the end offsets of each topic that jobs write to.
        jobs: Number of jobs of the group that read each topic. None: the number is not known.
    """

    at_s: float
    brokers: int
    under_replicated: int
    leaderless: int
    partitions: Mapping[SourcePartition, PartitionReading]
    retention_ms: Mapping[str, int | None]
    written: Mapping[str, int] = field(default_factory=dict)
    jobs: Mapping[str, int] | None = None


class _Next(NamedTuple):
    """The first record at or after an offset.

    Attributes:
        position: The offset.
        offset: Offset of that record; without one, the end that was reached.
        timestamp_ms: Kafka timestamp of the record.
        is_record: Whether there is a record.
    """

    position: int
    offset: int
    timestamp_ms: int | None
    is_record: bool

    def answers(self, position: int, high: int) -> bool:
        """Return whether this still says what lies between two offsets."""
        return self.position == position and (self.is_record or self.offset >= high)


class KafkaReader:
    """Reads the state of raw topics and of one group's commits over connections that it keeps.

    It never joins the group and commits nothing. After an outage it finds the brokers again by itself.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        group_id: str,
        topics: Iterable[str],
        sinks: Iterable[str] = (),
        *,
        retention: bool = True,
    ) -> None:
        """Prepare clients for a group's progress on `topics` and the ends of `sinks`, the topics that it writes to.

        Topics that do not exist (yet) are left out of readings.

        Args:
            bootstrap_servers: The brokers.
            group_id: Consumer group whose commits are read.
            topics: Topics that the group reads.
            sinks: Topics that its jobs write to.
            retention: Whether to read the retention of topics, for which a job itself has no right.
        """
        self._bootstrap_servers = bootstrap_servers
        self._group_id = group_id
        self._topics = tuple(topics)
        self._sinks = tuple(sinks)
        self._admin = admin_client(bootstrap_servers)
        self._lease = Lease(bootstrap_servers, group_id)
        self._consumer = Consumer(
            login_settings()
            | {
                "bootstrap.servers": bootstrap_servers,
                "group.id": group_id,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "fetch.message.max.bytes": _FETCH_BYTES,
                "queued.min.messages": 1,
                # After a redrive the last offset is a transaction marker, so there is no record to wait for.
                "enable.partition.eof": True,
                # By default, a partition pauses for a second when its one message is queued or its batch was cut off.
                "fetch.queue.backoff.ms": 10,
                "fetch.error.backoff.ms": 10,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
                "error_cb": lambda _: None,
            }
        )
        self._ranges: dict[SourcePartition, OffsetRange] = {}
        self._next: dict[SourcePartition, _Next] = {}
        self._has_retention = retention
        self._retention_ms: dict[str, int | None] = {}
        self._retention_read_s = float("-inf")

    def read(self) -> Reading:
        """Look once.

        Nobody can say what a partition without a leader holds, so the last known offsets stand for it.

        Raises:
            UserError: no broker answers within READING_TIMEOUT_S, or one reports an error.
        """
        servers = self._bootstrap_servers
        metadata = retried(
            "its topics", servers, lambda s: self._admin.list_topics(timeout=s), deadline_s=READING_TIMEOUT_S
        )
        sources, sinks = (_partitions_of(metadata, topics) for topics in (self._topics, self._sinks))
        led = [part for part in sources + sinks if metadata.topics[part.topic].partitions[part.partition].leader >= 0]
        # Commits are read before the end offsets, so that a commit is never beyond the end.
        committed = committed_offsets(self._consumer, servers, self._group_id, sources, READING_TIMEOUT_S)
        low = self._offsets(led, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        high = self._offsets(led, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        self._ranges |= {part: OffsetRange(low[part], high[part]) for part in led}
        partitions = {
            source: PartitionReading(self._ranges[source], committed.get(source))
            for source in sources
            if source in self._ranges
        }
        if self._has_retention:
            self._refresh_retention(list(dict.fromkeys(source.topic for source in sources)))
        lagging = {source: part for source, part in partitions.items() if part.lag}
        self._read_next({source: part for source, part in lagging.items() if source in high})
        for source, part in lagging.items():
            found = self._next.get(source)
            if found is not None and found.position == part.position:
                is_in = found.is_record and found.offset < part.held.high
                partitions[source] = part._replace(
                    next_offset=found.offset, next_timestamp_ms=found.timestamp_ms if is_in else None
                )
        written: Counter[str] = Counter()
        for sink in sinks:
            if sink in self._ranges:
                written[sink.topic] += self._ranges[sink].high
        return Reading(
            time.time(),
            len(metadata.brokers),
            *_health(metadata),
            partitions,
            dict(self._retention_ms),
            written,
            self._jobs(),
        )

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()

    def _jobs(self) -> dict[str, int] | None:
        try:
            holders = self._lease.holders(READING_TIMEOUT_S)
        except UserError:
            return None
        return {topic: len({one.job for one in holders if one.topic == topic}) for topic in self._topics}

    def _offsets(self, sources: list[SourcePartition], spec: OffsetSpec) -> dict[SourcePartition, int]:
        found = list_offsets(self._admin, self._bootstrap_servers, sources, spec, deadline_s=READING_TIMEOUT_S)
        return {source: of_it.offset for source, of_it in found.items()}

    def _refresh_retention(self, topics: list[str]) -> None:
        if (
            time.monotonic() - self._retention_read_s < _RETENTION_REFRESH_S
            and set(topics) <= self._retention_ms.keys()
        ):
            return
        resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]

        def ask(timeout_s: float) -> None:
            answers = self._admin.describe_configs(resources, request_timeout=timeout_s)
            for resource, answer in answers.items():
                milliseconds = int(answer.result()["retention.ms"].value)
                self._retention_ms[resource.name] = milliseconds if milliseconds >= 0 else None

        if resources:
            retried(
                "how long topics keep records",
                self._bootstrap_servers,
                ask,
                topics_exist=True,
                deadline_s=READING_TIMEOUT_S,
            )
        self._retention_read_s = time.monotonic()

    def _read_next(self, lagging: Mapping[SourcePartition, PartitionReading]) -> None:
        """Find the first record from each partition's position on, and its timestamp, unless they are known."""
        wanted: dict[SourcePartition, int] = {}
        for source, part in lagging.items():
            known = self._next.get(source)
            if known is None or not known.answers(part.position, part.held.high):
                wanted[source] = part.position
        if not wanted:
            return
        assigned = [TopicPartition(*source, offset) for source, offset in wanted.items()]
        self._consumer.assign(assigned)
        give_up = time.monotonic() + READING_TIMEOUT_S
        try:
            while wanted and time.monotonic() < give_up:
                for message in self._consumer.consume(1, timeout=0.5):
                    self._note(message, wanted)
        finally:
            with suppress(KafkaException):
                # A partition stays paused even in a later assignment.
                self._consumer.resume(assigned)
                self._consumer.unassign()

    def _note(self, message: Message, wanted: dict[SourcePartition, int]) -> None:
        error = message.error()
        is_end = error is not None and error.code() == KafkaError._PARTITION_EOF
        source = SourcePartition(message.topic() or "", message.partition() or 0)
        if source not in wanted or (error is not None and not is_end):
            return
        kind, timestamp_ms = (0, None) if is_end else message.timestamp()
        # After a transaction's marker the next record has a higher offset than the position, but belongs to it.
        self._next[source] = _Next(
            wanted.pop(source), message.offset() or 0, timestamp_ms if kind else None, is_record=not is_end
        )
        # One record per partition is enough.
        self._consumer.pause([TopicPartition(*source)])


def _partitions_of(metadata: ClusterMetadata, topics: Iterable[str]) -> list[SourcePartition]:
    return [
        SourcePartition(topic, partition)
        for topic in topics
        if topic in metadata.topics
        for partition in metadata.topics[topic].partitions
    ]


def _health(metadata: ClusterMetadata) -> tuple[int, int]:
    """Return how many partitions are under-replicated, and how many have no leader."""
    parts = [part for topic in metadata.topics.values() for part in topic.partitions.values()]
    return sum(len(part.isrs) < len(part.replicas) for part in parts), sum(part.leader < 0 for part in parts)
