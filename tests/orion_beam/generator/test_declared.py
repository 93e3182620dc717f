"""Records of declared formats: generated from the declaration, and bad exactly where they say so."""

import tomllib
from datetime import UTC, datetime

import pytest

from orion_beam.countries import all_profiles
from orion_beam.generator import generate_batches
from orion_beam.schemas.raw_formats.declaration import format_of
from orion_beam.testing import raw_batch, rows
from orion_beam.transforms.decode import decode_batch
from orion_beam.transforms.validate import validate_batch

SEPARATED = """
kind = "separated"
separator = "~"
columns = ["type", "start", "imsi", "msisdn", "imei", "called", "ms", "kb", "cell", "vendor"]
decimal_mark = ","
recognised_by.separators = 9
[fields]
event_time = { from = "start", pattern = "DD/MM/YYYY hh:mm:ss.SSS", zone = "America/New_York" }
imei = { from = "imei", filler = "F" }
peer_msisdn = "called"
duration_s = { from = "ms", unit = "milliseconds" }
bytes_up = { from = "kb", unit = "kilobytes" }
cell_id = "cell"
[[maps]]
from = "type"
[maps.values]
O = { event_type = "voice", call_type = "MO" }
T = { event_type = "voice", call_type = "MT" }
SO = { event_type = "sms", sms_type = "MO" }
D = { event_type = "data" }
"""
LOCAL = SEPARATED.replace(', zone = "America/New_York"', "").replace("DD/MM/YYYY hh:mm:ss.SSS", "YYMMDDhhmmss")
OFFSET = SEPARATED.replace(', zone = "America/New_York"', "").replace("hh:mm:ss.SSS", "hh:mm:ss+hh:mm")
PAIRS = """
kind = "pairs"
separator = "&"
sign = "~"
[fields]
imsi = "i"
msisdn = ["m", "calling"]
event_time = "t"
call_type = "dir"
event_type = { constant = "voice" }
"""
FIXED = """
kind = "fixed_width"
columns = { tag = 3, imsi = 15, msisdn = 12, event_type = 5, down = 14, event_time = 16, direction = 1 }
recognised_by.first_field = ""
[fields]
bytes_down = "down"
[[maps]]
from = "direction"
values = { O = { call_type = "MO" }, I = { call_type = "MT" } }
"""
JSON = """
kind = "json"
recognised_by.members = ["v"]
[fields]
imsi = "call.parties[0].imsi"
msisdn = "call.parties[0].msisdn"
peer_msisdn = "call.parties[2].msisdn"
event_type = "call.kind"
event_time = "call.at"
duration_s = "call.seconds"
rat = ["radio.rat", "radio.tech"]
"""


@pytest.mark.parametrize(
    "table",
    [SEPARATED, LOCAL, OFFSET, PAIRS, FIXED, JSON],
    ids=["separated", "local", "offset", "pairs", "fixed", "json"],
)
@pytest.mark.parametrize("country", ["FR", "TN"])
def test_records_are_read_as_expected(table, country):
    declared = format_of("own", tomllib.loads(table))
    profile = all_profiles()[country].model_copy(update={"formats": ("own",), "declared_formats": (declared,)})
    start = datetime(2026, 6, 1, tzinfo=UTC)
    (batch,) = generate_batches(profile, 6_000, seed=5, fault_rate=0.3, start=start, fits_lines=True)
    arrivals = batch.timestamp.to_list()
    raw = raw_batch(country, batch.value.to_list(), timestamps=arrivals)
    outcome = decode_batch(raw, profile)
    validated = validate_batch(outcome.accepted, {country: profile})
    found = {row["source_offset"]: row["code"] for row in rows([outcome.rejected, validated.rejected])}
    expected = dict(enumerate(batch.expected_code.to_list()))
    wrong = [(code, found.get(row), batch.value[row]) for row, code in expected.items() if found.get(row) != code]
    assert wrong == []
    accepted = rows(validated.accepted)
    of_format = [row for row in accepted if row["raw_format"] == "own"]
    assert len(of_format) > 2_000
    assert {"unknown_event_type", "invalid_imsi"} & set(found.values())
    fields = {*declared.maps[0].fields} if declared.maps else set()
    for field in {source.field for source in declared.sources} | fields:
        assert any(row[field] is not None for row in of_format), field
    # What is written in the format's own zone and units is read as the moment and the amount that it was.
    lags = [(row["source_timestamp"] - row["event_time"]).total_seconds() for row in of_format]
    assert max(lags) < 86_401
    assert min(lags) > -3_601
