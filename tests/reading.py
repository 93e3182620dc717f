"""What the readings of `tests/raw_formats` have in common."""

import json
import re
from collections.abc import Sequence
from typing import Any

from orion_beam.schemas.fields import BLANKS


def is_object(text: str) -> bool:
    return text.lstrip(BLANKS).startswith("{")


def read_json(text: str) -> dict[str, Any]:
    """Return a JSON object; NaN and Infinity, which are no JSON, are left to the rules. Lone surrogates are no text."""

    def integer(digits: str) -> int | str:
        # Python refuses to read more than 4,300 digits at once; no count has as many.
        return int(digits) if len(digits) < 4000 else digits

    record = json.loads(text, parse_constant=str, parse_int=integer)
    json.dumps(record, ensure_ascii=False).encode()
    return dict(record)


def parts_of(text: str, separator: str) -> list[str]:
    """Return what is between separators; RFC 4180: a part in quotes may hold them, and a quote as two."""
    quoted = re.compile(rf'[{BLANKS}]*"((?:[^"]|"")*)"[{BLANKS}]*(?=[{separator}]|\Z)')
    parts = []
    while True:
        if found := quoted.match(text):
            parts.append(found[1].replace('""', '"'))
            text = text[found.end() :]
        else:
            parts.append(text.split(separator)[0])
            text = text[len(parts[-1]) :]
        if not text:
            return parts
        text = text[1:]


def by_place(parts: Sequence[str], names: Sequence[str], *, exact: bool) -> dict[str, Any]:
    """Return the fields of parts whose place says what they are; where not `exact`, the last may be missing."""
    if len(parts) == len(names) + 1 and not parts[-1]:
        # One separator more, and nothing behind it.
        parts = parts[:-1]
    if len(parts) > len(names) or (exact and len(parts) < len(names)):
        raise ValueError("number of columns")
    return dict(zip(names, parts, strict=False))
