"""SN records of KEY=VALUE pairs."""

import itertools

import pytest

from tests.transforms.decoding import decode_one, rejected_codes

PAIRS = [
    b"IMSI=608011234567890", b"MSISDN=+221771234567", b"IMEI=352099001761481", b"CELL=SN-DKR-001", b"RAT=4G", b"UP=10",
    b"DOWN=20", b"TS=2026-06-01T10:00:00Z",
]  # fmt: skip
EXPECTED = {
    "raw_format": "sn_key_value",
    "imsi": "608011234567890",
    "msisdn": "+221771234567",
    "imei": "352099001761481",
    "cell_id": "SN-DKR-001",
    "rat": "4G",
    "bytes_up": "10",
    "bytes_down": "20",
    "event_time": "2026-06-01T10:00:00Z",
}


def test_pairs_may_stand_in_any_order():
    for order in itertools.islice(itertools.permutations(PAIRS), 0, None, 997):
        assert decode_one("SN", b"|".join(order)) == EXPECTED


def test_a_key_that_is_absent_or_empty_is_null():
    assert decode_one("SN", b"IMSI=608011234567890|IMEI=|CELL= |TS=1") == {
        "raw_format": "sn_key_value",
        "imsi": "608011234567890",
        "event_time": "1",
    }


@pytest.mark.parametrize("extra", [b"X=1", b"CALL_ID=1", b"id=1", b"V2=1", b"IMSIX=1", b"XIMSI=1"])
@pytest.mark.parametrize("place", [0, 4, 8])
def test_extra_keys_are_ignored_wherever_they_stand(extra, place):
    assert decode_one("SN", b"|".join([*PAIRS[:place], extra, *PAIRS[place:]])) == EXPECTED


def test_of_a_key_that_comes_twice_the_first_counts():
    assert decode_one("SN", b"|".join([*PAIRS, b"UP=11", b"IMSI=1"])) == EXPECTED


def test_a_value_may_hold_an_equals_sign():
    assert decode_one("SN", b"CELL=a=b|IMSI=1") == {"raw_format": "sn_key_value", "imsi": "1", "cell_id": "a=b"}


def test_blanks_around_keys_and_values_are_trimmed():
    assert decode_one("SN", b" " + b" | ".join(PAIRS).replace(b"=", b" = ") + b"\r\n") == EXPECTED


@pytest.mark.parametrize("country", ["FR", "TN", "MA"])
def test_countries_that_do_not_send_the_format_reject_it(country):
    assert rejected_codes(country, b"|".join(PAIRS)) == ["malformed_payload"]
