"""Dead letters one by one, for tests that have them as mappings."""

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from orion_beam.dead_letters import Headers, letters_of, messages_of
from schemas.dead_letter import DEAD_LETTER_SCHEMA
from schemas.raw import RAW_MESSAGE_SCHEMA


def headers_of(letter: Mapping[str, Any]) -> Headers:
    (message,) = messages_of(pa.RecordBatch.from_pylist([letter], schema=DEAD_LETTER_SCHEMA))
    return message.headers


def messages_batch(*messages: tuple[bytes | None, bytes | None, Iterable[tuple[str, Any]]]) -> pa.RecordBatch:
    """Return messages (key, value, headers) as they are read from a dead-letter topic."""
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
    """Return the dead letter that one message is, or None for one that is none of ours."""
    read = letters_of(messages_batch((key, value, headers)))
    assert read.letters.num_rows + read.foreign.num_rows == 1
    return read.letters.to_pylist()[0] if read.letters.num_rows else None
