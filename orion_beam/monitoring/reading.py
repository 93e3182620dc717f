"""One look at Kafka: where each raw partition begins, ends and is read, how old the next record is, and who reads.

It costs the brokers one request for metadata, three for offsets a broker, one for the group's commits, two a broker for
the jobs that are alive, and a fetch for those partitions whose commit has moved.
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
"""How long brokers may take to answer one question before they count as down: the next look comes soon."""

_RETENTION_REFRESH_S = 300.0
_FETCH_BYTES = 16_384
"""Asked for to learn the time of one record; a broker sends one batch of records, however large, at least."""


class PartitionReading(NamedTuple):
    """A partition of a raw topic at one moment.

    Attributes:
        held: the offsets that it holds.
        committed: where the group goes on; None: it has committed nothing, and begins with what is there.
        next_timestamp_ms: Kafka's timestamp of the first record that is not processed; None: there is none, or it has
            no timestamp.
        next_offset: where that record is, or the first offset that may hold one; None: not looked for.
    """

    held: OffsetRange
    committed: int | None
    next_timestamp_ms: int | None = None
    next_offset: int | None = None

    @property
    def position(self) -> int:
        """The first offset that is not processed."""
        return max(self.held.low, self.held.low if self.committed is None else self.committed)

    @property
    def lag(self) -> int:
        """Records that are not processed. Offsets before the first of them hold none: transaction markers."""
        return max(0, self.held.high - max(self.position, self.next_offset or 0))


@dataclass(frozen=True)
class Reading:
    """What Kafka says at one moment.

    Attributes:
        at_s: when, in seconds since the epoch.
        brokers: how many there are.
        under_replicated: partitions, of all topics, with fewer replicas in sync than they have.
        leaderless: partitions, of all topics, that nobody leads.
        partitions: those of the raw topics.
        retention_ms: of each raw topic; None: for ever.
        written: the sum of the end offsets of each topic that jobs write to.
        jobs: how many jobs of the group read each topic now; None: it is not known.
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
    """What lies behind an offset.

    Attributes:
        position: the offset.
        offset: that of the first record from there on; without one, the end that was reached.
        timestamp_ms: of the record.
        is_record: whether there is one.
    """

    position: int
    offset: int
    timestamp_ms: int | None
    is_record: bool

    def answers(self, position: int, high: int) -> bool:
        """Return whether this says what lies between two offsets."""
        return self.position == position and (self.is_record or self.offset >= high)


class KafkaReader:
    """Looks at raw topics and at one group's commits, over connections that it keeps.

    It never joins the group and commits nothing. After an outage of the brokers it finds them again by itself.
    """

    def __init__(self, bootstrap_servers: str, group_id: str, topics: Iterable[str], sinks: Iterable[str] = ()) -> None:
        """Take whose progress on which topics is of interest, and what it writes to.

        Topics that do not exist (yet) are left out.
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
                # Behind a redrive the last offset is a transaction marker: there is no record to wait for.
                "enable.partition.eof": True,
                # By default a partition whose one message is queued, or whose batch was cut off, rests for a second.
                "fetch.queue.backoff.ms": 10,
                "fetch.error.backoff.ms": 10,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
                "error_cb": lambda _: None,
            }
        )
        self._next: dict[SourcePartition, _Next] = {}
        self._retention_ms: dict[str, int | None] = {}
        self._retention_read_s = float("-inf")

    def read(self) -> Reading:
        """Look once.

        Raises:
            UserError: no broker answers within TIMEOUT_S, or one reports an error.
        """
        servers = self._bootstrap_servers
        metadata = retried(
            "its topics", servers, lambda s: self._admin.list_topics(timeout=s), deadline_s=READING_TIMEOUT_S
        )
        sources, sinks = (_partitions_of(metadata, topics) for topics in (self._topics, self._sinks))
        # What is committed is asked for before the ends, so that it never lies behind them.
        committed = committed_offsets(self._consumer, servers, self._group_id, sources, READING_TIMEOUT_S)
        low = self._offsets(sources, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        high = self._offsets(sources + sinks, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        partitions = {
            source: PartitionReading(OffsetRange(low[source], high[source]), committed.get(source))
            for source in sources
        }
        self._refresh_retention(list(dict.fromkeys(source.topic for source in sources)))
        lagging = {source: part for source, part in partitions.items() if part.lag}
        self._read_next(lagging)
        for source, part in lagging.items():
            found = self._next.get(source)
            if found is not None and found.position == part.position:
                is_in = found.is_record and found.offset < part.held.high
                partitions[source] = part._replace(
                    next_offset=found.offset, next_timestamp_ms=found.timestamp_ms if is_in else None
                )
        written: Counter[str] = Counter()
        for sink in sinks:
            written[sink.topic] += high[sink]
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
        """Give up the connections."""
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
        """Learn where the first record from each partition's position on is, and its time, unless that is known."""
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
                # What is paused stays so beyond this assignment.
                self._consumer.resume(assigned)
                self._consumer.unassign()

    def _note(self, message: Message, wanted: dict[SourcePartition, int]) -> None:
        error = message.error()
        is_end = error is not None and error.code() == KafkaError._PARTITION_EOF
        source = SourcePartition(message.topic() or "", message.partition() or 0)
        if source not in wanted or (error is not None and not is_end):
            return
        kind, timestamp_ms = (0, None) if is_end else message.timestamp()
        # Behind a transaction the next record lies further on: it is that of this position.
        self._next[source] = _Next(
            wanted.pop(source), message.offset() or 0, timestamp_ms if kind else None, is_record=not is_end
        )
        # One is enough.
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
