"""Audit: reads both output topics, and compares them with the raw topics to prove that every raw record came out."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from pyroaring import BitMap64

from orion_beam.kafka.offset_ranges import Advance, OffsetRange, SourcePartition, offset_ranges, read_ranges
from orion_beam.proof.cdr_reader import CdrReader
from orion_beam.proof.conservation import ConservationReport, PartitionConservation
from orion_beam.proof.ledger import bitmap_of, merge_near
from orion_beam.proof.tally import TallyCounts
from orion_beam.proof.tally_processes import MakeReader, account_of
from orion_beam.topics.names import own_topics

_READ_THROUGH_OFFSETS = 100_000
"""Gaps with fewer offsets between them are read in one range: starting another read costs more."""
_MANY_RECORDS = 1_000_000
"""Number of records from which several processes save more time than their start costs."""
_MOST_PROCESSES = 4


@dataclass(frozen=True)
class Audit:
    """Result of an audit.

    Attributes:
        report: Outcome of the raw records, by source partition.
        counts: Counts of all records on the two output topics, including those of other raw records.
        deleted: Number of records that each output topic no longer holds. Their raw records are unknown, and count as
            missing.
    """

    report: ConservationReport
    counts: TallyCounts
    deleted: Mapping[str, int]


def audit(
    bootstrap_servers: str,
    wanted: Mapping[SourcePartition, OffsetRange],
    final_topic: str | None = None,
    dead_letter_topic: str | None = None,
    *,
    make_reader: MakeReader = CdrReader,
    advance: Advance | None = None,
    processes: int | None = None,
) -> Audit:
    """Read both output topics to their end, and report the outcome of raw records.

    Memory is bounded: an offset takes a bit or two. Raw records are read only at missing offsets, to find the offsets
    without a record and those of aborted transactions: the stream does not read either.

    Args:
        bootstrap_servers: Brokers, `host:port,…`.
        wanted: Source offsets to audit. Each partition must hold them, before its first open transaction.
        final_topic: Topic that CDRs were written to; by default that of this environment.
        dead_letter_topic: Topic that rejects were written to; likewise.
        make_reader: Factory of the reader of CDRs; the default reads this version's Avro and JSON.
        advance: Called with the number of records that were read from the output topics.
        processes: Number of reading processes; by default one, or for many records one per core, at most four.

    Raises:
        PrerequisiteError: The broker cannot be reached, or lacks a topic.
        UserError: CDRs have an unknown schema.
        JobFailedError: A process was killed.
    """
    final_topic, dead_letter_topic = (
        final_topic or own_topics().final.name,
        dead_letter_topic or own_topics().dead_letters.name,
    )
    outputs = offset_ranges(bootstrap_servers, [final_topic, dead_letter_topic])
    deleted = {
        topic: sum(held.low for part, held in outputs.items() if part.topic == topic)
        for topic in (final_topic, dead_letter_topic)
    }
    if processes is None:
        many = sum(held.offsets for held in outputs.values()) >= _MANY_RECORDS
        processes = min(os.cpu_count() or 1, _MOST_PROCESSES) if many else 1
    account = account_of(bootstrap_servers, final_topic, dead_letter_topic, wanted, make_reader, advance, processes)
    report = account.report(wanted)
    return Audit(_without_empty_offsets(bootstrap_servers, report), account.counts, deleted)


def conservation(
    bootstrap_servers: str,
    raw_topics: Iterable[str],
    final_topic: str | None = None,
    dead_letter_topic: str | None = None,
) -> ConservationReport:
    """Read both output topics to their end, and report whether every record that the raw topics hold came out.

    Raises:
        PrerequisiteError: The broker cannot be reached, or lacks a topic.
    """
    # Taken before the outputs are read, since records that arrive later may not be processed yet.
    held = offset_ranges(bootstrap_servers, raw_topics, committed_only=True)
    return audit(bootstrap_servers, held, final_topic, dead_letter_topic).report


def _without_empty_offsets(bootstrap_servers: str, report: ConservationReport) -> ConservationReport:
    """Read the missing offsets, and move those without a committed record from `missing` to `empty`."""
    found: dict[SourcePartition, BitMap64] = {}
    for ranges in _rounds({part.source: part for part in report.partitions if part.missing}):
        for batch in read_ranges(bootstrap_servers, ranges, committed_only=True):
            topic = batch.column("source_topic")[0].as_py()
            partitions, offsets = (batch.column(f"source_{name}").to_numpy() for name in ("partition", "offset"))
            for partition in set(partitions.tolist()):
                records = found.setdefault(SourcePartition(topic, partition), BitMap64())
                records |= bitmap_of(offsets[partitions == partition])
    return ConservationReport(tuple(_seen(part, found.get(part.source, BitMap64())) for part in report.partitions))


def _seen(part: PartitionConservation, records: BitMap64) -> PartitionConservation:
    missing = part.missing_offsets & records
    return replace(part, missing_offsets=missing, empty=part.missing - len(missing))


def _rounds(parts: Mapping[SourcePartition, PartitionConservation]) -> Iterator[dict[SourcePartition, OffsetRange]]:
    """Yield rounds of ranges to read: each has one range per partition, which covers gaps that are close together."""
    left = {source: merge_near(part.missing_ranges(), _READ_THROUGH_OFFSETS) for source, part in parts.items()}
    while ranges := {source: cover for source, covers in left.items() if (cover := next(covers, None)) is not None}:
        yield ranges
