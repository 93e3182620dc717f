"""Reading the ends of Avro records: what is read is what a decoder reads, and what cannot be read is left to it."""

import io
import json
from datetime import UTC, datetime
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orion_beam.proof.avro_tail import NO_TIMESTAMP, AvroTail

SCHEMA = json.dumps(
    {
        "type": "record",
        "name": "Cdr",
        "fields": [
            {"name": "apn", "type": "string"},
            {"name": "source_topic", "type": "string"},
            {"name": "source_partition", "type": "int"},
            {"name": "source_offset", "type": "long"},
            {"name": "source_timestamp", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}]},
            {"name": "schema_version", "type": "int"},
            {"name": "run_id", "type": ["null", "string"]},
            {"name": "record_sequence_number", "type": ["null", "long"]},
        ],
    }
)
PARSED = fastavro.parse_schema(json.loads(SCHEMA))
LONGS = st.integers(-(1 << 63), (1 << 63) - 1)
TOPICS = st.sampled_from(["cdr.raw.FR", "FR", "cdr.raw.TN", "x" * 200])
RUNS = st.none() | st.sampled_from(["", "a", "replay-é", "\x00", "r" * 70])

records = st.fixed_dictionaries(
    {
        "apn": st.text() | st.sampled_from(["\x02\x00", "cdr.raw.FR\x00\x02\x00"]),
        "source_topic": TOPICS,
        "source_partition": st.integers(-(1 << 31), (1 << 31) - 1),
        "source_offset": LONGS | st.sampled_from([0, 1, 63, 64]),
        "source_timestamp": st.none() | st.integers(0, 10**15),
        "schema_version": st.integers(0, 1000),
        "run_id": RUNS,
        "record_sequence_number": st.none() | LONGS | st.sampled_from([0, 1]),
    }
)


def encoded(record: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, PARSED, record)
    return out.getvalue()


def decoded(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {name: pa.array([row[name] for row in rows], pa.string()) for name in ("source_topic", "run_id")}
    )


def is_plain(row: dict[str, Any]) -> bool:
    """Whether nothing in it can be taken for something else, read backwards."""
    numbers = (row["source_timestamp"], row["record_sequence_number"])
    if 0 in numbers or row["run_id"] in ("", "\x00"):
        return False  # a zero ends like null
    offset = io.BytesIO()
    fastavro.schemaless_writer(offset, {"type": "long"}, row["source_offset"])
    return row["source_timestamp"] is not None or offset.getvalue()[-1] != 2  # null behind it looks like a zero


@given(st.lists(records, min_size=1, max_size=5), st.lists(records, min_size=1, max_size=8))
def test_what_is_read_is_what_was_written(known: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    tail = AvroTail(SCHEMA)
    tail.learn(decoded(known))
    found = tail.read([encoded(row) for row in rows])
    topics, runs = ({row[name] for row in known} | {None} for name in ("source_topic", "run_id"))
    for place, row in enumerate(rows):
        stamp = row["source_timestamp"]
        if is_plain(row):
            assert found.is_read[place] == (row["source_topic"] in topics and row["run_id"] in runs)
        if found.is_read[place]:
            assert tail.topics[found.topic[place]] == row["source_topic"]
            assert found.partition[place] == row["source_partition"]
            assert found.offset[place] == row["source_offset"]
            assert found.timestamp_ms[place] == (NO_TIMESTAMP if stamp is None else stamp)


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=20))
def test_anything_at_all_is_read_or_not_but_breaks_nothing(values: list[bytes]) -> None:
    tail = AvroTail(SCHEMA)
    tail.learn(decoded([{"source_topic": "cdr.raw.FR", "run_id": "a"}]))
    good = encoded(
        {
            "apn": "", "source_topic": "cdr.raw.FR", "source_partition": 1, "source_offset": 2,
            "source_timestamp": datetime(2026, 1, 1, tzinfo=UTC), "schema_version": 2, "run_id": None,
            "record_sequence_number": None,
        }
    )  # fmt: skip
    found = tail.read([*values, good])
    assert found.is_read[-1]
    assert (found.partition[-1], found.offset[-1]) == (1, 2)
    for value, is_read in zip(values, found.is_read, strict=False):
        assert not is_read or b"cdr.raw.FR" in value


def test_a_schema_that_cannot_be_read_backwards_is_left_to_the_decoder() -> None:
    schema = json.loads(SCHEMA)
    schema["fields"].append({"name": "reasons", "type": {"type": "array", "items": "string"}})
    tail = AvroTail(json.dumps(schema))
    tail.learn(decoded([{"source_topic": "cdr.raw.FR", "run_id": None}]))
    assert not np.any(tail.read([b"x" * 100]).is_read)


def test_a_schema_without_sources_is_refused() -> None:
    with pytest.raises(ValueError, match="source_topic"):
        AvroTail(json.dumps({"type": "record", "name": "x", "fields": [{"name": "a", "type": "int"}]}))
