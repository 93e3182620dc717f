"""validate_batch: for each field, present, absent and broken; and how broken rules are listed."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orion_beam.countries import all_profiles
from orion_beam.schemas.cdr import VALIDATED_SCHEMA
from orion_beam.schemas.dead_letter import DEAD_LETTER_SCHEMA
from orion_beam.testing import raw_batch, rows
from orion_beam.transforms.decode import decode_batch
from orion_beam.transforms.validate import validate_batch

ARRIVED = datetime(2026, 6, 1, 12, tzinfo=UTC)
GOOD: dict[str, Any] = {
    "event_type": "voice", "imsi": "208011234567890", "msisdn": "33612345678", "timestamp": "2026-06-01T10:00:00Z",
}  # fmt: skip


def validate(record: dict[str, Any] | bytes, country: str = "FR", arrived: datetime | None = ARRIVED) -> Any:
    """Return the typed row of a record, or its pairs of code and field."""
    payload = record if isinstance(record, bytes) else json.dumps(record).encode()
    profile = all_profiles()[country]
    decoded = decode_batch(raw_batch(country, [payload], timestamps=arrived), profile)
    assert decoded.rejected.num_rows == 0
    outcome = validate_batch(decoded.accepted, {profile.code: profile})
    assert outcome.accepted.num_rows + outcome.rejected.num_rows == 1
    if outcome.accepted.num_rows:
        return rows(outcome.accepted)[0]
    (letter,) = rows(outcome.rejected)
    assert letter["stage"] == "validate"
    assert letter["value"] == payload
    return list(zip(letter["codes"], letter["fields"], strict=True))


@pytest.mark.parametrize(
    ("member", "value", "field", "expected"),
    [
        ("imsi", "20801123456789", "imsi", "20801123456789"),
        ("imsi", 208011234567890, "imsi", "208011234567890"),
        ("msisdn", "+33612345678", "msisdn", "+33612345678"),
        ("msisdn", "0033612345678", "msisdn", "0033612345678"),
        ("msisdn", 33612345678, "msisdn", "33612345678"),
        ("imei", "35209900176148", "imei", "35209900176148"),
        ("imei", 3520990017614823, "imei", "3520990017614823"),
        ("imei", "352099001761480", "imei", "352099001761480"),  # a failed Luhn check is no reject
        ("event_type", "SMS", "event_type", "sms"),
        ("event_type", " Data ", "event_type", "data"),
        ("rat", "E-UTRAN", "rat", "E-UTRAN"),
        ("rat", 6, "rat", "6"),
        ("rat", "006", "rat", "006"),
        ("duration", "0", "duration_s", 0),
        ("duration", 60, "duration_s", 60),
        ("bytes_uploaded", "000000000010", "bytes_up", 10),
        ("bytes_uploaded", "0" * 5000 + "1", "bytes_up", 1),
        ("bytes_downloaded", 2**63 - 1, "bytes_down", 2**63 - 1),
        ("message_length", "160", "message_length", 160),
        ("cell_id", "Zürich 7", "cell_id", "Zürich 7"),
        ("lac_tac", 42, "lac_tac", "42"),
        ("charging_id", True, "charging_id", "true"),
        ("called_number", "INFO", "peer_msisdn", "INFO"),
        ("call_type", "MO", "call_type", "MO"),
        ("apn", "NaN", "apn", "NaN"),
        ("sms_type", "MT", "sms_type", "MT"),
        ("subscriber_type", "VIP", "subscriber_type", "VIP"),
        ("timestamp", "2026-06-01T12:00:00", "event_time", datetime(2026, 6, 1, 10, tzinfo=UTC)),
        ("timestamp", 1780308000, "event_time", datetime(2026, 6, 1, 10, tzinfo=UTC)),
        ("timestamp", "1780308000123", "event_time", datetime(2026, 6, 1, 10, 0, 0, 123_000, tzinfo=UTC)),
        ("timestamp", "19700101000000", "event_time", datetime(1969, 12, 31, 23, tzinfo=UTC)),
        ("timestamp", "2026-06-01T13:00:00Z", "event_time", datetime(2026, 6, 1, 13, tzinfo=UTC)),
    ],
)
def test_a_good_value_is_accepted_and_typed(member, value, field, expected):
    assert validate(GOOD | {member: value})[field] == expected


@pytest.mark.parametrize("value", [None, "", " \t"])
@pytest.mark.parametrize(
    ("member", "expected"),
    [
        ("imsi", [("missing_field", "imsi")]),
        ("msisdn", [("missing_field", "msisdn")]),
        ("timestamp", [("missing_field", "event_time")]),
        ("event_type", [("unknown_event_type", "event_type")]),
    ],
)
def test_a_required_field_that_is_absent_is_named(member, value, expected):
    assert validate(GOOD | {member: value}) == expected
    assert validate({name: text for name, text in GOOD.items() if name != member}) == expected


@pytest.mark.parametrize("value", [None, "", " "])
@pytest.mark.parametrize(
    ("member", "field"),
    [
        ("imei", "imei"), ("cell_id", "cell_id"), ("rat", "rat"), ("duration", "duration_s"),
        ("call_type", "call_type"), ("bytes_uploaded", "bytes_up"), ("bytes_downloaded", "bytes_down"),
        ("apn", "apn"), ("sms_type", "sms_type"),
        ("message_length", "message_length"), ("charging_id", "charging_id"), ("lac_tac", "lac_tac"),
        ("node_id", "node_id"), ("local_sequence_number", "local_sequence_number"),
        ("record_sequence_number", "record_sequence_number"), ("cause_for_record_closing", "cause_for_record_closing"),
        ("subscriber_type", "subscriber_type"), ("called_number", "peer_msisdn"), ("destination_number", "peer_msisdn"),
    ],
)  # fmt: skip
def test_an_optional_field_that_is_absent_is_null(member, field, value):
    assert validate(GOOD | {member: value})[field] is None


BROKEN_COUNTS = [-1, 1.0, 1.5, "1e3", "1E3", "NaN", "Infinity", "+1", "1,000", "0x10", "1_000", "½", "١٢", "１２",
                 2**63, 10**30, "9" * 5000, True, "#VALUE!", "null"]  # fmt: skip


@pytest.mark.parametrize("value", BROKEN_COUNTS)
@pytest.mark.parametrize(
    ("member", "field"),
    [("duration", "duration_s"), ("bytes_uploaded", "bytes_up"), ("bytes_downloaded", "bytes_down"),
     ("message_length", "message_length"), ("local_sequence_number", "local_sequence_number"),
     ("record_sequence_number", "record_sequence_number"), ("cause_for_record_closing", "cause_for_record_closing")],
)  # fmt: skip
def test_a_count_that_is_no_whole_number_of_64_bits_is_rejected(member, field, value):
    assert validate(GOOD | {member: value}) == [("invalid_number", field)]


@pytest.mark.parametrize("number", ["1e400", "-1e400", "9" * 5000, "NaN", "-Infinity", "1e3", "-0.0"])
def test_a_bare_json_number_that_is_no_count_is_rejected_by_its_rule(number):
    payload = json.dumps(GOOD).encode()[:-1] + b', "bytes_uploaded": ' + number.encode() + b"}"
    assert validate(payload) == [("invalid_number", "bytes_up")]


@pytest.mark.parametrize(
    ("member", "code", "values"),
    [
        ("imsi", "invalid_imsi", ["2080112345678", "2080112345678901", "2.08011E+14", 208011234567890.0, "٢" * 15, True,
                                  "208 11234567890", "20801123456789x", "208011234567890\x00"]),
        ("msisdn", "invalid_msisdn", ["123456789", "1" * 16, "+33 612345678", "++33612345678", "3.36E+10", "٣" * 11,
                                      33612345678.0, "06.12.34.56.78", False]),
        ("imei", "invalid_imei", ["1" * 13, "1" * 17, "35-209900-176148", "3.52E+14", "١" * 15, 352099001761481.0]),
        ("event_type", "unknown_event_type", ["mms", 1, True, "voice,sms", "v\u043eice"]),
        ("rat", "unknown_rat", ["6G", "WLAN", "3", 3, "0", "00", 6.0, "-6", "٦", True]),
    ],
)  # fmt: skip
def test_a_broken_text_is_rejected_with_its_own_code(member, code, values):
    for value in values:
        assert validate(GOOD | {member: value}) == [(code, member)], value


@pytest.mark.parametrize(
    "value",
    ["2026-02-30T00:00:00Z", "2026-13-01T00:00:00Z", "20260230120000", "2026-01-01T24:00:00Z", "2016-12-31T23:59:60Z",
     "2026-03-29T02:30:00", "2026-06-01", "2026-06-01T00:00:00+15:00", "yesterday", "1.78E+09", "NaN", 1780308000.5, -1,
     0, True, "٢٠٢٦-٠٦-٠١T١٠:٠٠:٠٠Z", "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "46174.5", "1" * 50],
)  # fmt: skip
def test_a_time_that_names_no_instant_is_rejected(value):
    assert validate(GOOD | {"timestamp": value}) == [("invalid_timestamp", "event_time")]


@pytest.mark.parametrize(
    ("country", "value"),
    [("SN", "0001-01-01T00:00:00Z"), ("MA", "0001-01-01T00:00:00Z"), ("FR", "9999-12-31T23:30:00Z")],
)
def test_a_time_whose_local_date_no_calendar_has_is_rejected(country, value):
    assert validate(GOOD | {"timestamp": value}, country, arrived=None) == [("invalid_timestamp", "event_time")]


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [
        (timedelta(hours=1), None),
        (timedelta(hours=1, milliseconds=1), [("future_timestamp", "event_time")]),
        (timedelta(days=3650), [("future_timestamp", "event_time")]),
    ],
)
def test_a_time_more_than_an_hour_ahead_of_its_arrival_is_rejected(ahead, expected):
    value = (ARRIVED + ahead).strftime("%Y-%m-%dT%H:%M:%S.%f") + "Z"
    found = validate(GOOD | {"timestamp": value})
    assert (found if isinstance(found, list) else None) == expected


def test_without_an_arrival_no_time_is_ahead_and_no_time_is_too_old():
    assert validate(GOOD | {"timestamp": "2999-01-01T00:00:00Z"}, arrived=None)["event_time"].year == 2999
    assert validate(GOOD | {"timestamp": "1990-01-01T00:00:00Z"})["event_time"].year == 1990


def test_of_an_hour_that_comes_twice_the_first_counts():
    found = validate(GOOD | {"timestamp": "2025-10-26T02:30:00"})
    assert found["event_time"] == datetime(2025, 10, 26, 0, 30, tzinfo=UTC)


def test_the_arrival_is_the_time_of_pipe_text():
    found = validate(b"208011234567890|33612345678|sms|||")
    assert (found["event_time"], found["event_type"], found["raw_format"]) == (ARRIVED, "sms", "pipe_text")


def test_pipe_text_without_an_arrival_has_no_time():
    assert validate(b"208011234567890|33612345678|sms|||", arrived=None) == [("missing_field", "event_time")]


@pytest.mark.parametrize(
    ("country", "payload"),
    [
        ("FR", b"208011234567890;33612345678;;;;;;1780308000"),
        ("MA", b"604001234567890;212612345678;;;;;1780308000"),
        ("SN", b"IMSI=608011234567890|MSISDN=221771234567|TS=1780308000"),
        ("TN", b'{"subscriber":{"imsi":"605011234567890","msisdn":"21620123456"},"usage":{},"timestamp":1780308000}'),
    ],
)
def test_formats_without_an_event_type_report_data_usage(country, payload):
    assert validate(payload, country)["event_type"] == "data"


def test_all_broken_rules_are_listed_in_order():
    broken = {
        "event_type": "mms", "imsi": "1", "imei": "2", "rat": "9G", "duration": "x", "bytes_uploaded": "-1",
        "bytes_downloaded": 1.5, "message_length": "1e3", "timestamp": "never",
    }  # fmt: skip
    assert validate(broken) == [
        ("invalid_imsi", "imsi"), ("missing_field", "msisdn"), ("invalid_imei", "imei"),
        ("unknown_event_type", "event_type"), ("unknown_rat", "rat"), ("invalid_number", "duration_s"),
        ("invalid_number", "bytes_up"), ("invalid_number", "bytes_down"), ("invalid_number", "message_length"),
        ("invalid_timestamp", "event_time"),
    ]  # fmt: skip


def test_the_first_code_stands_on_its_own_too():
    profile = all_profiles()["FR"]
    decoded = decode_batch(raw_batch("FR", [b";;;;;;;"]), profile)
    (letter,) = rows(validate_batch(decoded.accepted, {profile.code: profile}).rejected)
    assert letter["code"] == "missing_field"
    assert letter["fields"] == ["imsi", "msisdn", "event_time"]


def test_accepted_and_rejected_rows_keep_their_order():
    good, bad = b"208011234567890;33612345678;;;;;;1780308000", b"1;33612345678;;;;;;1780308000"
    profile = all_profiles()["FR"]
    decoded = decode_batch(raw_batch("FR", [good, bad, bad, good, bad, good]), profile)
    outcome = validate_batch(decoded.accepted, {profile.code: profile})
    assert [row["source_offset"] for row in rows(outcome.accepted)] == [0, 3, 5]
    assert [row["source_offset"] for row in rows(outcome.rejected)] == [1, 2, 4]
    assert outcome.accepted.schema == VALIDATED_SCHEMA
    assert outcome.rejected.schema == DEAD_LETTER_SCHEMA


def test_an_empty_batch_stays_empty():
    profile = all_profiles()["FR"]
    outcome = validate_batch(decode_batch(raw_batch("FR", []), profile).accepted, {profile.code: profile})
    assert (outcome.accepted.num_rows, outcome.rejected.num_rows) == (0, 0)
    assert outcome.accepted.schema == VALIDATED_SCHEMA
