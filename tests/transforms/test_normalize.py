"""normalize_batch: one form for numbers, generations and times, and an id that is the content's alone."""

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest

from orion_beam.countries import all_profiles
from orion_beam.schemas.cdr import NORMALIZED_SCHEMA
from orion_beam.schemas.fields import RAT_GENERATIONS
from orion_beam.testing import rows
from orion_beam.transforms.normalize import normalize_batch
from tests.transforms.chain import ARRIVED, normalized, validated

GOOD: dict[str, Any] = {
    "event_type": "voice", "imsi": "208011234567890", "msisdn": "33612345678", "timestamp": "2026-06-01T10:00:00Z",
}  # fmt: skip


def normalize(country: str = "FR", **fields: Any) -> dict[str, Any]:
    (row,) = rows(normalized(country, [json.dumps(GOOD | fields).encode()]))
    return row


@pytest.mark.parametrize(
    ("country", "sent", "expected"),
    [
        ("FR", "+33612345678", "+33612345678"),
        ("FR", "0033612345678", "+33612345678"),
        ("FR", "33612345678", "+33612345678"),
        ("FR", "0612345678", "+33612345678"),
        ("FR", "+33712345678901", "+33712345678901"),
        ("FR", "00221771234567", "+221771234567"),
        ("FR", "221771234567", "+221771234567"),
        ("MA", "0612345678", "+212612345678"),
        ("MA", "212612345678", "+212612345678"),
        ("TN", "21620123456", "+21620123456"),
        ("TN", "0021620123456", "+21620123456"),
        ("SN", "221771234567", "+221771234567"),
    ],
)
def test_a_number_becomes_international(country, sent, expected):
    row = normalize(country, msisdn=sent, called_number=sent)
    assert (row["msisdn"], row["peer_msisdn"]) == (expected, expected)


@pytest.mark.parametrize("peer", ["3244", "INFO", "+336", "sip:a@b", "33 6", "1" * 16])
def test_a_peer_that_is_no_subscriber_number_stays_as_sent(peer):
    assert normalize(called_number=peer)["peer_msisdn"] == peer


def test_an_absent_peer_stays_null():
    assert normalize()["peer_msisdn"] is None


@pytest.mark.parametrize(
    ("imsi", "mcc", "mnc"),
    [
        ("208011234567890", "208", "01"),
        ("310260123456789", "310", "260"),
        ("302720123456789", "302", "720"),
        ("405861234567890", "405", "861"),
        ("999991234567890", "999", "99"),
        ("60501123456789", "605", "01"),
    ],
)
def test_the_mnc_has_as_many_digits_as_the_plan_of_its_mcc(imsi, mcc, mnc):
    row = normalize(imsi=imsi)
    assert (row["mcc"], row["mnc"]) == (mcc, mnc)


@pytest.mark.parametrize(("sent", "generation"), RAT_GENERATIONS.items())
def test_a_rat_becomes_its_generation(sent, generation):
    zeros = "00" if sent.isdigit() else ""
    assert normalize(rat=zeros + sent.upper())["rat"] == generation


def test_an_absent_rat_stays_null():
    assert normalize()["rat"] is None


@pytest.mark.parametrize(
    ("sent", "expected"),
    [("prepaid", "prepaid"), ("POSTPAID", "postpaid"), (" Corporate ", "corporate"), ("VIP", None), (None, None)],
)
def test_a_subscriber_type_is_one_of_three_or_null(sent, expected):
    assert normalize(subscriber_type=sent)["subscriber_type"] == expected


@pytest.mark.parametrize(
    ("country", "sent", "event_date", "event_hour", "zone"),
    [
        ("FR", "2026-05-31T22:30:00Z", date(2026, 6, 1), 0, "Europe/Paris"),
        ("FR", "2026-01-31T22:30:00Z", date(2026, 1, 31), 23, "Europe/Paris"),
        ("TN", "2026-05-31T23:00:00Z", date(2026, 6, 1), 0, "Africa/Tunis"),
        ("MA", "2026-05-31T23:30:00Z", date(2026, 6, 1), 0, "Africa/Casablanca"),
        ("MA", "2026-03-01T23:30:00Z", date(2026, 3, 1), 23, "Africa/Casablanca"),  # Ramadan: UTC
        ("SN", "2026-05-31T23:59:59Z", date(2026, 5, 31), 23, "Africa/Dakar"),
    ],
)
def test_date_and_hour_are_local_to_the_country(country, sent, event_date, event_hour, zone):
    row = normalize(country, timestamp=sent)
    assert row["event_time"] == datetime.fromisoformat(sent)
    assert (row["event_date"], row["event_hour"], row["timezone"]) == (event_date, event_hour, zone)


PIPE = b"208011234567890|33612345678|sms|||"


def ids_of(payloads: list[bytes], country: str = "FR", **options: Any) -> list[str]:
    return [row["cdr_id"] for row in rows(normalized(country, payloads, **options))]


def test_the_id_is_the_contents_alone():
    (first,) = ids_of([PIPE])
    assert ids_of([PIPE], topic="elsewhere", partition=3, first_offset=99, keys=[b"k"]) == [first]
    assert ids_of([PIPE, PIPE]) == [first, first]


def test_the_id_tells_content_country_and_time_apart():
    others = [
        *ids_of([PIPE, PIPE.replace(b"sms", b"data"), PIPE + b" "]),
        *ids_of([PIPE], "SN"),
        *ids_of([PIPE], timestamps=datetime(2026, 6, 1, 12, 0, 0, 1000, tzinfo=UTC)),
    ]
    assert len(set(others)) == len(others)


def test_the_id_stays_the_same_between_versions():
    # It is the idempotence key of consumers: a replay with a later version must write the same one.
    assert ids_of([PIPE], timestamps=ARRIVED) == ["198371878501898527619672855913378836488"]


def test_every_row_is_kept_in_order():
    batch = normalized("FR", [PIPE] * 5)
    assert [row["source_offset"] for row in rows(batch)] == [0, 1, 2, 3, 4]
    assert batch.schema == NORMALIZED_SCHEMA


def test_an_empty_batch_stays_empty():
    outcome = normalize_batch(validated("FR", []), all_profiles())
    assert (outcome.accepted.num_rows, outcome.rejected.num_rows) == (0, 0)
    assert outcome.accepted.schema == NORMALIZED_SCHEMA
