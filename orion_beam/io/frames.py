"""Decoder of the batched Kafka read's frames: a frame is one element that holds many records as Arrow buffers.

The class that makes frames documents the layout: `dev.orion.beam.KafkaFrame` in `runners/java`.
"""

import struct

import numpy as np
import pyarrow as pa

from orion_beam.schemas.fields import LAST_TIME
from orion_beam.schemas.raw import RAW_MESSAGE_SCHEMA

MAGIC = 0x3142524F
"""The text `ORB1` as a little-endian int32."""

FRAME_VERSION = 1

_HEADER = struct.Struct("<10i")
_SOME_KEY_NULL, _SOME_VALUE_NULL, _SOME_HEADER_VALUE_NULL = 1, 2, 4

_HEADERS_TYPE = RAW_MESSAGE_SCHEMA.field("raw_headers").type
_HEADER_TYPE = _HEADERS_TYPE.value_type
_TIMESTAMP_TYPE = RAW_MESSAGE_SCHEMA.field("source_timestamp").type
_LAST_TIMESTAMP = round(LAST_TIME.timestamp() * 1000)


def decode_frame(frame: bytes) -> pa.RecordBatch:
    """Map a frame to a record batch: one row per Kafka record, in the order in which they were read.

    The columns are views of `frame`: nothing is copied, and there is no loop over rows.

    Returns:
        A batch of `RAW_MESSAGE_SCHEMA`. The timestamp is null for a record without one.

    Raises:
        ValueError: `frame` is not a frame of this version, its length differs from what its header says, or an offset
            in it leads beyond its column.
    """
    sections = _Sections(frame)
    rows = sections.rows
    offsets = sections.fixed(pa.int64(), 8)
    timestamps = sections.timestamps()
    partitions = sections.fixed(pa.int32(), 4)
    keys = sections.strings(pa.binary(), rows, sections.key_bytes, _SOME_KEY_NULL)
    values = sections.strings(pa.binary(), rows, sections.value_bytes, _SOME_VALUE_NULL)
    headers = sections.header_lists()
    sections.expect_end()
    topics = pa.repeat(pa.scalar(sections.topic.decode(), pa.string()), rows)
    batch = pa.RecordBatch.from_arrays(
        [keys, values, headers, topics, partitions, offsets, timestamps], schema=RAW_MESSAGE_SCHEMA
    )
    # Arrow, and our compiled loops, would read memory beyond the frame where an offset is wrong.
    batch.validate(full=True)
    return batch


class _Sections:
    """Cursor over a frame: each call returns the next section."""

    def __init__(self, frame: bytes) -> None:
        if len(frame) < _HEADER.size:
            raise ValueError(f"a frame has at least {_HEADER.size} bytes, not {len(frame)}")
        magic, version, *lengths, self._flags = _HEADER.unpack_from(frame)
        if magic != MAGIC:
            raise ValueError(f"a frame starts with {MAGIC:#010x}, not {magic & 0xFFFFFFFF:#010x}")
        if version != FRAME_VERSION:
            raise ValueError(f"this decoder reads frames of version {FRAME_VERSION}, not {version}")
        if min(lengths) < 0:
            raise ValueError(f"a frame's lengths are not negative, but these are {lengths}")
        self.rows, self._headers, topic, self.key_bytes, self.value_bytes, self._names, self._header_values = lengths
        self._buffer = pa.py_buffer(frame)
        self._position = _HEADER.size
        self.topic = self._take(topic).to_pybytes()

    def fixed(self, data_type: pa.DataType, width: int) -> pa.Array:
        """Return a column of `rows` values without nulls."""
        return pa.Array.from_buffers(data_type, self.rows, [None, self._take(width * self.rows)])

    def timestamps(self) -> pa.Array:
        """Return the timestamps: -1 becomes null, and a time after LAST_TIME becomes LAST_TIME."""
        milliseconds = self._take(8 * self.rows)
        values = np.frombuffer(milliseconds, np.int64)
        if (values > _LAST_TIMESTAMP).any():
            milliseconds = pa.py_buffer(np.minimum(values, _LAST_TIMESTAMP))
        given = values >= 0
        validity = None if given.all() else pa.py_buffer(np.packbits(given, bitorder="little"))
        return pa.Array.from_buffers(_TIMESTAMP_TYPE, self.rows, [validity, milliseconds])

    def strings(self, data_type: pa.DataType, count: int, length: int, null_flag: int = 0) -> pa.Array:
        """Return a column of `count` byte strings with `length` bytes in all."""
        validity = self._take((count + 7) // 8) if self._flags & null_flag else None
        offsets = self._take(4 * (count + 1))
        return pa.Array.from_buffers(data_type, count, [validity, offsets, self._take(length)])

    def header_lists(self) -> pa.Array:
        """Return a list of headers for each row."""
        count = self._headers
        if count == 0:
            offsets = pa.py_buffer(bytes(4 * (self.rows + 1)))
            headers = pa.array([], _HEADER_TYPE)
        else:
            offsets = self._take(4 * (self.rows + 1))
            names = self.strings(pa.string(), count, self._names)
            values = self.strings(pa.binary(), count, self._header_values, _SOME_HEADER_VALUE_NULL)
            headers = pa.Array.from_buffers(_HEADER_TYPE, count, [None], children=[names, values])
        return pa.Array.from_buffers(_HEADERS_TYPE, self.rows, [None, offsets], children=[headers])

    def expect_end(self) -> None:
        """Raise a ValueError unless every byte of the frame has been taken."""
        if self._position != len(self._buffer):
            raise ValueError(f"a frame with this header has {self._position} bytes, not {len(self._buffer)}")

    def _take(self, length: int) -> pa.Buffer:
        end = self._position + length
        if end > len(self._buffer):
            raise ValueError(f"a frame with this header has at least {end} bytes, not {len(self._buffer)}")
        section = self._buffer.slice(self._position, length)
        self._position = (end + 7) // 8 * 8
        return section
