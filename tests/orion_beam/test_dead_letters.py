"""Dead letters as Kafka messages: headers by Kafka Connect's convention, and back."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orion_beam.dead_letters import letter_of
from orion_beam.testing import raw_batch, rows
from schemas.codes import Code, Stage
from schemas.dead_letter import DeadLetter
from tests.letters import headers_of
from transforms.rejects import Violation, dead_letters

LETTER: dict[str, Any] = {
    "key": b"\xfe",
    "value": b"\xff",
    "headers": [{"key": "trace", "value": b"\x00"}, {"key": "none", "value": None}, {"key": "trace", "value": b"2"}],
    "stage": "validate",
    "code": "invalid_imsi",
    "codes": ["invalid_imsi", "missing_field"],
    "fields": ["imsi", "event_time"],
    "message": "imsi: é",
    "country": "FR",
    "source_topic": "cdr.raw.FR",
    "source_partition": 3,
    "source_offset": 2**40,
    "source_timestamp": datetime(2026, 6, 1, 12, 0, 0, 123_000, tzinfo=UTC),
    "attempt": 2,
    "version": "0.1.0",
    "failed_at": datetime(2026, 6, 2, 12, 0, 0, 1_000, tzinfo=UTC),
}


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
    assert letter_of(letter["key"], letter["value"], headers_of(letter)) == DeadLetter.model_validate(letter)


_bytes = st.none() | st.binary(max_size=30)
_names = st.text(max_size=10).filter(lambda name: not name.startswith("orion."))


@given(
    key=_bytes,
    value=_bytes,
    headers=st.lists(st.fixed_dictionaries({"key": _names, "value": _bytes}), max_size=4),
    codes=st.lists(st.sampled_from(list(Code)), min_size=1, max_size=4),
    moment=st.none() | st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
)
def test_any_dead_letter_comes_back_from_its_headers(key, value, headers, codes, moment):
    when = moment and moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    letter = LETTER | {
        "key": key, "value": value, "headers": headers, "source_timestamp": when, "code": codes[0].value,
        "codes": [code.value for code in codes], "fields": [f"field_{index}" for index in range(len(codes))],
    }  # fmt: skip
    assert letter_of(key, value, headers_of(letter)) == DeadLetter.model_validate(letter)


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


@pytest.mark.parametrize("missing", ["orion.error.stage", "orion.error.code", "orion.source.topic", "orion.failed_at"])
def test_a_message_without_our_headers_is_no_dead_letter(missing):
    headers = [(name, value) for name, value in headers_of(LETTER) if name != missing]
    with pytest.raises(ValueError, match="validation error"):
        letter_of(b"", b"", headers)


@pytest.mark.parametrize(
    ("name", "value"),
    [("orion.error.code", b"new_code"), ("orion.source.offset", b"x"), ("orion.error.stage", b"\xff"),
     ("orion.failed_at", b"yesterday"), ("orion.attempt", None)],
)  # fmt: skip
def test_a_message_with_broken_headers_is_no_dead_letter(name, value):
    headers = [(each, value if each == name else text) for each, text in headers_of(LETTER)]
    with pytest.raises(ValueError, match=r".+"):
        letter_of(b"", b"", headers)
