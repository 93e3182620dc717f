"""The field types of raw CDRs: for each, what it accepts, what it takes for absent, and the code of what it rejects."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import TypeAdapter, ValidationError

from orion_beam.countries import all_profiles
from orion_beam.schemas.codes import Code
from orion_beam.schemas.fields import (
    MAX_COUNT,
    Count,
    EventTime,
    EventType,
    FreeText,
    Imei,
    Imsi,
    Msisdn,
    Rat,
    parse_event_time,
    text_of,
)
from orion_beam.transforms.decoders.registry import all_formats
from tests.oracle import row_model
from tests.raw_formats.flat_json import FlatJsonCdr
from tests.raw_formats.ma_semicolon import MaSemicolonCdr
from tests.raw_formats.tn_json import TnJsonCdr

FR = all_profiles()["FR"]
PARIS = ZoneInfo("Europe/Paris")
ARRIVED = datetime(2026, 6, 1, 12, tzinfo=UTC)
CONTEXT = {"profile": FR, "source_timestamp": None}
ABSENT = [None, "", " ", "\t\r\n "]
ARABIC_INDIC = {ord("0") + digit: 0x0660 + digit for digit in range(10)}
FULL_WIDTH = {ord("0") + digit: 0xFF10 + digit for digit in range(10)}


def validate(field: Any, value: Any, context: dict[str, Any] = CONTEXT) -> Any:
    return TypeAdapter(field).validate_python(value, context=context)


def code_of(field: Any, value: Any, context: dict[str, Any] = CONTEXT) -> str:
    with pytest.raises(ValidationError) as caught:
        validate(field, value, context)
    (error,) = caught.value.errors()
    return error["type"]


@pytest.mark.parametrize("field", [Imsi, Msisdn, EventTime])
@pytest.mark.parametrize("value", ABSENT)
def test_an_absent_required_field_is_missing(field, value):
    assert code_of(field, value) == Code.MISSING_FIELD


@pytest.mark.parametrize("field", [Imei, Count, Rat, FreeText])
@pytest.mark.parametrize("value", ABSENT)
def test_an_absent_optional_field_is_null(field, value):
    assert validate(field, value) is None


@pytest.mark.parametrize("value", ABSENT)
def test_an_absent_event_type_is_unknown(value):
    assert code_of(EventType, value) == Code.UNKNOWN_EVENT_TYPE


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        (Imsi, "20801123456789", "20801123456789"),
        (Imsi, "208011234567890", "208011234567890"),
        (Imsi, " 208011234567890\r", "208011234567890"),
        (Imsi, 208011234567890, "208011234567890"),
        (Imsi, "001010123456789", "001010123456789"),
        (Msisdn, "+33612345678", "+33612345678"),
        (Msisdn, "0033612345678", "0033612345678"),
        (Msisdn, "33612345678", "33612345678"),
        (Msisdn, "0612345678", "0612345678"),
        (Msisdn, "123456789012345", "123456789012345"),
        (Msisdn, "+123456789012345", "+123456789012345"),
        (Msisdn, "00123456789012345", "00123456789012345"),
        (Msisdn, 33612345678, "33612345678"),
        (Imei, "35209900176148", "35209900176148"),
        (Imei, "352099001761481", "352099001761481"),
        (Imei, "3520990017614823", "3520990017614823"),
        (Imei, "352099001761480", "352099001761480"),
        (Imei, 352099001761481, "352099001761481"),
        (Count, "0", 0),
        (Count, "000000000042", 42),
        (Count, 42, 42),
        (Count, str(MAX_COUNT), MAX_COUNT),
        (Count, "0" * 5000 + "1", 1),
        (Count, " 7 ", 7),
        (EventType, "voice", "voice"),
        (EventType, "SMS", "sms"),
        (EventType, " Data ", "data"),
        (FreeText, "Zürich-12", "Zürich-12"),
        (FreeText, " cell 7\t", "cell 7"),
        (FreeText, 4711, "4711"),
        (FreeText, True, "true"),
        (FreeText, "NaN", "NaN"),
    ],
)
def test_a_valid_value_is_kept_without_its_surrounding_blanks(field, value, expected):
    assert validate(field, value) == expected


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("2080112345678", Code.INVALID_IMSI),
        ("2080112345678901", Code.INVALID_IMSI),
        ("20801123456789a", Code.INVALID_IMSI),
        ("2.08011E+14", Code.INVALID_IMSI),
        ("208 01123456789", Code.INVALID_IMSI),
        ("+20801123456789", Code.INVALID_IMSI),
        ("208011234567890".translate(ARABIC_INDIC), Code.INVALID_IMSI),
        ("208011234567890".translate(FULL_WIDTH), Code.INVALID_IMSI),
        ("208011234567890\n1", Code.INVALID_IMSI),
        ("208011234567890\x00", Code.INVALID_IMSI),
        ("\u00a0208011234567890", Code.INVALID_IMSI),
        (208011234567890.0, Code.INVALID_IMSI),
        (True, Code.INVALID_IMSI),
    ],
)
def test_an_invalid_imsi_is_rejected(value, code):
    assert code_of(Imsi, value) == code


@pytest.mark.parametrize(
    "value",
    ["123456789", "1234567890123456", "+123456789", "++33612345678", "+33 6 12 34 56 78", "06-12-34-56-78",
     "3.36E+10", "tel:+33612345678", "+33612345678".translate(ARABIC_INDIC), "0012345678901234567", 33612345678.0,
     True],
)  # fmt: skip
def test_an_invalid_msisdn_is_rejected(value):
    assert code_of(Msisdn, value) == Code.INVALID_MSISDN


@pytest.mark.parametrize(
    "value",
    ["3520990017614", "35209900176148123", "35-209900-176148-1", "35209900176148X", "3.52099E+14",
     "352099001761481".translate(ARABIC_INDIC), 352099001761481.0, False],
)  # fmt: skip
def test_an_invalid_imei_is_rejected(value):
    assert code_of(Imei, value) == Code.INVALID_IMEI


@pytest.mark.parametrize(
    "value",
    ["-1", "+1", "1.0", "1,000", "1 000", "1e3", "1E3", "NaN", "nan", "inf", "Infinity", "0x10", "1_000", "½", "²",
     "twelve", "12".translate(ARABIC_INDIC), "12".translate(FULL_WIDTH), str(MAX_COUNT + 1), "9" * 19, "1" + "0" * 19,
     "9" * 5000, "1\n2", "#VALUE!", "null", -1, 1.0, 1.5, 1e300, float("nan"), float("inf"), MAX_COUNT + 1, True],
)  # fmt: skip
def test_an_invalid_count_is_rejected(value):
    assert code_of(Count, value) == Code.INVALID_NUMBER


@pytest.mark.parametrize("value", ["mms", "voice,sms", "VOICE CALL", "1", 1, True, "v\u043eice"])
def test_an_unknown_event_type_is_rejected(value):
    assert code_of(EventType, value) == Code.UNKNOWN_EVENT_TYPE


@pytest.mark.parametrize(
    "value",
    ["GSM", "gsm", "2g", "GERAN", "UTRAN", "UMTS", "E-UTRAN", "EUTRAN", "LTE", "Nb-IoT", "NR", "5G", "1", "01", "06",
     "0006", 6, "10", "51", 51],
)  # fmt: skip
def test_a_known_rat_is_kept_as_it_was_sent(value):
    assert validate(Rat, value) == str(value)


@pytest.mark.parametrize("value", ["3", "4", "7", "0", "00", 0, "11", "-6", "6.0", "6G", "WLAN", "\u0666", True, 6.0])
def test_an_unknown_rat_is_rejected(value):
    assert code_of(Rat, value) == Code.UNKNOWN_RAT


@pytest.mark.parametrize("field", [Imsi, Msisdn, Imei, Count, EventType, Rat, EventTime, FreeText])
@pytest.mark.parametrize("value", [[], {}, ["208011234567890"], {"a": 1}])
def test_an_object_or_array_in_place_of_a_value_is_malformed(field, value):
    assert code_of(field, value) == Code.MALFORMED_PAYLOAD


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # ISO 8601 with an offset
        ("2026-06-01T10:00:00Z", "2026-06-01T10:00:00+00:00"),
        ("2026-06-01 10:00:00Z", "2026-06-01T10:00:00+00:00"),
        ("2026-06-01T12:00:00+02:00", "2026-06-01T10:00:00+00:00"),
        ("2026-06-01T12:00:00+0200", "2026-06-01T10:00:00+00:00"),
        ("2026-06-01T04:30:00-05:30", "2026-06-01T10:00:00+00:00"),
        ("2026-06-01T10:00:00-00:00", "2026-06-01T10:00:00+00:00"),
        ("2026-06-02T00:00:00+14:00", "2026-06-01T10:00:00+00:00"),
        # fractions, cut to the millisecond
        ("2026-06-01T10:00:00.5Z", "2026-06-01T10:00:00.500000+00:00"),
        ("2026-06-01T10:00:00.012Z", "2026-06-01T10:00:00.012000+00:00"),
        ("2026-06-01T10:00:00.999999999Z", "2026-06-01T10:00:00.999000+00:00"),
        ("2026-06-01T12:00:00.25+02:00", "2026-06-01T10:00:00.250000+00:00"),
        # without an offset it is local time: summer, winter
        ("2026-06-01T12:00:00", "2026-06-01T10:00:00+00:00"),
        ("2026-06-01 12:00:00.750", "2026-06-01T10:00:00.750000+00:00"),
        ("2026-01-15T12:00:00", "2026-01-15T11:00:00+00:00"),
        ("20260601120000", "2026-06-01T10:00:00+00:00"),
        # basic format, always UTC
        ("20260601T100000Z", "2026-06-01T10:00:00+00:00"),
        # the clock goes back: the first 02:30 of the two
        ("2026-10-25T02:30:00", "2026-10-25T00:30:00+00:00"),
        ("20261025023000", "2026-10-25T00:30:00+00:00"),
        ("2026-10-25T03:00:00", "2026-10-25T02:00:00+00:00"),
        # the clock goes forward: the hours around the gap, and the gap with an offset
        ("2026-03-29T01:59:59", "2026-03-29T00:59:59+00:00"),
        ("2026-03-29T03:00:00", "2026-03-29T01:00:00+00:00"),
        ("2026-03-29T02:30:00+01:00", "2026-03-29T01:30:00+00:00"),
        # epochs
        ("1780308000", "2026-06-01T10:00:00+00:00"),
        ("1780308000123", "2026-06-01T10:00:00.123000+00:00"),
        ("999999999", "2001-09-09T01:46:39+00:00"),
        ("999999999999", "2001-09-09T01:46:39.999000+00:00"),
        ("946684800", "2000-01-01T00:00:00+00:00"),
        ("946684800000", "2000-01-01T00:00:00+00:00"),
        ("4133980799", "2100-12-31T23:59:59+00:00"),
        ("4133980799999", "2100-12-31T23:59:59.999000+00:00"),
        ("4133980799999999", "2100-12-31T23:59:59.999000+00:00"),
        # the farthest offset that there is
        ("2026-06-01T12:00:00+14:00", "2026-05-31T22:00:00+00:00"),
        ("2026-06-01T12:00:00-1400", "2026-06-02T02:00:00+00:00"),
        # the ends of the calendar
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00+00:00"),
        ("0001-01-02T00:00:00Z", "0001-01-02T00:00:00+00:00"),
        ("9999-12-30T00:00:00Z", "9999-12-30T00:00:00+00:00"),
    ],
)
def test_a_time_is_read_in_each_spelling(text, expected):
    assert parse_event_time(text, PARIS).isoformat() == expected


@pytest.mark.parametrize(
    "text",
    [
        # instants that do not exist
        "2026-02-29T00:00:00Z", "2026-02-30T00:00:00Z", "2026-04-31T00:00:00Z", "2026-13-01T00:00:00Z",
        "2026-00-10T00:00:00Z", "2026-01-00T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z",
        "20260230120000", "20261301000000", "20260101T240000Z", "1900-02-29T00:00:00Z",
        # leap seconds
        "2016-12-31T23:59:60Z", "2016-12-31T23:59:61Z", "20161231235960", "20161231T235960Z",
        # the hour that the clock skips
        "2026-03-29T02:00:00", "2026-03-29T02:30:00", "2026-03-29 02:59:59.999", "20260329023000",
        # beyond the calendar, in UTC too
        "0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z",
        "00000101000000", "0001-01-01T00:00:00", "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00", "10000-01-01T00:00:00Z",
        # offsets
        "2026-06-01T12:00:00+15:00", "2026-06-01T12:00:00+14:01", "2026-06-01T12:00:00-1459",
        "2026-06-01T12:00:00+02:60", "2026-06-01T12:00:00+2:00",
        "2026-06-01T12:00:00+02", "2026-06-01T12:00:00 +02:00", "2026-06-01T12:00:00z", "2026-06-01T12:00:00CET",
        # other spellings
        "2026-06-01", "2026-06-01T12:00Z", "2026-6-1T12:00:00Z", "2026-06-01t12:00:00Z", "2026-06-01  12:00:00",
        "2026-06-01T12:00:00,5Z", "2026-06-01T12:00:00.Z", "2026-06-01T12:00:00.1234567890Z", "20260601T120000",
        "01/06/2026 12:00:00", "2026/06/01 12:00:00", "Mon Jun  1 12:00:00 2026", "12:00:00", "yesterday",
        # broken numbers
        "1.780308E+09", "1780308000.5", "-1780308000", "+1780308000", "46174.5", "NaN", "Infinity", "17803080",
        "17803080001", "178030800012345",
        # epochs of other units or centuries, filled up with zeros, and dates that are not spelled as the profile says
        "946684799", "000000001", "0000000000", "4133980800", "9999999999", "946684799999", "000000000000",
        "4133980800000", "9999999999999", "0001780308000", "0946684799999999", "4133980800000000", "0000001780308000",
        "1780308000123000"[::-1], "260601100000", "202606011000",
        "0", "1" * 5000,
        # digits of other scripts
        "2026-06-01T12:00:00Z".translate(ARABIC_INDIC), "20260601120000".translate(ARABIC_INDIC),
        "1780308000".translate(FULL_WIDTH),
        # more than a time
        "2026-06-01T12:00:00Z\n", "2026-06-01T12:00:00Z\x00", "2026-06-01T12:00:00ZZ", "[]",
    ],
)  # fmt: skip
def test_a_text_that_names_no_instant_is_no_time(text):
    with pytest.raises((ValueError, OverflowError)):
        parse_event_time(text, PARIS)


@pytest.mark.parametrize("value", ["2026-02-30T00:00:00Z", "0001-01-01T00:00:00", 1.5, 1e300, True, -1, "NaN"])
def test_an_invalid_time_is_rejected(value):
    assert code_of(EventTime, value) == Code.INVALID_TIMESTAMP


def test_a_json_number_is_an_epoch():
    assert validate(EventTime, 1780308000) == datetime(2026, 6, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize("zone", ["Africa/Tunis", "Africa/Casablanca", "Africa/Dakar"])
def test_a_local_time_is_that_of_its_country(zone):
    local = datetime(2026, 6, 1, 12, tzinfo=ZoneInfo(zone))
    assert parse_event_time("20260601120000", ZoneInfo(zone)) == local


@pytest.mark.parametrize(
    ("ahead", "accepted"), [(timedelta(hours=1), True), (timedelta(hours=1, milliseconds=1), False)]
)
def test_a_time_may_be_an_hour_ahead_of_its_arrival(ahead, accepted):
    context = {"profile": FR, "source_timestamp": ARRIVED}
    text = (ARRIVED + ahead).isoformat(timespec="milliseconds")
    if accepted:
        assert validate(EventTime, text, context) == ARRIVED + ahead
    else:
        assert code_of(EventTime, text, context) == Code.FUTURE_TIMESTAMP


def test_a_time_has_no_maximum_age():
    context = {"profile": FR, "source_timestamp": ARRIVED}
    assert validate(EventTime, "1999-01-01T00:00:00Z", context).year == 1999


def test_without_a_time_of_arrival_no_time_is_in_the_future():
    assert validate(EventTime, "2999-01-01T00:00:00Z").year == 2999


@pytest.mark.parametrize(("value", "text"), [(None, None), ("", None), (" a b ", "a b"), (0, "0"), (False, "false")])
def test_a_raw_value_becomes_trimmed_text(value, text):
    assert text_of(value) == text


def test_only_ascii_blanks_are_trimmed():
    assert text_of("\u00a0x\u2003") == "\u00a0x\u2003"


@pytest.mark.parametrize("name", all_formats())
def test_an_empty_row_misses_every_required_field_at_once(name):
    with pytest.raises(ValidationError) as caught:
        row_model(name).model_validate({}, context=CONTEXT)
    missing = [error["loc"][-1] for error in caught.value.errors() if error["type"] == Code.MISSING_FIELD]
    assert {str(name).lower() for name in missing} >= {"imsi", "msisdn"}


def test_a_row_names_every_rule_that_it_breaks():
    row = {
        "imsi": "1",
        "msisdn": "2",
        "cell_id": "c",
        "rat": "x",
        "bytes_up": "-1",
        "bytes_down": "",
        "event_time": "t",
    }
    with pytest.raises(ValidationError) as caught:
        MaSemicolonCdr.model_validate(row, context=CONTEXT)
    assert {error["loc"][0]: error["type"] for error in caught.value.errors()} == {
        "imsi": Code.INVALID_IMSI,
        "msisdn": Code.INVALID_MSISDN,
        "rat": Code.UNKNOWN_RAT,
        "bytes_up": Code.INVALID_NUMBER,
        "event_time": Code.INVALID_TIMESTAMP,
    }


def test_a_reject_never_quotes_the_value():
    with pytest.raises(ValidationError) as caught:
        validate(Imsi, "secret-imsi")
    assert "secret" not in caught.value.errors()[0]["msg"]


def test_a_missing_member_of_nested_json_is_an_empty_object():
    row = {"subscriber": {"imsi": "605011234567890", "msisdn": "+21620123456"}, "timestamp": 1780308000}
    cdr = TnJsonCdr.model_validate(row, context=CONTEXT)
    assert (cdr.network.cell, cdr.usage.up, cdr.subscriber.imei) == (None, None, None)


@pytest.mark.parametrize("value", ["text", 1, [], True])
def test_a_member_of_nested_json_that_is_no_object_is_malformed(value):
    with pytest.raises(ValidationError) as caught:
        TnJsonCdr.model_validate({"usage": value}, context=CONTEXT)
    assert {error["type"] for error in caught.value.errors() if error["loc"] == ("usage",)} == {Code.MALFORMED_PAYLOAD}


def test_extra_members_are_ignored():
    row = {"event_type": "sms", "imsi": "605011234567890", "msisdn": "+21620123456", "timestamp": 1780308000, "x": []}
    assert not hasattr(FlatJsonCdr.model_validate(row, context=CONTEXT), "x")
