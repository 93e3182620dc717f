"""Counts what came out of a job, by where it came from: the proof that no record was lost.

A record on cdr.final or cdr.dlq names the raw topic, partition and offset that it was made from. `Tally` reads both
topics and keeps, for each source partition, which offsets have come out, and how often; `conservation` compares that
with the offsets that the raw topics hold.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import pyruhvro
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from orion_beam.errors import UserError
from orion_beam.kafka.ranges import OffsetRange, SourcePartition, offset_ranges
from orion_beam.kafka.topics import DEAD_LETTERS, FINAL, TIMEOUT_S, require_topics
from schemas.avro_format import single_object_header
from schemas.cdr import UnifiedCdr
from schemas.derive import avro_schema

_SCHEMA = avro_schema(UnifiedCdr)
_HEADER = single_object_header(_SCHEMA)
_HEADER_BYTES = len(_HEADER)

_POLL_MESSAGES = 10_000
"""One poll decodes at most so many: enough to spread a call's cost, few enough to stay in the cache."""
_MISSING_SHOWN = 10

_IN_FINAL = np.uint8(1)
_IN_DEAD_LETTERS = np.uint8(2)

Offsets = npt.NDArray[np.int64]


@dataclass
class TallyCounts:
    """Records seen so far, duplicates included.

    Attributes:
        final: on cdr.final, by country.
        dead_letters: on cdr.dlq, by country and first code.
    """

    final: Counter[str] = field(default_factory=Counter)
    dead_letters: Counter[tuple[str, str]] = field(default_factory=Counter)


class _Ledger:
    """What became of the offsets of one source partition: a byte each, between the lowest and the highest seen."""

    def __init__(self) -> None:
        self.accounted = 0
        self.duplicates = 0
        self._first = 0
        self._marks = np.zeros(0, np.uint8)

    def mark(self, offsets: Offsets, outcome: np.uint8) -> None:
        """Note an outcome. An offset that had it already, or has it more than once here, is a duplicate."""
        self._make_room(int(offsets.min()), int(offsets.max()))
        places = np.unique(offsets - self._first)
        before = self._marks[places]
        self.accounted += int(np.count_nonzero(before == 0))
        self.duplicates += len(offsets) - int(np.count_nonzero(before & outcome == 0))
        self._marks[places] = before | outcome

    def marks(self, held: OffsetRange) -> npt.NDArray[np.uint8]:
        """Return the outcomes of the offsets from `low` to `high` - 1."""
        marks = np.zeros(held.offsets, np.uint8)
        start, end = max(held.low, self._first), min(held.high, self._first + len(self._marks))
        if start < end:
            marks[start - held.low : end - held.low] = self._marks[start - self._first : end - self._first]
        return marks

    def _make_room(self, lowest: int, highest: int) -> None:
        size = len(self._marks)
        first = min(lowest, self._first) if size else lowest
        if size and first == self._first and highest < first + size:
            return
        # Twice the size, so that a partition that grows is copied a few times only.
        grown = np.zeros(max(highest + 1, self._first + size, first + 2 * size) - first, np.uint8)
        grown[self._first - first : self._first - first + size] = self._marks
        self._first, self._marks = first, grown


@dataclass(frozen=True)
class PartitionConservation:
    """What became of the records of one source partition, in distinct offsets.

    Attributes:
        source: the partition.
        held: the offsets that it holds.
        final: of these, how many came out on cdr.final,
        dead_lettered: on cdr.dlq,
        in_both: on both, which must not be,
        missing: and on neither: lost, or not yet processed.
        first_missing: the lowest of those.
        duplicates: records that came out again: none without a restart, some after one.
    """

    source: SourcePartition
    held: OffsetRange
    final: int
    dead_lettered: int
    in_both: int
    missing: int
    first_missing: tuple[int, ...]
    duplicates: int

    @property
    def problems(self) -> list[str]:
        """A line for people for each way in which this partition does not balance."""
        where = self.source
        lines = []
        if self.missing:
            more = ", \u2026" if self.missing > len(self.first_missing) else ""
            shown = ", ".join(map(str, self.first_missing)) + more
            lines.append(f"{where}: {self.missing:,} of {self.held.offsets:,} missing, offsets {shown}")
        if self.in_both:
            lines.append(f"{where}: {self.in_both:,} both written and dead-lettered")
        return lines


