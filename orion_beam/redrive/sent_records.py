"""Set of the records that redrives have sent back, stored in the journal.

The key of a record is its source and its attempt, not its letter: a job that restarts, or a replay, may write several
letters of one record, and only one of them is sent back.
"""

import base64
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from pyroaring import BitMap64

from orion_beam.countries import all_profiles
from orion_beam.io.letter_headers import letters_of
from orion_beam.kafka.admin import topic_ids, topic_names
from orion_beam.kafka.entries import Entry
from orion_beam.kafka.offset_ranges import OffsetRange, offset_ranges, read_ranges
from orion_beam.proof.ledger import bitmap_of, bitmap_of_range
from orion_beam.redrive.journal import journal_topic, read_journal
from orion_beam.transforms.arrow.compiled import Offsets
from orion_beam.transforms.arrow.texts import Mask
from orion_beam.transforms.stage.batches import filter_rows

Rows = npt.NDArray[np.intp]

ENTRY_OFFSETS = 1 << 16
"""Offsets that one journal entry covers; it takes 11 KB at most, and mostly some dozens of bytes.

Never change it: the keys on the journal count in it, and records that have been sent would be sent again.
"""

_KIND = "redriven"
_RECORD = ["source_topic", "source_partition", "attempt", "source_offset"]


class _Sending(NamedTuple):
    """Key of a set of offsets: raw topic, partition and attempt."""

    topic: str
    partition: int
    attempt: int


class SentRecords:
    """Set of records, by source and attempt."""

    def __init__(self) -> None:
        """Create an empty set."""
        self._offsets: defaultdict[_Sending, BitMap64] = defaultdict(BitMap64)

    def holds(self, letters: pa.RecordBatch) -> Mask:
        """Return which rows of `orion_beam.io.letter_headers.LETTER_SCHEMA` have their record in the set."""
        mask = np.zeros(letters.num_rows, np.bool_)
        for sending, rows, offsets in _sendings_of(letters):
            held = self._offsets.get(sending, BitMap64()) & bitmap_of(offsets)
            mask[rows] = np.isin(offsets, np.frombuffer(held.to_array(), np.uint64).astype(np.int64))
        return mask

    def add(self, letters: pa.RecordBatch) -> None:
        """Add the records of letters."""
        for sending, _, offsets in _sendings_of(letters):
            self._offsets[sending] |= bitmap_of(offsets)


