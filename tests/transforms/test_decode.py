"""decode_batch on payloads as a whole: what cannot be read, and what mixed formats do to each other."""

import json
from datetime import UTC, datetime

import pytest

from orion_beam.countries import all_profiles
from orion_beam.schemas.cdr import DECODED_SCHEMA
from orion_beam.schemas.codes import Code
from orion_beam.schemas.dead_letter import DEAD_LETTER_SCHEMA
from orion_beam.schemas.raw import MAX_PAYLOAD_BYTES, RAW_CDR_SCHEMA
from orion_beam.testing import raw_batch, rows
from orion_beam.transforms.decode import DecodeCdrs, column_names_of, decode_batch
from tests.transforms.decoding import rejected_codes, split

FR = b"208011234567890;+33612345678;;FR-PAR-001;4G;10;20;2026-06-01T10:00:00Z"
GOOD = {
    "FR": [FR],
    "TN": [json.dumps({"subscriber": {"imsi": "605011234567890"}}).encode()],
    "MA": [b"604001234567890;212612345678;;;;;20260601100000"],
    "SN": [b"IMSI=608011234567890|TS=1", b"608011234567890" + b" " * 67 + b"20260601100000"],
}
FLAT = b'{"imsi":"208011234567890"}'
PIPE = b"208011234567890|33612345678|voice|60|10|20"
every_country = pytest.mark.parametrize("country", ["FR", "TN", "MA", "SN"])

POISON = {
    "null": (None, Code.EMPTY_PAYLOAD),
    "empty": (b"", Code.EMPTY_PAYLOAD),
    "blanks": (b" \t\r\n", Code.EMPTY_PAYLOAD),
    "byte order mark": (b"\xef\xbb\xbf", Code.EMPTY_PAYLOAD),
    "byte order mark and blanks": (b"\xef\xbb\xbf \r\n", Code.EMPTY_PAYLOAD),
    "oversized": (b"1" * (MAX_PAYLOAD_BYTES + 1), Code.OVERSIZED_PAYLOAD),
    "oversized blanks": (b" " * (MAX_PAYLOAD_BYTES + 1), Code.OVERSIZED_PAYLOAD),
    "oversized and not UTF-8": (b"\xff" * (MAX_PAYLOAD_BYTES + 1), Code.OVERSIZED_PAYLOAD),
    "1 MiB of digits": (b"9" * (1 << 20), Code.OVERSIZED_PAYLOAD),
    "not UTF-8": (b"\xff\xfe", Code.INVALID_ENCODING),
    "Latin-1": ("Zürich;".encode("latin-1"), Code.INVALID_ENCODING),
    "half a character": ("é".encode()[:1], Code.INVALID_ENCODING),
    "overlong NUL": (b"\xc0\x80", Code.INVALID_ENCODING),
    "encoded surrogate": (b"\xed\xa0\x80", Code.INVALID_ENCODING),
    "UTF-16": ("208;x".encode("utf-16"), Code.INVALID_ENCODING),
    "newline inside": (b"a\nb", Code.MALFORMED_PAYLOAD),
    "quote": (b'"', Code.MALFORMED_PAYLOAD),
    "NUL": (b"\x00", Code.MALFORMED_PAYLOAD),
    "no separator": (b"208011234567890", Code.MALFORMED_PAYLOAD),
    "second byte order mark": (b"\xef\xbb\xbf\xef\xbb\xbf{}", Code.MALFORMED_PAYLOAD),
    "open object": (b"{", Code.MALFORMED_PAYLOAD),
}
every_poison = pytest.mark.parametrize(("payload", "code"), POISON.values(), ids=POISON)


@every_country
@every_poison
def test_a_payload_that_cannot_be_read_says_why(country, payload, code):
    assert rejected_codes(country, payload) == [code.value]


@every_country
@every_poison
def test_a_payload_that_cannot_be_read_takes_no_other_row_with_it(country, payload, code):
    good = [*GOOD[country], FLAT, PIPE]
    outcome = split(country, [*good, payload, *good])
    assert [row["raw_value"] for row in rows(outcome.accepted)] == good * 2
    assert [row["source_offset"] for row in rows(outcome.rejected)] == [len(good)]
    assert rows(outcome.rejected)[0]["codes"] == [code.value]
    alone = rows(split(country, good).accepted)
    fields = [{k: v for k, v in row.items() if k != "source_offset"} for row in rows(outcome.accepted)]
    assert fields == [{k: v for k, v in row.items() if k != "source_offset"} for row in alone] * 2


