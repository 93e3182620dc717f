"""View of a dead letter for people: the fields of its record, the rules that they break, and masked numbers."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import pyarrow as pa

from orion_beam.dlq.judge import decoded_texts
from orion_beam.io.letter_headers import Reference
from orion_beam.telemetry.masking import mask_field, mask_numbers
from orion_beam.transforms.stage.rejects import PAYLOAD_FIELD, meanings_in

_LONGEST_PREVIEW = 2048


class FieldView(NamedTuple):
    """Field of a record.

    Attributes:
        field: Unified name of the field; `value` is the payload as a whole.
        text: Text of the field.
        problems: Meaning of each rule that the field breaks.
    """

    field: str
    text: str | None
    problems: tuple[str, ...]


class LetterView(NamedTuple):
    """Dead letter for people.

    Attributes:
        place: Place on its topic, `partition@offset`.
        reasons: Values of our headers, by field of `dead_letter.DeadLetter`.
        key: Key of the record.
        headers: Headers of the source.
        fields: Fields of the record; only the payload if no format reads it.
    """

    place: str
    reasons: Mapping[str, Any]
    key: str | None
    headers: tuple[tuple[str, str | None], ...]
    fields: tuple[FieldView, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the letter in JSON's types."""
        return {
            "place": self.place,
            **{name: value.isoformat() if isinstance(value, datetime) else value
               for name, value in self.reasons.items()},
            "key": self.key,
            "headers": [list(pair) for pair in self.headers],
            "record": [field._asdict() for field in self.fields],
        }  # fmt: skip


def views_of(letters: pa.RecordBatch, topic: str, *, reveal: bool) -> list[LetterView]:
    """Return the views of letters.

    Args:
        letters: Rows of `orion_beam.io.letter_headers.LETTER_SCHEMA`.
        topic: Topic that the letters are on.
        reveal: Whether to show subscribers' numbers. Otherwise they are masked, in every part of the record.
    """
    return [
        _view(letter, texts, reveal)
        for letter, texts in zip(letters.to_pylist(), decoded_texts(letters, topic), strict=True)
    ]


def _view(letter: dict[str, Any], texts: Mapping[str, str | None] | None, reveal: bool) -> LetterView:
    problems: dict[str, list[str]] = {}
    for field, meaning in zip(letter["fields"], meanings_in(letter), strict=True):
        problems.setdefault(field, []).append(meaning)
    shown = {} if texts is None else {field: text for field, text in texts.items() if text or field in problems}
    if texts is None or PAYLOAD_FIELD in problems:
        shown[PAYLOAD_FIELD] = readable(letter["value"], reveal=reveal)
    if letter["reference"] is None:
        for name in ("reference", "payload_bytes", "payload_sha256"):
            del letter[name]
    elif letter["reference"] == Reference.GONE:
        source = f"{letter['source_topic']}[{letter['source_partition']}]@{letter['source_offset']}"
        shown[PAYLOAD_FIELD] = f"gone: {source} no longer holds these {letter['payload_bytes']:,} bytes"
    place = f"{letter.pop('letter_partition')}@{letter.pop('letter_offset')}"
    key, headers = letter.pop("key"), letter.pop("headers")
    letter.pop("value")
    return LetterView(
        place,
        letter,
        readable(key, reveal=reveal),
        tuple((header["key"], readable(header["value"], reveal=reveal)) for header in headers),
        tuple(_field(field, text, tuple(problems.get(field, ())), reveal) for field, text in shown.items()),
    )


def _field(field: str, text: str | None, problems: tuple[str, ...], reveal: bool) -> FieldView:
    if text is None or reveal or field == PAYLOAD_FIELD:
        return FieldView(field, text, problems)
    return FieldView(field, mask_field(field, text), problems)


def readable(value: bytes | None, *, reveal: bool) -> str | None:
    """Return bytes as text: invalid UTF-8 and unprintable characters are escaped, and a long text is cut."""
    if value is None:
        return None
    text = value[:_LONGEST_PREVIEW].decode(errors="backslashreplace")
    text = text if reveal else mask_numbers(text)
    text = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    return text + (f"… and {len(value) - _LONGEST_PREVIEW:,} bytes more" if len(value) > _LONGEST_PREVIEW else "")
