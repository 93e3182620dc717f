"""What rejected data looks like: another country's, or its shape, and never a value of it."""

from datetime import UTC, datetime

import pytest

from orion_beam.countries import default_profiles
from orion_beam.inspect.lookalikes import described, shape_of

ARRIVED = datetime(2026, 6, 1, 12, tzinfo=UTC)
FR = b"208011234567890;+33612345678;352099001761481;FR-PAR-001;4G;10;20;2026-06-01T10:00:00Z"
MA = b"604001234567890;+212612345678;MA-CAS-001;4G;10;20;2026-06-01T10:00:00Z"
TN = (
    b'{"subscriber":{"imsi":"605011234567890","msisdn":"+21620123456"},"network":{},"usage":{},'
    b'"timestamp":"2026-06-01T10:00:00Z"}'
)
SN = b"IMSI=608011234567890|MSISDN=+221771234567|TS=2026-06-01T10:00:00Z"


@pytest.mark.parametrize(
    ("payloads", "read_as", "country"),
    [([FR] * 3, "TN", "FR"), ([MA] * 3 + [b"x"], "FR", "MA"), ([TN], "SN", "TN"), ([SN, b"x", SN], "MA", "SN")],
)
def test_records_of_another_country_are_known(payloads, read_as, country):
    found = described(payloads, read_as, default_profiles(), ARRIVED)
    assert found == f"they read as records of {country}: --input {country}=…"


@pytest.mark.parametrize(
    ("payloads", "expected"),
    [
        ([b"208011234567890,33612345678,7", b"1,2,3"], "they look like 3 fields between commas"),
        ([b"1;2", b"1;2", b"x"], "most look like 2 fields between `;`"),
        ([FR], "they look like 8 fields between `;`"),
    ],
)
def test_what_is_of_no_country_is_described(payloads, expected):
    assert described(payloads, "FR", default_profiles(), ARRIVED) == expected


@pytest.mark.parametrize(
    ("payload", "shape"),
    [
        (b'{"imsi":"208011234567890","208011234567890":1,"a":{"up":2}}', "JSON with the members imsi, a, up"),
        (b"\x00\x01\x02abc", "binary data"),
        (b"<cdr/>", "XML"),
        (b"[1]", "a JSON array"),
        (b"a\tb", "2 fields between tabs"),
        (b"208011234567890", "15 characters without a separator"),
        (b"", "0 characters without a separator"),
    ],
)
def test_shapes_hold_no_values(payload, shape):
    assert shape_of(payload) == shape
