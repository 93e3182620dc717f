"""Declared formats: what a file of TOML says is what is decoded, rejected, mended and recognized."""

import pickle
import tomllib
from datetime import UTC, datetime

import pytest

from orion_beam.countries import all_profiles
from orion_beam.schemas.cdr import DecodedFields
from orion_beam.schemas.country import CountryProfile
from orion_beam.schemas.raw_formats.declaration import format_of
from orion_beam.testing import raw_batch, rows
from orion_beam.transforms.decode import column_names_of, decode_batch
from orion_beam.transforms.decoders.declared import compiled_format
from orion_beam.transforms.decoders.layouts import NoSuchFieldError
from orion_beam.transforms.validate import validate_batch

IDS = "208011234567890;+33612345678"


def profile_of(*tables: str, country: str = "FR") -> CountryProfile:
    """Return a country's profile that names the declared formats own0, own1 … only."""
    declared = tuple(format_of(f"own{place}", tomllib.loads(table)) for place, table in enumerate(tables))
    update = {"formats": tuple(each.name for each in declared), "declared_formats": declared}
    return all_profiles()[country].model_copy(update=update)


def decoded(profile, payload):
    """Return the fields of a payload that are not null, or the codes and fields of its reject."""
    batch = raw_batch(profile.code, [payload.encode()], timestamps=datetime(2026, 6, 1, 12, tzinfo=UTC))
    outcome = decode_batch(batch, profile)
    for letter in rows(outcome.rejected):
        return list(zip(letter["codes"], letter["fields"], strict=True))
    (row,) = rows(outcome.accepted)
    return {name: row[name] for name in DecodedFields.model_fields if row[name] is not None}


def verdict(profile, payload):
    """Return the validated row, or the codes and fields of the reject, whatever stage rejects it."""
    batch = raw_batch(profile.code, [payload.encode()], timestamps=datetime(2026, 6, 1, 12, tzinfo=UTC))
    outcome = validate_batch(decode_batch(batch, profile).accepted, {profile.code: profile})
    for letter in rows(outcome.rejected):
        return list(zip(letter["codes"], letter["fields"], strict=True))
    return rows(outcome.accepted)[0]


def separated(columns, rest="", head=""):
    listed = ", ".join(f'"{name}"' for name in ("imsi", "msisdn", *columns))
    return f'kind = "separated"\nseparator = ";"\ncolumns = [{listed}]\n{head}\n{rest}'


def one(source, column="x"):
    """Return a format with one more column, and the source of one field."""
    return profile_of(separated([column], f"[fields]\n{source}"))


def test_columns_may_stand_in_any_order_with_any_separator():
    own = profile_of(
        'kind = "separated"\nseparator = ","\ncolumns = ["when", "msisdn", "imsi"]\nfields.event_time = "when"'
    )
    assert decoded(own, '"1780308000",+33612345678,208011234567890') == {
        "raw_format": "own0", "imsi": "208011234567890", "msisdn": "+33612345678", "event_time": "1780308000",
    }  # fmt: skip
    assert decoded(own, "1780308000,+33612345678") == [("malformed_payload", "value")]
    assert column_names_of(own) >= {"when,msisdn,imsi"}


def test_without_quoting_quotes_are_text():
    own = profile_of(separated(["apn"], head="quoting = false"))
    assert decoded(own, f'{IDS};"a"')["apn"] == '"a"'
    assert decoded(own, f'{IDS};"a;b"') == [("malformed_payload", "value")]


def test_trailing_columns_may_be_optional():
    own = profile_of(separated(["apn", "rat"], head='trailing_columns = "optional"'))
    assert "rat" not in decoded(own, f"{IDS};a")
    assert decoded(own, f"{IDS};a;4G;x") == [("malformed_payload", "value")]


def test_a_header_line_of_its_own_replaces_the_names():
    own = profile_of(separated(["apn"], head='header = "IMSI;MSISDN;APN NAME"'))
    assert "IMSI;MSISDN;APN NAME" in column_names_of(own)