class Redriven(SentRecords):
    """Set of the records that any redrive has sent back.

    The keys of journal entries contain the raw topic's id, not its name: a topic that is deleted and created again has
    another id, and its offsets start again at 0.
    """

    def __init__(self, topic_ids: Mapping[str, str], entries: Mapping[str, Entry]) -> None:
        """Read the set from the journal's entries, for raw topics whose ids are given by name."""
        super().__init__()
        self._ids = dict(topic_ids)
        names = {topic_id: name for name, topic_id in self._ids.items()}
        for key, entry in entries.items():
            # Split from the right, since an id may contain slashes.
            topic_id, *numbers = key.removeprefix(f"{_KIND}/").rsplit("/", 3)
            if key.startswith(f"{_KIND}/") and topic_id in names and "offsets" in entry:
                partition, attempt, _ = map(int, numbers)
                self._offsets[_Sending(names[topic_id], partition, attempt)] |= _unpacked(entry["offsets"])

    def entries_with(self, letters: pa.RecordBatch) -> dict[str, Entry]:
        """Return the journal entries as they will be when letters are sent; the set changes only with `add`.

        The id of the letters' raw topics must be known.
        """
        entries: dict[str, Entry] = {}
        for sending, _, offsets in _sendings_of(letters):
            held = self._offsets.get(sending, BitMap64())
            for number in np.unique(offsets // ENTRY_OFFSETS).tolist():
                low = number * ENTRY_OFFSETS
                chunk = bitmap_of_range(OffsetRange(low, low + ENTRY_OFFSETS)) & (held | bitmap_of(offsets))
                key = f"{_KIND}/{self._ids[sending.topic]}/{sending.partition}/{sending.attempt}/{number}"
                entries[key] = {"kind": _KIND, "offsets": _packed(chunk)}
        return entries


def redriven_of(
    bootstrap_servers: str, topic: str, topic_id: str, raw_topic_ids: Mapping[str, str], entries: Mapping[str, Entry]
) -> Redriven:
    """Return the records that have been sent back, from the journal's entries.

    Entries of older releases list letters by their places. The letters that are still there are read, and their records
    are added.

    Args:
        bootstrap_servers: Brokers, `host:port,…`.
        topic: Topic of the letters.
        topic_id: Kafka's id of that topic, which is in the keys of entries of older releases.
        raw_topic_ids: Kafka's ids of the raw topics, by name.
        entries: Entries of the journal.

    Raises:
        PrerequisiteError: The broker stops handing out the letters.
    """
    redriven = Redriven(raw_topic_ids, entries)
    marked = _marked_places(topic_id, entries)
    if marked:
        held = offset_ranges(bootstrap_servers, [topic], committed_only=True)
        ranges = {
            part: OffsetRange(max(within.low, places.min()), min(within.high, places.max() + 1))
            for part, within in held.items()
            if (places := marked.get(part.partition))
        }
        for messages in read_ranges(bootstrap_servers, ranges, committed_only=True):
            letters = letters_of(messages).letters
            columns = (letters.column(name).to_pylist() for name in ("letter_partition", "letter_offset"))
            is_marked = [offset in marked[partition] for partition, offset in zip(*columns, strict=True)]
            redriven.add(filter_rows(letters, np.array(is_marked, np.bool_)))
    return redriven


def read_redriven(bootstrap_servers: str, topic: str) -> Redriven:
    """Read from the journal which records have been sent back, of letters on any topic.

    Args:
        bootstrap_servers: Brokers, `host:port,…`.
        topic: Topic of letters that entries of older releases may list.

    Raises:
        PrerequisiteError: The broker cannot be reached.
        KafkaRefusedError: The broker refuses.
    """
    existing = topic_names(bootstrap_servers)
    if journal_topic() not in existing:
        return Redriven({}, {})
    raw = [profile.topic for profile in all_profiles().values() if profile.topic in existing]
    ids = topic_ids(bootstrap_servers, {topic, *raw})
    entries = read_journal(bootstrap_servers, f"{_KIND}/")
    return redriven_of(bootstrap_servers, topic, ids[topic], {name: ids[name] for name in raw}, entries)


def _marked_places(topic_id: str, entries: Mapping[str, Entry]) -> dict[int, BitMap64]:
    """Return the offsets of letters that older releases have marked as sent, by partition of the letters' topic."""
    marked: defaultdict[int, BitMap64] = defaultdict(BitMap64)
    for key, entry in entries.items():
        kind, _, rest = key.partition("/")
        if kind == _KIND and rest.startswith(f"{topic_id}/") and "bits" in entry:
            partition, number = map(int, rest.removeprefix(f"{topic_id}/").split("/"))
            bits = np.unpackbits(np.frombuffer(zlib.decompress(base64.b64decode(entry["bits"])), np.uint8))
            marked[partition] |= bitmap_of(np.flatnonzero(bits) + number * ENTRY_OFFSETS)
    return marked


def first_letters(letters: pa.RecordBatch) -> Mask:
    """Return which letters are the first of their record."""
    is_first = pl.DataFrame(letters.select(_RECORD)).select(pl.struct(_RECORD).is_first_distinct())
    return is_first.to_series().to_numpy()


def _sendings_of(letters: pa.RecordBatch) -> Iterator[tuple[_Sending, Rows, Offsets]]:
    """Group letters by raw topic, partition and attempt; yield each group's key, rows and source offsets."""
    if not letters.num_rows:
        return
    offsets = letters.column("source_offset").to_numpy()
    rows = pl.DataFrame(letters.select(_RECORD[:3])).with_row_index("row")
    for (topic, partition, attempt), group in rows.group_by(_RECORD[:3]):
        places = group["row"].to_numpy()
        yield _Sending(str(topic), int(partition), int(attempt)), places, offsets[places]


def _packed(offsets: BitMap64) -> str:
    return base64.b64encode(zlib.compress(offsets.serialize())).decode()


def _unpacked(packed: str) -> BitMap64:
    return BitMap64.deserialize(zlib.decompress(base64.b64decode(packed)))
