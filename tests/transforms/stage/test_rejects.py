"""Dead letters: the message untouched, every reason, and never a value."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orion_beam.schemas import VERSION
from orion_beam.schemas.codes import Code, Stage
from orion_beam.schemas.dead_letter import DEAD_LETTER_SCHEMA, DeadLetter
from orion_beam.testing import raw_batch, rows
from orion_beam.transforms.decode import decode_batch
from orion_beam.transforms.stage.rejects import MAX_LETTER_MESSAGE_BYTES, Violation, dead_letters, no_rejects
from orion_beam.transforms.validate import validate_batch
from tests.strategies import ARRIVED, PROFILES, batches_of

MALFORMED = (Violation(Code.MALFORMED_PAYLOAD, "value"),)


def attempt_of(headers: dict[str, bytes | None]) -> int:
    (letter,) = rows(dead_letters(raw_batch("FR", [b"x"], headers=[headers]), Stage.DECODE, [MALFORMED]))
    return letter["attempt"]


def test_a_dead_letter_is_the_message_and_its_reasons():
    arrived = datetime(2026, 6, 1, 12, tzinfo=UTC)
    batch = raw_batch(
        "SN", [b"\xff\x00"], keys=[b"\xfe"], headers=[{"a": b"\xfd", "b": None}], timestamps=arrived, partition=3,
        first_offset=42,
    )  # fmt: skip
    reasons = (Violation(Code.INVALID_IMSI, "imsi"), Violation(Code.INVALID_NUMBER, "bytes_up"))
    before = datetime.now(UTC)
    (letter,) = rows(dead_letters(batch, Stage.VALIDATE, [reasons]))
    assert before - timedelta(milliseconds=1) <= letter.pop("failed_at") <= datetime.now(UTC)
    assert letter == {
        "key": b"\xfe",
        "value": b"\xff\x00",
        "headers": [{"key": "a", "value": b"\xfd"}, {"key": "b", "value": None}],
        "stage": "validate",
        "code": "invalid_imsi",
        "codes": ["invalid_imsi", "invalid_number"],
        "fields": ["imsi", "bytes_up"],
        "message": "imsi: invalid_imsi: an IMSI is 14 or 15 ASCII digits;"
        " bytes_up: invalid_number: a count is not a whole number from 0 to 2^63 - 1",
        "country": "SN",
        "source_topic": "cdr.raw.SN",
        "source_partition": 3,
        "source_offset": 42,
        "source_timestamp": arrived,
        "attempt": 1,
        "version": VERSION,
        "run_id": None,
        "payload_bytes": None,
        "payload_sha256": None,
    }


def test_a_dead_letter_is_a_record_of_its_model():
    batch = dead_letters(raw_batch("FR", [None, b"x"]), Stage.DECODE, [MALFORMED, MALFORMED])
    assert batch.schema == DEAD_LETTER_SCHEMA
    assert [DeadLetter.model_validate(letter).code for letter in rows(batch)] == [Code.MALFORMED_PAYLOAD] * 2


@pytest.mark.parametrize(
    ("value", "attempt"),
    [
        (b"1", 1), (b"2", 2), (b"007", 7), (b"123456789", 123456789), (b"0", 1), (b"", 1), (b"-3", 1), (b"x", 1),
        (None, 1), (b"1.5", 1), (b"\xd9\xa3", 1), (b"9" * 5000, 1),
    ],
)  # fmt: skip
def test_the_attempt_is_what_the_header_of_a_redriven_message_says(value, attempt):
    assert attempt_of({"other": b"9", "orion.attempt": value}) == attempt


def test_a_message_without_the_header_is_tried_for_the_first_time():
    assert attempt_of({}) == 1
    assert attempt_of({"attempt": b"5"}) == 1


@pytest.mark.parametrize("value", [b"99999999999", b"9" * 5000, b"\xff", b"1e9"])
def test_no_header_that_anybody_may_set_stops_a_batch(value):
    headers = [{}, {"orion.attempt": value}, {}]
    outcome = decode_batch(raw_batch("FR", [b"x"] * 3, headers=headers), PROFILES["FR"])
    assert [letter["source_offset"] for letter in rows(outcome.rejected)] == [0, 1, 2]


def test_a_message_for_people_has_at_most_a_kilobyte():
    every = tuple(Violation(code, f"field_{index}") for index in range(10) for code in Code)
    (letter,) = rows(dead_letters(raw_batch("FR", [b"x"]), Stage.VALIDATE, [every]))
    assert 900 < len(letter["message"].encode()) <= MAX_LETTER_MESSAGE_BYTES
    assert len(letter["codes"]) == len(letter["fields"]) == len(every)


def test_without_rejected_rows_there_are_no_dead_letters():
    assert dead_letters(raw_batch("FR", []), Stage.DECODE, []).num_rows == 0
    assert no_rejects().schema == DEAD_LETTER_SCHEMA


@given(data=st.data())
@settings(max_examples=20)
def test_a_message_never_depends_on_a_fields_value(data):
    profile = PROFILES[data.draw(st.sampled_from(list(PROFILES)))]
    decoded = decode_batch(raw_batch(profile.code, data.draw(batches_of(profile)), timestamps=ARRIVED), profile)
    validated = validate_batch(decoded.accepted, {profile.code: profile})
    for letter in rows([decoded.rejected, validated.rejected]):
        # What is said follows from codes and fields alone, so no value can be in it.
        pairs = zip(letter["codes"], letter["fields"], strict=True)
        expected = "; ".join(f"{field}: {code}: {Code(code).meaning}" for code, field in pairs)
        assert letter["message"] == expected.encode()[:MAX_LETTER_MESSAGE_BYTES].decode()