@pytest.mark.parametrize(
    ("source", "sent", "expected"),
    [
        ('duration_s = { from = "x", unit = "milliseconds" }', "61999", "61"),
        ('duration_s = { from = "x", unit = "minutes" }', "007", "420"),
        ('bytes_up = { from = "x", unit = "kibibytes" }', "3", "3072"),
        ('bytes_up = { from = "x", unit = "kilobytes" }', "3", "3000"),
        ('bytes_up = { from = "x", unit = "kilobytes" }', "9223372036854775", "9223372036854775000"),
        ('bytes_up = { from = "x", unit = "kilobytes" }', "9223372036854776", "-1"),
        ('bytes_up = { from = "x", unit = "kilobytes" }', "1" * 40, "-1"),
        ('bytes_up = { from = "x", unit = "kilobytes" }', "3.5", "3.5"),
        ('bytes_up = { from = "x", unit = "kilobytes" }', "-3", "-3"),
        ('imei = { from = "x", filler = "F" }', "352099001761481F", "352099001761481"),
        ('imei = { from = "x", filler = "F" }', "35209900176148fF", "35209900176148"),
        ('imei = { from = "x", filler = "F" }', "FFF", None),
        ('event_time = { from = "x", pattern = "DD/MM/YYYY hh:mm:ss" }', "01/06/2026 10:20:30", "2026-06-01T10:20:30"),
        ('event_time = { from = "x", pattern = "YYMMDDhhmmss+hhmm" }', "260601102030-0330", "2026-06-01T10:20:30-0330"),
        ('event_time = { from = "x", pattern = "hh:mm DD.MM.YY" }', "10:20 01.06.26", "2026-06-01T10:20:00"),
        ('event_time = { from = "x", pattern = "YYYYMMDDhhmmssSSS" }', "20260601102030123", "2026-06-01T10:20:30.123"),
        ('event_time = { from = "x", pattern = "DD/MM/YYYY hh:mm:ss" }', "2026-06-01T10:20:30Z", "?"),
        ('event_time = { from = "x", pattern = "DD/MM/YYYY hh:mm:ss" }', "01/06/2026 10:20:3x", "?"),
        ('event_time = { from = "x", pattern = "DD/MM/YYYY hh:mm:ss" }', "01/06/2026", "?"),
        ('event_time = { from = "x", pattern = "DD/MM/YYYY hh:mm", zone = "America/New_York" }', "01/06/2026 10:20",
         "2026-06-01 14:20:00.000Z"),
        ('event_time = { from = "x", zone = "Asia/Kolkata" }', "2026-06-01 10:20:30", "2026-06-01 04:50:30.000Z"),
        ('event_time = { from = "x", zone = "Asia/Kolkata" }', "2026-06-01T10:20:30Z", "2026-06-01 10:20:30.000Z"),
        # An hour that the zone skips, but not the country.
        ('event_time = { from = "x", zone = "America/New_York" }', "2026-03-08 02:30:00", "?"),
        ('event_time = { from = "x", zone = "America/New_York" }', "", None),
        ('event_type = { constant = "voice" }', "", "voice"),
    ],
)  # fmt: skip
def test_a_field_is_converted_from_the_formats_writing(source, sent, expected):
    assert decoded(one(source), f"{IDS};{sent}").get(source.split()[0]) == expected


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("12,5", "12800"),
        ("0,0009765", "0"),
        ("12", "12288"),
        ("12.5", "12.5"),
        (",5", ",5"),
        ("5,", "5,"),
        ("1,2,3", "1,2,3"),
    ],
)
def test_a_count_may_have_a_decimal_comma(sent, expected):
    own = profile_of(
        separated(["x"], '[fields]\nbytes_up = { from = "x", unit = "kibibytes" }', head='decimal_mark = ","')
    )
    assert decoded(own, f"{IDS};{sent}")["bytes_up"] == expected


@pytest.mark.parametrize("time", ["01/06/2026", "31/02/2026 10:00:00", "2026-06-01T10:00:00Z", "20260601100000"])
def test_a_time_that_does_not_keep_to_the_pattern_is_no_guess(time):
    own = one('event_time = { from = "x", pattern = "DD/MM/YYYY hh:mm:ss" }')
    assert verdict(own, f"{IDS};{time}") == [("invalid_timestamp", "event_time")]


def test_the_first_spelling_that_is_not_blank_counts():
    own = profile_of(
        'kind = "pairs"\nseparator = "&"\nsign = ":"\n'
        'fields = { imsi = "i", msisdn = ["m", "calling"], bytes_up = "u" }'
    )
    assert decoded(own, "i:208011234567890&calling:+33612345678&m:&u:5") == {
        "raw_format": "own0", "imsi": "208011234567890", "msisdn": "+33612345678", "bytes_up": "5",
    }  # fmt: skip


TYPES = """
[[maps]]
from = "type"
[maps.values]
20 = { event_type = "voice", call_type = "MO" }
"sms-mt" = { event_type = "sms", sms_type = "MT" }
"""


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("20", {"event_type": "voice", "call_type": "MO"}),
        ("SMS-MT", {"event_type": "sms", "sms_type": "MT"}),
        ("21", {"event_type": "21"}),
        ("voice", {"event_type": "unmapped"}),
        ("", {}),
    ],
)
def test_one_value_may_give_several_fields(sent, expected):
    found = decoded(profile_of(separated(["type"], TYPES)), f"{IDS};{sent}")
    assert {name: found[name] for name in ("event_type", "call_type", "sms_type") if name in found} == expected


