"""A dead letter as a Kafka message: the headers that say why, after Kafka Connect's convention."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from schemas.dead_letter import DeadLetter

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


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return str(round(value.timestamp() * 1000))
    return ",".join(value) if isinstance(value, list) else str(value)


def headers_of(letter: Mapping[str, Any]) -> Headers:
    """Return the headers of a dead letter: the source's own, then ours. Ours of an earlier attempt are left out."""
    headers: Headers = [(h["key"], h["value"]) for h in letter["headers"] or () if not h["key"].startswith(OWN_PREFIX)]
    headers += [(name, _text(letter[field]).encode()) for name, field in _HEADERS.items() if letter[field] is not None]
    return headers


def letter_of(key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> DeadLetter:
    """Return the dead letter that a Kafka message is, the inverse of `headers_of`.

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
