"""Dead letters as Kafka messages: headers by Kafka Connect's convention, and back."""

import hashlib
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orion_beam.io.letter_headers import MAX_REFERENCE_KEY_BYTES, by_reference, letters_of
from orion_beam.schemas.codes import Code, Stage
from orion_beam.schemas.dead_letter import DEAD_LETTER_SCHEMA, DeadLetter
from orion_beam.testing import raw_batch, rows
from orion_beam.transforms.stage.rejects import Violation, dead_letters
from tests.letters import LETTER, headers_of, letter_of, messages_batch, messages_from


def test_the_headers_say_why_and_where_from():
    assert headers_of(LETTER) == [
        ("trace", b"\x00"),
        ("none", None),
        ("trace", b"2"),
        ("orion.error.stage", b"validate"),
        ("orion.error.code", b"invalid_imsi"),
        ("orion.error.codes", b"invalid_imsi,missing_field"),
        ("orion.error.fields", b"imsi,event_time"),
        ("orion.error.message", "imsi: é".encode()),
        ("orion.source.topic", b"cdr.raw.FR"),
        ("orion.source.partition", b"3"),
        ("orion.source.offset", b"1099511627776"),
        ("orion.source.timestamp", b"1780315200123"),
        ("orion.country", b"FR"),
        ("orion.attempt", b"2"),
        ("orion.version", b"0.1.0"),
        ("orion.failed_at", b"1780401600001"),
    ]


PLACE = {"letter_partition": 5, "letter_offset": 0, "reference": None}


def back(letter: dict[str, Any]) -> dict[str, Any]:
    """Return a dead letter as the row model has it, and where it was read."""
    return DeadLetter.model_validate(letter).model_dump(mode="python") | PLACE


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"key": None, "value": None, "headers": []},
        {"source_timestamp": None},
        {"codes": ["malformed_payload"], "fields": ["value"], "code": "malformed_payload", "stage": "decode"},
        {"source_timestamp": datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)},
    ],
)
def test_a_dead_letter_comes_back_from_its_headers(changes):
    letter = LETTER | changes
    assert letter_of(letter["key"], letter["value"], headers_of(letter)) == back(letter)


_bytes = st.none() | st.binary(max_size=30)
_names = st.text(max_size=10) | st.sampled_from(["orion.custom", "orion.", "orion.error.hint", "orion.attempts"])
_letters = st.builds(
    lambda key, value, headers, codes, moment: LETTER
    | {
        "key": key, "value": value, "headers": headers, "code": codes[0].value,
        "source_timestamp": moment and moment.replace(microsecond=moment.microsecond // 1000 * 1000),
        "codes": [code.value for code in codes], "fields": [f"field_{index}" for index in range(len(codes))],
    },
    key=_bytes,
    value=_bytes,
    headers=st.lists(st.fixed_dictionaries({"key": _names, "value": _bytes}), max_size=4),
    codes=st.lists(st.sampled_from(list(Code)), min_size=1, max_size=4),
    moment=st.none() | st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
)  # fmt: skip
_foreign = st.lists(st.tuples(_names | st.sampled_from([name for name, _ in headers_of(LETTER)]), _bytes), max_size=20)


@given(st.lists(_letters | _foreign, min_size=1, max_size=6))
def test_any_dead_letters_come_back_from_their_headers_and_foreign_ones_do_not_move_them(messages):
    batch = messages_batch(
        *(
            (each["key"], each["value"], headers_of(each)) if isinstance(each, dict) else (b"k", b"v", each)
            for each in messages
        )
    )
    # A slice, as a batch that was cut is one.
    (twice,) = pa.Table.from_batches([batch, batch]).combine_chunks().to_batches()
    read = letters_of(twice.slice(len(messages)))
    places = {offset: each for offset, each in enumerate(messages) if isinstance(each, dict)}
    assert read.letters.to_pylist() == [back(each) | {"letter_offset": offset} for offset, each in places.items()]
    assert read.foreign.column("source_offset").to_pylist() == sorted(set(range(len(messages))) - set(places))


def test_headers_of_an_earlier_attempt_are_replaced_not_repeated():
    redriven = headers_of(LETTER | {"attempt": 1})
    headers = {name: value for name, value in redriven if value is not None} | {"orion.attempt": b"2"}
    batch = raw_batch("FR", [b"\xff"], keys=[b"\xfe"], headers=[headers])
    (letter,) = rows(dead_letters(batch, Stage.DECODE, [(Violation(Code.INVALID_ENCODING, "value"),)]))
    again = headers_of(letter)
    names = [name for name, _ in again]
    assert len(names) == len(set(names))
    assert dict(again)["orion.attempt"] == b"2"
    assert dict(again)["orion.error.code"] == b"invalid_encoding"
    assert dict(again)["trace"] == b"2"


def test_a_source_s_own_header_is_kept_whatever_it_is_called_and_those_of_a_redrive_are_not_repeated():
    own = [{"key": name, "value": b"1"} for name in ("orion.custom", "orion.version.of.source", "ORION.ATTEMPT")]
    ours = [{"key": f"orion.redrive.{name}", "value": b"1"} for name in ("id", "source", "reason")]
    kept = [(each["key"], each["value"]) for each in own]
    sent = headers_of(LETTER | {"headers": [*own, *ours]})
    assert [pair for pair in sent if pair in kept] == kept
    assert not [name for name, _ in sent if name.startswith("orion.redrive.")]
    letter = letter_of(b"", b"", sent)
    assert letter is not None
    assert letter["headers"] == own


@pytest.mark.parametrize("missing", ["orion.error.stage", "orion.error.code", "orion.source.topic", "orion.failed_at"])
def test_a_message_without_our_headers_is_no_dead_letter(missing):
    assert letter_of(b"", b"", [(name, value) for name, value in headers_of(LETTER) if name != missing]) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("orion.error.code", b"new_code"), ("orion.error.codes", b"invalid_imsi"), ("orion.source.offset", b"x"),
     ("orion.error.stage", b"\xff"), ("orion.failed_at", b"yesterday"), ("orion.attempt", None),
     ("orion.attempt", b"0"), ("orion.source.partition", b"99999999999"), ("orion.failed_at", b"9" * 14)],
)  # fmt: skip
def test_a_message_with_broken_headers_is_no_dead_letter(name, value):
    headers = [(each, value if each == name else text) for each, text in headers_of(LETTER)]
    assert letter_of(b"", b"", headers) is None