@pytest.mark.parametrize("sent", ["21", "voice", "data", "", " "])
def test_an_event_type_that_the_map_does_not_list_is_a_dead_letter(sent):
    own = profile_of(separated(["type", "event_time"], TYPES))
    assert verdict(own, f"{IDS};{sent};2026-06-01T10:00:00Z") == [("unknown_event_type", "event_type")]


def test_a_blank_event_type_is_data_if_the_map_is_optional():
    own = profile_of(
        separated(["type", "event_time"], TYPES.replace("[maps.values]", "optional = true\n[maps.values]"))
    )
    assert verdict(own, f"{IDS};;2026-06-01T10:00:00Z")["event_type"] == "data"
    assert verdict(own, f"{IDS};data;2026-06-01T10:00:00Z") == [("unknown_event_type", "event_type")]


def test_any_other_value_that_a_map_does_not_list_is_a_dead_letter_with_its_field():
    table = '[[maps]]\nfrom = "direction"\nvalues = { O = { call_type = "MO" }, T = { call_type = "MT" } }'
    own = profile_of(separated(["direction"], table))
    assert decoded(own, f"{IDS};o")["call_type"] == "MO"
    assert "call_type" not in decoded(own, f"{IDS};")
    assert decoded(own, f"{IDS};X") == [("unmapped_value", "call_type")]
    payloads = [f"{IDS};{each}".encode() for each in ("O", "X", "T", "Y;1", "")]
    outcome = decode_batch(raw_batch("FR", payloads), own)
    assert [row["call_type"] for row in rows(outcome.accepted)] == ["MO", "MT", None]
    assert [letter["codes"] for letter in rows(outcome.rejected)] == [["unmapped_value"], ["malformed_payload"]]


FIXED = 'kind = "fixed_width"\ncolumns = { tag = 3, imsi = 15, msisdn = 12, amount = 6 }\nfields.bytes_up = "amount"'


def test_columns_of_fixed_width_are_cut_where_they_are_said_to_be():
    assert decoded(profile_of(FIXED), "CDR208011234567890+33612345678000042") == {
        "raw_format": "own0", "imsi": "208011234567890", "msisdn": "+33612345678", "bytes_up": "000042",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("known", "payload", "is_known"),
    [
        ('begins_with = "V2;"', "V2;208011234567890;+33612345678", True),
        ('begins_with = "V2;"', "V1;208011234567890;+33612345678", False),
        ('begins_with = "V2;"', "V2", False),
        ("separators = 2", "V2;208011234567890;+33612345678", True),
        ("separators = 2", 'V2;208011234567890;"+33;612345678"', True),
        ("separators = 2", "V2;208011234567890", False),
        ('first_field = "V[0-9]"', "V2;208011234567890;+33612345678", True),
        ('first_field = "V[0-9]"', "V22;208011234567890;+33612345678", False),
        ('first_field = "V[0-9]"', ";208011234567890;+33612345678", False),
        ('first_field = "V[0-9]"\nbegins_with = "V1"', "V2;208011234567890;+33612345678", False),
    ],
)
def test_records_are_recognized_by_what_is_declared(known, payload, is_known):
    table = 'kind = "separated"\nseparator = ";"\ncolumns = ["version", "imsi", "msisdn"]\n[recognised_by]\n'
    # The second format takes what the first leaves.
    other = table.replace("[recognised_by]", "").replace('"version", ', "")
    found = decoded(profile_of(table + known, other), payload)
    assert (isinstance(found, dict) and found["raw_format"] == "own0") == is_known


def test_a_fixed_width_record_with_a_constant_may_hold_separators():
    own = profile_of(FIXED + '\nrecognised_by.begins_with = "CDR"')
    assert decoded(own, "CDR208011234567890+33612345678a;b=c|")["bytes_up"] == "a;b=c|"
    assert decoded(profile_of(FIXED), "CDR208011234567890+33612345678a;b=c|") == [("malformed_payload", "value")]


@pytest.mark.parametrize(
    ("source", "record", "text", "expected"),
    [
        ('duration_s = { from = "x", unit = "milliseconds" }', "61999", "60", "60000"),
        ('bytes_up = { from = "x", unit = "kibibytes" }', "1", "2048", "2"),
        ('imei = { from = "x", filler = "F" }', "1F", "352099001761481", "352099001761481F"),
        ('event_time = { from = "x", pattern = "DD/MM/YY hh:mm:ss" }', "?", "2026-06-01T10:20:30", "01/06/26 10:20:30"),
        ('event_time = { from = "x", pattern = "YYMMDDhhmmss+hhmm" }', "", "2026-06-01T10:20:30-03:30",
         "260601102030-0330"),
        ('event_time = { from = "x", pattern = "DD/MM/YY hh:mm", zone = "Asia/Kolkata" }', "?", "2026-06-01T10:20:00Z",
         "01/06/26 15:50"),
    ],
)  # fmt: skip
def test_a_mended_field_is_written_as_the_format_writes_it(source, record, text, expected):
    (declaration,) = one(source).declared_formats
    layout = compiled_format(declaration).layout
    assert layout.with_field(f"{IDS};{record}", source.split()[0], text) == f"{IDS};{expected}"
    # A text that does not change keeps its bytes.
    assert layout.edit(f"{IDS};{record}", lambda _, same: same) == f"{IDS};{record}"