@dataclass(frozen=True)
class ConservationReport:
    """Whether every record of the raw topics came out.

    Attributes:
        partitions: each source partition.
    """

    partitions: tuple[PartitionConservation, ...]

    @property
    def records(self) -> int:
        """Records that the raw topics hold."""
        return sum(part.held.offsets for part in self.partitions)

    @property
    def final(self) -> int:
        """Of these, how many came out on cdr.final."""
        return sum(part.final for part in self.partitions)

    @property
    def dead_lettered(self) -> int:
        """Of these, how many came out on cdr.dlq."""
        return sum(part.dead_lettered for part in self.partitions)

    @property
    def missing(self) -> int:
        """Of these, how many came out nowhere."""
        return sum(part.missing for part in self.partitions)

    @property
    def in_both(self) -> int:
        """Of these, how many came out on both topics."""
        return sum(part.in_both for part in self.partitions)

    @property
    def duplicates(self) -> int:
        """Records that came out again: none without a restart, some after one."""
        return sum(part.duplicates for part in self.partitions)

    @property
    def problems(self) -> list[str]:
        """A line for people for each way in which a partition does not balance."""
        return [line for part in self.partitions for line in part.problems]

    @property
    def holds(self) -> bool:
        """Whether each record came out at least once, on exactly one of the two topics."""
        return not self.problems

    @property
    def is_exactly_once(self) -> bool:
        """Whether, besides, none came out twice."""
        return self.holds and not self.duplicates


