"""The files of declared formats beside the profiles, and what is said of a broken one."""

import re
from pathlib import Path

import pytest

from orion_beam.countries import FORMATS, load_profile
from orion_beam.defaults import PROFILES_DIRECTORY
from orion_beam.errors import UserError
from orion_beam.schemas.cdr import DecodedFields
from orion_beam.testing import raw_batch, rows
from orion_beam.transforms.decode import decode_batch

GOOD = """\
kind = "separated"
separator = ","
columns = ["type", "imsi", "msisdn", "when", "amount", "extra"]

[fields]
event_time = { from = "when", pattern = "DD/MM/YYYY hh:mm:ss", zone = "Europe/Paris" }
bytes_up = { from = "amount", unit = "kilobytes" }

[[maps]]
from = "type"
[maps.values]
20 = { event_type = "voice" }
"""


@pytest.fixture
def load(tmp_path):
    """Return a function that loads France with a format of its own, declared by a text."""

    def load(text, name="own_text"):
        (tmp_path / "countries").mkdir(exist_ok=True)
        (tmp_path / FORMATS).mkdir(exist_ok=True)
        path = tmp_path / "countries" / "FR.toml"
        shipped = (PROFILES_DIRECTORY / "FR.toml").read_text(encoding="utf-8")
        path.write_text(shipped.replace('formats = ["fr_semicolon"]', f'formats = ["fr_semicolon", "{name}"]'))
        (tmp_path / FORMATS / f"{name}.toml").write_text(text)
        return load_profile(path)

    return load


def test_a_profile_carries_the_formats_that_it_names(load):
    (declared,) = load(GOOD).declared_formats
    assert declared.name == "own_text"
    assert [source.field for source in declared.sources] == ["event_time", "bytes_up", "imsi", "msisdn"]
    assert load_profile(PROFILES_DIRECTORY / "FR.toml").declared_formats == ()


