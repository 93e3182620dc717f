"""SN records of fixed width."""

import pytest

from tests.transforms.decoding import decode, decode_one, rejected_codes

RECORD = (
    b"608011234567890" + b"221771234567    " + b"352099001761481" + b"SN-DKR-001" + b"04"
    + b"000000000010" + b"000000000020" + b"20260601100000      "
)  # fmt: skip
EXPECTED = {
    "raw_format": "sn_fixed_width",
    "imsi": "608011234567890",
    "msisdn": "221771234567",
    "imei": "352099001761481",
    "cell_id": "SN-DKR-001",
    "rat": "04",
    "bytes_up": "000000000010",
    "bytes_down": "000000000020",
    "event_time": "20260601100000",
}


def test_fields_are_cut_by_place():
    assert len(RECORD) == 102
    assert decode_one("SN", RECORD) == EXPECTED


@pytest.mark.parametrize("end", [b"", b"\r", b" \r\n", b"    "])
def test_the_blanks_at_the_end_may_be_trimmed_or_more(end):
    assert decode_one("SN", RECORD.rstrip() + end) == EXPECTED


def test_width_is_counted_in_characters_not_bytes():
    record = RECORD.replace(b"SN-DKR-001", "Thiès-é-01".encode())
    assert decode_one("SN", record) == EXPECTED | {"cell_id": "Thiès-é-01"}


def test_blank_fields_are_null():
    record = RECORD.replace(b"352099001761481", b" " * 15).replace(b"SN-DKR-001", b" " * 10)
    assert decode_one("SN", record) == {k: v for k, v in EXPECTED.items() if k not in ("imei", "cell_id")}


def test_a_blank_imsi_does_not_move_the_fields_after_it():
    assert decode_one("SN", b" " * 15 + RECORD[15:]) == {k: v for k, v in EXPECTED.items() if k != "imsi"}


def test_a_leading_byte_order_mark_does_not_count():
    assert decode_one("SN", b"\xef\xbb\xbf" + RECORD) == EXPECTED


@pytest.mark.parametrize("record", [RECORD + b"1", RECORD[:82], RECORD[:60], b"x" * 103])
def test_any_other_length_is_malformed(record):
    assert rejected_codes("SN", record + (b"1" if len(record) > 102 else b"")) == ["malformed_payload"]


def test_a_newline_inside_takes_one_place_and_no_other_row():
    broken = RECORD[:46] + b'SN\nKR\x00"01' + RECORD[55:]
    accepted = decode("SN", [RECORD, broken, RECORD])
    assert [row["cell_id"] for row in accepted] == ["SN-DKR-001", 'SN\nKR\x00"011', "SN-DKR-001"]
    assert accepted[0] == accepted[2] == EXPECTED


@pytest.mark.parametrize("end", [b"", b"\r", b" \r\n"])
def test_a_blank_last_column_may_be_followed_by_blanks(end):
    assert decode_one("SN", RECORD[:82] + b" " * 20 + end) == {k: v for k, v in EXPECTED.items() if k != "event_time"}
