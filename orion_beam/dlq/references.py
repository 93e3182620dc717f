"""Look-up of the records of dead letters by reference on their raw topics, as long as these retain them."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import Any

import numpy as np
import pyarrow as pa
from pyroaring import BitMap64

from orion_beam.io.letter_headers import LETTER_SCHEMA, OWN_NAMES, Reference, payload_hash
from orion_beam.kafka.admin import topic_names
from orion_beam.kafka.offset_ranges import OffsetRange, SourcePartition, offset_ranges, read_ranges
from orion_beam.proof.ledger import bitmap_of_range, maximal_ranges
from orion_beam.transforms.arrow.texts import Mask, is_in

MAX_BYTES = 64 << 20
"""Payload bytes to read at a time."""

Place = tuple[str, int, int]
"""Topic, partition and offset of a record."""


def are(letters: pa.RecordBatch, reference: Reference) -> Mask:
    """Return which rows of `orion_beam.io.letter_headers.LETTER_SCHEMA` are references in a state."""
    return is_in(letters.column("reference"), pa.array([reference.value]))


def followed(bootstrap_servers: str, letters: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yield letters in order, in parts. References get their record's key, value and headers, or are marked as gone.

    A record is gone if its topic no longer holds the offset, or if the record there has another hash: the topic was
    deleted and created again.

    Args:
        bootstrap_servers: Brokers, `host:port,…`.
        letters: Rows of `orion_beam.io.letter_headers.LETTER_SCHEMA`.

    Raises:
        PrerequisiteError: The broker cannot be reached, or stops handing out records.
    """
    if not are(letters, Reference.OPEN).any():
        yield letters
        return
    sizes = np.cumsum(letters.column("payload_bytes").fill_null(0).to_numpy())
    ends = np.flatnonzero(np.diff(sizes // MAX_BYTES, append=-1)) + 1
    for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
        rows = letters.slice(start, end - start).to_pylist()
        opened = [row for row in rows if row["reference"] == Reference.OPEN]
        records = _records(bootstrap_servers, map(_place_of, opened))
        for row in opened:
            record = records.get(_place_of(row))
            if record is None or payload_hash(record["raw_value"]) != row["payload_sha256"]:
                row["reference"] = Reference.GONE
                continue
            own = [header for header in record["raw_headers"] if header["key"] not in OWN_NAMES]
            row |= {"key": record["raw_key"], "value": record["raw_value"], "headers": own}
            row["reference"] = Reference.FOLLOWED
        yield pa.RecordBatch.from_pylist(rows, schema=LETTER_SCHEMA)


def _place_of(letter: Mapping[str, Any]) -> Place:
    return letter["source_topic"], letter["source_partition"], letter["source_offset"]


def _records(bootstrap_servers: str, places: Iterable[Place]) -> dict[Place, dict[str, Any]]:
    """Return the records at these places that still exist."""
    wanted: dict[SourcePartition, BitMap64] = {}
    for topic, partition, offset in places:
        wanted.setdefault(SourcePartition(topic, partition), BitMap64()).add(offset)
    existing = {part.topic for part in wanted} & topic_names(bootstrap_servers)
    held = offset_ranges(bootstrap_servers, sorted(existing), committed_only=True) if existing else {}
    runs = [
        [(part, run) for run in maximal_ranges(offsets & bitmap_of_range(held[part]))] if part in held else []
        for part, offsets in wanted.items()
    ]
    found = {}
    for at_once in zip_longest(*runs):
        ranges: dict[SourcePartition, OffsetRange] = dict(filter(None, at_once))
        for batch in read_ranges(bootstrap_servers, ranges, committed_only=True):
            found.update({_place_of(record): record for record in batch.to_pylist()})
    return found
