"""JSON records: TN's nested ones, and flat ones from every country."""

import json

import pytest

from tests.transforms.decoding import decode, decode_one, rejected_codes

NESTED = {
    "subscriber": {"imsi": "605011234567890", "msisdn": "21620123456", "imei": "352099001761481"},
    "network": {"cell": "TN-TUN-001", "rat": "LTE"},
    "usage": {"up": 10, "down": 20},
    "timestamp": "2026-06-01T10:00:00Z",
}
NESTED_EXPECTED = {
    "raw_format": "tn_json",
    "imsi": "605011234567890",
    "msisdn": "21620123456",
    "imei": "352099001761481",
    "rat": "LTE",
    "cell_id": "TN-TUN-001",
    "bytes_up": "10",
    "bytes_down": "20",
    "event_time": "2026-06-01T10:00:00Z",
}
FLAT = {
    "event_type": "voice", "imsi": "208011234567890", "msisdn": "33612345678", "imei": "352099001761481",
    "cell_id": "C1", "rat": "LTE", "timestamp": 1780308000, "country": "XX", "duration": 60,
    "called_number": "33699999999", "call_type": "MO", "bytes_uploaded": "1", "bytes_downloaded": 2, "apn": "internet",
    "sms_type": "MT", "message_length": 160, "charging_id": 4711, "subscriber_type": "prepaid", "lac_tac": "0042",
    "node_id": "pgw-1", "local_sequence_number": 4294967295, "record_sequence_number": "1",
    "cause_for_record_closing": 16,
}  # fmt: skip
FLAT_EXPECTED = {
    "raw_format": "flat_json", "imsi": "208011234567890", "msisdn": "33612345678", "imei": "352099001761481",
    "subscriber_type": "prepaid", "rat": "LTE", "cell_id": "C1", "lac_tac": "0042", "event_type": "voice",
    "duration_s": "60", "bytes_up": "1", "bytes_down": "2", "charging_id": "4711", "peer_msisdn": "33699999999",
    "call_type": "MO", "apn": "internet", "sms_type": "MT", "message_length": "160", "event_time": "1780308000",
    "node_id": "pgw-1", "local_sequence_number": "4294967295", "record_sequence_number": "1",
    "cause_for_record_closing": "16",
}  # fmt: skip
every_country = pytest.mark.parametrize("country", ["FR", "TN", "MA", "SN"])


def text(record: object) -> bytes:
    return json.dumps(record).encode()


def test_nested_records_of_tn_are_read():
    assert decode_one("TN", text(NESTED)) == NESTED_EXPECTED


@every_country
def test_flat_records_of_every_country_are_read(country):
    assert decode_one(country, text(FLAT)) == FLAT_EXPECTED


@every_country
@pytest.mark.parametrize(("before", "after"), [(b"\xef\xbb\xbf", b"\r"), (b" \t\r\n", b" \n"), (b"", b"\n")])
def test_a_byte_order_mark_and_surrounding_blanks_are_trimmed(country, before, after):
    assert decode_one(country, before + text(FLAT) + after) == FLAT_EXPECTED


@every_country
@pytest.mark.parametrize(
    "inside", ["a;b", "a;b;c;d;e;f;g;h", "a|b|c|d|e|f", "IMSI=1|x", "subscriber", '"subscriber"', "{"]
)
def test_a_flat_record_is_flat_whatever_its_texts_hold(country, inside):
    assert decode_one(country, text(FLAT | {"apn": inside})) == FLAT_EXPECTED | {"apn": inside}


@pytest.mark.parametrize("absent", ["subscriber", "network", "usage"])
def test_a_nested_record_may_lack_a_member(absent):
    members = {
        "subscriber": ["imsi", "msisdn", "imei"],
        "network": ["cell_id", "rat"],
        "usage": ["bytes_up", "bytes_down"],
    }
    expected = {name: value for name, value in NESTED_EXPECTED.items() if name not in members[absent]}
    assert decode_one("TN", text({k: v for k, v in NESTED.items() if k != absent})) == expected
    assert decode_one("TN", text(NESTED | {absent: None})) == expected


def test_only_tn_sends_nested_records():
    assert decode_one("FR", text(NESTED)) == {"raw_format": "flat_json", "event_time": "2026-06-01T10:00:00Z"}


