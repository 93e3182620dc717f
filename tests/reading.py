"""What the readings of `tests/raw_formats` have in common."""

import json
from collections.abc import Sequence
from typing import Any

from schemas.fields import BLANKS


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


def by_place(parts: Sequence[str], names: Sequence[str], *, exact: bool) -> dict[str, Any]:
    """Return the fields of parts whose place says what they are; where not `exact`, the last may be missing."""
    if len(parts) > len(names) or (exact and len(parts) < len(names)):
        raise ValueError("number of columns")
    return dict(zip(names, parts, strict=False))
