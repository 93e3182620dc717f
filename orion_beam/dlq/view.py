"""One dead letter for people: what its record says, what of it is refused, and no subscriber's number."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import pyarrow as pa

from orion_beam.dlq.judge import decoded_texts
from orion_beam.io.letter_headers import Reference
from orion_beam.schemas.codes import Code
from orion_beam.telemetry.masking import mask_field, mask_numbers
from orion_beam.transforms.stage.rejects import PAYLOAD_FIELD

_LONGEST_PREVIEW = 2048
_MEANINGS = {code.value: code.meaning for code in Code}


class FieldView(NamedTuple):
    """One field of a record.

    Attributes:
        field: its unified name; `value` is the payload as a whole.
        text: what it says.
        problems: the meaning of each rule that it breaks.
    """

    field: str
    text: str | None
    problems: tuple[str, ...]


class LetterView(NamedTuple):
    """One dead letter.

    Attributes:
        place: where it lies, `partition@offset`.
        reasons: our headers, by field of `dead_letter.DeadLetter`.
        key: the record's key.
        headers: the record's own headers.
        fields: what the record says; of one that no format reads, the payload alone.
    """

    place: str
    reasons: Mapping[str, Any]
    key: str | None
    headers: tuple[tuple[str, str | None], ...]
    fields: tuple[FieldView, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "place": self.place,
            **{name: value.isoformat() if isinstance(value, datetime) else value
               for name, value in self.reasons.items()},
            "key": self.key,
            "headers": [list(pair) for pair in self.headers],
            "record": [field._asdict() for field in self.fields],
        }  # fmt: skip


def views_of(letters: pa.RecordBatch, topic: str, *, reveal: bool) -> list[LetterView]:
    """Return letters for people.

    Args:
        letters: rows of `orion_beam.io.letter_headers.LETTER_SCHEMA`.
        topic: that they lie on.
        reveal: show subscribers' numbers; else they are masked, wherever in the record they are.
    """
    return [
        _view(letter, texts, reveal)
        for letter, texts in zip(letters.to_pylist(), decoded_texts(letters, topic), strict=True)
    ]


def _view(letter: dict[str, Any], texts: Mapping[str, str | None] | None, reveal: bool) -> LetterView:
    problems: dict[str, list[str]] = {}
    for code, field in zip(letter["codes"], letter["fields"], strict=True):
        problems.setdefault(field, []).append(_MEANINGS[code])
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
    """Return bytes as text, what is no UTF-8 and no character for people as escapes, and no longer than a screen."""
    if value is None:
        return None
    text = value[:_LONGEST_PREVIEW].decode(errors="backslashreplace")
    text = text if reveal else mask_numbers(text)
    text = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    return text + (f"… and {len(value) - _LONGEST_PREVIEW:,} bytes more" if len(value) > _LONGEST_PREVIEW else "")