def test_a_format_of_ones_own_replaces_a_shipped_one_of_its_name(load):
    assert [each.name for each in load(GOOD, "pipe_text").declared_formats] == ["pipe_text"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('separator = ","', 'separator = "\u00b7"', r"line 2: separator: is not one ASCII character"),
        ('separator = ","', 'separator = "1"', r"line 2: separator: is a digit or the end of a line"),
        ('separator = ","', 'separator = "\\n"', r"line 2: separator: is a digit or the end of a line"),
        ("[fields]", '[fields]\nimei = { from = "imsi", filler = "0" }', r"fields\.imei\.filler: is a digit"),
        ("[fields]", '[fields]\nbytes_down = { constant = "few" }', r"bytes_down: 'few' is no whole number"),
        ("[fields]", "[[fields]]", r"fields: there is no such|fields\.0"),
        ('{ event_type = "voice" }', '{ event_type = "fax" }', r"event_type: 'fax' is no event type, only voice, sms"),
        ('{ event_type = "voice" }', "{}", r"line \d+: maps\.0: values: none of them gives a field"),
        ('{ event_type = "voice" }', "[]", r"line \d+: maps\.0: values: none of them gives a field"),
        ('{ event_type = "voice" }', '"voice"', r"line \d+: maps\.0\.values\.\w+: expected a table"),
        ('{ event_type = "voice" }', "{ event_type = 5 }", r"line \d+: maps\.0\.values\.\w+\.event_type: Input should"),
        ('separator = ","', 'separator = ", "', r"line 2: separator: is not one ASCII character"),
        ('separator = ","', 'seperator = ","', r"separator: Field required"),
        ('kind = "separated"', 'kind = "csv"', r"line 1: kind: is one of separated, pairs"),
        ('"extra"]', '"type"]', r"line 3: columns: type is there twice"),
        ('"extra"]', "extra]", r"line 3"),
        ("bytes_up =", "bytes =", r"line 7: fields: bytes: there is no such unified field; did you mean bytes_up\?"),
        ('from = "amount"', 'from = "amuont"', r"line 7: amuont: there is no such column; did you mean amount\?"),
        ("kilobytes", "minutes", r"line 7: fields\.bytes_up: unit: the field has no such unit, only bytes, kilobytes"),
        ("kilobytes", "KB", r"line 7: fields\.bytes_up\.unit: Input should be 'seconds'"),
        ("DD/MM/YYYY hh:mm:ss", "%d/%m/%Y", r"line 6: fields\.event_time\.pattern: has no year"),
        ("Europe/Paris", "Europe/Pari", r"line 6: fields\.event_time\.zone: is no IANA time zone"),
        ("YYYY hh:mm:ss", "YYYY hh:mm:ss+hhmm", r"line 6: fields\.event_time: zone: the pattern has an offset"),
        ('"imsi", ', "", r"fields\.imsi: is required"),
        ('event_type = "voice" }', 'msisdn = "1" }\n[recognised_by]\nfirst_field = "("', r"first_field: is no regular"),
        ('event_type = "voice" }', 'bytes_up = "1" }', r"fields\.bytes_up: is given twice"),
    ],
)
def test_a_broken_declaration_is_one_error_that_names_file_line_and_field(load, old, new, message):
    assert old in GOOD
    with pytest.raises(UserError, match=rf"formats/own_text\.toml: .*{message}") as caught:
        load(GOOD.replace(old, new, 1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("imsi", "msisdn", "message"),
    [
        (15, 1 << 64, r"line 2: columns\.msisdn: Input should be less than or equal to 65536"),
        (0, 12, r"line 2: columns\.imsi: Input should be greater than or equal to 1"),
        (65_000, 537, "line 2: columns: have 65537 characters together; a payload has at most 65536 bytes"),
    ],
)
def test_columns_that_no_payload_has_room_for_are_refused(load, imsi, msisdn, message):
    with pytest.raises(UserError, match=rf"own_text\.toml: .*{message}"):
        load(f'kind = "fixed_width"\ncolumns = {{ imsi = {imsi}, msisdn = {msisdn} }}')


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ('imsi = "a.b"\nmsisdn = "a"', "the record: is read as two different things"),
        ('imsi = "a[0]"\nmsisdn = "a.b"', "a: is read as two different things"),
        ('imsi = "a..b"\nmsisdn = "c"', r"a\.\.b: is no path; write one as in usage\[0\]\.up"),
        ('imsi = "a[99999999999999999999]"\nmsisdn = "c"', r"a\[9+\]: is no path"),
        ('imsi = "[0].b"\nmsisdn = "c"', r"\[0\]\.b: is no path"),
        ('imsi = "a"\nmsisdn = "c"\n[recognised_by]\nfirst_field = "a"', "first_field: a JSON object has no"),
        ('imsi = "a"\nmsisdn = "c"\n[recognised_by]\nseparators = 2', "separators: a json format has no separators"),
    ],
)
def test_paths_of_json_that_contradict_each_other_are_refused(load, fields, message):
    with pytest.raises(UserError, match=rf"own_text\.toml: .*{message}"):
        load(f'kind = "json"\n[fields]\n{fields}')


def test_formats_are_declared_in_files_of_their_own(tmp_path):
    path = tmp_path / "FR.toml"
    shipped = (PROFILES_DIRECTORY / "FR.toml").read_text(encoding="utf-8")
    declared = (
        '[[declared_formats]]\nname = "a"\nkind = "pairs"\nseparator = ";"\nfields = {imsi = "i", msisdn = "m"}\n'
    )
    path.write_text(f"{shipped}\n{declared}")
    with pytest.raises(
        UserError, match=r"FR\.toml:\d+: declared_formats: cannot be set; declare a format in formats/NAME"
    ):
        load_profile(path)


def test_the_example_of_the_guide_is_read(load):
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "add-a-format.md").read_text(encoding="utf-8")
    declared, record = (re.search(rf"```{kind}\n(.*?)```", guide, re.DOTALL)[1] for kind in ("toml", "text"))
    profile = load(declared, "xx_calls").model_copy(update={"formats": ("xx_calls",)})
    (row,) = rows(decode_batch(raw_batch("FR", [record.strip().encode()]), profile).accepted)
    assert {name: row[name] for name in DecodedFields.model_fields if row[name] is not None} == {
        "raw_format": "xx_calls", "imsi": "208011234567890", "msisdn": "+33612345678", "imei": "352099001761481",
        "cell_id": "PAR-1", "event_type": "voice", "duration_s": "61", "peer_msisdn": "+33699999999", "call_type": "MO",
        "event_time": "2026-06-01 10:20:30.000Z",
    }  # fmt: skip
