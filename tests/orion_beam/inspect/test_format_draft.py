"""Drafts of formats: what is drafted from a sample reads the sample, and holds no number of it."""

import re
import tomllib
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from orion_beam.countries import all_profiles
from orion_beam.errors import UserError
from orion_beam.generator import generate_batches
from orion_beam.inspect.format_draft import draft
from orion_beam.inspect.format_trial import trials
from orion_beam.schemas.raw_formats.declaration import format_of
from orion_beam.testing import raw_batch, rows
from orion_beam.transforms.decode import decode_batch
from orion_beam.transforms.decoders.declared import compiled_format
from orion_beam.transforms.decoders.payloads import Payloads
from orion_beam.transforms.decoders.registry import all_formats
from orion_beam.transforms.validate import validate_batch

COUNTRY_OF = {"fr_semicolon": "FR", "ci_semicolon": "CI", "ma_semicolon": "MA", "sn_key_value": "SN",
              "sn_fixed_width": "SN", "tn_json": "TN", "flat_json": "FR", "pipe_text": "FR"}  # fmt: skip


def payloads_of(name: str) -> list[bytes]:
    """Return generated records of one format."""
    profile = all_profiles()[COUNTRY_OF[name]]
    (batch,) = generate_batches(profile, 4_000, seed=3, start=datetime(2026, 6, 1, tzinfo=UTC), fits_lines=True)
    values = batch.value.to_list()
    decoded = rows(decode_batch(raw_batch(profile.code, values), profile).accepted)
    return [values[row["source_offset"]] for row in decoded if row["raw_format"] == name]


@pytest.mark.parametrize("name", COUNTRY_OF)
def test_a_draft_reads_the_sample(name):
    payloads = payloads_of(name)
    text = draft(payloads[:500])
    declared = format_of("drafted", tomllib.loads(text))
    shipped = all_formats()[name].declaration
    assert declared.kind == shipped.kind
    read, expected = (
        compiled_format(each).decode(Payloads.of(pa.array(payloads, pa.binary()))) for each in (declared, shipped)
    )
    for field in ("imsi", "msisdn", "event_time"):
        if field in expected.texts:
            assert read.texts[field].equals(expected.texts[field]), field
    assert not re.search(r"\d{5,}", text)


SAMPLE = """\
TYPE,START,IMSI,A_NUMBER,IMEI,B_NUMBER,DURATION_MS,UP,CELL
MOC,31/05/2026 10:20:30,208011234567890,+33612345678,352099001761481F,+33699999999,61000,,PAR-1
MTC,31/05/2026 10:21:30,208011234567891,+33612345679,,+33699999998,1000,,"PAR,2"
GPRS,01/06/2026 00:00:00,208011234567892,0033612345670,352099001761481F,,,4096,
"""


def test_names_of_a_header_and_forms_of_values_tell_the_fields():
    text = draft(SAMPLE.encode().splitlines())
    table = tomllib.loads(text)
    assert table["separator"] == ","
    assert table["columns"] == SAMPLE.splitlines()[0].split(",")
    assert table["fields"] == {
        "imsi": "IMSI",
        "msisdn": "A_NUMBER",
        "imei": {"from": "IMEI", "filler": "F"},
        "peer_msisdn": "B_NUMBER",
        "event_time": {"from": "START", "pattern": "DD/MM/YYYY hh:mm:ss"},
        "duration_s": {"from": "DURATION_MS", "unit": "milliseconds"},
        "bytes_up": "UP",
        "cell_id": "CELL",
    }
    assert '# from = "TYPE"' in text
    assert '# MOC = { event_type = "…" }' in text
    profile = all_profiles()["FR"].model_copy(
        update={"formats": ("own",), "declared_formats": (format_of("own", table),)}
    )
    batch = raw_batch("FR", SAMPLE.encode().splitlines()[1:], timestamps=datetime(2026, 6, 1, tzinfo=UTC))
    accepted = rows(validate_batch(decode_batch(batch, profile).accepted, {"FR": profile}).accepted)
    assert [row["duration_s"] for row in accepted] == [61, 1, None]


@pytest.mark.parametrize("sample", ["?", "a;b;c", "no record at all", "{}", '{"a":{"b":[1,2]}}', "\x00\xff", "1234567"])
def test_what_a_sample_does_not_show_is_left_to_the_reader(sample):
    text = draft([sample.encode("utf-8", "surrogateescape")])
    tomllib.loads(text)
    assert "# imsi = " in text
    assert "1234567" not in text


def test_trials_name_the_format_that_reads_most_and_show_its_records():
    first, *others = trials(payloads_of("sn_key_value")[:50], all_formats(), 2)
    assert (first.format, first.read, len(first.rows)) == ("sn_key_value", 50, 2)
    assert {"imsi", "msisdn", "event_time"} <= first.rows[0].keys()
    assert others == []


@pytest.mark.parametrize(
    "line",
    [
        b"06 12 34 56 78;33 6 98 76 54 32;1",
        b'{"208011234567890": "33612345678", "33612345679": "208011234567891"}',
        b"208011234567890=33612345678|33612345679=208011234567891",
        "٢٠٨٠١١٢٣٤٥٦٧٨٩٠;a;b".encode(),
    ],
)
def test_a_name_that_is_a_number_is_not_shown(line):
    drafted = draft([line] * 3)
    assert not re.search(r"\d(?:[ .]?\d){6,}", drafted), drafted


def test_a_record_that_takes_minutes_is_refused_and_a_long_one_is_drafted():
    with pytest.raises(UserError, match="a record has 300,000 characters, and a draft is made of up to 4,096"):
        draft([b"208011234567890" * 20_000])
    assert "fixed_width" in draft([b"208011234567890" + b"x" * 4000] * 200)
    assert "json" in draft([b'{"a": "' + b"x" * 10_000 + b'"}'])
