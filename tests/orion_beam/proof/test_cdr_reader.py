"""Where CDRs came from, in every form that values on cdr.final may have."""

import io
import json
from typing import Any

import fastavro
import pyruhvro
import pytest

from orion_beam.errors import UserError
from orion_beam.proof import cdr_reader
from orion_beam.proof.avro_tail import AvroTail
from orion_beam.proof.cdr_reader import CdrReader
from orion_beam.proof.sources import Sources
from orion_beam.schemas.avro_format import single_object_header
from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.derive import avro_schema
from orion_beam.schemas.older import readable_schemas
from tests.outputs import bodies_of, cdr, with_schema

SCHEMA = avro_schema(UnifiedCdr)
OTHER_SCHEMA = SCHEMA.replace('"name": "UnifiedCdr"', '"name": "OlderCdr"')


def single_objects(*rows: dict[str, Any], schema: str = SCHEMA) -> list[bytes]:
    return [single_object_header(schema) + body for body in bodies_of(rows)]


def confluent(*rows: dict[str, Any], schema_id: int = 7) -> list[bytes]:
    return [b"\0" + schema_id.to_bytes(4) + body for body in bodies_of(rows)]


def in_json(row: dict[str, Any]) -> bytes:
    return json.dumps(row, default=lambda time: time.isoformat()).encode()


def places(sources: Sources) -> list[tuple[int, str, int, int]]:
    columns = (sources.rows, sources.topic, sources.partition, sources.offset)
    read = zip(*(column.tolist() for column in columns), strict=True)
    return sorted((row, sources.topics[topic], partition, offset) for row, topic, partition, offset in read)


def test_what_was_written_is_read_at_once_and_again() -> None:
    rows = [cdr("cdr.raw.FR", 3, 5), cdr("cdr.raw.TN", 0, 0), cdr("cdr.raw.FR", 4, 1 << 40, run_id="r-1")]
    expected = [(0, "cdr.raw.FR", 3, 5), (1, "cdr.raw.TN", 0, 0), (2, "cdr.raw.FR", 4, 1 << 40)]
    reader = CdrReader()
    for _ in range(2):
        assert places(reader.read(single_objects(*rows))) == expected
    assert {topic: sample["source_partition"] for topic, sample in reader.samples.items()} == {
        "cdr.raw.FR": 3,
        "cdr.raw.TN": 0,
    }


def test_cdrs_of_older_versions_are_read_among_those_of_this_one() -> None:
    row = cdr("cdr.raw.FR", 3, 5)
    values = [with_schema(schema, row) for schema in readable_schemas(UnifiedCdr).values() for _ in range(3)]
    assert len(values) > 3
    assert places(CdrReader().read(values)) == [(place, "cdr.raw.FR", 3, 5) for place in range(len(values))]


def test_ordinary_cdrs_are_read_from_their_ends() -> None:
    bodies = bodies_of([cdr("cdr.raw.FR", 3, offset, run_id=run) for offset in range(1, 300) for run in (None, "r-1")])
    tail = AvroTail(SCHEMA)
    tail.learn(pyruhvro.deserialize_array(bodies[:2], SCHEMA))
    is_read = tail.read(bodies).is_read
    # Whatever stands behind the source must be readable backwards: else each CDR is decoded, at several times the cost.
    assert is_read.all()


def test_forms_may_be_mixed_and_what_is_no_cdr_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cdr_reader, "fetch_schema", lambda url, number: {("http://registry", 7): SCHEMA}[url, number])
    values = [
        *single_objects(cdr("cdr.raw.FR", 1, 10)),
        b"",
        in_json(cdr("cdr.raw.TN", 2, 20)),
        b'{"source_topic": "cdr.raw.TN"}',
        *confluent(cdr("cdr.raw.FR", 3, 30)),
        single_object_header(SCHEMA) + b"\xff" * 50,
        single_object_header(SCHEMA),
        b"none of these",
        *single_objects(cdr("cdr.raw.FR", 4, 40)),
    ]
    assert places(CdrReader("http://registry").read(values)) == [
        (0, "cdr.raw.FR", 1, 10),
        (2, "cdr.raw.TN", 2, 20),
        (4, "cdr.raw.FR", 3, 30),
        (8, "cdr.raw.FR", 4, 40),
    ]


def test_confluent_s_format_needs_its_registry() -> None:
    with pytest.raises(UserError, match="Confluent's wire format, of schema 7: give --schema-registry URL"):
        CdrReader().read(confluent(cdr("cdr.raw.FR", 0, 0)))


def test_a_schema_of_a_registry_that_is_no_cdr_s_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = '{"type": "record", "name": "x", "fields": []}'
    monkeypatch.setattr(cdr_reader, "fetch_schema", lambda *_: schema)
    with pytest.raises(UserError, match="schema 7 of http://registry is no CDR's"):
        CdrReader("http://registry").read(confluent(cdr("cdr.raw.FR", 0, 0)))


def test_cdrs_of_another_version_need_their_schema() -> None:
    values = single_objects(cdr("cdr.raw.FR", 3, 5), schema=OTHER_SCHEMA)
    fingerprint = single_object_header(OTHER_SCHEMA)[:1:-1].hex(":")
    with pytest.raises(UserError, match=f"with fingerprint {fingerprint}: give it with --schema"):
        CdrReader().read(values)
    assert places(CdrReader(schemas=[OTHER_SCHEMA]).read(values)) == [(0, "cdr.raw.FR", 3, 5)]


def test_values_that_others_forge_are_left_out_and_stop_no_audit() -> None:
    """Anybody can write to a topic: each of these once ended `audit` with a traceback."""
    row = cdr("cdr.raw.FR", 3, 5)
    (good,) = single_objects(row)
    plain = in_json(row)
    no_date = json.loads(SCHEMA.replace('"logicalType": "date"', '"title": "any number"'))
    far = io.BytesIO()
    fastavro.schemaless_writer(far, fastavro.parse_schema(no_date), row | {"event_date": (1 << 31) - 1})
    values = [
        good[:10] + far.getvalue(),
        good.replace(b"cdr.raw.FR", b"cdr.\xff\xfe\xfd.FR"),
        plain.replace(b'"cdr.raw.FR"', b'"cdr.\x80aw.FR"'),
        plain.replace(b'"source_partition": 3', b'"source_partition": 99999999999'),
        plain.replace(b'"source_offset": 5', b'"source_offset": -1'),
        b'{"a":' + b"[" * 100_000,
        good,
        plain,
    ]
    assert len(set(values)) == len(values)
    # A date is nothing to an audit.
    expected = [(place, "cdr.raw.FR", 3, 5) for place in (0, 6, 7)]
    reader = CdrReader()
    assert places(reader.read(values)) == expected
    assert reader.samples["cdr.raw.FR"]["country"] == "FR"
    for place, value in enumerate(values):
        assert places(CdrReader().read([value])) == ([(0, "cdr.raw.FR", 3, 5)] if place in (0, 6, 7) else [])
