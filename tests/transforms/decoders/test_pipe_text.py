"""Short pipe text, from any country."""

import pytest

from tests.transforms.decoding import decode_one, rejected_codes

RECORD = b"208011234567890|33612345678|voice|60|10|20"
EXPECTED = {
    "raw_format": "pipe_text",
    "imsi": "208011234567890",
    "msisdn": "33612345678",
    "event_type": "voice",
    "duration_s": "60",
    "bytes_up": "10",
    "bytes_down": "20",
}
every_country = pytest.mark.parametrize("country", ["FR", "TN", "MA", "SN"])


@every_country
@pytest.mark.parametrize(("before", "after"), [(b"", b""), (b"", b"\r"), (b"\xef\xbb\xbf", b" \r\n"), (b" \t", b"")])
def test_every_country_may_send_it(country, before, after):
    assert decode_one(country, before + RECORD + after) == EXPECTED


@every_country
def test_empty_fields_are_null(country):
    expected = {"raw_format": "pipe_text", "imsi": "208011234567890", "event_type": "sms"}
    assert decode_one(country, b"208011234567890||sms|||") == expected


@every_country
@pytest.mark.parametrize("record", [RECORD + b"|", b'"' + RECORD.replace(b"|", b'"|"') + b'"'])
def test_quotes_and_a_separator_at_the_end_make_no_difference(country, record):
    assert decode_one(country, record) == EXPECTED


@every_country
@pytest.mark.parametrize("record", [RECORD + b"||", RECORD + b"|1", RECORD.rpartition(b"|")[0], b"|", b"a|b"])
def test_any_other_number_of_fields_is_malformed(country, record):
    assert rejected_codes(country, record) == ["malformed_payload"]
