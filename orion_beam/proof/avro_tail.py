"""Reader of the source fields of many Avro records at once, backwards from the records' ends.

In Avro's binary encoding a field begins where the field before it ends, so a decoder goes through fifty fields to find
the source of a CDR. The source is near the end of a CDR, and numbers can be read backwards: only the last byte of a
number is below 128, and so is the last byte of the field before it. Texts cannot be read backwards. But there are few
different topics and run ids, so the reader learns each text once from a decoded record, and then compares bytes.

    ... | source_topic | source_partition | source_offset | source_timestamp | schema_version | run_id     | ... |
          known text     number             number          number or null     number           known text
          <---------------------------------------- walk, from the end of the record to the front ---------------

numpy walks all records of a batch in parallel. A record that does not match in every byte is left to a decoder.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from orion_beam.transforms.arrow.compiled import Bytes, Mask, Offsets

NO_TIMESTAMP = np.iinfo(np.int64).min

_VARINT_BYTES = 10
"""Largest number of bytes of a long."""
_MORE = 0x80
_KNOWN_TEXTS = 64
"""Maximum known texts per field. Each is compared with the records that match no earlier text.

With more texts, decoding is as fast.
"""
_NULL = b"\x00"
"""Encoding of branch 0 of a union, which is null here."""
_PRESENT = b"\x02"
"""Encoding of branch 1 of a union, which is the value's type here."""


class TailColumns(NamedTuple):
    """Sources of records, one value per record.

    Attributes:
        is_read: Whether the record's end could be read. If not, its other values are meaningless.
        topic: Index in `AvroTail.topics`.
        partition: Partition of the topic.
        offset: Offset in the partition.
        timestamp_ms: Epoch milliseconds, or NO_TIMESTAMP.
    """

    is_read: Mask
    topic: Offsets
    partition: Offsets
    offset: Offsets
    timestamp_ms: Offsets


class AvroTail:
    """Reader of the ends of records of one schema.

    Args:
        schema_json: Schema of the writer. If a field after `source_topic` is neither a number nor a nullable text, the
            reader reads no record.

    Attributes:
        topics: Topics that it has learned.

    Raises:
        ValueError: The schema has no field `source_topic`.
    """

    def __init__(self, schema_json: str) -> None:
        """Choose how to read each field after `source_topic`."""
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
        """Largest number of bytes from the end that the source and the fields after it can take."""
        numbers = len(self._kinds) - len(self._texts)
        texts = sum(max(map(len, known), default=1) for known in (self._topics, *self._texts.values()))
        return texts + (1 + _VARINT_BYTES) * numbers

    def learn(self, decoded: pa.RecordBatch) -> None:
        """Learn the topics and texts of decoded records, so that records with the same ones can be read."""
        for topic in decoded.column("source_topic").unique().to_pylist():
            if topic not in self.topics:
                self.topics.append(topic)
                self._topics.append(_encoded(topic))
        for name, known in self._texts.items():
            for text in decoded.column(name).unique().drop_null().to_pylist():
                if (encoded := _PRESENT + _encoded(text)) not in known and len(known) < _KNOWN_TEXTS:
                    known.append(encoded)

    def read(self, records: Sequence[bytes]) -> TailColumns:
        """Read the sources at the ends of records."""
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
    """Cursor over all records: the end of each record's next field, from the last field to the first."""

    def __init__(self, records: Sequence[bytes], tail_bytes: int) -> None:
        tails = b"".join([record[-tail_bytes:] for record in records])
        if len(tails) < len(records) * tail_bytes:
            # Zeros pad short records. No topic begins with a zero byte, so padding is never taken for a topic.
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
        """Read nullable longs: 0x00 for null, or 0x02 and the number.

        The bytes 0x02 0x00 are ambiguous: the number 0, or null after a field that ends with 0x02. Records with them
        are not read.
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
        """Step over nullable texts; records with an unknown text are not read."""
        is_null = self._bytes_before(1) == _NULL[0]
        if is_null.all():
            self._step(1)
            return np.zeros(len(is_null), np.int64)
        chosen = self.one_of([_NULL, *known])
        self.is_read &= (chosen == 0) == is_null
        return chosen

    def one_of(self, known: Sequence[bytes]) -> Offsets:
        """Return the index of the known text that ends here, and step over it; other records are not read."""
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
    """Encode a text as Avro does: its length, then its UTF-8 bytes."""
    data = text.encode()
    return bytes(_varint(2 * len(data))) + data


def _varint(number: int) -> Iterator[int]:
    while number >= _MORE:
        yield number & 0x7F | _MORE
        number >>= 7
    yield number
