"""Frames of the batched read, from an encoder in Python (every shape, fast) and from the real one in Java."""

import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orion_beam.io.frames import FRAME_VERSION, MAGIC, decode_frame
from orion_beam.schemas.raw import RAW_MESSAGE_SCHEMA

FRAME_DUMP = Path("src/test/java/dev/orion/beam/FrameDump.java")


class Record(NamedTuple):
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


INT64 = st.integers(-(2**63), 2**63 - 1)
BYTES = st.none() | st.binary(max_size=40)
RECORDS = st.builds(
    Record,
    partition=st.integers(0, 2**31 - 1),
    offset=INT64,
    timestamp=st.just(-1) | st.integers(0, 253_402_128_000_000) | st.integers(2**60, 2**62),
    key=BYTES,
    value=BYTES,
    headers=st.lists(st.tuples(st.text(max_size=8), BYTES), max_size=4),
)
AWKWARD = [
    Record(0, 0, 1_700_000_000_000, b"key", b"value", []),
    Record(11, 2**62, -1, None, b"", []),
    Record(1, 2, 0, b"", None, [("", b""), ("null", None), ("cl\u00e9", b"\xff\x00\n")]),
    Record(1, 3, -1, None, None, []),
    Record(1, 4, 5, b"\xff\n\0", b'a;"b\n', [("many", b"%d" % i) for i in range(300)]),
    Record(1, 5, 5, b"big", bytes(1 << 20), []),
]


def padded(section: bytes) -> bytes:
    return section + bytes(-len(section) % 8)


def column(items: Sequence[bytes | None]) -> tuple[bytes, bool, int]:
    """Return a column's sections, whether it has nulls, and how many bytes its items are."""
    some_null = None in items
    present = [b"" if item is None else item for item in items]
    ends = [0]
    for item in present:
        ends.append(ends[-1] + len(item))
    bits = sum(1 << i for i, item in enumerate(items) if item is not None)
    validity = padded(bits.to_bytes((len(items) + 7) // 8, "little")) if some_null else b""
    return validity + padded(struct.pack(f"<{len(ends)}i", *ends)) + padded(b"".join(present)), some_null, ends[-1]


def encode(topic: str, records: Sequence[Record]) -> bytes:
    """Write a frame, straight from the layout's description."""
    n = len(records)
    headers = [header for record in records for header in record.headers]
    keys, key_null, key_bytes = column([record.key for record in records])
    values, value_null, value_bytes = column([record.value for record in records])
    names, _, name_bytes = column([name.encode() for name, _ in headers])
    header_values, header_null, header_bytes = column([value for _, value in headers])
    flags = key_null | value_null << 1 | header_null << 2
    name = topic.encode()
    lengths = (n, len(headers), len(name), key_bytes, value_bytes, name_bytes, header_bytes)
    frame = padded(struct.pack("<10i", MAGIC, FRAME_VERSION, *lengths, flags) + name)
    frame += struct.pack(f"<{n}q", *(record.offset for record in records))
    frame += struct.pack(f"<{n}q", *(record.timestamp for record in records))
    frame += padded(struct.pack(f"<{n}i", *(record.partition for record in records)))
    frame += keys + values
    if headers:
        ends = [0]
        for record in records:
            ends.append(ends[-1] + len(record.headers))
        frame += padded(struct.pack(f"<{n + 1}i", *ends)) + names + header_values
    return frame


def expected(topic: str, records: Sequence[Record]) -> pa.RecordBatch:
    columns = {
        "raw_key": [record.key for record in records],
        "raw_value": [record.value for record in records],
        "raw_headers": [[{"key": key, "value": value} for key, value in record.headers] for record in records],
        "source_topic": [topic] * len(records),
        "source_partition": [record.partition for record in records],
        "source_offset": [record.offset for record in records],
        "source_timestamp": [
            min(record.timestamp, 253_402_128_000_000) if record.timestamp >= 0 else None for record in records
        ],
    }
    return pa.RecordBatch.from_arrays(
        [pa.array(columns[field.name], field.type) for field in RAW_MESSAGE_SCHEMA], schema=RAW_MESSAGE_SCHEMA
    )


def assert_decodes(frame: bytes, topic: str, records: Sequence[Record]) -> None:
    batch = decode_frame(frame)
    batch.validate(full=True)
    assert batch.schema.equals(RAW_MESSAGE_SCHEMA)
    assert batch.equals(expected(topic, records))


@given(st.text(max_size=20), st.lists(RECORDS, max_size=20))
def test_every_record_comes_back_as_it_was_packed(topic: str, records: list[Record]) -> None:
    assert_decodes(encode(topic, records), topic, records)


def test_awkward_records_come_back_as_they_were_packed() -> None:
    assert_decodes(encode("cdr.raw.FR", AWKWARD), "cdr.raw.FR", AWKWARD)


def test_columns_are_views_of_the_frame() -> None:
    frame = encode("t", [Record(0, i, i, b"key", b"x" * 1000, []) for i in range(100)])
    values = decode_frame(frame).column("raw_value").buffers()[2]
    start = pa.py_buffer(frame).address
    assert start <= values.address < start + len(frame)


def test_null_and_empty_are_told_apart() -> None:
    batch = decode_frame(encode("t", [Record(0, 0, 0, None, b"", []), Record(0, 1, 0, b"", None, [])]))
    assert batch.column("raw_key").to_pylist() == [None, b""]
    assert batch.column("raw_value").to_pylist() == [b"", None]
    assert batch.column("raw_headers").to_pylist() == [[], []]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda _: b"", "at least 40 bytes, not 0"),
        (lambda frame: frame[:39], "at least 40 bytes, not 39"),
        (lambda frame: b"XXXX" + frame[4:], "starts with 0x3142524f, not 0x58585858"),
        (lambda frame: frame[:4] + struct.pack("<i", 2) + frame[8:], "version 1, not 2"),
        (lambda frame: frame[:8] + struct.pack("<i", -1) + frame[12:], "not negative"),
        (lambda frame: frame[:-8], r"at least \d+ bytes, not \d+"),
        (lambda frame: frame + bytes(8), r"has \d+ bytes, not \d+"),
        (lambda frame: frame.replace(b"trace", b"tr\xffce"), "UTF"),
    ],
)
def test_what_is_no_frame_is_refused_with_a_reason(damage, message: str) -> None:
    frame = encode("cdr.raw.FR", [Record(0, 0, 0, b"key", b"12345678", [("trace", b"a")])])
    assert damage(frame) != frame
    with pytest.raises(ValueError, match=message):
        decode_frame(damage(frame))


