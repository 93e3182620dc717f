"""Bounded search of cdr.final, cdr.dlq and the raw topics for the records made from one raw record."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from orion_beam.chain import places_of
from orion_beam.errors import UserError
from orion_beam.inspect.final_values import FinalReader
from orion_beam.io.letter_headers import MAX_REFERENCE_KEY_BYTES, letters_of, redrives_of
from orion_beam.kafka.entries import Entry
from orion_beam.kafka.offset_ranges import (
    Advance,
    OffsetRange,
    SourcePartition,
    offset_ranges,
    offsets_between,
    read_ranges,
)
from orion_beam.kafka.partitioner import partition_of
from orion_beam.proof.ledger import merge_near
from orion_beam.transforms.arrow.texts import is_null, mask_of
from orion_beam.transforms.stage.batches import filter_rows

SearchRanges = Mapping[SourcePartition, OffsetRange]


class Found(NamedTuple):
    """Record that was made from the raw one.

    Attributes:
        timestamp: Kafka timestamp of the record; None if it has none.
        record: Fields of a CDR, of a dead letter (`orion_beam.io.letter_headers.LETTER_SCHEMA`) or of `RedriveHeaders`.
    """

    place: SourcePartition
    offset: int
    timestamp: datetime | None
    record: Mapping[str, Any]


def read_record(bootstrap_servers: str, place: SourcePartition, offset: int) -> pa.RecordBatch:
    """Read the record at an offset, as one row of `raw.RAW_MESSAGE_SCHEMA`.

    Raises:
        UserError: The partition does not exist, does not hold the offset, or has no record there.
    """
    held = offset_ranges(bootstrap_servers, [place.topic])
    if place not in held:
        raise UserError(f"{place.topic} has no partition {place.partition}: it has 0 to {len(held) - 1}")
    within = held[place]
    if not within.low <= offset < within.high:
        raise UserError(f"{place} holds offsets {within.low} to {within.high - 1}: offset {offset} is not among them")
    for batch in read_ranges(bootstrap_servers, {place: OffsetRange(offset, offset + 1)}):
        return batch
    raise UserError(f"{place} has no record at offset {offset}: compaction or a transaction has left a gap there")


def search_range(
    bootstrap_servers: str, topic: str, key: bytes | None, since: datetime | None, until: datetime | None = None
) -> dict[SourcePartition, OffsetRange]:
    """Return the offsets to search for a record.

    Args:
        bootstrap_servers: Brokers, `host:port,…`.
        topic: Topic to search.
        key: Key of the record, which determines its partition; None searches all partitions.
        since: Earliest Kafka timestamp of the record; None for no bound.
        until: Time before which the record was written; None, or a future time, for no bound.
    """
    held = offset_ranges(bootstrap_servers, [topic])
    if key is not None:
        place = SourcePartition(topic, partition_of(key, len(held)))
        held = {place: held[place]}
    is_past = until is not None and until < datetime.now(UTC)
    return offsets_between(bootstrap_servers, held, since, until if is_past else None)


def find_final(
    bootstrap_servers: str,
    ranges: SearchRanges,
    imsi: str,
    source: SourcePartition,
    offset: int,
    reader: FinalReader,
    advance: Advance,
) -> Iterator[Found]:
    """Yield the CDRs that were made from a raw record; there are several after a restart or a replay."""

    def is_wanted(batch: pa.RecordBatch) -> pa.BooleanArray:
        return pc.equal(batch.column("raw_key"), imsi.encode())

    for found in _final_records(bootstrap_servers, ranges, is_wanted, reader, advance):
        if _source_of(found.record) == (source, offset):
            yield found


def find_cdr(
    bootstrap_servers: str, ranges: SearchRanges, cdr_id: str, reader: FinalReader, advance: Advance
) -> Iterator[Found]:
    """Yield the CDRs with an id."""

    def is_wanted(batch: pa.RecordBatch) -> pa.BooleanArray:
        return pc.match_substring(batch.column("raw_value"), cdr_id)

    for found in _final_records(bootstrap_servers, ranges, is_wanted, reader, advance):
        if found.record["cdr_id"] == cdr_id:
            yield found


def find_letters(
    bootstrap_servers: str,
    ranges: SearchRanges,
    key: bytes | None,
    source: SourcePartition,
    offset: int,
    advance: Advance,
) -> Iterator[Found]:
    """Yield the dead letters that were made from a raw record.

    A letter by reference lacks a key of more than MAX_REFERENCE_KEY_BYTES, so null keys are searched for such a key.
    """
    has_long_key = key is not None and len(key) > MAX_REFERENCE_KEY_BYTES
    for batch in read_ranges(bootstrap_servers, ranges, advance=advance):
        column = batch.column("raw_key")
        is_keyed = mask_of(pc.is_null(column) if key is None else pc.equal(column, key))
        keyed = filter_rows(batch, is_keyed | is_null(column) if has_long_key else is_keyed)
        if keyed.num_rows == 0:
            continue
        written = dict(zip(places_of(keyed), keyed.column("source_timestamp").to_pylist(), strict=True))
        for letter in letters_of(keyed).letters.to_pylist():
            if _source_of(letter) == (source, offset):
                place = SourcePartition(batch.column("source_topic")[0].as_py(), letter["letter_partition"])
                at = letter["letter_offset"]
                yield Found(place, at, written[place.partition, at], letter)


def find_redriven(
    bootstrap_servers: str, source: SourcePartition, offset: int, journal: Mapping[str, Entry], advance: Advance
) -> Iterator[Found]:
    """Yield the records that redrives have sent back for a raw record; `record` has the fields of `RedriveHeaders`.

    They are in the record's partition. The journal gives the offsets at which that partition ended when each redrive
    began and finished; the search reads the offsets between them.
    """
    held = offset_ranges(bootstrap_servers, [source.topic])[source]
    ranges = []
    for entry in journal.values():
        begins, ends = (entry.get(name, {}).get(source.topic, []) for name in ("raw_from", "raw_to"))
        if source.partition < len(begins):
            # A killed redrive has no end offset in the journal.
            end = ends[source.partition] if source.partition < len(ends) else held.high
            ranges.append(OffsetRange(max(begins[source.partition], offset + 1, held.low), min(end, held.high)))
    wanted = f"{source}@{offset}"
    for within in merge_near(sorted(each for each in ranges if each.offsets > 0), gap=1):
        for batch in read_ranges(bootstrap_servers, {source: within}, committed_only=True, advance=advance):
            for row, redrive in enumerate(redrives_of(batch)):
                if redrive is not None and redrive.source == wanted:
                    at, written = (batch.column(f"source_{name}")[row].as_py() for name in ("offset", "timestamp"))
                    yield Found(source, at, written, redrive._asdict())


def _final_records(
    bootstrap_servers: str,
    ranges: SearchRanges,
    is_wanted: Callable[[pa.RecordBatch], pa.BooleanArray],
    reader: FinalReader,
    advance: Advance,
) -> Iterator[Found]:
    for batch in read_ranges(bootstrap_servers, ranges, advance=advance):
        for row in filter_rows(batch, mask_of(is_wanted(batch))).to_pylist():
            record = reader.read(row["raw_value"] or b"")
            if record is not None:
                place = SourcePartition(row["source_topic"], row["source_partition"])
                yield Found(place, row["source_offset"], row["source_timestamp"], record)


def _source_of(record: Mapping[str, Any]) -> tuple[SourcePartition, int]:
    return SourcePartition(record["source_topic"], record["source_partition"]), record["source_offset"]
