"""The declaration of a raw format. Each format has one TOML file, which is validated when it is loaded.

`[fields]` says which column, key or member gives each unified field; `[[maps]]` says which fields a value gives.
"""

import re
from difflib import get_close_matches
from itertools import chain
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, field_validator, model_validator

from orion_beam.schemas.raw import MAX_PAYLOAD_BYTES
from orion_beam.schemas.raw_formats.sources import (
    UNIFIED_FIELDS,
    Character,
    FieldSource,
    Frozen,
    Name,
    ValueMap,
)

__all__ = [
    "FixedWidthFormat",
    "FormatDeclaration",
    "JsonFormat",
    "PairsFormat",
    "Recognition",
    "SeparatedFormat",
    "format_of",
]

_REQUIRED = ("imsi", "msisdn")


class Recognition(Frozen):
    """What tells the format's records from others. All that is given must hold."""

    begins_with: str | None = Field(default=None, min_length=1, description="first characters, after blanks")
    separators: int | None = Field(
        default=None, ge=1, le=MAX_PAYLOAD_BYTES, description="number of separators in the record"
    )
    first_field: str | None = Field(default=None, description="regular expression that the whole first field matches")
    members: tuple[Annotated[str, Field(pattern=r"^[^.\[\]]+$")], ...] = Field(
        default=(), description="of JSON: names of the record's members, of which it has at least one"
    )

    @field_validator("first_field")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        return pattern

    @field_validator("begins_with")
    @classmethod
    def _is_ascii(cls, text: str | None) -> str | None:
        if text is not None and (not text.isascii() or text != text.strip()):
            raise ValueError("is not ASCII, or begins or ends with a blank")
        return text


class _Format(Frozen):
    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="name of the file; profiles and CDRs name it")
    description: str = Field(default="", description="for people")
    fields: tuple[FieldSource, ...] = Field(default=(), description="table of unified field to its source")
    maps: tuple[ValueMap, ...] = Field(default=(), description="tables of `from` and `values`")
    decimal_mark: Literal[",", "."] | None = Field(default=None, description="mark before the fraction of a count")
    recognised_by: Recognition = Recognition()

    def __hash__(self) -> int:
        """Hash the name only: the profile, which holds declarations, is hashed for each batch."""
        return hash(self.name)

    @field_validator("fields", mode="before")
    @classmethod
    def _sources_of_table(cls, fields: object) -> object:
        if not isinstance(fields, dict):
            return fields
        for name in fields:
            _check_among(name, UNIFIED_FIELDS, "unified field")
        return tuple(
            {"field": name, **source} if isinstance(source, dict) else {"field": name, "from": source}
            for name, source in fields.items()
        )

    @property
    def _places(self) -> tuple[str, ...] | None:
        """Names of all columns, for a format that lists them."""
        return None

    @model_validator(mode="after")
    def _agrees(self) -> Any:
        read = [source.field for source in self.fields] + [field for each in self.maps for field in each.fields]
        for field in read:
            _check_among(field, UNIFIED_FIELDS, "unified field")
            if read.count(field) > 1:
                raise ValueError(f"fields.{field}: is given twice")
        if self._places is not None:
            for name in chain([each.source for each in self.maps], *(each.sources for each in self.fields)):
                _check_among(name, self._places, "column")
        given = {each.field for each in self.sources} | {field for each in self.maps for field in each.fields}
        for field in _REQUIRED:
            if field not in given:
                raise ValueError(f"fields.{field}: is required, and nothing gives it")
        return self

    @property
    def sources(self) -> tuple[FieldSource, ...]:
        """Sources of all fields: those of `fields`, and each column that is named like a field and not yet read."""
        read = {each.field for each in self.fields} | {field for each in self.maps for field in each.fields}
        used = {name for each in self.fields for name in each.sources} | {each.source for each in self.maps}
        return *self.fields, *(
            FieldSource.model_validate({"field": name, "from": name})
            for name in self._places or ()
            if name in UNIFIED_FIELDS and name not in read and name not in used
        )

    @property
    def has_event_type(self) -> bool:
        """Whether every record holds an event type. In other formats a record without one is taken for data usage."""
        return any(each.field == "event_type" and not each.is_optional for each in self.sources) or any(
            "event_type" in each.fields and not each.is_optional for each in self.maps
        )

    @property
    def has_event_time(self) -> bool:
        """Whether a record holds its event time; if not, the Kafka timestamp is used."""
        return any(each.field == "event_time" for each in self.sources)


class SeparatedFormat(_Format):
    """Columns in a fixed order between separators."""

    kind: Literal["separated"]
    separator: Character
    columns: tuple[Name, ...] = Field(min_length=2, description="names in order, as in the header line")
    trailing_columns: Literal["required", "optional"] = Field(
        default="required", description="whether the last columns may be missing; otherwise such a record is malformed"
    )
    quoting: bool = Field(default=True, description="whether a column may be in quotes, RFC 4180")
    header: str | None = Field(default=None, description="header line, if it is not the columns' names")

    _columns = field_validator("columns")(lambda names: _distinct(names))

    @property
    def _places(self) -> tuple[str, ...]:
        return self.columns


class PairsFormat(_Format):
    """Pairs of a key and a value between separators, in any order."""

    kind: Literal["pairs"]
    separator: Character
    sign: Character = Field(default="=", description="character between key and value")

    @model_validator(mode="after")
    def _signs_differ(self) -> "PairsFormat":
        if self.sign == self.separator:
            raise ValueError("sign: is the separator, too")
        return self


class FixedWidthFormat(_Format):
    """Columns of fixed width, padded with blanks."""

    kind: Literal["fixed_width"]
    columns: tuple[tuple[Name, Annotated[int, Field(ge=1, le=MAX_PAYLOAD_BYTES)]], ...] = Field(
        min_length=1, description="table of column to its width in characters, in order"
    )

    @field_validator("columns", mode="before")
    @classmethod
    def _pairs_of_table(cls, columns: object) -> object:
        return tuple(columns.items()) if isinstance(columns, dict) else columns

    @field_validator("columns")
    @classmethod
    def _fit_a_payload(cls, columns: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
        width = sum(each for _, each in columns)
        if width > MAX_PAYLOAD_BYTES:
            raise ValueError(f"have {width} characters together; a payload has at most {MAX_PAYLOAD_BYTES} bytes")
        return columns

    @property
    def _places(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.columns)


class JsonFormat(_Format):
    """A JSON object. A source is a path: names joined by `.`, with `[0]` for the first element of an array."""

    kind: Literal["json"]


FormatDeclaration = Annotated[
    SeparatedFormat | PairsFormat | FixedWidthFormat | JsonFormat, Field(discriminator="kind")
]
"""Declaration of a raw format, by `kind`."""

_ADAPTER: TypeAdapter[FormatDeclaration] = TypeAdapter(FormatDeclaration)


def format_of(name: str, table: dict[str, Any]) -> FormatDeclaration:
    """Return the format that a TOML table declares.

    Raises:
        ValidationError: A field breaks its rule.
    """
    return _ADAPTER.validate_python(table | {"name": name})


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} is there twice")
    return names


def _check_among(name: str, known: tuple[str, ...], kind: str) -> None:
    if name not in known:
        near = get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
        raise ValueError(f"{name}: there is no such {kind}; {hint}")
