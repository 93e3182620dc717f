"""Conservation report: records in = final + dead letters, counted in distinct source offsets."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from pyroaring import BitMap64

from orion_beam.kafka.offset_ranges import OffsetRange, SourcePartition
from orion_beam.proof.ledger import Ledger, bitmap_of_range, maximal_ranges

__all__ = ["ConservationReport", "PartitionConservation"]

_RUNS_SHOWN = 10


@dataclass(frozen=True)
class PartitionConservation:
    """Outcome of the records of one source partition, counted in distinct offsets.

    Attributes:
        source: Source partition.
        held: Offsets that are audited; the partition holds all of them.
        final: Number of these offsets that came out on cdr.final.
        dead_lettered: Number of these offsets that came out on cdr.dlq.
        in_both: Number of these offsets that came out on both topics; a correct stream has none.
        missing_offsets: Offsets that came out on neither topic: lost, or not yet processed. Before the raw topic is
            checked (`audit`), they include offsets without a record.
        duplicates: Number of repeated output records: none without a restart, some after one.
        empty: Number of offsets that hold no record of the stream: transaction markers, records of aborted
            transactions, and records that compaction has removed. It is 0 until the raw topic is checked.
    """

    source: SourcePartition
    held: OffsetRange
    final: int
    dead_lettered: int
    in_both: int
    missing_offsets: BitMap64
    duplicates: int
    empty: int = 0

    @classmethod
    def of(cls, source: SourcePartition, held: OffsetRange, ledger: Ledger) -> "PartitionConservation":
        """Compare the offsets that have come out with those that a partition holds."""
        wanted = bitmap_of_range(held)
        final, dead_letters = ledger.final & wanted, ledger.dead_letters & wanted
        return cls(
            source=source,
            held=held,
            final=len(final),
            dead_lettered=len(dead_letters),
            in_both=final.intersection_cardinality(dead_letters),
            missing_offsets=wanted - final - dead_letters,
            duplicates=ledger.duplicates,
        )

    @property
    def records(self) -> int:
        """Number of records that the partition holds: its offsets without the `empty` ones."""
        return self.held.offsets - self.empty

    @property
    def missing(self) -> int:
        """Number of missing offsets."""
        return len(self.missing_offsets)

    def missing_ranges(self) -> Iterator[OffsetRange]:
        """Yield the missing offsets as maximal ranges."""
        return maximal_ranges(self.missing_offsets)

    @property
    def problems(self) -> list[str]:
        """Lines for people, one for each way in which this partition does not balance."""
        lines = []
        if self.missing:
            runs = list(islice(self.missing_ranges(), _RUNS_SHOWN + 1))
            more = ", \u2026" if len(runs) > _RUNS_SHOWN else ""
            shown = ", ".join(map(_text_of, runs[:_RUNS_SHOWN])) + more
            lines.append(f"{self.source}: {self.missing:,} of {self.records:,} missing, offsets {shown}")
        if self.in_both:
            lines.append(f"{self.source}: {self.in_both:,} both written and dead-lettered")
        return lines


def _text_of(run: OffsetRange) -> str:
    return str(run.low) if run.offsets == 1 else f"{run.low}-{run.high - 1}"


@dataclass(frozen=True)
class ConservationReport:
    """Outcome of the records of all source partitions.

    Attributes:
        partitions: Outcome of each source partition.
    """

    partitions: tuple[PartitionConservation, ...]

    @property
    def records(self) -> int:
        """Number of records that the raw topics hold."""
        return sum(part.records for part in self.partitions)

    @property
    def final(self) -> int:
        """Number of these records that came out on cdr.final."""
        return sum(part.final for part in self.partitions)

    @property
    def dead_lettered(self) -> int:
        """Number of these records that came out on cdr.dlq."""
        return sum(part.dead_lettered for part in self.partitions)

    @property
    def missing(self) -> int:
        """Number of these records that came out on neither topic."""
        return sum(part.missing for part in self.partitions)

    @property
    def in_both(self) -> int:
        """Number of these records that came out on both topics."""
        return sum(part.in_both for part in self.partitions)

    @property
    def duplicates(self) -> int:
        """Number of repeated output records: none without a restart, some after one."""
        return sum(part.duplicates for part in self.partitions)

    def counts(self) -> dict[str, int]:
        """Return the counts by name, as reports in JSON have them."""
        return {
            "records": self.records,
            "final": self.final,
            "dead_letters": self.dead_lettered,
            "missing": self.missing,
            "in_both": self.in_both,
            "duplicates": self.duplicates,
        }

    @property
    def problems(self) -> list[str]:
        """Lines for people, one for each way in which a partition does not balance."""
        return [line for part in self.partitions for line in part.problems]

    @property
    def holds(self) -> bool:
        """Whether each record came out on exactly one of the two topics, once or more often."""
        return not self.problems

    @property
    def is_exactly_once(self) -> bool:
        """Whether each record came out exactly once."""
        return self.holds and not self.duplicates
