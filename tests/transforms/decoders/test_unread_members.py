"""A feed whose names have changed is told of: members that look like usage and that no format reads."""

import json
import logging

import apache_beam as beam
import pytest
from prometheus_client import CollectorRegistry

from orion_beam.countries import all_profiles
from orion_beam.schemas.codes import Stage
from orion_beam.telemetry.run_counters import RowOutcome, outcomes_of
from orion_beam.telemetry.worker_metrics import WorkerMetrics
from orion_beam.testing import raw_batch
from orion_beam.transforms.decode import DecodeCdrs, decode_batch
from orion_beam.transforms.decoders.unread_members import MOST_NAMES, unread_usage
from orion_beam.transforms.stage import split as stage

FLAT = {"event_type": "data", "imsi": "208011234567890", "msisdn": "+33612345678", "timestamp": "2026-06-01T10:00:00Z"}
NESTED = {"subscriber": {"imsi": "605011234567890", "msisdn": "+21620123456"}, "timestamp": "2026-06-01T10:00:00Z"}
PAIRS = "IMSI=608011234567890|MSISDN=+221771234567|TS=2026-06-01T10:00:00Z"


def unread(country: str, *payloads: str) -> dict[str, int]:
    batch = raw_batch(country, [payload.encode() for payload in payloads])
    outcome = decode_batch(batch, all_profiles()[country])
    assert outcome.accepted.num_rows == len(payloads)
    assert {member.country for member in outcome.unread} <= {country}
    return {f"{member.raw_format}.{member.name}": member.records for member in outcome.unread}


@pytest.mark.parametrize(
    ("country", "payload", "expected"),
    [
        (
            "FR",
            json.dumps(FLAT | {"bytes_up": 1, "duration_seconds": 2}),
            ["flat_json.bytes_up", "flat_json.duration_seconds"],
        ),
        ("FR", json.dumps(FLAT | {"bytes_uploaded": 1, "bytes_up": 1}), ["flat_json.bytes_up"]),
        ("FR", json.dumps(FLAT | {"volume": 1.5}), ["flat_json.volume"]),
        ("FR", json.dumps(FLAT | {"usage": {"bytes_up": 1}}), []),
        (
            "TN",
            json.dumps(NESTED | {"usage": {"bytes_up": 1, "dl": 2}}),
            ["tn_json.usage.bytes_up", "tn_json.usage.dl"],
        ),
        ("TN", json.dumps(NESTED | {"usage": {"uplink": 1.5}}), ["tn_json.usage.uplink"]),
        ("TN", json.dumps(NESTED | {"durationSeconds": 60}), ["tn_json.durationSeconds"]),
        ("TN", json.dumps(FLAT | {"bytes_up": 1}), ["flat_json.bytes_up"]),
        ("SN", PAIRS + "|BYTES_UP=1|DURATION=60|BYTES_UP=2", ["sn_key_value.BYTES_UP", "sn_key_value.DURATION"]),
        # What is known, what is no usage, and what may hold a number.
        ("FR", json.dumps(FLAT | {"bytes_uploaded": 1, "duration": 2, "group": "a", "setup_id": "b"}), []),
        ("FR", json.dumps(FLAT | {"bytes_33612345678": 1}), []),
        ("TN", json.dumps(NESTED | {"usage": {"up": 1, "down": 2}, "event_type": "voice"}), []),
        ("TN", json.dumps(NESTED | {"usage": None}), []),
        ("SN", PAIRS + "|UP=1|DOWN=2|EVENT=data|CALL_ID=7", []),
    ],
)
def test_members_that_look_like_usage_and_are_not_read_are_named(country, payload, expected):
    found = unread(country, payload)
    assert found.keys() == set(expected)


def test_records_are_counted_whatever_stands_between_them():
    renamed, good = json.dumps(FLAT | {"bytes_up": 1, "x": "y"}), json.dumps(FLAT | {"bytes_uploaded": 1})
    assert unread("FR", *[good, renamed, renamed, good] * 50) == {"flat_json.bytes_up": 100}
    assert unread("SN", *[PAIRS, PAIRS + "|OCTETS=1"] * 50) == {"sn_key_value.OCTETS": 50}


def test_a_feed_of_ever_new_names_is_told_of_within_bounds():
    names = [f"bytes_{chr(97 + place // 26)}{chr(97 + place % 26)}" for place in range(200)]
    assert len(unread("FR", *[json.dumps(FLAT | {name: 1}) for name in names])) == MOST_NAMES
    assert len(unread_usage("FR", "flat_json", dict.fromkeys(names, 1))) == 200


def test_a_feed_is_warned_of_once_and_each_record_counted(caplog, monkeypatch):
    monkeypatch.setattr(stage, "_told_of", set())
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    monkeypatch.setattr(stage, "observer", lambda: metrics)
    batches = [raw_batch("FR", [json.dumps(FLAT | {"bytes_up": 1}).encode()] * 3) for _ in range(2)]
    pipeline = beam.Pipeline()
    with caplog.at_level(logging.WARNING, stage.__name__):
        _ = pipeline | beam.Create(batches, reshuffle=False) | DecodeCdrs({"FR": all_profiles()["FR"]})
        result = pipeline.run()
        result.wait_until_finish()
    assert outcomes_of(result) == {RowOutcome("unread_member", "FR", "flat_json.bytes_up"): 6}
    warned = [record.getMessage() for record in caplog.records if record.name == stage.__name__]
    assert len(warned) == 1
    assert "flat_json.bytes_up" in warned[0]
    labels = {"country": "FR", "format": "flat_json", "member": "bytes_up"}
    assert registry.get_sample_value("orion_unread_members_total", labels) == 6
    assert registry.get_sample_value("orion_records_in_total", {"stage": Stage.DECODE, "country": "FR"}) == 6
