"""A value on cdr.final is read in each form that the job may write, and nothing else is taken for one."""

import json
from typing import Any

import pytest

from orion_beam.chain import chain_of, load_reference, run_chain
from orion_beam.countries import all_profiles
from orion_beam.inspect.final_values import FinalReader
from orion_beam.schemas.avro_format import SINGLE_OBJECT_HEADER_BYTES, fingerprint_digits, single_object_header
from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.derive import avro_schema, default_of
from orion_beam.schemas.older import readable_schemas
from orion_beam.testing import raw_batch
from orion_beam.transforms.encode import Wire, encode_batch, unified
from tests.outputs import with_schema

PREFIXES = {
    "single object": single_object_header(avro_schema(UnifiedCdr)),
    "wire format of a registry": b"\0\0\0\0\7",
    "JSON": None,
}


@pytest.fixture(scope="module")
def enriched():
    record = b"208011234567890;+33612345678;;FR-1;4G;1;2;2025-06-01T12:00:00Z"
    return run_chain(chain_of(all_profiles()["FR"], load_reference()), raw_batch("FR", [record])).accepted


def value_of(enriched, prefix: bytes | None) -> bytes:
    value: bytes = encode_batch(enriched, UnifiedCdr, Wire(prefix)).accepted.column("value")[0].as_py()
    return value


@pytest.mark.parametrize("form", PREFIXES)
def test_each_form_is_read(enriched, form: str) -> None:
    record = FinalReader().read(value_of(enriched, PREFIXES[form]))
    assert record is not None
    assert (record["imsi"], record["source_topic"], record["bytes_down"]) == ("208011234567890", "cdr.raw.FR", 2)


@pytest.mark.parametrize(
    "value", [b"", b"\0", b"\0\0\0\0\7\2", b"\xc3\x01another one", b"{", b"{}", b'["a"]', b"text"], ids=repr
)
def test_anything_else_is_none(value: bytes) -> None:
    assert FinalReader().read(value) is None


def test_a_value_with_bytes_behind_it_is_none(enriched) -> None:
    assert FinalReader().read(value_of(enriched, PREFIXES["single object"]) + b"\0") is None


@pytest.mark.parametrize("schema", list(readable_schemas(UnifiedCdr).values())[1:], ids=fingerprint_digits)
@pytest.mark.parametrize("form", PREFIXES)
def test_a_cdr_of_an_older_version_is_read_with_the_defaults_of_what_it_lacks(enriched, schema: str, form: str) -> None:
    row = encoded_row(enriched)
    had = {field["name"] for field in json.loads(schema)["fields"]}
    value = with_schema(schema, row)
    if form == "wire format of a registry":
        value = b"\0\0\0\0\7" + value[SINGLE_OBJECT_HEADER_BYTES:]
    if form == "JSON":
        in_use = json.loads(value_of(enriched, None))
        row = in_use
        value = json.dumps({name: each for name, each in in_use.items() if name in had}).encode()
    later = {name: default_of(field) for name, field in UnifiedCdr.model_fields.items() if name not in had}
    assert FinalReader().read(value) == row | later


def test_a_cdr_of_an_unknown_version_is_counted_until_its_schema_is_kept(enriched) -> None:
    newer = avro_schema(UnifiedCdr).replace('"name": "roaming_partner"', '"name": "partner"')
    value = with_schema(newer, encoded_row(enriched))
    reader = FinalReader()
    assert reader.read(value) is None
    assert reader.unknown == 1
    record = FinalReader(kept=(newer,)).read(value)
    assert record is not None
    assert record["imsi"] == "208011234567890"
    assert "partner" not in record


def encoded_row(enriched) -> dict[str, Any]:
    """The CDR as a row with Avro's types."""
    (row,) = unified(enriched, None).to_pylist()
    return row
