"""Where the fields of a declared format come from: columns, keys or members, constants, and maps of values."""

import re
from itertools import chain
from typing import Annotated, Literal, get_args
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from orion_beam.schemas.cdr import DecodedFields, UnifiedCdr
from orion_beam.schemas.zones import NO_ZONES

__all__ = [
    "COUNT_FIELDS",
    "Character",
    "FieldSource",
    "Frozen",
    "Name",
    "TIME_PART",
    "TIME_PARTS",
    "UNIFIED_FIELDS",
    "UNITS",
    "ValueMap",
]

UNIFIED_FIELDS = tuple(name for name in DecodedFields.model_fields if name != "raw_format")
"""Names of the fields that a format may give."""

_EVENT_TYPES: tuple[str, ...] = get_args(UnifiedCdr.model_fields["event_type"].annotation)

COUNT_FIELDS = (
    "duration_s",
    "bytes_up",
    "bytes_down",
    "message_length",
    "local_sequence_number",
    "record_sequence_number",
    "cause_for_record_closing",
)
"""Unified fields that hold whole numbers."""

UNITS = {
    "seconds": (1, 1),
    "milliseconds": (1, 1000),
    "minutes": (60, 1),
    "bytes": (1, 1),
    "kilobytes": (1000, 1),
    "kibibytes": (1024, 1),
}
"""Factor and divisor that convert a count in the unit to seconds or bytes."""

_UNITS_OF = {
    "duration_s": ("seconds", "milliseconds", "minutes"),
    "bytes_up": ("bytes", "kilobytes", "kibibytes"),
    "bytes_down": ("bytes", "kilobytes", "kibibytes"),
}

TIME_PARTS = {
    "YYYY": "year",
    "YY": "year",
    "MM": "month",
    "DD": "day",
    "hh": "hour",
    "mm": "minute",
    "ss": "second",
    "SSS": "milliseconds",
    "+hhmm": "offset",
    "+hh:mm": "offset",
}
"""What each part of a time pattern stands for. All other characters of a pattern stand for themselves."""

TIME_PART = re.compile(r"\+hh:?mm|YYYY|YY|MM|DD|hh|mm|ss|SSS")


def _one_character(text: str) -> str:
    if len(text) != 1 or not text.isascii():
        raise ValueError("is not one ASCII character")
    if text.isdecimal() or text in "\r\n":
        raise ValueError("is a digit or the end of a line, which records hold for other reasons")
    return text


Character = Annotated[str, AfterValidator(_one_character)]
Name = Annotated[str, Field(min_length=1)]


class Frozen(BaseModel):
    """Base class of the models of a declaration."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _check_text(field: str, text: str) -> None:
    """Check the text that a declaration gives a field: no record with a wrong one could be valid."""
    if field == "event_type" and text.lower() not in _EVENT_TYPES:
        raise ValueError(f"{field}: {text!r} is no event type, only {', '.join(_EVENT_TYPES)}")
    if field in COUNT_FIELDS and not (text.isascii() and text.isdecimal()):
        raise ValueError(f"{field}: {text!r} is no whole number")


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class FieldSource(Frozen):
    """How a unified field is read: from columns, keys or members, of which the first that is not blank counts."""

    field: str
    sources: tuple[Name, ...] = Field(default=(), alias="from", description="names, the first not blank counts")
    constant: str | None = Field(default=None, min_length=1, description="text of the field in every record")
    unit: Literal["seconds", "milliseconds", "minutes", "bytes", "kilobytes", "kibibytes"] | None = Field(
        default=None, description="unit of the count; fractions of a second or byte are cut off"
    )
    pattern: str | None = Field(
        default=None, description=f"of an event time, made of {', '.join(TIME_PARTS)} and other characters"
    )
    zone: str | None = Field(default=None, description="IANA zone of an event time without an offset")
    filler: Character | None = Field(default=None, description="character that fills the end of the text, such as F")
    is_optional: bool = Field(default=False, alias="optional", description="of event_type: data where it is blank")

    _sources = field_validator("sources", mode="before")(_as_tuple)

    @model_validator(mode="after")
    def _fits_field(self) -> "FieldSource":
        if (self.constant is None) == (not self.sources):
            raise ValueError("needs `from` or `constant`, and not both")
        if self.unit is not None and self.unit not in _UNITS_OF.get(self.field, ()):
            units = ", ".join(_UNITS_OF.get(self.field, ()))
            raise ValueError(f"unit: the field has no such unit, {f'only {units}' if units else 'and no other'}")
        for name in ("pattern", "zone"):
            if getattr(self, name) is not None and self.field != "event_time":
                raise ValueError(f"{name}: only event_time has one")
        if self.is_optional and self.field != "event_type":
            raise ValueError("optional: only event_type has it; every other field may be blank")
        if self.zone is not None and "+" in (self.pattern or ""):
            raise ValueError("zone: the pattern has an offset, so times need no zone")
        if self.constant is not None:
            _check_text(self.field, self.constant)
        if self.constant is not None and (self.unit or self.pattern or self.zone or self.filler or self.is_optional):
            raise ValueError("constant: is taken as it is, so the source can have no unit, pattern, zone or filler")
        return self

    @field_validator("pattern")
    @classmethod
    def _is_whole(cls, pattern: str | None) -> str | None:
        if pattern is None:
            return None
        parts = [TIME_PARTS[part] for part in TIME_PART.findall(pattern)]
        for part in ("year", "month", "day", "hour", "minute"):
            if part not in parts:
                raise ValueError(f"has no {part}; write a time as in DD/MM/YYYY hh:mm:ss")
        if len(parts) > len(set(parts)):
            raise ValueError("has a part twice")
        if "milliseconds" in parts and "second" not in parts:
            raise ValueError("has milliseconds without a second")
        if not pattern.isascii():
            raise ValueError("has characters beyond ASCII")
        return pattern

    @field_validator("zone")
    @classmethod
    def _zone_exists(cls, zone: str | None) -> str | None:
        zones = available_timezones()
        if zone is not None and zone not in zones:
            raise ValueError("is no IANA time zone, such as Europe/Paris" if zones else NO_ZONES)
        return zone


class ValueMap(Frozen):
    """Fields that follow from a value, such as event type and direction from the record type.

    A value that is not listed makes the record a dead letter: `unknown_event_type` if the map gives the event type,
    otherwise `unmapped_value`. ASCII letters are compared without regard to case.
    """

    source: Name = Field(alias="from", description="name of the column, key or member")
    values: tuple[tuple[Name, tuple[tuple[str, Name], ...]], ...] = Field(min_length=1)
    is_optional: bool = Field(default=False, alias="optional", description="blank event type: data")

    @field_validator("values", mode="before")
    @classmethod
    def _pairs_of_tables(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        return tuple(
            (value, tuple(given.items()) if isinstance(given, dict) else given) for value, given in values.items()
        )

    @model_validator(mode="after")
    def _are_distinct(self) -> "ValueMap":
        names = [value.lower() for value, _ in self.values]
        if len(names) > len(set(names)):
            raise ValueError("values: two differ only in their case")
        if not self.fields:
            raise ValueError("values: none of them gives a field")
        for field, text in chain.from_iterable(given for _, given in self.values):
            _check_text(field, text)
        return self

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the unified fields that the map gives."""
        return tuple(dict.fromkeys(field for _, given in self.values for field, _ in given))
