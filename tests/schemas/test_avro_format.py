"""Fingerprints and the single-object header, against the values that Avro's own test suite and tools give."""

import json

import pytest

from orion_beam.schemas.avro_format import fingerprint, single_object_header
from orion_beam.schemas.derive import avro_schema
from orion_beam.schemas.write import WRITTEN_MODELS


# share/test/data/schema-tests.txt of the Avro project, as signed 64-bit numbers.
@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ('"null"', 7195948357588979594),
        ('{"type":"null"}', 7195948357588979594),
        ('"boolean"', -6970731678124411036),
        ('"int"', 8247732601305521295),
        ('"long"', -3434872931120570953),
        ('"string"', -8142146995180207161),
        ('"bytes"', 5746618253357095269),
        ("[]", -1241056759729112623),
        ('["int"]', -5232228896498058493),
    ],
)
def test_a_fingerprint_is_the_one_that_the_avro_project_gives(schema, expected):
    assert int.from_bytes(fingerprint(schema), "little", signed=True) == expected


def test_a_fingerprint_is_little_endian():
    assert fingerprint('"null"').hex() == "8a8f25cce724dd63"


def test_docs_defaults_and_layout_do_not_change_a_fingerprint():
    plain = {"type": "record", "name": "n.R", "fields": [{"name": "x", "type": "int"}]}
    field = {"doc": "x", "default": 1, "type": {"type": "int"}, "name": "x"}
    decorated = {"doc": "d", "fields": [field], "aliases": ["Q"], "namespace": "n", "name": "R", "type": "record"}
    assert fingerprint(json.dumps(plain)) == fingerprint(json.dumps(decorated, indent=4))


def test_the_order_of_fields_changes_a_fingerprint():
    def record(*names: str) -> str:
        fields = [{"name": name, "type": "int"} for name in names]
        return json.dumps({"type": "record", "name": "R", "fields": fields})

    assert fingerprint(record("a", "b")) != fingerprint(record("b", "a"))


def test_the_header_is_the_marker_and_the_fingerprint():
    assert single_object_header('"int"') == b"\xc3\x01" + fingerprint('"int"')


def test_every_written_record_has_a_header_of_its_own():
    headers = {single_object_header(avro_schema(model)) for model in WRITTEN_MODELS}
    assert len(headers) == len(WRITTEN_MODELS)
    assert {len(header) for header in headers} == {10}