@every_country
@pytest.mark.parametrize("start", range(8))
def test_a_slice_of_a_batch_is_read_as_its_rows_alone(country, start):
    payloads = [*GOOD[country], None, b"\xff", FLAT, PIPE, b"x", "1|é|voice|漢|1|".encode(), *GOOD[country]]
    batch = raw_batch(country, payloads)
    for length in range(len(payloads) - start + 1):
        outcome = decode_batch(batch.slice(start, length), all_profiles()[country])
        alone = [decode_batch(batch.slice(row, 1), all_profiles()[country]) for row in range(start, start + length)]
        outcome.accepted.validate(full=True)
        assert rows(outcome.accepted) == rows(each.accepted for each in alone)
        (now,) = {row["failed_at"] for row in rows(outcome.rejected)} or {None}
        assert rows(outcome.rejected) == [row | {"failed_at": now} for row in rows(each.rejected for each in alone)]


@every_country
def test_mixed_formats_in_one_batch_keep_their_order(country):
    payloads = [*GOOD[country], FLAT, PIPE] * 40
    outcome = split(country, payloads)
    assert outcome.rejected.num_rows == 0
    assert [row["raw_value"] for row in rows(outcome.accepted)] == payloads
    assert [row["source_offset"] for row in rows(outcome.accepted)] == list(range(len(payloads)))


def test_the_largest_payload_allowed_is_read():
    payload = b"208011234567890;;;" + b"x" * (MAX_PAYLOAD_BYTES - 22) + b";;;;"
    assert len(payload) == MAX_PAYLOAD_BYTES
    outcome = decode_batch(raw_batch("FR", [payload, payload + b" "]), all_profiles()["FR"])
    assert outcome.accepted.num_rows == 1
    assert rows(outcome.rejected)[0]["code"] == "oversized_payload"


def test_the_largest_payload_can_be_set():
    outcome = decode_batch(raw_batch("FR", [FR, FR + b" "]), all_profiles()["FR"], max_payload_bytes=len(FR))
    assert [row["source_offset"] for row in rows(outcome.accepted)] == [0]
    assert [row["source_offset"] for row in rows(outcome.rejected)] == [1]
    with pytest.raises(ValueError, match="max_payload_bytes must be at least 1, not 0"):
        DecodeCdrs(all_profiles(), max_payload_bytes=0)


def test_a_decoded_row_keeps_its_message():
    arrived = datetime(2026, 6, 1, 12, tzinfo=UTC)
    batch = raw_batch(
        "FR", [FR], keys=[b"\xff"], headers=[{"trace": b"\x00\xff", "none": None}], timestamps=arrived, first_offset=7
    )
    outcome = decode_batch(batch, all_profiles()["FR"])
    (row,) = rows(outcome.accepted)
    (message,) = rows(batch)
    assert {name: row[name] for name in RAW_CDR_SCHEMA.names} == message
    assert outcome.accepted.schema == DECODED_SCHEMA
    assert outcome.rejected.schema == DEAD_LETTER_SCHEMA


@pytest.mark.parametrize("payloads", [[], [b"x"], [FR]])
def test_batches_that_end_up_empty_have_their_schema(payloads):
    outcome = split("FR", payloads)
    assert outcome.accepted.schema == DECODED_SCHEMA
    assert outcome.rejected.schema == DEAD_LETTER_SCHEMA
    assert outcome.accepted.num_rows + outcome.rejected.num_rows == len(payloads)


@pytest.mark.parametrize(
    ("country", "own"),
    [
        ("FR", {"imsi;msisdn;imei;cell_id;rat;bytes_up;bytes_down;event_time"}),
        ("MA", {"imsi;msisdn;cell_id;rat;bytes_up;bytes_down;event_time"}),
        ("TN", set()),
        ("SN", set()),
    ],
)
def test_the_header_lines_of_a_country_are_those_of_its_formats(country, own):
    assert column_names_of(all_profiles()[country]) == own | {"imsi|msisdn|event_type|duration|bytes_up|bytes_down"}
