"""enrich_batch: operators, places, segments, roaming classes and the fraud score."""

import json
from typing import Any

import polars as pl
import pytest

from orion_beam.countries import all_profiles
from orion_beam.schemas.cdr import ENRICHED_SCHEMA
from orion_beam.testing import rows
from orion_beam.transforms.enrich import ReferenceData, enrich_batch, operators_of
from orion_beam.transforms.reference.lookups import Lookup
from orion_beam.transforms.rules.networks import Operators
from tests.transforms.chain import normalized

GOOD: dict[str, Any] = {
    "event_type": "data", "imsi": "208011234567890", "msisdn": "33612345678", "timestamp": "2026-06-01T10:00:00Z",
}  # fmt: skip
CELLS = pl.DataFrame(
    [
        ("FR-ORANGE", "FR", "20801", "Paris", 48.8, 2.4),
        ("FR-SFR", "FR", "20810", "Paris", 48.8, 2.4),
        ("FR-UNKNOWN", "FR", "20899", None, None, None),
        ("SN-ORANGE", "SN", "60801", "Dakar", 14.7, -17.4),
        ("TN-OOREDOO", "TN", "60503", "Tunis", 36.8, 10.2),
        ("US-TMO", "US", "310260", "New York", 40.7, -74.0),
    ],
    schema=["key", "country", "plmn", "place", "lat", "lon"],
    orient="row",
)
SUBSCRIBERS = pl.DataFrame(
    [("208011234567890", "consumer", "Max 100", "prepaid"), ("208011234567899", None, None, None)],
    schema=["key", "segment", "plan", "subscriber_type"],
    orient="row",
)
REFERENCE = ReferenceData(
    Lookup.of(CELLS, "key"),
    Lookup.of(SUBSCRIBERS, "key"),
    Operators(operators_of(all_profiles())),
)


def enrich(country: str = "FR", **fields: Any) -> dict[str, Any]:
    batch = normalized(country, [json.dumps(GOOD | fields).encode()])
    outcome = enrich_batch(batch, all_profiles(), REFERENCE)
    assert outcome.rejected.num_rows == 0
    (row,) = rows(outcome.accepted)
    return row


def test_the_operators_of_all_countries_are_known_by_plmn():
    operators = operators_of(all_profiles())
    assert (operators["20801"], operators["20810"], operators["60503"]) == ("Orange", "SFR", "Ooredoo Tunisie")


def test_subscriber_and_cell_are_looked_up():
    row = enrich(cell_id="FR-ORANGE")
    assert (row["geo_place"], row["geo_lat"], row["geo_lon"]) == ("Paris", 48.8, 2.4)
    assert (row["segment"], row["plan"], row["subscriber_type"]) == ("consumer", "Max 100", "prepaid")
    assert row["home_operator"] == "Orange"


@pytest.mark.parametrize(("imsi", "cell"), [("208011234567891", "NOWHERE"), ("208011234567899", None)])
def test_what_is_not_known_is_null(imsi, cell):
    row = enrich(imsi=imsi, cell_id=cell)
    unknown = ("geo_place", "geo_lat", "geo_lon", "segment", "plan", "subscriber_type")
    assert {name: row[name] for name in unknown} == dict.fromkeys(unknown)


def test_the_subscriber_type_of_the_record_counts_more_than_the_known_one():
    assert enrich(subscriber_type="corporate")["subscriber_type"] == "corporate"


@pytest.mark.parametrize(
    ("country", "imsi", "cell", "expected"),
    [
        # (roaming, is_roaming, partner, country)
        ("FR", "208011234567890", "FR-ORANGE", ("home", False, None, None)),
        ("FR", "208011234567890", None, ("home", False, None, None)),
        ("FR", "208011234567890", "NOWHERE", ("home", False, None, None)),
        ("FR", "208021234567890", "FR-ORANGE", ("home", False, None, None)),  # another PLMN of the same operator
        ("FR", "208011234567890", "FR-UNKNOWN", ("home", False, None, None)),
        ("FR", "208011234567890", "FR-SFR", ("national", True, "SFR", "FR")),
        ("FR", "208011234567890", "SN-ORANGE", ("outbound", True, "Orange Senegal", "SN")),
        ("FR", "208011234567890", "US-TMO", ("outbound", True, "T-Mobile", "US")),
        ("FR", "608011234567890", "FR-ORANGE", ("inbound", True, "Orange Senegal", "SN")),
        ("FR", "608991234567890", None, ("inbound", True, None, "SN")),
        ("FR", "310260123456789", "FR-SFR", ("inbound", True, "T-Mobile", "US")),
        ("SN", "208011234567890", "SN-ORANGE", ("inbound", True, "Orange", "FR")),
        ("TN", "605031234567890", "TN-OOREDOO", ("home", False, None, None)),
        # neither ours nor of a country that there is; ours, but of no operator
        ("FR", "000001234567890", "FR-ORANGE", ("unknown", False, None, None)),
        ("FR", "208991234567890", "FR-ORANGE", ("unknown", False, None, None)),
        ("FR", "208991234567890", "SN-ORANGE", ("unknown", False, None, None)),
        # an MVNO's own, whose name is known
        ("FR", "208251234567890", "FR-ORANGE", ("unknown", False, None, None)),
    ],
)
def test_the_roaming_class_comes_of_the_home_network_and_the_cell(country, imsi, cell, expected):
    row = enrich(country, imsi=imsi, cell_id=cell)
    assert (row["roaming"], row["is_roaming"], row["roaming_partner"], row["roaming_country"]) == expected
    assert row["country"] == country


