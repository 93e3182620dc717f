"""Functions that the readers of `tests/raw_formats` share."""

import json
import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from orion_beam.schemas.fields import BLANKS


class RawRow(BaseModel):
    """Base class of a raw format's row model. An absent field is null, and unknown fields are ignored.

    Validate with the context `{"profile": CountryProfile, "source_timestamp": datetime | None}`. An error's `type` is a
    member of `codes.Code`.
    """

    model_config = ConfigDict(extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _absent_is_null(cls, fields: Any) -> Any:
        return dict.fromkeys(cls.model_fields) | fields if isinstance(fields, dict) else fields


def is_object(text: str) -> bool:
    return text.lstrip(BLANKS).startswith("{")


def read_json(text: str) -> dict[str, Any]:
    """Parse a JSON object. NaN and Infinity, which JSON lacks, become texts for the rules to judge.

    Raises:
        ValueError: The text is not JSON, or holds lone surrogates, which UTF-8 cannot encode.
    """

    def integer(digits: str) -> int | str:
        # Python's int() refuses more than 4,300 digits. A number this long is no valid count, so it stays a text.
        return int(digits) if len(digits) < 4000 else digits

    record = json.loads(text, parse_constant=str, parse_int=integer)
    json.dumps(record, ensure_ascii=False).encode()
    return dict(record)


def parts_of(text: str, separator: str) -> list[str]:
    """Split a text at separators. By RFC 4180, a quoted part may hold separators, and quotes that are doubled."""
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
    """Name parts by their position.

    Args:
        parts: Texts between the separators.
        names: Names of the fields in order.
        exact: Whether all fields must be there; otherwise the last ones may be missing.

    Raises:
        ValueError: There are too many parts or too few.
    """
    if len(parts) == len(names) + 1 and not parts[-1]:
        # A separator at the end of the record.
        parts = parts[:-1]
    if len(parts) > len(names) or (exact and len(parts) < len(names)):
        raise ValueError("number of columns")
    return dict(zip(names, parts, strict=False))
