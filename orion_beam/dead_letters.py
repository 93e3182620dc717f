"""A dead letter as a Kafka message: the headers that say why, after Kafka Connect's convention."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.dead_letter import DeadLetter
from transforms.texts import lengths_of, to_list

OWN_PREFIX = "orion."

Headers = list[tuple[str, str | bytes | None]]
"""Kafka's headers, as confluent-kafka wants them."""

_HEADERS = {
    "orion.error.stage": "stage",
    "orion.error.code": "code",
    "orion.error.codes": "codes",
    "orion.error.fields": "fields",
    "orion.error.message": "message",
    "orion.source.topic": "source_topic",
    "orion.source.partition": "source_partition",
    "orion.source.offset": "source_offset",
    "orion.source.timestamp": "source_timestamp",
    "orion.country": "country",
    "orion.attempt": "attempt",
    "orion.version": "version",
    "orion.failed_at": "failed_at",
}
"""Header to field of `schemas.dead_letter.DeadLetter`. Lists are joined by commas, times are epoch milliseconds."""


class Message(NamedTuple):
    """What of a dead letter goes to Kafka."""

    key: bytes | None
    value: bytes | None
    headers: Headers


def messages_of(letters: pa.RecordBatch) -> list[Message]:
    """Return the messages of a batch of `schemas.dead_letter.DEAD_LETTER_SCHEMA`, in order.

    Their headers are the source's own, then ours. Ours of an earlier attempt are left out.
    """
    columns = [to_list(_header_values(letters.column(field))) for field in _HEADERS.values()]
    own_headers = [
        [(name, value) for name, value in zip(_HEADERS, values, strict=True) if value is not None]
        for values in zip(*columns, strict=True)
    ]
    keys, values = to_list(letters.column("key")), to_list(letters.column("value"))
    messages = [Message(key, value, own) for key, value, own in zip(keys, values, own_headers, strict=True)]
    for row in np.flatnonzero(lengths_of(letters.column("headers"))):
        sent = letters.column("headers")[row].as_py() or ()
        messages[row].headers[:0] = [(h["key"], h["value"]) for h in sent if not h["key"].startswith(OWN_PREFIX)]
    return messages


def _header_values(column: pa.Array) -> pa.BinaryArray:
    if pa.types.is_list(column.type):
        column = pc.binary_join(column, ",")
    elif pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    return column.cast(pa.string()).cast(pa.binary())


def letter_of(key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> DeadLetter:
    """Return the dead letter that a Kafka message is, the inverse of `messages_of`.

    Raises:
        ValueError: the message lacks our headers: it is no dead letter of ours.
    """
    headers = list(headers)
    own = {name: (text or b"").decode() for name, text in headers if name in _HEADERS}
    fields: dict[str, Any] = {field: own[name] for name, field in _HEADERS.items() if name in own}
    for name in ("codes", "fields"):
        fields[name] = fields[name].split(",") if fields.get(name) else []
    for name in ("source_timestamp", "failed_at"):
        fields[name] = int(fields[name]) / 1000 if name in fields else None
    kept = [{"key": name, "value": text} for name, text in headers if not name.startswith(OWN_PREFIX)]
    return DeadLetter.model_validate({"key": key, "value": value, "headers": kept} | fields)
