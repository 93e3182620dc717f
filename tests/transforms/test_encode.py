"""encode_batch: Avro by the schemas that are checked in, to the byte what fastavro writes; or JSON."""

import io
import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orion_beam.chain import chain_of, load_reference, run_chain
from orion_beam.countries import all_profiles
from orion_beam.schemas.avro_format import single_object_header
from orion_beam.schemas.cdr import (
    ENRICHED_SCHEMA,
    NORMALIZED_SCHEMA,
    UNIFIED_SCHEMA,
    VALIDATED_SCHEMA,
    EnrichedCdr,
    NormalizedCdr,
    UnifiedCdr,
    ValidatedCdr,
)
from orion_beam.schemas.dead_letter import DEAD_LETTER_SCHEMA, DeadLetter
from orion_beam.schemas.derive import avro_schema
from orion_beam.testing import raw_batch
from orion_beam.transforms.decode import MAX_PAYLOAD_BYTES
from orion_beam.transforms.encode import (
    ENCODED_SCHEMA,
    MAX_VALUE_BYTES,
    Wire,
    avro_bodies,
    encode_avro,
    encode_batch,
    unified,
)
from tests.transforms.chain import normalized

SCHEMAS = {ValidatedCdr: VALIDATED_SCHEMA, NormalizedCdr: NORMALIZED_SCHEMA, EnrichedCdr: ENRICHED_SCHEMA}
every_stage_model = pytest.mark.parametrize("model", SCHEMAS)
AVRO = Wire(b"")

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_moments = st.integers(-62_135_596_800_000 + 86_400_000, 253_402_300_799_999 - 86_400_000).map(
    lambda ms: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
)
_bytes = st.one_of(_texts.map(str.encode), st.binary(max_size=12))
_headers = st.lists(st.fixed_dictionaries({"key": _texts, "value": st.none() | _bytes}), max_size=3)


def values_of(kind: pa.DataType) -> tuple[Any, st.SearchStrategy[Any]]:
    """Return a plain value of an Arrow type, and a strategy of all values."""
    types = pa.types
    if types.is_boolean(kind):
        return True, st.booleans()
    if types.is_int32(kind):
        return 7, st.integers(-(2**31), 2**31 - 1)
    if types.is_int64(kind):
        return 2**40, st.integers(-(2**63), 2**63 - 1)
    if types.is_float64(kind):
        return 0.5, st.floats(allow_nan=False)
    if types.is_timestamp(kind):
        return datetime(2026, 6, 1, 12, 0, 0, 123_000, tzinfo=UTC), _moments
    if types.is_date(kind):
        return date(2026, 6, 1), st.dates()
    if types.is_list(kind):
        if types.is_struct(kind.value_type):
            return [{"key": "k", "value": b"v"}, {"key": "n", "value": None}], _headers
        return ["a", "b"], st.lists(_texts, max_size=3)
    if types.is_string(kind):
        return "text", _texts
    assert types.is_binary(kind)
    return b"bytes", _bytes