def test_extra_members_are_ignored_whatever_they_are():
    extra = {"x": [1, {"y": [None, 1e300, "z"]}], "Imsi": "1", "note": {"subscriber": {"imsi": "9"}}}
    assert decode_one("TN", text(NESTED | {"subscriber": NESTED["subscriber"] | extra} | extra)) == NESTED_EXPECTED
    assert decode_one("FR", text(FLAT | extra)) == FLAT_EXPECTED


def test_of_a_member_that_comes_twice_the_last_counts():
    assert decode_one("FR", text(FLAT)[:-1] + b', "apn": "other"}') == FLAT_EXPECTED | {"apn": "other"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("12", "12"), ('"12"', "12"), ('" 12 "', "12"), ("-1", "-1"), ("1.0", "1.0"), ('"1e3"', "1e3"),
        ("true", "true"), ("false", "false"), ('"\\u0031"', "1"), ("9223372036854775808", "9223372036854775808"),
        ("123456789012345678901234567890", "123456789012345678901234567890"), ("9" * 5000, "9" * 5000), ("NaN", "NaN"),
        ("-Infinity", "-Infinity"), ("1e400", "1e400"),
    ],
)  # fmt: skip
def test_a_number_is_its_digits_with_or_without_quotes(value, expected):
    payload = text(FLAT | {"cell_id": "@"}).replace(b'"@"', value.encode())
    assert decode_one("FR", payload) == FLAT_EXPECTED | {"cell_id": expected}


@pytest.mark.parametrize("value", ["null", '""', '" "', '"\\t"'])
def test_null_and_blank_are_null(value):
    payload = text(FLAT | {"cell_id": "@"}).replace(b'"@"', value.encode())
    assert decode_one("FR", payload) == {k: v for k, v in FLAT_EXPECTED.items() if k != "cell_id"}


@pytest.mark.parametrize("called", [None, "", " "])
def test_without_a_called_number_the_peer_is_the_destination(called):
    payload = text(FLAT | {"called_number": called, "destination_number": "33655555555"})
    assert decode_one("FR", payload) == FLAT_EXPECTED | {"peer_msisdn": "33655555555"}


@pytest.mark.parametrize(
    "payload",
    [
        b"{", b'{"imsi"', b'{"imsi":}', b'{"imsi":"1",}', b"{'imsi':'1'}", b'{"imsi":"1"} x', b'{"imsi":"1"}{}',
        b'{"imsi":"1"', b'{"imsi":nan}', b'{"imsi":inf}', b'{"imsi":01}', b'{"imsi":.5}', b'{"imsi":"\\ud800"}',
        b'{"imsi":"\\x"}',
        b'{"imsi":"a\nb"}', b'{"imsi":[]}', b'{"imsi":{"a":1}}', b'{"bytes_uploaded":[1]}', b'{"imsi":1 /* one */}',
        b"{" * 50_000,
    ],
)  # fmt: skip
@pytest.mark.parametrize("country", ["FR", "TN"])
def test_what_is_no_json_object_of_single_values_is_malformed(country, payload):
    assert rejected_codes(country, payload) == ["malformed_payload"]


@pytest.mark.parametrize(
    "change",
    [
        {"subscriber": []},
        {"subscriber": "x"},
        {"network": 1},
        {"usage": True},
        {"timestamp": {}},
        {"usage": {"up": []}},
    ],
)
def test_wrong_types_in_nested_records_are_malformed(change):
    assert rejected_codes("TN", text(NESTED | change)) == ["malformed_payload"]


@pytest.mark.parametrize("payload", [b"[]", b"[{}]", b'"text"', b"1", b"null", b"true"])
def test_json_that_is_no_object_is_malformed(payload):
    assert rejected_codes("FR", payload) == ["malformed_payload"]


def test_broken_records_leave_their_neighbours_alone():
    good, broken = text(FLAT), [b'{"imsi":"1\n', b"{}}", b'{"imsi":}', b"{}{}"]
    outcome = decode("FR", [good, text(FLAT | {"apn": 'a"\n}\x00{'}), good])
    assert [row["apn"] for row in outcome] == ["internet", 'a"\n}\x00{', "internet"]
    for payload in broken:
        assert rejected_codes("FR", payload) == ["malformed_payload"]
