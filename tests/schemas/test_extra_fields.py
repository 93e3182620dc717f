"""Records with and without extra fields are read with either schema, in every form in which they are written."""

import io
import json
from datetime import UTC, date, datetime
from typing import Any

import fastavro
import pyarrow as pa
import pytest

from orion_beam.inspect.final_values import FinalReader
from orion_beam.proof.cdr_reader import CdrReader
from orion_beam.schema_tools.avro_compatibility import compatibility
from orion_beam.schemas.avro_format import single_object_header
from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.derive import avro_schema
from orion_beam.schemas.extra_fields import ExtraBlock, extended
from orion_beam.testing import batch_after, raw_batch
from orion_beam.transforms.encode import Wire, encode_batch

FIELDS = {"text": "string", "count": "long", "score": "double", "vip": "boolean", "seen": "timestamp", "day": "date"}
BLOCK = ExtraBlock(stage="tag", fields=[{"name": name, "type": kind} for name, kind in FIELDS.items()])
OTHER = ExtraBlock(stage="late", fields=[{"name": "score", "type": "double"}])
MODEL = extended(UnifiedCdr, (BLOCK, OTHER))
VALUES: dict[str, Any] = {
    "text": "é", "count": -7, "score": 0.25, "vip": True, "seen": datetime(2026, 1, 2, 3, 4, 5, 6000, UTC),
    "day": date(2026, 1, 2),
}  # fmt: skip
PLAIN_SCHEMA, EXTENDED_SCHEMA = avro_schema(UnifiedCdr), avro_schema(MODEL)


@pytest.fixture(scope="module")
def enriched() -> pa.RecordBatch:
    lines = [b"208011234567890;33612345678;;;;1;2;1780308000"] * 3
    return batch_after("enrich", raw_batch("FR", lines, timestamps=datetime(2026, 6, 5, tzinfo=UTC)))


@pytest.fixture(scope="module")
def with_fields(enriched) -> pa.RecordBatch:
    """A row with all fields, one with none, one with one of them."""
    batch = enriched
    for name, value in VALUES.items():
        column = pa.array([value, None, value if name == "vip" else None])
        if isinstance(value, datetime):
            column = column.cast(pa.timestamp("ms", "UTC"))
        batch = batch.append_column(f"tag.{name}", column)
    return batch.append_column("late.score", pa.array([None, 1.5, None], pa.float64()))


def values_of(batch: pa.RecordBatch, model: type[UnifiedCdr], prefix: bytes | None) -> list[bytes]:
    return encode_batch(batch, model, Wire(prefix)).accepted.column("value").to_pylist()  # type: ignore[no-any-return]


def read(value: bytes, writer: str, reader: str) -> dict[str, Any]:
    schemas = (fastavro.parse_schema(json.loads(each)) for each in (writer, reader))
    return fastavro.schemaless_reader(io.BytesIO(value), *schemas)  # type: ignore[return-value]


def test_without_extra_fields_nothing_is_different():
    assert extended(UnifiedCdr, ()) is UnifiedCdr


def test_the_schemas_are_compatible_both_ways():
    assert compatibility(PLAIN_SCHEMA, EXTENDED_SCHEMA) == []
    assert compatibility(EXTENDED_SCHEMA, PLAIN_SCHEMA) == []
    assert single_object_header(EXTENDED_SCHEMA) != single_object_header(PLAIN_SCHEMA)


def test_a_reader_with_the_extended_schema_reads_both(enriched, with_fields):
    full, none, some = (read(value, EXTENDED_SCHEMA, EXTENDED_SCHEMA) for value in values_of(with_fields, MODEL, b""))
    assert (full["tag"], full["late"]) == (VALUES, None)
    assert (none["tag"], none["late"]) == (None, {"score": 1.5})
    assert some["tag"] == dict.fromkeys(VALUES) | {"vip": True}
    plain = read(values_of(enriched, UnifiedCdr, b"")[0], PLAIN_SCHEMA, EXTENDED_SCHEMA)
    assert (plain["tag"], plain["late"], plain["imsi"]) == (None, None, "208011234567890")


def test_a_reader_with_the_plain_schema_reads_both(enriched, with_fields):
    plain = read(values_of(enriched, UnifiedCdr, b"")[0], PLAIN_SCHEMA, PLAIN_SCHEMA)
    assert read(values_of(with_fields, MODEL, b"")[0], EXTENDED_SCHEMA, PLAIN_SCHEMA) == plain


@pytest.mark.parametrize("prefix", [single_object_header(EXTENDED_SCHEMA), b"\0\0\0\0\7", None])
def test_our_reader_of_single_values_reads_both(enriched, with_fields, prefix):
    value = FinalReader(MODEL).read(values_of(with_fields, MODEL, prefix)[0])
    assert value is not None
    expected = VALUES if prefix is not None else VALUES | {"seen": "2026-01-02T03:04:05.006Z", "day": "2026-01-02"}
    assert value["tag"] == expected
    plain_prefix = single_object_header(PLAIN_SCHEMA) if prefix and prefix.startswith(b"\xc3") else prefix
    plain = FinalReader(MODEL).read(values_of(enriched, UnifiedCdr, plain_prefix)[0])
    assert plain is not None
    assert plain["imsi"] == "208011234567890"


def test_a_block_of_nulls_is_null_in_json(with_fields):
    assert json.loads(values_of(with_fields, MODEL, None)[1])["tag"] is None


@pytest.mark.parametrize("prefix", [single_object_header(EXTENDED_SCHEMA), None])
def test_the_audit_reads_the_sources_of_records_with_extra_fields(enriched, with_fields, prefix):
    values = values_of(with_fields, MODEL, prefix) + values_of(enriched, UnifiedCdr, single_object_header(PLAIN_SCHEMA))
    reader = CdrReader(schemas=[EXTENDED_SCHEMA])
    for _ in range(2):
        sources = reader.read(values)
        assert sorted(sources.offset.tolist()) == [0, 0, 1, 1, 2, 2]
        assert set(sources.topics) == {"cdr.raw.FR"}
