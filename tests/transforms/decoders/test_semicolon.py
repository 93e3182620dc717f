"""FR and MA `;`-separated records."""

import pytest

from tests.transforms.decoding import decode, decode_one, rejected_codes

FR = b"208011234567890;+33612345678;352099001761481;FR-PAR-001;4G;10;20;2026-06-01T10:00:00Z"
MA = b"604001234567890;+212612345678;MA-CAS-001;4G;10;20;2026-06-01T10:00:00Z"


def test_the_columns_of_fr_stand_in_order():
    assert decode_one("FR", FR) == {
        "raw_format": "fr_semicolon",
        "imsi": "208011234567890",
        "msisdn": "+33612345678",
        "imei": "352099001761481",
        "cell_id": "FR-PAR-001",
        "rat": "4G",
        "bytes_up": "10",
        "bytes_down": "20",
        "event_time": "2026-06-01T10:00:00Z",
    }


def test_the_columns_of_ma_stand_in_order():
    assert decode_one("MA", MA) == {
        "raw_format": "ma_semicolon",
        "imsi": "604001234567890",
        "msisdn": "+212612345678",
        "cell_id": "MA-CAS-001",
        "rat": "4G",
        "bytes_up": "10",
        "bytes_down": "20",
        "event_time": "2026-06-01T10:00:00Z",
    }


@pytest.mark.parametrize("missing", range(1, 6))
def test_trailing_columns_of_ma_that_are_missing_are_null(missing):
    columns = MA.split(b";")[:-missing]
    names = ["imsi", "msisdn", "cell_id", "rat", "bytes_up", "bytes_down"][: len(columns)]
    expected = dict(zip(names, [column.decode() for column in columns], strict=True))
    assert decode_one("MA", b";".join(columns)) == {"raw_format": "ma_semicolon"} | expected


def test_empty_and_blank_columns_are_null():
    assert decode_one("FR", b"208011234567890;; ;\t;;;;x") == {
        "raw_format": "fr_semicolon",
        "imsi": "208011234567890",
        "event_time": "x",
    }


@pytest.mark.parametrize(
    ("country", "payload"),
    [
        ("FR", FR + b";;"),
        ("FR", FR + b'; ";"'),
        ("FR", FR.rpartition(b";")[0]),
        ("FR", b";"),
        ("FR", b'"' + FR + b'"'),
        ("MA", MA + b";;"),
        ("MA", MA + b";x"),
    ],
)
def test_columns_too_many_or_too_few_are_malformed(country, payload):
    assert rejected_codes(country, payload) == ["malformed_payload"]


@pytest.mark.parametrize(("country", "payload"), [("FR", FR), ("MA", MA)])
@pytest.mark.parametrize("behind", [b";", b"; \r"])
def test_a_separator_behind_all_columns_is_none(country, payload, behind):
    assert decode_one(country, payload + behind) == decode_one(country, payload)


def test_a_separator_behind_the_column_before_the_last_is_before_an_empty_one():
    short = FR.rpartition(b";")[0]
    expected = decode_one("FR", FR)
    del expected["event_time"]
    assert decode_one("FR", short + b";") == expected


@pytest.mark.parametrize(("country", "payload"), [("FR", FR), ("MA", MA)])
def test_columns_may_stand_in_quotes(country, payload):
    quoted = b'"' + payload.replace(b";", b'";"') + b'"'
    mixed = b" ;".join(b'\t"%b" ' % each if place % 2 else each for place, each in enumerate(payload.split(b";")))
    some = decode(country, [quoted, payload, quoted + b";\r", mixed, b"\xef\xbb\xbf" + quoted])
    assert some == [decode_one(country, payload)] * 5


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        (b'"a;b"', "a;b"),
        (b'"a""b"', 'a"b'),
        (b'""""', '"'),
        (b'"a"";""b;"', 'a";"b;'),
        (b'""', None),
        (b'" "', None),
        (b'"a', '"a'),
        (b'a"', 'a"'),
        (b'"a"b', '"a"b'),
        (b'a""b', 'a""b'),
    ],
)
def test_what_quotes_mean(column, cell):
    payload = FR.replace(b"FR-PAR-001", column)
    rows = decode("FR", [FR, payload, FR.replace(b"FR-PAR-001", b'x""y')])
    assert [row.get("cell_id") for row in rows] == ["FR-PAR-001", cell, 'x""y']


def test_blanks_around_columns_and_a_trailing_carriage_return_are_trimmed():
    spaced = FR.replace(b";", b" ; ") + b"\r"
    assert decode_one("FR", spaced) == decode_one("FR", FR)


def test_a_leading_byte_order_mark_is_trimmed():
    assert decode_one("MA", b"\xef\xbb\xbf" + MA) == decode_one("MA", MA)


@pytest.mark.parametrize("country", ["TN", "SN"])
def test_countries_that_do_not_send_the_format_reject_it(country):
    assert rejected_codes(country, FR) == ["malformed_payload"]


@pytest.mark.parametrize("inside", ["\n", "\r", '"', "'", "\x00", "\u2028", "\ufeff", "|", "="])
def test_odd_characters_inside_a_column_stay_there(inside):
    payload = FR.replace(b"FR-PAR-001", f"a{inside}b".encode())
    accepted = decode("FR", [FR, payload, FR])
    assert [row["cell_id"] for row in accepted] == ["FR-PAR-001", f"a{inside}b", "FR-PAR-001"]