class Tally:
    """Reads cdr.final and cdr.dlq from their beginning and counts, on and on; see `poll`.

    It keeps up with several hundred thousand records a second, so that it never limits what it measures. It belongs to
    no consumer group and commits nothing. Values on the final topic must be Avro with the single-object header.

    Attributes:
        counts: what has been seen so far.
        samples: the first final CDR of each country, as a row of `UnifiedCdr`.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        final_topic: str = FINAL.name,
        dead_letter_topic: str = DEAD_LETTERS.name,
        *,
        from_beginning: bool = True,
        keep_latencies: bool = False,
    ) -> None:
        """Start reading.

        Args:
            bootstrap_servers: the brokers.
            final_topic: where CDRs are written to.
            dead_letter_topic: where rejects are written to.
            from_beginning: or from the topics' ends at this moment.
            keep_latencies: for `latencies_ms`.

        Raises:
            PrerequisiteError: the broker cannot be reached, or lacks a topic.
        """
        topics = [final_topic, dead_letter_topic]
        require_topics(bootstrap_servers, topics)
        self.counts = TallyCounts()
        self.samples: dict[str, dict[str, Any]] = {}
        self._bootstrap_servers = bootstrap_servers
        self._topics = topics
        self._ledgers: dict[SourcePartition, _Ledger] = {}
        self._latencies: list[Offsets] | None = [] if keep_latencies else None
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                # librdkafka wants a name; without subscription and commits the broker never hears of the group.
                "group.id": "orion-beam-tally",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "fetch.wait.max.ms": 50,
                "log_level": 0,
                "error_cb": lambda _: None,
            }
        )
        parts = offset_ranges(bootstrap_servers, topics)
        self._consumer.assign(
            [
                TopicPartition(part.topic, part.partition, held.low if from_beginning else held.high)
                for part, held in parts.items()
            ]
        )

    def poll(self, timeout: float) -> int:
        """Count what has arrived.

        Args:
            timeout: seconds to collect records, of which a call takes a limited number.

        Returns:
            How many records were seen in this call.

        Raises:
            UserError: a record is none of ours.
            KafkaException: the broker reports an error.
        """
        messages = self._consumer.consume(_POLL_MESSAGES, timeout)
        for message in messages:
            if (error := message.error()) is not None:
                raise KafkaException(error)
        final_topic = self._topics[0]
        is_final = [message.topic() == final_topic for message in messages]
        self._count_final([message for message, final in zip(messages, is_final, strict=True) if final])
        self._count_dead_letters([message for message, final in zip(messages, is_final, strict=True) if not final])
        return len(messages)

    def drain(self) -> None:
        """Count everything that is on the two topics now.

        Raises:
            UserError: a record is none of ours, or the broker hands out no more.
        """
        ends = offset_ranges(self._bootstrap_servers, self._topics)
        behind = [part for part, held in ends.items() if held.low < held.high]
        give_up = time.monotonic() + TIMEOUT_S
        while behind := [part for part in behind if self._position(part) < ends[part].high]:
            if self.poll(0.1):
                give_up = time.monotonic() + TIMEOUT_S
            elif time.monotonic() > give_up:
                raise UserError(f"Kafka at {self._bootstrap_servers} hands out no more of {behind[0].topic}")

    def accounted(self, topics: Iterable[str]) -> dict[str, int]:
        """Return how many distinct source offsets of each raw topic have come out."""
        accounted = dict.fromkeys(topics, 0)
        for source, ledger in self._ledgers.items():
            if source.topic in accounted:
                accounted[source.topic] += ledger.accounted
        return accounted

    def latencies_ms(self) -> Offsets:
        """Return, of each final CDR in no particular order, its Kafka timestamp minus that of its raw record.

        Raises:
            ValueError: the tally was not asked to keep them.
        """
        if self._latencies is None:
            raise ValueError("latencies are kept with keep_latencies=True only")
        return np.concatenate([np.zeros(0, np.int64), *self._latencies])

    def report(self, held: Mapping[SourcePartition, OffsetRange]) -> ConservationReport:
        """Compare what has come out with what the source partitions hold.

        Args:
            held: the offsets of each partition of the raw topics, see `offset_ranges`. What came out of older offsets,
                which retention has removed, is left out of account.
        """
        parts = []
        for source, offsets in sorted(held.items()):
            ledger = self._ledgers.get(source, _Ledger())
            marks = ledger.marks(offsets)
            missing = np.flatnonzero(marks == 0)
            parts.append(
                PartitionConservation(
                    source=source,
                    held=offsets,
                    final=int(np.count_nonzero(marks & _IN_FINAL)),
                    dead_lettered=int(np.count_nonzero(marks & _IN_DEAD_LETTERS)),
                    in_both=int(np.count_nonzero(marks == _IN_FINAL | _IN_DEAD_LETTERS)),
                    missing=len(missing),
                    first_missing=tuple(int(place) + offsets.low for place in missing[:_MISSING_SHOWN]),
                    duplicates=ledger.duplicates,
                )
            )
        return ConservationReport(tuple(parts))

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
        (position,) = self._consumer.position([TopicPartition(part.topic, part.partition)])
        return int(position.offset)

    def _count_final(self, messages: Sequence[Message]) -> None:
        if not messages:
            return
        values = [message.value() or b"" for message in messages]
        if {value[:_HEADER_BYTES] for value in values} != {_HEADER}:
            raise UserError(
                f"{self._topics[0]} holds values that are no UnifiedCdr of this version in Avro's single-object"
                " encoding: only those can be counted"
            )
        batch = pyruhvro.deserialize_array([value[_HEADER_BYTES:] for value in values], _SCHEMA)
        rows = pl.DataFrame(batch.select(["country", "source_topic", "source_partition", "source_offset"]))
        countries = dict(rows["country"].value_counts().iter_rows())
        self.counts.final.update(countries)
        for country in countries.keys() - self.samples.keys():
            place = rows["country"].index_of(country)
            self.samples[country] = batch.slice(place, 1).to_pylist()[0]
        self._mark(rows, _IN_FINAL)
        if self._latencies is not None:
            written = np.array([message.timestamp()[1] for message in messages], np.int64)
            source = pl.Series(batch.column("source_timestamp")).to_physical()
            known = source.is_not_null().to_numpy()
            self._latencies.append(written[known] - source.drop_nulls().to_numpy())

    def _count_dead_letters(self, messages: Sequence[Message]) -> None:
        if not messages:
            return
        rows = pl.DataFrame([_dead_letter(message) for message in messages], orient="row")
        self.counts.dead_letters.update(Counter(rows.select("country", "code").iter_rows()))
        self._mark(rows, _IN_DEAD_LETTERS)

    def _mark(self, rows: pl.DataFrame, outcome: np.uint8) -> None:
        by_source = rows.group_by("source_topic", "source_partition").agg("source_offset")
        for topic, partition, offsets in zip(*by_source.get_columns(), strict=True):
            ledger = self._ledgers.setdefault(SourcePartition(topic, partition), _Ledger())
            ledger.mark(offsets.to_numpy(), outcome)


_DEAD_LETTER_HEADERS = (
    "orion.country",
    "orion.error.code",
    "orion.source.topic",
    "orion.source.partition",
    "orion.source.offset",
)
"""What `_DeadLetterRow` is made of."""


class _DeadLetterRow(NamedTuple):
    country: str
    code: str
    source_topic: str
    source_partition: int
    source_offset: int


def _dead_letter(message: Message) -> _DeadLetterRow:
    # Only what counts; `orion_beam.dead_letters.letters_of` reads, and checks, all of it.
    headers: dict[str, Any] = dict(message.headers() or ())
    try:
        country, code, topic, partition, offset = (headers[name].decode() for name in _DEAD_LETTER_HEADERS)
        return _DeadLetterRow(country, code, topic, int(partition), int(offset))
    except (KeyError, ValueError):
        where = f"{message.topic()}[{message.partition()}] at offset {message.offset()}"
        raise UserError(f"{where} is no dead letter of ORION Beam: it lacks its headers") from None


def conservation(
    bootstrap_servers: str,
    raw_topics: Iterable[str],
    final_topic: str = FINAL.name,
    dead_letter_topic: str = DEAD_LETTERS.name,
) -> ConservationReport:
    """Read both output topics to their end and say whether every record of the raw topics came out.

    Raises:
        PrerequisiteError: the broker cannot be reached, or lacks a topic.
        UserError: a record on the output topics is none of ours.
    """
    # Before the outputs are read: what arrives from now on may not have been processed.
    held = offset_ranges(bootstrap_servers, raw_topics)
    with Tally(bootstrap_servers, final_topic, dead_letter_topic) as tally:
        tally.drain()
        return tally.report(held)
