"""Conversion of single dead letters, as mappings, to and from messages, for tests."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow as pa

from orion_beam.io.letter_headers import letters_of, messages_of
from orion_beam.schemas.dead_letter import DEAD_LETTER_SCHEMA
from orion_beam.schemas.raw import RAW_MESSAGE_SCHEMA

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


class Message(NamedTuple):
    """A dead letter in the form that a Kafka client takes."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def messages_from(letters: pa.RecordBatch) -> list[Message]:
    """Convert dead-letter rows to the messages of their topic."""
    return [
        Message(row["key"], row["value"], [(header["key"], header["value"]) for header in row["headers"]])
        for row in messages_of(letters).to_pylist()
    ]


def headers_of(letter: Mapping[str, Any]) -> list[tuple[str, bytes | None]]:
    (message,) = messages_from(pa.RecordBatch.from_pylist([letter], schema=DEAD_LETTER_SCHEMA))
    return message.headers


def messages_batch(*messages: tuple[bytes | None, bytes | None, Iterable[tuple[str, Any]]]) -> pa.RecordBatch:
    """Return messages (key, value, headers) as a batch that is read from a dead-letter topic."""
    rows = [
        {
            "raw_key": key,
            "raw_value": value,
            "raw_headers": [{"key": name, "value": text} for name, text in headers],
            "source_topic": "cdr.dlq",
            "source_partition": 5,
            "source_offset": offset,
        }
        for offset, (key, value, headers) in enumerate(messages)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=RAW_MESSAGE_SCHEMA)


def letter_of(key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, Any]]) -> dict[str, Any] | None:
    """Parse one message into a dead letter; None for a message that is not a dead letter of this product."""
    read = letters_of(messages_batch((key, value, headers)))
    assert read.letters.num_rows + read.foreign.num_rows == 1
    return read.letters.to_pylist()[0] if read.letters.num_rows else None
