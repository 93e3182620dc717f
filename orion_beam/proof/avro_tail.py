"""Reads the source of many Avro records at once, from their ends, without decoding what stands before it.

A field of Avro's binary encoding begins where the one before it ends, so that a decoder has to go through fifty fields
to learn where a CDR came from. Yet the source is close to the end of a CDR, and what follows it can be read backwards:
the last byte of a number is the only one below 128, and so is the byte that ends whatever stands before it. What is
text cannot be read backwards; but topics and run ids are few, so the reader is told of each once, and looks for it.

All records of a batch are walked side by side in numpy. Whatever does not fit in every byte is left to a decoder.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from orion_beam.transforms.arrow.compiled import Bytes, Mask, Offsets

NO_TIMESTAMP = np.iinfo(np.int64).min

_VARINT_BYTES = 10
"""At most, of a long."""
_MORE = 0x80
_KNOWN_TEXTS = 64
"""Each is looked for in the records that have none of those before it; beyond this, decoding is as fast."""
_NULL = b"\x00"
"""The branch of a union whose first type is null."""
_PRESENT = b"\x02"


class TailColumns(NamedTuple):
    """Where records came from.

    Attributes:
        is_read: of each record, whether its end could be read; else nothing here means anything.
        topic: index in `AvroTail.topics`.
        partition: of the topic.
        offset: in the partition.
        timestamp_ms: since the epoch, or NO_TIMESTAMP.
    """

    is_read: Mask
    topic: Offsets
    partition: Offsets
    offset: Offsets
    timestamp_ms: Offsets


class AvroTail:
    """Reads the ends of records of one schema.

    Args:
        schema_json: the writer's schema. If something other than numbers and texts that may be null stands behind
            `source_topic`, no record is ever read.

    Attributes:
        topics: the topics that it has been told of.

    Raises:
        ValueError: the schema has no field `source_topic`.
    """

    def __init__(self, schema_json: str) -> None:
        """Plan the walk."""
        fields = json.loads(schema_json)["fields"]
        names = [field["name"] for field in fields]
        behind = fields[names.index("source_topic") + 1 :]
        self._kinds = [(field["name"], _kind_of(field["type"])) for field in reversed(behind)]
        self._can_read = None not in dict(self._kinds).values()
        self.topics: list[str] = []
        self._topics: list[bytes] = []
        self._texts: dict[str, list[bytes]] = {name: [] for name, kind in self._kinds if kind is _Walk.text}

    @property
    def _tail_bytes(self) -> int:
        """How many bytes from the end whatever is known takes at most."""
        numbers = len(self._kinds) - len(self._texts)
        texts = sum(max(map(len, known), default=1) for known in (self._topics, *self._texts.values()))
        return texts + (1 + _VARINT_BYTES) * numbers

    def learn(self, decoded: pa.RecordBatch) -> None:
        """Take in the topics and texts of decoded records: others like them will be read."""
        for topic in decoded.column("source_topic").unique().to_pylist():
            if topic not in self.topics:
                self.topics.append(topic)
                self._topics.append(_encoded(topic))
        for name, known in self._texts.items():
            for text in decoded.column(name).unique().drop_null().to_pylist():
                if (encoded := _PRESENT + _encoded(text)) not in known and len(known) < _KNOWN_TEXTS:
                    known.append(encoded)

    def read(self, records: Sequence[bytes]) -> TailColumns:
        """Read the ends of records, whatever stands before them."""
        count = len(records)
        columns: dict[str, Offsets] = {"source_timestamp": np.full(count, NO_TIMESTAMP)}
        if not self._can_read or not self._topics:
            nothing = np.zeros(count, np.int64)
            return TailColumns(np.zeros(count, np.bool_), nothing, nothing, nothing, columns["source_timestamp"])
        walk = _Walk(records, self._tail_bytes)
        for name, kind in self._kinds:
            assert kind is not None
            columns[name] = kind(walk, self._texts.get(name, ()))
        topic = walk.one_of(self._topics)
        return TailColumns(
            walk.is_read, topic, columns["source_partition"], columns["source_offset"], columns["source_timestamp"]
        )


class _Walk:
    """Where each record's field ends that is read next, from the back to the front."""

    def __init__(self, records: Sequence[bytes], tail_bytes: int) -> None:
        tails = b"".join([record[-tail_bytes:] for record in records])
        if len(tails) < len(records) * tail_bytes:
            # Nothing known begins with a zero: a record that is too short is not taken for one that fits.
            tails = b"".join([record[-tail_bytes:].rjust(tail_bytes, _NULL) for record in records])
        self._data: Bytes = np.frombuffer(tails, np.uint8)
        self._end: Offsets = np.arange(tail_bytes, len(tails) + 1, tail_bytes)
        self.is_read = np.ones(len(records), np.bool_)

    def number(self, _: Sequence[bytes] = ()) -> Offsets:
        """Read ints or longs."""
        last = self._bytes_before(1)
        self.is_read &= last < _MORE
        raw = last.astype(np.uint64)
        width = np.ones(len(raw), np.int64)
        rows: Any = slice(None)
        for size in range(2, _VARINT_BYTES + 1):
            byte = self._data.take(self._end[rows] - size, mode="clip")
            more = np.flatnonzero(byte & _MORE)
            if not len(more):
                break
            rows = more if isinstance(rows, slice) else rows[more]
            raw[rows] = (raw[rows] << np.uint64(7)) | (byte[more] & 0x7F)
            width[rows] = size
        self._step(width)
        return (raw >> np.uint64(1)).astype(np.int64) ^ -(raw & np.uint64(1)).astype(np.int64)

    def number_or_null(self, _: Sequence[bytes] = ()) -> Offsets:
        """Read longs that may be null: a zero, behind anything but the number of the other branch.

        Behind that, it may be the number 0 as well, or null behind a field that ends like it: that is not read.
        """
        is_null = self._bytes_before(1) == _NULL[0]
        if is_null.any():
            self.is_read &= ~is_null | (self._bytes_before(2) != _PRESENT[0])
        end = self._end
        numbers = self.number()
        self.is_read &= is_null | (self._bytes_before(1) == _PRESENT[0])
        self._end = np.where(is_null, end, self._end) - 1
        return np.where(is_null, NO_TIMESTAMP, numbers)

    def text(self, known: Sequence[bytes]) -> Offsets:
        """Step over texts that may be null, of which some are known."""
        is_null = self._bytes_before(1) == _NULL[0]
        if is_null.all():
            self._step(1)
            return np.zeros(len(is_null), np.int64)
        chosen = self.one_of([_NULL, *known])
        self.is_read &= (chosen == 0) == is_null
        return chosen

    def one_of(self, known: Sequence[bytes]) -> Offsets:
        """Return which of some texts stands here, and step over it."""
        chosen = np.full(len(self._end), -1)
        width = np.zeros(len(self._end), np.int64)
        left = np.flatnonzero(self.is_read)
        for index, text in enumerate(known):
            if not len(left):
                break
            places = self._end[left, None] - np.arange(len(text), 0, -1)
            is_here = (self._data.take(places, mode="clip") == np.frombuffer(text, np.uint8)).all(axis=1)
            chosen[left[is_here]] = index
            width[left[is_here]] = len(text)
            left = left[~is_here]
        self.is_read[left] = False
        self._step(width)
        return chosen

    def _bytes_before(self, size: int) -> Bytes:
        return self._data.take(self._end - size, mode="clip")

    def _step(self, width: "Offsets | int") -> None:
        self._end = self._end - width


ValueWalk = Callable[[_Walk, Sequence[bytes]], Offsets]


def _kind_of(kind: Any) -> ValueWalk | None:
    match kind:
        case "int" | "long" | {"type": "int" | "long"}:
            return _Walk.number
        case ["null", "int" | "long" | {"type": "int" | "long"}]:
            return _Walk.number_or_null
        case ["null", "string"]:
            return _Walk.text
    return None


def _encoded(text: str) -> bytes:
    """Return a text as Avro writes it, behind its length."""
    data = text.encode()
    return bytes(_varint(2 * len(data))) + data


def _varint(number: int) -> Iterator[int]:
    while number >= _MORE:
        yield number & 0x7F | _MORE
        number >>= 7
    yield number
