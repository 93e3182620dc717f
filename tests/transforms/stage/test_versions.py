"""Records of another version on a stage's topic: told from garbage, and named."""

import struct

import pyarrow as pa
import pytest

from orion_beam.schemas.avro_format import single_object_header
from orion_beam.schemas.cdr import NormalizedCdr, ValidatedCdr
from orion_beam.schemas.derive import avro_schema
from orion_beam.schemas.raw import RAW_MESSAGE_SCHEMA
from orion_beam.transforms.stage.stage_decoding import decode_stage
from orion_beam.transforms.stage.versions import OtherVersionError, refuse_other_versions

OLD = b"\xc3\x01" + struct.pack("<Q", 0x0123456789ABCDEF)


def messages(*values: bytes | None) -> pa.RecordBatch:
    rows = [
        {"raw_value": value, "raw_headers": [], "source_topic": "cdr.normalized", "source_partition": 3,
         "source_offset": 70 + number}
        for number, value in enumerate(values)
    ]  # fmt: skip
    return pa.RecordBatch.from_pylist(rows, schema=RAW_MESSAGE_SCHEMA)


def test_a_record_of_an_unknown_schema_is_named_by_place_and_fingerprint() -> None:
    with pytest.raises(OtherVersionError) as refused:
        decode_stage(messages(b"garbage", OLD + b"208011234567890"), NormalizedCdr)
    assert str(refused.value).startswith(
        "cdr.normalized[3] offset 71: the record's schema has the fingerprint 01:23:45:67:89:ab:cd:ef,"
    )
    assert "208011234567890" not in str(refused.value)
    assert "a newer one wrote it; upgrade this job" in str(refused.value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"208011234567890;+33612345678",
        OLD[:9],
        single_object_header(avro_schema(NormalizedCdr)) + b"\x1e20801",
        single_object_header(avro_schema(ValidatedCdr)) + b"\x00" * 100,
    ],
    ids=["tombstone", "empty", "text", "half a header", "cut short", "record of another stage"],
)
def test_garbage_and_records_of_this_version_are_no_other_version(value: bytes | None) -> None:
    refuse_other_versions(messages(value))
    _, rejected = decode_stage(messages(value), NormalizedCdr)
    assert rejected.num_rows == 1
