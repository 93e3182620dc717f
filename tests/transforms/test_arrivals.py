"""Kafka timestamps that are no milliseconds of our days: warned of, and used for nothing."""

import json
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from orion_beam.chain import chain_of, load_reference, run_chain
from orion_beam.countries import all_profiles
from orion_beam.schemas.country import CountryProfile
from orion_beam.schemas.raw import RAW_CDR_SCHEMA
from orion_beam.testing import raw_batch, rows
from orion_beam.transforms.stage.batches import SplitBatch
from tests.agreement import assert_agreement

FR = all_profiles()["FR"]
AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECONDS, MICROSECONDS = int(AT.timestamp()), int(AT.timestamp()) * 10**6
GOOD = {"imsi": "208011234567890", "msisdn": "+33612345678", "event_type": "voice", "duration": 9 * 10**9}
OF_2026 = json.dumps(GOOD | {"timestamp": "2026-06-01T10:00:00Z"}).encode()
PIPE = b"208011234567890|+33612345678|voice|60||"


def outcome_of(payload: bytes, arrived_ms: int) -> SplitBatch:
    batch = raw_batch("FR", [payload])
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    stamps = pa.array([arrived_ms], pa.int64()).cast(RAW_CDR_SCHEMA.field("source_timestamp").type)
    columns["source_timestamp"] = stamps
    batch = pa.RecordBatch.from_arrays([columns[name] for name in batch.schema.names], schema=batch.schema)
    return run_chain(chain_of(FR, load_reference()), batch)


@pytest.mark.parametrize("arrived_ms", [SECONDS, MICROSECONDS, 1, 946_684_799_999, 4_133_980_800_000])
def test_a_kafka_timestamp_of_other_units_is_warned_of_and_not_used(arrived_ms):
    outcome = outcome_of(OF_2026, arrived_ms)
    (row,) = rows(outcome.accepted)
    assert row["warnings"] == ["kafka_timestamp_not_plausible"]
    assert row["source_timestamp"] is None
    assert row["event_time"] == datetime(2026, 6, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize("arrived_ms", [946_684_800_000, 4_133_980_799_999, int(AT.timestamp()) * 1000])
def test_one_of_our_days_is_used(arrived_ms):
    (row,) = rows(outcome_of(PIPE, arrived_ms).accepted)
    assert row["warnings"] == []
    assert row["event_time"] == row["source_timestamp"]
    assert row["event_time"].timestamp() * 1000 == pytest.approx(arrived_ms)


@pytest.mark.parametrize("arrived_ms", [SECONDS, MICROSECONDS])
def test_a_record_without_an_event_time_of_its_own_does_not_become_one_of_the_seventies(arrived_ms):
    rejected = outcome_of(PIPE, arrived_ms).rejected
    (letter,) = rows(rejected)
    assert (letter["codes"], letter["fields"]) == (["missing_field"], ["event_time"])
    assert letter["source_timestamp"] is None


def test_columns_and_row_model_agree_on_twelve_digits_and_old_arrivals():
    for spelling in (None, "YYMMDDhhmmss", "YYYYMMDDhhmm"):
        settings: dict[str, Any] = FR.model_dump() | {"twelve_digit_times": spelling}
        profile = CountryProfile.model_validate(settings | {"rules": dict(FR.rules)})
        times = [
            "260601100000",
            "202606011000",
            "261025023000",
            "202610250230",
            "946684800000",
            "260229000000",
            "1780308000",
        ]
        payloads = [f"208011234567890;+33612345678;;;4G;1;2;{time}".encode() for time in times] * 2
        arrivals = [AT] * len(times) + [datetime(1970, 1, 21, tzinfo=UTC)] * len(times)
        assert_agreement(payloads, arrivals, profile)
