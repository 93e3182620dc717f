"""Layouts: what they change is what the decoders then read, and nothing else moves."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orion_beam.countries import all_profiles
from orion_beam.schemas.cdr import DecodedFields
from orion_beam.testing import raw_batch, rows
from orion_beam.transforms.decode import decode_batch
from orion_beam.transforms.decoders.layouts import NoSuchFieldError
from orion_beam.transforms.decoders.registry import all_formats
from tests.oracle import EVERY_COUNTRY
from tests.strategies import records

COUNTRY_OF = {name: code for code, profile in all_profiles().items() for name in (*EVERY_COUNTRY, *profile.formats)}
every_format = pytest.mark.parametrize("name", [name for name in all_formats()])


def decoded(name: str, payload: str) -> dict[str, Any] | None:
    """Return the fields that the decoder reads of a payload of a format, or None for one that is of no or another."""
    profile = all_profiles()[COUNTRY_OF[name]]
    found = rows(decode_batch(raw_batch(profile.code, [payload.encode()]), profile).accepted)
    return {field: found[0][field] for field in DecodedFields.model_fields} if found else None


def layout_of(name: str):
    return all_formats()[name].layout


@every_format
@given(data=st.data())
@settings(max_examples=15)
def test_a_record_of_which_nothing_is_changed_stays_as_it_is(name, data):
    text = data.draw(records(name)).decode()
    fields = decoded(name, text)
    seen = {}

    def note(field, text):
        seen.setdefault(field, text)
        return text

    if fields is not None and fields["raw_format"] == name:
        assert layout_of(name).edit(text, note) == text
        assert {field for field, read in fields.items() if read is not None and has_place(name, field)} <= set(seen)


@every_format
@given(data=st.data())
@settings(max_examples=15)
def test_a_decoder_reads_what_was_put_into_a_field_and_the_rest_as_before(name, data):
    text = data.draw(records(name)).decode()
    before = decoded(name, text)
    field = data.draw(st.sampled_from([each for each in DecodedFields.model_fields if has_place(name, each)]))
    if before is None or before["raw_format"] != name:
        return
    try:
        changed = layout_of(name).with_field(text, field, "42")
    except NoSuchFieldError:
        # A lone quote before the field finds its partner behind it when the quote between them goes.
        assert text.count('"') > 1
        return
    assert decoded(name, changed) == before | {field: "42"}


def has_place(name, field):
    try:
        layout_of(name).place_of(field)
    except NoSuchFieldError:
        return False
    return True


@pytest.mark.parametrize(
    ("name", "record", "field", "text", "expected"),
    [
        ("ma_semicolon", "imsi;msisdn", "rat", "4G", "imsi;msisdn;;4G"),
        ("ma_semicolon", " a ; b ;;;;; t", "rat", "4G", " a ; b ;;4G;;; t"),
        ("sn_key_value", "IMSI=1|IMSI = 2|X=3", "imsi", "7", "IMSI=7|IMSI = 7|X=3"),
        ("sn_key_value", "IMSI=1", "rat", "4G", "IMSI=1|RAT=4G"),
        ("tn_json", '{"subscriber": {"imsi": 12}, "x": [1]}', "imsi", "34", '{"subscriber": {"imsi": 34}, "x": [1]}'),
        ("tn_json", '{"subscriber": {"imsi": null}}', "imsi", "34", '{"subscriber": {"imsi": "34"}}'),
        ("tn_json", '{"usage":null}', "rat", "4G", '{"usage":null,"network":{"rat":"4G"}}'),
        ("flat_json", '{"destination_number":"1"}', "peer_msisdn", "2", '{"destination_number":"2"}'),
        ("flat_json", "\ufeff{}", "peer_msisdn", "2", '{"called_number":"2"}'),
        ("flat_json", '{"im\\u0073i":"1"}', "imsi", "a\"b", '{"im\\u0073i":"a\\"b"}'),
    ],
)  # fmt: skip
def test_other_bytes_stay_as_they_were(name, record, field, text, expected):
    assert layout_of(name).with_field(record, field, text) == expected


def test_names_of_fields_and_unknown_members_are_shown_too():
    seen = []
    layout_of("sn_key_value").edit("IMSI=1|208011234567890=x", lambda field, text: seen.append((field, text)) or text)
    layout_of("flat_json").edit('{"33612345678":[{"imsi":"5"}]}', lambda _, text: seen.append(text) or text)
    assert seen == [(None, "IMSI"), ("imsi", "1"), (None, "208011234567890"), (None, "x"), "33612345678", "imsi", "5"]


@pytest.mark.parametrize(
    ("name", "record", "field", "text"),
    [
        ("ma_semicolon", '"a;b"c;d"', "msisdn", "42"),
        ("ma_semicolon", "a;b;c", "msisdn", "4;2"),
        ("sn_key_value", "IMSI=1|RAT=4G", "imsi", "1|2"),
    ],
)
def test_a_change_that_would_move_other_fields_is_refused(name, record, field, text):
    with pytest.raises(NoSuchFieldError, match="move other fields"):
        layout_of(name).with_field(record, field, text)


@pytest.mark.parametrize(
    ("name", "field", "text"), [("fr_semicolon", "apn", "x"), ("sn_fixed_width", "rat", "LTE"), ("tn_json", "apn", "")]
)
def test_what_has_no_place_is_refused_without_its_text(name, field, text):
    record = "0" * 102 if name == "sn_fixed_width" else "{}"
    with pytest.raises(NoSuchFieldError, match=field):
        layout_of(name).with_field(record, field, text)
