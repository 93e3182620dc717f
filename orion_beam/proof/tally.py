"""Tally of a job's output records by their source: the basis of the proof that no record was lost.

A record on cdr.final or cdr.dlq names the raw topic, partition and offset that it was made from. `Tally` reads both
topics. For each source partition it keeps which offsets have come out, and how often. `orion_beam.proof.audit` compares
them with the offsets that the raw topics hold.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from orion_beam.errors import UserError
from orion_beam.kafka.login import login_settings
from orion_beam.kafka.offset_ranges import (
    READERS_GROUP,
    STALL_TIMEOUT_S,
    Advance,
    OffsetRange,
    SourcePartition,
    offset_ranges,
    refuse_group,
)
from orion_beam.kafka.retry import is_retriable
from orion_beam.proof.avro_tail import NO_TIMESTAMP
from orion_beam.proof.cdr_reader import CdrReader
from orion_beam.proof.conservation import ConservationReport, PartitionConservation
from orion_beam.proof.ledger import Ledger
from orion_beam.proof.sources import Sources
from orion_beam.schemas.dead_letter import LETTER_HEADERS
from orion_beam.topics.names import own_topics
from orion_beam.transforms.arrow.compiled import Offsets

_POLL_MESSAGES = 10_000
"""Maximum messages of a poll: enough to spread the cost of a call, and few enough to stay in the CPU's cache."""


@dataclass
class TallyCounts:
    """Counts of the records seen so far, including duplicates.

    Attributes:
        final: Number of records on cdr.final, by country.
        dead_letters: Number of records on cdr.dlq, by country and first code.
        foreign: Number of records that this product did not write, by topic.
        first_foreign: Partition and offset of the first foreign record, as text, by topic.
    """

    final: Counter[str] = field(default_factory=Counter)
    dead_letters: Counter[tuple[str, str]] = field(default_factory=Counter)
    foreign: Counter[str] = field(default_factory=Counter)
    first_foreign: dict[str, str] = field(default_factory=dict)

    def add(self, other: "TallyCounts") -> None:
        """Add the counts of other partitions."""
        self.final += other.final
        self.dead_letters += other.dead_letters
        self.foreign += other.foreign
        self.first_foreign = other.first_foreign | self.first_foreign


@dataclass
class Account:
    """Output records, by source.

    Attributes:
        ledgers: Ledger of each source partition of which a record has come out.
        counts: Counts of records.
    """

    ledgers: dict[SourcePartition, Ledger] = field(default_factory=dict)
    counts: TallyCounts = field(default_factory=TallyCounts)

    def ledger(self, source: SourcePartition) -> Ledger:
        """Return the ledger of a source partition; create it if there is none."""
        return self.ledgers.setdefault(source, Ledger())

    def add(self, other: "Account") -> None:
        """Add the account of other partitions of the output topics."""
        self.counts.add(other.counts)
        for source, ledger in other.ledgers.items():
            self.ledger(source).add(ledger)

    def accounted(self, topics: Iterable[str]) -> dict[str, int]:
        """Return the number of distinct source offsets of each raw topic that have come out."""
        accounted = dict.fromkeys(topics, 0)
        for source, ledger in self.ledgers.items():
            if source.topic in accounted:
                accounted[source.topic] += ledger.accounted
        return accounted

    def report(self, held: Mapping[SourcePartition, OffsetRange]) -> ConservationReport:
        """Compare the offsets that have come out with those that the source partitions hold.

        Args:
            held: Offsets of each partition of the raw topics, see `offset_ranges`. Older offsets, which retention has
                removed, are not counted.
        """
        return ConservationReport(
            tuple(
                PartitionConservation.of(source, offsets, self.ledgers.get(source, Ledger()))
                for source, offsets in sorted(held.items())
            )
        )


