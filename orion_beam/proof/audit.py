"""Proves, over what the topics hold, that every raw record came out: reads both outputs and compares."""

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
from orion_beam.topics.names import DEAD_LETTERS, FINAL

_READ_THROUGH_OFFSETS = 100_000
"""Where less than this lies between two gaps, it is read as well: beginning a read costs more."""
_MANY_RECORDS = 1_000_000
"""From so many on, processes gain more than their start costs."""
_MOST_PROCESSES = 4


@dataclass(frozen=True)
class Audit:
    """What an audit has found.

    Attributes:
        report: what became of each raw record.
        counts: all records on the two output topics, also those of other raw records.
        deleted: by output topic, how many records it has held and no longer does. What they came from is not known: it
            counts as missing.
    """

    report: ConservationReport
    counts: TallyCounts
    deleted: Mapping[str, int]


def audit(
    bootstrap_servers: str,
    wanted: Mapping[SourcePartition, OffsetRange],
    final_topic: str = FINAL.name,
    dead_letter_topic: str = DEAD_LETTERS.name,
    *,
    make_reader: MakeReader = CdrReader,
    advance: Advance | None = None,
    processes: int | None = None,
) -> Audit:
    """Read both output topics to their end and say what became of some raw records.

    Memory is bounded: an offset takes a bit or two. Raw records are read only where something is missing, to tell
    offsets that hold no record, or one of a transaction that was aborted: whether that comes out is up to the stream.

    Args:
        bootstrap_servers: the brokers.
        wanted: source offsets; each partition must hold them, before the first transaction that is still open.
        final_topic: where CDRs were written to.
        dead_letter_topic: where rejects were written to.
        make_reader: of the CDRs; by default it knows this version's Avro and JSON.
        advance: told how many records of the output topics have been read.
        processes: how many read; by default one, or for many records one a core, at most four.

    Raises:
        PrerequisiteError: the broker cannot be reached, or lacks a topic.
        UserError: CDRs have a schema that is not known.
        JobFailedError: a process was killed.
    """
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
    final_topic: str = FINAL.name,
    dead_letter_topic: str = DEAD_LETTERS.name,
) -> ConservationReport:
    """Read both output topics to their end and say whether every record that the raw topics hold came out.

    Raises:
        PrerequisiteError: the broker cannot be reached, or lacks a topic.
    """
    # Before the outputs are read: what arrives from now on may not have been processed.
    held = offset_ranges(bootstrap_servers, raw_topics, committed_only=True)
    return audit(bootstrap_servers, held, final_topic, dead_letter_topic).report


def _without_empty_offsets(bootstrap_servers: str, report: ConservationReport) -> ConservationReport:
    """Look which of the missing offsets hold a record."""
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
    """Yield what to read at a time: of each partition one range that covers gaps which are close to each other."""
    left = {source: _covers(part) for source, part in parts.items()}
    while ranges := {source: cover for source, covers in left.items() if (cover := next(covers, None)) is not None}:
        yield ranges


def _covers(part: PartitionConservation) -> Iterator[OffsetRange]:
    return merge_near(part.missing_ranges(), _READ_THROUGH_OFFSETS)
