"""The event type: a record that says one is taken at its word, whatever its format; others are data usage."""

import json
from datetime import UTC, datetime

import pytest

from orion_beam.countries import all_profiles
from orion_beam.testing import raw_batch, rows
from orion_beam.transforms.decode import decode_batch
from orion_beam.transforms.validate import validate_batch

ARRIVED = datetime(2026, 6, 1, 12, tzinfo=UTC)
NESTED = {"subscriber": {"imsi": "605011234567890", "msisdn": "+21620123456"}, "timestamp": "2026-06-01T10:00:00Z"}
PAIRS = "IMSI=608011234567890|MSISDN=+221771234567|TS=2026-06-01T10:00:00Z"


@pytest.mark.parametrize(
    ("country", "payload", "event_type", "is_inferred"),
    [
        ("TN", json.dumps(NESTED | {"event_type": "voice"}), "voice", False),
        ("TN", json.dumps(NESTED | {"event_type": "SMS", "extra": [1]}), "sms", False),
        ("TN", json.dumps(NESTED | {"event_type": None}), "data", True),
        ("TN", json.dumps(NESTED), "data", True),
        ("TN", json.dumps(NESTED | {"event_type": "mms"}), None, False),
        ("SN", PAIRS + "|EVENT=sms", "sms", False),
        ("SN", "EVENT= Voice |" + PAIRS, "voice", False),
        ("SN", PAIRS + "|EVENT=", "data", True),
        ("SN", PAIRS, "data", True),
        ("SN", PAIRS + "|EVENT=mms", None, False),
    ],
)
def test_a_record_that_says_an_event_type_is_taken_at_its_word(country, payload, event_type, is_inferred):
    profile = all_profiles()[country]
    decoded = decode_batch(raw_batch(country, [payload.encode()], timestamps=ARRIVED), profile)
    outcome = validate_batch(decoded.accepted, {country: profile})
    if event_type is None:
        (letter,) = rows(outcome.rejected)
        assert letter["codes"] == ["unknown_event_type"]
        return
    (row,) = rows(outcome.accepted)
    assert (row["event_type"], row["event_type_inferred"]) == (event_type, is_inferred)
