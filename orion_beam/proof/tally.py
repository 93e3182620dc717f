"""Counts what came out of a job, by where it came from: the proof that no record was lost.

A record on cdr.final or cdr.dlq names the raw topic, partition and offset that it was made from. `Tally` reads both
topics and keeps, for each source partition, which offsets have come out, and how often. `orion_beam.proof.audit`
compares that with the offsets that the raw topics hold.
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
from orion_beam.kafka.offset_ranges import STALL_TIMEOUT_S, Advance, OffsetRange, SourcePartition, offset_ranges
from orion_beam.kafka.retry import is_retriable
from orion_beam.proof.avro_tail import NO_TIMESTAMP
from orion_beam.proof.cdr_reader import CdrReader
from orion_beam.proof.conservation import ConservationReport, PartitionConservation
from orion_beam.proof.ledger import Ledger
from orion_beam.proof.sources import Sources
from orion_beam.topics.names import DEAD_LETTERS, FINAL
from orion_beam.transforms.arrow.compiled import Offsets

_POLL_MESSAGES = 10_000
"""One poll takes at most so many: enough to spread a call's cost, few enough to stay in the cache."""


@dataclass
class TallyCounts:
    """Records seen so far, duplicates included.

    Attributes:
        final: on cdr.final, by country.
        dead_letters: on cdr.dlq, by country and first code.
        foreign: records that are none of ours, by topic.
        first_foreign: where the first of them is, by topic.
    """

    final: Counter[str] = field(default_factory=Counter)
    dead_letters: Counter[tuple[str, str]] = field(default_factory=Counter)
    foreign: Counter[str] = field(default_factory=Counter)
    first_foreign: dict[str, str] = field(default_factory=dict)

    def add(self, other: "TallyCounts") -> None:
        """Take in what was seen elsewhere."""
        self.final += other.final
        self.dead_letters += other.dead_letters
        self.foreign += other.foreign
        self.first_foreign = other.first_foreign | self.first_foreign


@dataclass
class Account:
    """What has come out.

    Attributes:
        ledgers: of each source partition that anything came out of.
        counts: of records.
    """

    ledgers: dict[SourcePartition, Ledger] = field(default_factory=dict)
    counts: TallyCounts = field(default_factory=TallyCounts)

    def ledger(self, source: SourcePartition) -> Ledger:
        """Return the ledger of a source partition, a new one if there is none."""
        return self.ledgers.setdefault(source, Ledger())

    def add(self, other: "Account") -> None:
        """Take in what was seen on other partitions of the output topics."""
        self.counts.add(other.counts)
        for source, ledger in other.ledgers.items():
            self.ledger(source).add(ledger)

    def accounted(self, topics: Iterable[str]) -> dict[str, int]:
        """Return how many distinct source offsets of each raw topic have come out."""
        accounted = dict.fromkeys(topics, 0)
        for source, ledger in self.ledgers.items():
            if source.topic in accounted:
                accounted[source.topic] += ledger.accounted
        return accounted

    def report(self, held: Mapping[SourcePartition, OffsetRange]) -> ConservationReport:
        """Compare what has come out with what the source partitions hold.

        Args:
            held: the offsets of each partition of the raw topics, see `offset_ranges`. What came out of older offsets,
                which retention has removed, is left out of account.
        """
        return ConservationReport(
            tuple(
                PartitionConservation.of(source, offsets, self.ledgers.get(source, Ledger()))
                for source, offsets in sorted(held.items())
            )
        )


class Tally:
    """Reads cdr.final and cdr.dlq from their beginning and counts, on and on; see `poll`.

    It keeps up with several hundred thousand records a second, so that it never limits what it measures. It belongs to
    no consumer group and commits nothing. What anybody else has written to the topics is counted apart.

    Attributes:
        account: what has been seen so far.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        final_topic: str = FINAL.name,
        dead_letter_topic: str = DEAD_LETTERS.name,
        *,
        from_beginning: bool = True,
        keep_latencies: bool = False,
        wanted: Mapping[SourcePartition, OffsetRange] | None = None,
        reader: CdrReader | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """Start reading.

        Args:
            bootstrap_servers: the brokers.
            final_topic: where CDRs are written to.
            dead_letter_topic: where rejects are written to.
            from_beginning: or from the topics' ends at this moment.
            keep_latencies: for `latencies_ms`.
            wanted: source offsets to keep account of; all that come, if not given.
            reader: of the CDRs; knows this version's Avro and JSON if not given.
            share: which of how many shares of the topics' partitions to read; all of them unless told otherwise.

        Raises:
            PrerequisiteError: the broker cannot be reached, or lacks a topic.
        """
        topics = [final_topic, dead_letter_topic]
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
                # librdkafka wants a name; without subscription and commits the broker never hears of the group.
                "group.id": "orion-beam-tally",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                # The end of a partition is told even where the last offsets hold no record.
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 50,
                # A partition's queue is this long at most: there are many, and memory is not. When it has room again,
                # it is filled at once, and not after a second.
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
        """The first final CDR of each country, as a row of `UnifiedCdr`."""
        return {sample["country"]: sample for sample in reversed(self._reader.samples.values())}

    def poll(self, timeout: float) -> int:
        """Count what has arrived.

        Args:
            timeout: seconds to collect records, of which a call takes a limited number.

        Returns:
            How many records were seen in this call.

        Raises:
            UserError: a CDR has a schema that is not known; says how to give it.
            KafkaException: the broker reports an error.
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
        """Count everything that is on the two topics now.

        Args:
            advance: told, after each poll, how many records were seen in it.

        Raises:
            UserError: a CDR has a schema that is not known, or the broker hands out no more.
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
                raise UserError(f"Kafka at {self._bootstrap_servers} hands out no more of {behind[0].topic}")

    def latencies_ms(self) -> Offsets:
        """Return, of each final CDR in no particular order, its Kafka timestamp minus that of its raw record.

        Raises:
            ValueError: the tally was not asked to keep them.
        """
        if self._latencies is None:
            raise ValueError("latencies are kept with keep_latencies=True only")
        return np.concatenate([np.zeros(0, np.int64), *self._latencies])

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close()

    def __enter__(self) -> Self:
        """Return the tally: it is reading."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop reading."""
        self.close()

    def _position(self, part: SourcePartition) -> int:
        """Return the offset of a partition that is read next."""
        (position,) = self._consumer.position([TopicPartition(*part)])
        return max(int(position.offset), self._next[part])

    def _note(self, event: Message) -> None:
        """Take in the end of a partition; raise on an error that stays: librdkafka goes on behind others by itself."""
        error, topic, partition, offset = event.error(), event.topic(), event.partition(), event.offset()
        if error is not None and is_retriable(error):
            return
        if error is None or error.code() != KafkaError._PARTITION_EOF:
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


_DEAD_LETTER_HEADERS = (
    "orion.country",
    "orion.error.code",
    "orion.source.topic",
    "orion.source.partition",
    "orion.source.offset",
)
"""What counts of a dead letter; `orion_beam.io.letter_headers.letters_of` reads, and checks, all of it."""


class _Letters(NamedTuple):
    """Dead letters of ours.

    Attributes:
        sources: where they came from.
        causes: country and first code of each.
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
    """Return what counts of a dead letter; None if it is none of ours."""
    headers: dict[str, Any] = dict(message.headers() or ())
    try:
        country, code, topic, partition, offset = (headers[name].decode() for name in _DEAD_LETTER_HEADERS)
        letter = _Letter(country, code, topic, int(partition), int(offset))
    except (KeyError, ValueError, AttributeError):
        return None
    return letter if letter.partition >= 0 and letter.offset >= 0 else None