@pytest.mark.parametrize(
    ("source", "text", "message"),
    [
        ('bytes_up = { from = "x", unit = "kibibytes" }', "1000", "bytes_up: .*no multiple"),
        ('event_time = { from = "x", pattern = "DD/MM/YYYY hh:mm" }', "2026-06-01T10:20:00Z", "local times"),
        ('event_time = { from = "x", pattern = "DD/MM/YYYY hh:mm" }', "soon", "ISO 8601"),
    ],
)
def test_what_the_format_cannot_write_is_refused(source, text, message):
    (declaration,) = one(source).declared_formats
    with pytest.raises(NoSuchFieldError, match=message):
        compiled_format(declaration).layout.with_field(f"{IDS};1", source.split()[0], text)


def test_a_profile_takes_its_formats_along_to_the_workers():
    own = pickle.loads(pickle.dumps(one('duration_s = { from = "x", unit = "minutes" }')))
    assert decoded(own, f"{IDS};2")["duration_s"] == "120"
    assert hash(own) == hash(one('duration_s = { from = "x", unit = "minutes" }'))


def test_the_arrival_is_the_event_time_where_the_format_has_none():
    own = profile_of(separated(["apn"]))
    assert verdict(own, f"{IDS};x")["event_time"] == datetime(2026, 6, 1, 12, tzinfo=UTC)


JSON = """
kind = "json"
recognised_by.members = ["call", "v"]
[fields]
imsi = "call.parties[0].imsi"
msisdn = "call.parties[0].msisdn"
peer_msisdn = ["call.parties[1].msisdn", "call.b"]
duration_s = { from = "call.ms", unit = "milliseconds" }
[[maps]]
from = "call.kind"
values = { CS = { event_type = "voice" }, PS = { event_type = "data" } }
"""


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (
            '{"call":{"kind":"cs","ms":61500,"parties":[{"imsi":"208011234567890","msisdn":33612345678},{"msisdn":"3"}]}}',
            {"event_type": "voice", "duration_s": "61", "imsi": "208011234567890", "msisdn": "33612345678",
             "peer_msisdn": "3"},
        ),
        ('{"call":{"kind":"PS","parties":[{"imsi":"2\\u0030"}],"b":"4"}}', {"event_type": "data", "imsi": "20",
                                                                           "peer_msisdn": "4"}),
        ('{"call":{"parties":[{"imsi":1.5},null],"b":null}}', {"imsi": "1.5"}),
        ('{"call":{"parties":[],"x":[[],{}]}}', {}),
        ('{"call":null}', {}),
        ('{"v":2}', {}),
        ('{"v":true}', {}),
    ],
)  # fmt: skip
def test_members_of_json_are_found_by_paths(payload, expected):
    assert decoded(profile_of(JSON), payload) == {"raw_format": "own0"} | expected


@pytest.mark.parametrize(
    "payload",
    ['{"call":[]}', '{"call":{"parties":{}}}', '{"call":{"parties":["x"]}}', '{"call":{"ms":[1]}}', '{"call":{}'],
)
def test_json_with_another_shape_at_a_path_is_malformed(payload):
    assert decoded(profile_of(JSON), payload) == [("malformed_payload", "value")]


def test_json_without_any_of_the_members_is_left_to_others():
    assert decoded(profile_of(JSON), '{"imsi":"208011234567890"}')["raw_format"] == "flat_json"
    assert decoded(profile_of(JSON), '{"imsi":"2080112345678\\u0039"}')["raw_format"] == "flat_json"


def test_json_is_mended_at_its_path():
    (declaration,) = profile_of(JSON).declared_formats
    layout = compiled_format(declaration).layout
    record = '{"call":{"ms":1,"parties":[{"imsi":"1"},{"imsi":"2"}]}}'
    assert layout.with_field(record, "imsi", "3") == record.replace('"1"', '"3"')
    assert layout.with_field(record, "duration_s", "2") == record.replace(":1,", ":2000,")
    assert layout.with_field("{}", "duration_s", "2") == '{"call":{"ms":"2000"}}'
    with pytest.raises(NoSuchFieldError, match=r"no element call\.parties\[0\]\.imsi for the field imsi"):
        layout.with_field("{}", "imsi", "3")