class Tally:
    """Consumer that reads and counts cdr.final and cdr.dlq, call by call; see `poll`.

    It keeps up with several hundred thousand records per second, so it does not limit the job that it measures. It
    belongs to no consumer group and commits nothing. Records that this product did not write are counted as foreign.

    Attributes:
        account: Records seen so far.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        final_topic: str | None = None,
        dead_letter_topic: str | None = None,
        *,
        from_beginning: bool = True,
        keep_latencies: bool = False,
        wanted: Mapping[SourcePartition, OffsetRange] | None = None,
        reader: CdrReader | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """Start reading.

        Args:
            bootstrap_servers: Brokers, `host:port,…`.
            final_topic: Topic that CDRs are written to; by default that of this environment.
            dead_letter_topic: Topic that rejects are written to; likewise.
            from_beginning: Whether to start at the topics' beginnings; otherwise at their present ends.
            keep_latencies: Whether to keep the latencies for `latencies_ms`.
            wanted: Source offsets to keep in the ledgers; None: all.
            reader: Reader of the CDRs; the default reads this version's Avro and JSON.
            share: Index of a share of the topics' partitions, and number of shares; the default is all partitions.

        Raises:
            PrerequisiteError: The broker cannot be reached, or lacks a topic.
        """
        topics = [final_topic or own_topics().final.name, dead_letter_topic or own_topics().dead_letters.name]
        ends = offset_ranges(bootstrap_servers, topics)
        self.account = Account()
        self._bootstrap_servers = bootstrap_servers
        self._topics = topics
        self._wanted = wanted
        self._reader = reader or CdrReader()
        self._latencies: list[Offsets] | None = [] if keep_latencies else None
        self._consumer = Consumer(
            login_settings()
            | {
                "bootstrap.servers": bootstrap_servers,
                "group.id": READERS_GROUP,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                # Reports a partition's end even if its last offsets hold no record.
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 50,
                # Limits memory: each of the many partitions has a queue. A queue with room is filled after 10 ms, not
                # after a second.
                "queued.max.messages.kbytes": 8 << 10,
                "fetch.queue.backoff.ms": 10,
                "log_level": 0,
                "error_cb": lambda _: None,
            }
        )
        number, shares = share
        parts = sorted(ends.items())[number::shares]
        self._next = {part: held.low if from_beginning else held.high for part, held in parts}
        self._consumer.assign([TopicPartition(*part, offset) for part, offset in self._next.items()])

    @property
    def samples(self) -> dict[str, dict[str, Any]]:
        """First final CDR of each country, as a row of `UnifiedCdr`."""
        return {sample["country"]: sample for sample in reversed(self._reader.samples.values())}

    def poll(self, timeout: float) -> int:
        """Count the records that have arrived, up to _POLL_MESSAGES.

        Args:
            timeout: Seconds to wait for records.

        Returns:
            Number of records that this call has counted.

        Raises:
            UserError: A CDR has an unknown schema; says how to give it.
            KafkaException: The broker reports an error.
        """
        messages = self._consumer.consume(_POLL_MESSAGES, timeout)
        events = [message for message in messages if message.error() is not None]
        if events:
            messages = [message for message in messages if message.error() is None]
        final_topic = self._topics[0]
        is_final = [message.topic() == final_topic for message in messages]
        self._count_final([message for message, final in zip(messages, is_final, strict=True) if final])
        self._count_dead_letters([message for message, final in zip(messages, is_final, strict=True) if not final])
        for event in events:
            self._note(event)
        return len(messages)

    def drain(self, advance: Advance | None = None) -> None:
        """Count all records that are on the two topics now.

        Args:
            advance: Called after each poll with the number of records that it has counted.

        Raises:
            UserError: A CDR has an unknown schema, or the broker stops handing out records.
        """
        ends = offset_ranges(self._bootstrap_servers, self._topics)
        behind = [part for part in self._next if ends[part].low < ends[part].high]
        give_up = time.monotonic() + STALL_TIMEOUT_S
        while behind := [part for part in behind if self._position(part) < ends[part].high]:
            if count := self.poll(0.1):
                give_up = time.monotonic() + STALL_TIMEOUT_S
                if advance is not None:
                    advance(count)
            elif time.monotonic() > give_up:
                raise UserError(f"Kafka at {self._bootstrap_servers} returns no more records of {behind[0].topic}")

    def latencies_ms(self) -> Offsets:
        """Return the latency of each final CDR: its Kafka timestamp minus that of its raw record, in milliseconds.

        The order is undefined. CDRs whose raw record has no timestamp are left out.

        Raises:
            ValueError: The tally was created without `keep_latencies`.
        """
        if self._latencies is None:
            raise ValueError("latencies are kept with keep_latencies=True only")
        return np.concatenate([np.zeros(0, np.int64), *self._latencies])

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close()

    def __enter__(self) -> Self:
        """Return the tally, which is reading."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop reading."""
        self.close()

    def _position(self, part: SourcePartition) -> int:
        """Return the next offset of a partition to read."""
        (position,) = self._consumer.position([TopicPartition(*part)])
        return max(int(position.offset), self._next[part])

    def _note(self, event: Message) -> None:
        """Handle the end of a partition, or raise on a permanent error; librdkafka recovers from the others itself."""
        error, topic, partition, offset = event.error(), event.topic(), event.partition(), event.offset()
        if error is not None and is_retriable(error):
            return
        if error is None or error.code() != KafkaError._PARTITION_EOF:
            if error is not None:
                refuse_group(error)
            raise KafkaException(error)
        assert topic is not None
        assert partition is not None
        self._next[SourcePartition(topic, partition)] = offset or 0

    def _count_final(self, messages: Sequence[Message]) -> None:
        if not messages:
            return
        sources = self._reader.read([message.value() or b"" for message in messages])
        self._note_foreign(messages, sources)
        counts = np.bincount(sources.topic, minlength=len(sources.topics)).tolist()
        for topic, count in zip(sources.topics, counts, strict=True):
            if count:
                self.account.counts.final[self._reader.samples[topic]["country"]] += count
        for source, offsets in sources.by_partition():
            if len(offsets := self._wanted_of(source, offsets)):
                self.account.ledger(source).mark_final(offsets)
        if self._latencies is not None:
            written = np.array([message.timestamp()[1] for message in messages], np.int64)[sources.rows]
            is_known = sources.timestamp_ms != NO_TIMESTAMP
            self._latencies.append(written[is_known] - sources.timestamp_ms[is_known])

    def _count_dead_letters(self, messages: Sequence[Message]) -> None:
        if not messages:
            return
        found = _letters_of(messages)
        self._note_foreign(messages, found.sources)
        self.account.counts.dead_letters.update(found.causes)
        for source, offsets in found.sources.by_partition():
            if len(offsets := self._wanted_of(source, offsets)):
                self.account.ledger(source).mark_dead_letters(offsets)

    def _wanted_of(self, source: SourcePartition, offsets: Offsets) -> Offsets:
        if self._wanted is None:
            return offsets
        low, high = self._wanted.get(source, (0, 0))
        return offsets[(offsets >= low) & (offsets < high)]

    def _note_foreign(self, messages: Sequence[Message], sources: Sources) -> None:
        if len(sources.rows) == len(messages):
            return
        foreign = np.setdiff1d(np.arange(len(messages)), sources.rows)
        first = messages[foreign[0]]
        topic = first.topic() or ""
        self.account.counts.foreign[topic] += len(foreign)
        self.account.counts.first_foreign.setdefault(topic, f"{topic}[{first.partition()}] at offset {first.offset()}")


