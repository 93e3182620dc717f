"""A value on cdr.final is read in each form that the job may write, and nothing else is taken for one."""

import pytest

from orion_beam.chain import chain_of, load_reference, run_chain
from orion_beam.countries import all_profiles
from orion_beam.inspect.final_values import read_final_value
from orion_beam.schemas.avro_format import single_object_header
from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.derive import avro_schema
from orion_beam.testing import raw_batch
from orion_beam.transforms.encode import Wire, encode_batch

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
    record = read_final_value(value_of(enriched, PREFIXES[form]))
    assert record is not None
    assert (record["imsi"], record["source_topic"], record["bytes_down"]) == ("208011234567890", "cdr.raw.FR", 2)


@pytest.mark.parametrize(
    "value", [b"", b"\0", b"\0\0\0\0\7\2", b"\xc3\x01another one", b"{", b"{}", b'["a"]', b"text"], ids=repr
)
def test_anything_else_is_none(value: bytes) -> None:
    assert read_final_value(value) is None


def test_a_value_with_bytes_behind_it_is_none(enriched) -> None:
    assert read_final_value(value_of(enriched, PREFIXES["single object"]) + b"\0") is None