@pytest.mark.parametrize("ends", [(0, 128, 2, 3), (0, 2, 1, 3), (-1, 1, 2, 3)])
def test_an_offset_that_leads_elsewhere_is_refused(ends: tuple[int, ...]) -> None:
    """Arrow checks the last offset by itself; with another one it would read what lies beside the column."""
    good = struct.pack("<4i", 0, 1, 2, 3)
    lists = encode("t", [Record(0, i, 5, b"", b"", [("a", b"")]) for i in range(3)])
    values = encode("t", [Record(0, i, 5, b"", b"x", []) for i in range(3)])
    for frame in (lists, values):
        assert good in frame
        with pytest.raises(ValueError, match=r"(?i)offset"):
            decode_frame(frame.replace(good, struct.pack("<4i", *ends)))


def _java_input(topic: str, records: Sequence[Record]) -> bytes:
    """Write records as the Java class FrameDump reads them."""

    def string(item: bytes | None) -> bytes:
        return struct.pack(">i", -1) if item is None else struct.pack(">i", len(item)) + item

    out = string(topic.encode()) + struct.pack(">i", len(records))
    for record in records:
        out += struct.pack(">iqq", record.partition, record.offset, record.timestamp)
        out += string(record.key) + string(record.value) + struct.pack(">i", len(record.headers))
        out += b"".join(string(name.encode()) + string(value) for name, value in record.headers)
    return out


@pytest.mark.integration
@pytest.mark.parametrize("records", [AWKWARD, AWKWARD[:1], AWKWARD * 3], ids=["awkward", "one", "repeated"])
def test_java_and_python_agree_on_every_byte(records: list[Record]) -> None:
    from orion_beam.runners.jars.build import JAVA_SOURCES, ensure_jars, find_java

    frame = subprocess.run(
        [find_java(), "-cp", ensure_jars().job_classpath, str(JAVA_SOURCES / FRAME_DUMP)],
        input=_java_input("cdr.raw.FR", records),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    assert frame == encode("cdr.raw.FR", records)
    assert_decodes(frame, "cdr.raw.FR", records)