def reference_to(**changes: Any) -> dict[str, Any]:
    """Return what a letter is by reference, as a Kafka client has it, read back."""
    batch = pa.RecordBatch.from_pylist([LETTER | changes], schema=DEAD_LETTER_SCHEMA)
    (message,) = messages_from(by_reference(batch))
    letter = letter_of(*message)
    assert letter is not None
    assert sum(len(name) + len(value or b"") for name, value in message.headers) < 2_000
    return letter


def test_a_letter_by_reference_says_where_its_record_lies_and_holds_nothing_large():
    large = [{"key": "trace", "value": b"x" * 1_000_000}]
    letter = reference_to(value=b"payload", headers=large)
    assert (letter["key"], letter["value"], letter["headers"]) == (LETTER["key"], None, [])
    assert (letter["payload_bytes"], letter["payload_sha256"]) == (7, hashlib.sha256(b"payload").hexdigest())
    assert letter["reference"] == "open"
    kept = ("stage", "codes", "fields", "source_topic", "source_partition", "source_offset", "attempt", "country")
    assert {name: letter[name] for name in kept} == {name: LETTER[name] for name in kept}


def test_a_letter_by_reference_keeps_a_key_of_a_sensible_length():
    key = b"k" * MAX_REFERENCE_KEY_BYTES
    assert reference_to(key=key)["key"] == key
    assert reference_to(key=key + b"k")["key"] is None
    nothing = reference_to(key=None, value=None)
    assert (nothing["key"], nothing["payload_bytes"], nothing["reference"]) == (None, 0, "open")


@pytest.mark.parametrize(
    "header", [("orion.payload.bytes", b"-1"), ("orion.payload.bytes", b"9" * 11), ("orion.payload.sha256", b"A" * 64)]
)
def test_a_reference_that_we_never_write_is_foreign(header):
    assert letter_of(b"k", None, [*headers_of(LETTER), header]) is None


OF_OWN_STAGE = {"stage": "tag", "code": "tag.no_cell", "codes": ["tag.no_cell", "tag.internal_error"]}


def test_a_letter_of_a_stage_of_ones_own_comes_back():
    letter = LETTER | OF_OWN_STAGE
    assert letter_of(letter["key"], letter["value"], headers_of(letter)) == back(letter)


@pytest.mark.parametrize(
    "changes",
    [
        {"stage": "Tag"}, {"stage": ""}, {"code": "tag."}, {"code": "tag"}, {"code": "tag.no-cell"},
        {"codes": ["tag.no_cell", "a.b.c"]}, {"code": "tag.no_cell\n"}, {"stage": "x" * 41},
    ],
)  # fmt: skip
def test_names_that_no_stage_can_have_are_foreign(changes):
    letter = LETTER | OF_OWN_STAGE | changes
    assert letter_of(letter["key"], letter["value"], headers_of(letter)) is None
