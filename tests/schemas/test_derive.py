"""Arrow and Avro schemas derived from pydantic models."""

import json
from datetime import UTC, date, datetime
from enum import StrEnum
from io import BytesIO
from typing import Literal

import fastavro
import pyarrow as pa
import pytest
from pydantic import BaseModel, Field

from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.dead_letter import DEAD_LETTER_SCHEMA, DeadLetter
from orion_beam.schemas.derive import Int32, arrow_schema, avro_schema
from orion_beam.schemas.write import WRITTEN_MODELS


class Colour(StrEnum):
    RED = "red"


class Inner(BaseModel):
    key: str
    value: bytes | None


class Everything(BaseModel):
    """All types
    there are.

    A second paragraph.
    """

    text: str
    raw: bytes
    flag: bool
    wide: int
    narrow: Int32
    ratio: float
    moment: datetime
    day: date
    choice: Literal["a", "b"]
    colour: Colour
    texts: list[str]
    inners: list[Inner]
    maybe: str | None = Field(description="or not")
    maybe_narrow: Int32 | None
    narrows: list[Int32]
    maybe_choice: Literal["a"] | None


AVRO = json.loads(avro_schema(Everything))
AVRO_FIELDS = {field["name"]: field for field in AVRO["fields"]}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("text", pa.string()),
        ("raw", pa.binary()),
        ("flag", pa.bool_()),
        ("wide", pa.int64()),
        ("narrow", pa.int32()),
        ("ratio", pa.float64()),
        ("moment", pa.timestamp("ms", "UTC")),
        ("day", pa.date32()),
        ("choice", pa.string()),
        ("colour", pa.string()),
        ("texts", pa.list_(pa.string())),
        ("maybe", pa.string()),
        (
            "inners",
            pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())])),
        ),
    ],
)
def test_a_type_has_one_arrow_type(name, expected):
    assert arrow_schema(Everything).field(name).type == expected


def test_arrow_fields_keep_the_order_of_the_model():
    assert arrow_schema(Everything).names == list(Everything.model_fields)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("text", "string"),
        ("raw", "bytes"),
        ("flag", "boolean"),
        ("wide", "long"),
        ("narrow", "int"),
        ("ratio", "double"),
        ("moment", {"type": "long", "logicalType": "timestamp-millis"}),
        ("day", {"type": "int", "logicalType": "date"}),
        ("choice", "string"),
        ("colour", "string"),
        ("texts", {"type": "array", "items": "string"}),
        ("maybe", ["null", "string"]),
        ("maybe_choice", ["null", "string"]),
    ],
)
def test_a_type_has_one_avro_type(name, expected):
    assert AVRO_FIELDS[name]["type"] == expected


def test_a_narrow_int_is_32_bits_wide_wherever_it_stands():
    assert arrow_schema(Everything).field("maybe_narrow").type == pa.int32()
    assert AVRO_FIELDS["maybe_narrow"]["type"] == ["null", "int"]
    assert arrow_schema(Everything).field("narrows").type == pa.list_(pa.int32())
    assert AVRO_FIELDS["narrows"]["type"] == {"type": "array", "items": "int"}


def test_only_nullable_avro_fields_have_a_default_and_it_is_null():
    nullable = {name for name, field in AVRO_FIELDS.items() if isinstance(field["type"], list)}
    assert {name for name, field in AVRO_FIELDS.items() if "default" in field} == nullable
    assert all(AVRO_FIELDS[name]["default"] is None for name in nullable)


def test_the_avro_record_carries_name_namespace_and_first_paragraph():
    assert (AVRO["namespace"], AVRO["name"], AVRO["doc"]) == ("orion.cdr", "Everything", "All types there are.")
    assert AVRO_FIELDS["maybe"]["doc"] == "or not"


def test_a_list_of_models_is_an_array_of_named_records():
    items = AVRO_FIELDS["inners"]["type"]["items"]
    assert (items["type"], items["name"]) == ("record", "Inner")
    assert [field["name"] for field in items["fields"]] == ["key", "value"]


@pytest.mark.parametrize("model", WRITTEN_MODELS, ids=lambda model: model.__name__)
def test_arrow_and_avro_of_a_record_have_the_same_fields(model):
    avro = [field["name"] for field in json.loads(avro_schema(model))["fields"]]
    assert avro == arrow_schema(model).names == list(model.model_fields)


def test_the_unified_cdr_is_flat_but_for_its_two_lists():
    nested = [field.name for field in arrow_schema(UnifiedCdr) if pa.types.is_nested(field.type)]
    assert nested == ["fraud_reasons", "warnings"]


def test_a_dead_letter_goes_through_arrow_and_avro_unchanged():
    moment = datetime(2026, 3, 1, 12, 0, 0, 123000, tzinfo=UTC)
    letter = {
        "key": b"k", "value": b"\xff\x00", "headers": [{"key": "h", "value": None}], "stage": "decode",
        "code": "invalid_encoding", "codes": ["invalid_encoding"], "fields": ["payload"], "message": "m",
        "country": "FR", "source_topic": "cdr.raw.FR", "source_partition": 3, "source_offset": 2**40,
        "source_timestamp": None, "attempt": 1, "version": "0.1.0", "failed_at": moment, "run_id": "again",
        "payload_bytes": 2**40, "payload_sha256": "0" * 64,
    }  # fmt: skip
    (row,) = pa.RecordBatch.from_pylist([letter], DEAD_LETTER_SCHEMA).to_pylist()
    schema = fastavro.parse_schema(json.loads(avro_schema(DeadLetter)))
    out = BytesIO()
    fastavro.schemaless_writer(out, schema, row)
    out.seek(0)
    assert fastavro.schemaless_reader(out, schema, None) == letter
