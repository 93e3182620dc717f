"""The rules: each has a record that breaks it alone, and a profile can switch those that are not fixed."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from orion_beam.countries import all_profiles
from orion_beam.schemas.codes import Severity
from orion_beam.schemas.country import CountryProfile
from orion_beam.testing import raw_batch, rows
from orion_beam.transforms.decode import decode_batch
from orion_beam.transforms.rules.rules import RULES, RULES_BY_ID, check_rules
from orion_beam.transforms.stage.batches import SplitBatch
from orion_beam.transforms.validate import validate_batch

ARRIVED = datetime(2026, 6, 1, 12, tzinfo=UTC)
GOOD: dict[str, Any] = {
    "event_type": "voice", "imsi": "208011234567890", "msisdn": "+33612345678", "imei": "352099001761481",
    "rat": "LTE", "timestamp": "2026-06-01T10:00:00Z", "duration": 60, "called_number": "+33698765432",
    "bytes_uploaded": 10, "bytes_downloaded": 20, "message_length": 5, "node_id": "pgw-1",
    "local_sequence_number": 7, "record_sequence_number": 1, "cause_for_record_closing": 0,
}  # fmt: skip
BAD: dict[str, dict[str, Any]] = {
    "missing_field.imsi": {"imsi": ""},
    "invalid_imsi": {"imsi": "2080112345678"},
    "missing_field.msisdn": {"msisdn": None},
    "invalid_msisdn": {"msisdn": "612345678"},
    "invalid_imei": {"imei": "3520990017614"},
    "unknown_event_type": {"event_type": "mms"},
    "unknown_rat": {"rat": "WLAN"},
    "invalid_number.duration_s": {"duration": 1.5},
    "invalid_number.bytes_up": {"bytes_uploaded": "-1"},
    "invalid_number.bytes_down": {"bytes_downloaded": "1e3"},
    "invalid_number.message_length": {"message_length": "many"},
    "invalid_number.local_sequence_number": {"local_sequence_number": "-1"},
    "invalid_number.record_sequence_number": {"record_sequence_number": 1.5},
    "invalid_number.cause_for_record_closing": {"cause_for_record_closing": "normalRelease"},
    "missing_field.event_time": {"timestamp": " "},
    "invalid_timestamp": {"timestamp": "2026-02-30T00:00:00Z"},
    "future_timestamp": {"timestamp": "2026-06-01T13:00:01Z"},
    "luhn_failed": {"imei": "352099001761482"},
    "unknown_mcc": {"imsi": "200011234567890"},
    "test_imsi": {"imsi": "001011234567890"},
    "msisdn_not_plausible": {"msisdn": "+33012345678"},
    "peer_not_plausible": {"called_number": "+21600000000"},
    "peer_short_code": {"called_number": "3639"},
    "peer_test_number": {"called_number": "+12125550123"},
    "same_party": {"called_number": "0612345678"},
    "zero_duration": {"duration": 0},
    "ends_after_arrival": {"duration": 3 * 3600 + 1},
    "counter_beyond_32_bits.bytes_up": {"bytes_uploaded": 2**32},
    "counter_beyond_32_bits.bytes_down": {"bytes_downloaded": 2**32},
    "ambiguous_local_time": {"timestamp": "2025-10-26T02:30:00", "arrived": datetime(2025, 10, 26, 2, tzinfo=UTC)},
    "kafka_timestamp_not_plausible": {"arrived": datetime(1970, 1, 21, 14, 31, 48, tzinfo=UTC)},
    "late": {"timestamp": "2026-05-30T11:59:59Z"},
}
every_rule = pytest.mark.parametrize("rule_id", BAD)
switchable = [rule.id for rule in RULES if not rule.is_fixed]


def profile_with(**rules: str) -> CountryProfile:
    settings = all_profiles()["FR"].model_dump() | {
        "rules": {name.replace("__", "."): to for name, to in rules.items()}
    }
    profile = CountryProfile.model_validate(settings)
    check_rules(profile)
    return profile


def split(changes: dict[str, Any], profile: CountryProfile) -> SplitBatch:
    record = GOOD | changes
    arrived = record.pop("arrived", ARRIVED)
    batch = raw_batch("FR", [json.dumps(record).encode()], timestamps=arrived)
    return validate_batch(decode_batch(batch, profile).accepted, {profile.code: profile})


def broken_by(changes: dict[str, Any], profile: CountryProfile) -> tuple[Severity, list[str]]:
    """Return whether the record is rejected, warned of or neither, and for which rules."""
    outcome = split(changes, profile)
    if outcome.rejected.num_rows:
        (letter,) = rows(outcome.rejected)
        found = zip(letter["codes"], letter["fields"], strict=True)
        return Severity.ERROR, [code if code in RULES_BY_ID else f"{code}.{field}" for code, field in found]
    (row,) = rows(outcome.accepted)
    return (Severity.WARN if row["warnings"] else Severity.OFF), row["warnings"]


def test_every_rule_has_a_record_that_breaks_it_and_an_id_of_its_own():
    assert sorted(RULES_BY_ID) == sorted(BAD)
    assert len(RULES_BY_ID) == len(RULES)
    assert all(rule.source and rule.violation.code.meaning for rule in RULES)


def test_a_good_record_breaks_none():
    assert broken_by({}, all_profiles()["FR"]) == (Severity.OFF, [])


@every_rule
def test_a_record_that_breaks_a_rule_breaks_it_alone_with_its_severity(rule_id):
    assert broken_by(BAD[rule_id], all_profiles()["FR"]) == (RULES_BY_ID[rule_id].severity, [rule_id])


@pytest.mark.parametrize("rule_id", switchable)
@pytest.mark.parametrize("severity", Severity)
def test_a_profile_says_what_a_broken_rule_does(rule_id, severity):
    profile = profile_with(**{rule_id.replace(".", "__"): severity.value})
    assert broken_by(BAD[rule_id], profile) == (severity, [] if severity is Severity.OFF else [rule_id])


@pytest.mark.parametrize("rule_id", [rule.id for rule in RULES if rule.clears_field])
def test_a_value_that_is_only_warned_of_and_means_nothing_becomes_null(rule_id):
    outcome = split(BAD[rule_id], profile_with(**{rule_id.replace(".", "__"): "warn"}))
    assert rows(outcome.accepted)[0][RULES_BY_ID[rule_id].violation.field] is None


@pytest.mark.parametrize("rule_id", [rule.id for rule in RULES if rule.is_fixed])
def test_what_no_cdr_can_do_without_is_always_an_error(rule_id):
    with pytest.raises(ValueError, match=f"rules.{rule_id}: is always an error"):
        profile_with(**{rule_id.replace(".", "__"): "off"})


def test_a_rule_that_there_is_not_and_a_severity_that_there_is_not_are_named():
    with pytest.raises(ValueError, match=r"rules.luhn: there is no such rule, see `orion-beam rules`"):
        profile_with(luhn="warn")
    with pytest.raises(ValidationError, match="'error', 'warn' or 'off'"):
        profile_with(luhn_failed="maybe")


def test_all_warnings_of_a_record_are_listed_in_the_order_of_the_rules():
    changes = BAD["late"] | BAD["luhn_failed"] | BAD["zero_duration"] | BAD["test_imsi"]
    assert broken_by(changes, all_profiles()["FR"]) == (
        Severity.WARN, ["luhn_failed", "test_imsi", "zero_duration", "late"],
    )  # fmt: skip


def test_the_age_at_which_an_event_is_late_is_the_countrys():
    settings = all_profiles()["FR"].model_dump() | {"late_after_s": 60}
    hour_old = {"timestamp": (ARRIVED - timedelta(hours=1)).isoformat()}
    assert broken_by(hour_old, CountryProfile.model_validate(settings)) == (Severity.WARN, ["late"])


def test_an_event_type_that_the_format_does_not_carry_is_marked_as_inferred():
    profile = all_profiles()["FR"]
    payloads = [b"208011234567890;+33612345678;;;;;;2026-06-01T10:00:00Z", json.dumps(GOOD).encode()]
    decoded = decode_batch(raw_batch("FR", payloads, timestamps=ARRIVED), profile)
    inferred, told = rows(validate_batch(decoded.accepted, {profile.code: profile}).accepted)
    assert (inferred["event_type"], inferred["event_type_inferred"]) == ("data", True)
    assert (told["event_type"], told["event_type_inferred"]) == ("voice", False)


@pytest.mark.parametrize(
    ("changes", "is_warned"),
    [
        ({"duration": 3 * 3600}, False),
        ({"duration": 3 * 3600 + 1}, True),
        ({"duration": 2**63 - 1}, True),
        ({"duration": 3600, "timestamp": "2026-06-01T12:00:00Z"}, False),
        ({"duration": 1, "timestamp": "2026-06-01T13:00:00Z"}, True),
        ({"duration": 0, "timestamp": "2026-06-01T13:00:00Z"}, False),
        ({"duration": None}, False),
    ],
)
def test_a_call_cannot_end_long_after_its_record_arrived(changes, is_warned):
    _, warnings = broken_by(changes, all_profiles()["FR"])
    assert ("ends_after_arrival" in warnings) is is_warned


def test_a_record_whose_time_is_its_arrival_says_nothing_of_when_a_call_ends():
    batch = raw_batch("FR", [b"208011234567890|33612345678|voice|99999||"], timestamps=ARRIVED)
    profile = all_profiles()["FR"]
    (row,) = rows(validate_batch(decode_batch(batch, profile).accepted, {profile.code: profile}).accepted)
    assert row["warnings"] == []


@pytest.mark.parametrize(
    ("peer", "is_warned"),
    [
        ("+33639981234", True), ("0639981234", True), ("0033199001234", True), ("+447700900123", True),
        ("+12125550123", True), ("+12125550199", True), ("+12125550200", False), ("+33639991234", False),
        ("+4477009001234", False), ("3639", False), (None, False),
    ],
)  # fmt: skip
def test_numbers_that_no_subscriber_has_are_flagged_as_peers(peer, is_warned):
    _, warnings = broken_by({"called_number": peer}, all_profiles()["FR"])
    assert ("peer_test_number" in warnings) is is_warned