_DEAD_LETTER_HEADERS = [
    LETTER_HEADERS[field] for field in ("country", "code", "source_topic", "source_partition", "source_offset")
]
"""Headers of a dead letter that a tally reads; `orion_beam.io.letter_headers.letters_of` reads and checks all."""


class _Letters(NamedTuple):
    """Dead letters that this product wrote.

    Attributes:
        sources: Sources of the letters.
        causes: Country and first code of each letter.
    """

    sources: Sources
    causes: list[tuple[str, str]]


def _letters_of(messages: Sequence[Message]) -> _Letters:
    found = {row: letter for row, message in enumerate(messages) if (letter := _letter_of(message)) is not None}
    topics = list({letter.topic: None for letter in found.values()})
    index = {topic: number for number, topic in enumerate(topics)}
    return _Letters(
        Sources(
            topics=topics,
            topic=np.array([index[letter.topic] for letter in found.values()], np.int64),
            partition=np.array([letter.partition for letter in found.values()], np.int64),
            offset=np.array([letter.offset for letter in found.values()], np.int64),
            timestamp_ms=np.full(len(found), NO_TIMESTAMP),
            rows=np.array(list(found), np.int64),
        ),
        [(letter.country, letter.code) for letter in found.values()],
    )


class _Letter(NamedTuple):
    country: str
    code: str
    topic: str
    partition: int
    offset: int


def _letter_of(message: Message) -> _Letter | None:
    """Parse the headers of a dead letter that a tally needs; return None if this product did not write it."""
    headers: dict[str, Any] = dict(message.headers() or ())
    try:
        country, code, topic, partition, offset = (headers[name].decode() for name in _DEAD_LETTER_HEADERS)
        letter = _Letter(country, code, topic, int(partition), int(offset))
    except (KeyError, ValueError, AttributeError):
        return None
    return letter if letter.partition >= 0 and letter.offset >= 0 else None
