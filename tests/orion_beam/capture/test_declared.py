"""Pseudonyms in records of declared formats: numbers change, and what the format writes in its own way stays."""

import tomllib

import pytest

from orion_beam.capture.records import RecordPseudonymiser
from orion_beam.countries import all_profiles
from orion_beam.schemas.raw_formats.declaration import format_of

TABLE = """
kind = "separated"
separator = ","
columns = ["start", "imsi", "msisdn", "imei", "kb"]
[fields]
event_time = { from = "start", pattern = "YYMMDDhhmmss" }
imsi = { from = "imsi", filler = "F" }
imei = { from = "imei", filler = "F" }
bytes_up = { from = "kb", unit = "kilobytes" }
"""


def test_times_and_fillers_of_a_declared_format_stay():
    declared = format_of("own", tomllib.loads(TABLE))
    profile = all_profiles()["FR"].model_copy(update={"formats": ("own",), "declared_formats": (declared,)})
    change = RecordPseudonymiser(bytes(16), profile)
    record = b"260601102030,208011234567890F,+33612345678,352099001761481F,1234567"
    changed = change.payload(record, "own")
    assert changed is not None
    before, after = record.split(b","), changed.split(b",")
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, False, False, True]
    assert after[1].startswith(b"20801")
    assert [len(each) for each in after] == [len(each) for each in before]
    assert after[1].endswith(b"F")
    assert after[3].endswith(b"F")


@pytest.mark.parametrize("start", ["33612345678", "208011234567890", "260631102030 208011234567890"])
def test_a_number_in_the_place_of_a_time_is_changed(start):
    declared = format_of("own", tomllib.loads(TABLE))
    profile = all_profiles()["FR"].model_copy(update={"formats": ("own",), "declared_formats": (declared,)})
    changed = RecordPseudonymiser(bytes(16), profile).payload(f"{start},,,,".encode(), "own")
    assert changed is not None
    assert changed.decode() != f"{start},,,,"
    assert "33612345678" not in changed.decode()
    assert "208011234567890" not in changed.decode()