@pytest.mark.parametrize(
    ("imsi", "operator"),
    [("208251234567890", "LycaMobile"), ("310260123456789", "T-Mobile"), ("901031234567890", "Iridium"),
     ("208151234567890", "Free Mobile"), ("208991234567890", None)],
)  # fmt: skip
def test_the_home_operator_is_known_worldwide_and_ours_by_the_profile_s_name(imsi, operator):
    assert enrich(imsi=imsi)["home_operator"] == operator


LONG_CALL = {"event_type": "voice", "duration": 7201}
HEAVY = {"bytes_uploaded": 5_000_000_000, "bytes_downloaded": 5_000_000_001}
IN_SENEGAL = {"cell_id": "SN-ORANGE"}
IN_AMERICA = {"cell_id": "US-TMO"}
ABROAD = {"event_type": "sms", "destination_number": "+221771234567"}


@pytest.mark.parametrize(
    ("fields", "score", "reasons"),
    [
        ({}, 0.0, []),
        (LONG_CALL, 0.3, ["voice_over_2h"]),
        (LONG_CALL | {"duration": 7200}, 0.0, []),
        (LONG_CALL | {"event_type": "data"}, 0.0, []),
        (HEAVY, 0.4, ["over_10_gb"]),
        (HEAVY | {"bytes_uploaded": 4_999_999_999}, 0.0, []),
        ({"bytes_downloaded": 10_000_000_001}, 0.4, ["over_10_gb"]),
        ({"bytes_uploaded": 2**63 - 1, "bytes_downloaded": 2**63 - 1}, 0.4, ["over_10_gb"]),
        (IN_SENEGAL, 0.0, []),
        ({"cell_id": "FR-SFR"}, 0.0, []),
        ({"imsi": "622991234567890"}, 0.6, ["unusual_roaming_country", "unknown_roaming_partner"]),
        ({"imsi": "608991234567890"}, 0.2, ["unknown_roaming_partner"]),
        (IN_AMERICA, 0.4, ["unusual_roaming_country"]),
        (ABROAD, 0.2, ["international_voice_or_sms"]),
        (ABROAD | {"event_type": "voice", "called_number": "00221771234567"}, 0.2, ["international_voice_or_sms"]),
        (ABROAD | {"event_type": "data"}, 0.0, []),
        (ABROAD | {"destination_number": "0612345678"}, 0.0, []),
        (ABROAD | {"destination_number": "3244"}, 0.0, []),
        (LONG_CALL | HEAVY, 0.7, ["voice_over_2h", "over_10_gb"]),
        (LONG_CALL | ABROAD | {"event_type": "voice"}, 0.5, ["voice_over_2h", "international_voice_or_sms"]),
        (
            LONG_CALL | HEAVY | IN_AMERICA | ABROAD | {"event_type": "voice"},
            1.0,
            ["voice_over_2h", "over_10_gb", "unusual_roaming_country", "international_voice_or_sms"],
        ),
    ],
)  # fmt: skip
def test_the_fraud_score_is_the_sum_of_its_reasons_up_to_one(fields, score, reasons):
    row = enrich(**fields)
    assert (row["fraud_score"], row["fraud_reasons"], row["model_version"]) == (score, reasons, "rules-1")


def test_an_unusual_country_with_a_known_partner_is_one_reason():
    # Senegal is no usual partner of Tunisia, and Orange Senegal is known.
    row = enrich("TN", imsi="608011234567890")
    assert (row["fraud_score"], row["fraud_reasons"]) == (0.4, ["unusual_roaming_country"])


def test_rows_are_kept_in_order_and_one_does_not_change_another():
    records = [GOOD | {"cell_id": cell} for cell in ("SN-ORANGE", None, "FR-SFR", "NOWHERE", "US-TMO", "FR-ORANGE")]
    batch = normalized("FR", [json.dumps(record).encode() for record in records])
    outcome = enrich_batch(batch, all_profiles(), REFERENCE)
    assert outcome.accepted.schema == ENRICHED_SCHEMA
    assert [row["roaming"] for row in rows(outcome.accepted)] == [
        "outbound", "home", "national", "home", "outbound", "home",
    ]  # fmt: skip
    assert [row["geo_place"] for row in rows(outcome.accepted)] == ["Dakar", None, "Paris", None, "New York", "Paris"]


def test_an_empty_batch_stays_empty():
    outcome = enrich_batch(normalized("FR", []), all_profiles(), REFERENCE)
    assert (outcome.accepted.num_rows, outcome.rejected.num_rows) == (0, 0)
    assert outcome.accepted.schema == ENRICHED_SCHEMA