def row_strategy(model: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Return rows of a model: any value of each type, and nulls where the schema has them."""
    nullable = {field["name"] for field in json.loads(avro_schema(model))["fields"] if isinstance(field["type"], list)}
    strategies = {field.name: values_of(field.type)[1] for field in SCHEMAS[model]}
    return st.fixed_dictionaries(
        {name: st.none() | values if name in nullable else values for name, values in strategies.items()}
    )


def written_by_fastavro(model: Any, row: dict[str, Any]) -> bytes:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(json.loads(avro_schema(model))), row)
    return body.getvalue()


def read_by_fastavro(model: Any, body: bytes) -> Any:
    stream = io.BytesIO(body)
    record = fastavro.schemaless_reader(stream, fastavro.parse_schema(json.loads(avro_schema(model))), None)
    assert stream.read() == b""
    return record


def batch_of_rows(model: Any, rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMAS[model])


def one_row(model: Any, **changes: Any) -> dict[str, Any]:
    """A row with a plain value in each field."""
    return {field.name: values_of(field.type)[0] for field in SCHEMAS[model]} | changes


def assert_bytes_are_those_of_fastavro(model: Any, rows: list[dict[str, Any]]) -> None:
    outcome = encode_batch(batch_of_rows(model, rows), model, AVRO)
    assert outcome.rejected.num_rows == 0
    assert outcome.accepted.schema == ENCODED_SCHEMA
    bodies = outcome.accepted.column("value").to_pylist()
    assert bodies == [written_by_fastavro(model, row) for row in rows]
    assert [read_by_fastavro(model, body) for body in bodies] == rows


@every_stage_model
@given(data=st.data())
@settings(max_examples=15)
def test_bytes_are_those_of_fastavro_for_any_row(model: Any, data: Any) -> None:
    assert_bytes_are_those_of_fastavro(model, data.draw(st.lists(row_strategy(model), max_size=5)))


@pytest.mark.deep
@every_stage_model
@given(data=st.data())
@settings(max_examples=300)
def test_bytes_are_those_of_fastavro_for_many_rows(model: Any, data: Any) -> None:
    assert_bytes_are_those_of_fastavro(model, data.draw(st.lists(row_strategy(model), max_size=10)))


@every_stage_model
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"raw_key": None, "raw_value": None, "raw_headers": [], "source_timestamp": None},
        {"raw_key": b"\xff\x00", "raw_value": "é\x00\n".encode()},
        {"raw_headers": [{"key": "", "value": b"\xc3"}, {"key": "é", "value": b""}]},
        {"imei": None, "rat": None, "cell_id": "", "duration_s": 0, "bytes_up": 2**63 - 1},
        {"source_timestamp": datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)},
    ],
)
def test_bytes_that_are_no_text_and_nulls_are_written_too(model, changes):
    assert_bytes_are_those_of_fastavro(model, [one_row(model), one_row(model, **changes), one_row(model)])


@pytest.mark.parametrize("nulls", range(8))
@pytest.mark.parametrize("rows", [1, 3])
def test_columns_at_the_end_that_are_null_in_every_row_are_written_as_nulls(nulls, rows):
    names = list(UnifiedCdr.model_fields)
    row = one_row(EnrichedCdr) | {"schema_version": 2, "run_id": "r"}
    row = {name: row[name] for name in names} | dict.fromkeys(names[len(names) - nulls :])
    bodies = encode_avro(pa.RecordBatch.from_pylist([row] * rows, UNIFIED_SCHEMA), UnifiedCdr).to_pylist()
    assert bodies == [written_by_fastavro(UnifiedCdr, row)] * rows


@every_stage_model
def test_of_an_empty_batch_no_message_is_made(model):
    outcome = encode_batch(batch_of_rows(model, []), model, AVRO)
    assert outcome.accepted.num_rows == 0
    assert outcome.accepted.schema == ENCODED_SCHEMA


def test_a_sliced_batch_is_its_own_rows_only():
    rows = [one_row(EnrichedCdr, imsi=f"20801{index:010d}", plan=str(index)) for index in range(9)]
    outcome = encode_batch(batch_of_rows(EnrichedCdr, rows).slice(3, 4), EnrichedCdr, AVRO)
    assert [read_by_fastavro(EnrichedCdr, body) for body in outcome.accepted.column("value").to_pylist()] == rows[3:7]
    assert outcome.accepted.column("key").to_pylist() == [row["imsi"].encode() for row in rows[3:7]]


@pytest.mark.parametrize("run_id", [None, "replay-7"])
def test_the_unified_record_says_schema_version_and_run(run_id):
    row = one_row(EnrichedCdr)
    outcome = encode_batch(batch_of_rows(EnrichedCdr, [row]), UnifiedCdr, AVRO, run_id)
    (body,) = outcome.accepted.column("value").to_pylist()
    expected = {name: row[name] for name in UnifiedCdr.model_fields if name in row}
    expected |= {"schema_version": 2, "run_id": run_id}
    assert read_by_fastavro(UnifiedCdr, body) == expected
    assert body == written_by_fastavro(UnifiedCdr, expected)


def test_the_key_is_the_imsi_and_the_country_goes_along():
    rows = [one_row(EnrichedCdr, imsi=imsi, country="SN") for imsi in ("608011234567890", "60801123456789")]
    outcome = encode_batch(batch_of_rows(EnrichedCdr, rows), UnifiedCdr, AVRO)
    assert outcome.accepted.column("key").to_pylist() == [b"608011234567890", b"60801123456789"]
    assert outcome.accepted.column("country").to_pylist() == ["SN", "SN"]


@pytest.mark.parametrize("prefix", [single_object_header(avro_schema(UnifiedCdr)), b"\x00\x00\x00\x00\x2a", b""])
def test_the_prefix_stands_before_each_value(prefix):
    batch = batch_of_rows(EnrichedCdr, [one_row(EnrichedCdr), one_row(EnrichedCdr)])
    bare, prefixed = (
        encode_batch(batch, UnifiedCdr, Wire(each)).accepted.column("value").to_pylist() for each in (b"", prefix)
    )
    assert prefixed == [prefix + body for body in bare]


def test_single_object_encoding_begins_with_its_marker_and_the_fingerprint_of_the_schema():
    header = single_object_header(avro_schema(UnifiedCdr))
    canonical = fastavro.schema.to_parsing_canonical_form(json.loads(avro_schema(UnifiedCdr)))
    assert header[:2] == b"\xc3\x01"
    assert header[2:].hex() == fastavro.schema.fingerprint(canonical, "CRC-64-AVRO")
    assert len(header) == 10


@every_stage_model
@pytest.mark.parametrize("field", ["imsi", "event_time", "source_topic"])
def test_a_null_where_none_may_be_is_a_bug_and_no_empty_value(model, field):
    rows = [one_row(model), one_row(model, **{field: None})]
    with pytest.raises(ValueError, match=f"{model.__name__}.{field} must not be null"):
        encode_avro(batch_of_rows(model, rows), model)


def test_json_has_every_field_with_times_in_iso_8601():
    row = one_row(EnrichedCdr, imei=None, cell_id='a"\n\\é\u2028', fraud_reasons=[], source_timestamp=None)
    outcome = encode_batch(batch_of_rows(EnrichedCdr, [row]), UnifiedCdr, Wire(None))
    (value,) = outcome.accepted.column("value").to_pylist()
    expected = {name: row[name] for name in UnifiedCdr.model_fields if name in row} | {
        "event_time": "2026-06-01T12:00:00.123Z",
        "event_date": "2026-06-01",
        "schema_version": 2,
        "run_id": None,
    }
    assert json.loads(value) == expected
    assert list(json.loads(value)) == list(UnifiedCdr.model_fields)


def test_json_values_are_records_of_the_model():
    literals = {"subscriber_type": "prepaid", "rat": "4G", "event_type": "data", "roaming": "home", "partial": "last"}
    row = one_row(EnrichedCdr, **literals, imei=None)
    outcome = encode_batch(batch_of_rows(EnrichedCdr, [row]), UnifiedCdr, Wire(None), "r")
    (value,) = outcome.accepted.column("value").to_pylist()
    record = UnifiedCdr.model_validate_json(value)
    assert record.event_time == row["event_time"]
    assert record.fraud_reasons == ["a", "b"]
    assert record.imei is None


def test_the_unified_batch_has_the_columns_of_the_model_in_order():
    batch = unified(batch_of_rows(EnrichedCdr, [one_row(EnrichedCdr)]), None)
    assert batch.schema.names == list(UnifiedCdr.model_fields)


def test_dead_letters_too_have_the_bytes_of_fastavro():
    row = {
        "key": b"\xff", "value": b"\x00a", "headers": [{"key": "k", "value": b"\xfe"}], "stage": "decode", "code": "c",
        "codes": ["c", "d"], "fields": ["value"], "message": "m", "country": "FR", "source_topic": "t",
        "source_partition": 1, "source_offset": 2, "source_timestamp": None, "attempt": 1, "version": "v",
        "failed_at": datetime(2026, 6, 1, tzinfo=UTC),
    }  # fmt: skip
    rows = [row, row | {"key": b"k", "value": None, "headers": []}]
    batch = pa.RecordBatch.from_pylist(rows, schema=DEAD_LETTER_SCHEMA)
    assert avro_bodies(batch, DeadLetter) == [written_by_fastavro(DeadLetter, each) for each in rows]


def longest(country: str, payload: bytes) -> pa.RecordBatch:
    """Return the enriched batch of a payload as long as one may be."""
    assert MAX_PAYLOAD_BYTES - 10 < len(payload) <= MAX_PAYLOAD_BYTES
    chain = chain_of(all_profiles()[country], load_reference())
    outcome = run_chain(chain, raw_batch(country, [payload], timestamps=datetime(2026, 6, 1, 12, tzinfo=UTC)))
    assert outcome.rejected.num_rows == 0
    return outcome.accepted


RECORD = {"event_type": "data", "imsi": "208011234567890", "msisdn": "+33612345678", "timestamp": 1780308000}


def json_with(field: str, character: str) -> bytes:
    empty = json.dumps(RECORD | {field: ""}, ensure_ascii=False)
    room = MAX_PAYLOAD_BYTES - len(empty.encode())
    return empty.replace(f'"{field}": ""', f'"{field}": "{character * (room // len(character.encode()))}"').encode()


@pytest.mark.parametrize(
    ("country", "payload"),
    [
        *[("FR", json_with(field, "x")) for field in ("apn", "cell_id", "charging_id", "lac_tac", "node_id")],
        ("FR", json_with("apn", "é")),
        ("FR", json_with("apn", r"\\")),
        # What JSON writes as six characters, in a format that has it as one byte.
        ("FR", b"208011234567890;+33612345678;;%s;4G;1;2;2026-06-01T10:00:00Z" % (b"\x01" * (MAX_PAYLOAD_BYTES - 60))),
    ],
)
@pytest.mark.parametrize("wire", [Wire(b"12345"), Wire(None)])
def test_no_payload_makes_a_cdr_that_its_topic_does_not_take(country, payload, wire):
    outcome = encode_batch(longest(country, payload), UnifiedCdr, wire)
    assert outcome.rejected.num_rows == 0
    assert len(outcome.accepted.column("value")[0].as_py()) < 400_000


def test_a_stage_s_message_that_is_too_large_becomes_a_dead_letter_and_its_neighbours_go_on():
    payloads = [b"208011234567890;+33612345678;;x;4G;1;2;2026-06-01T10:00:00Z"] * 3
    large = [{}, {"trace": b"x" * MAX_VALUE_BYTES}, {}]
    batch = normalized("FR", payloads, headers=large)
    outcome = encode_batch(batch, NormalizedCdr, Wire(b""))
    assert outcome.accepted.num_rows == 2
    (letter,) = outcome.rejected.to_pylist()
    assert (letter["stage"], letter["codes"], letter["fields"]) == ("encode", ["oversized_payload"], ["value"])
    assert (letter["source_offset"], letter["value"]) == (1, payloads[1])
