"""The rules of validation in columns: each says which code it stands for, of which field, and where it is broken.

They accept and refuse exactly what the row types of `schemas/fields.py` do; a property test holds the two together.
"""

from dataclasses import dataclass

import polars as pl

from schemas.codes import Code
from schemas.fields import EVENT_TYPES, FUTURE_TOLERANCE, RAT_GENERATIONS
from schemas.raw import RawFormat
from transforms.rejects import Violation

COUNTS = ("duration_s", "bytes_up", "bytes_down", "message_length")
"""The fields that hold whole numbers."""

_FORMATS_WITH_EVENT_TYPE = [RawFormat.FLAT_JSON.value, RawFormat.PIPE_TEXT.value]


@dataclass(frozen=True)
class Rule:
    """A rule: what it is called when it is broken, and where it is.

    Attributes:
        violation: code and field.
        broken: boolean expression over decoded texts, `event_time` parsed to `parsed_time`, and counts cast to
            `parsed_<field>`. It may be null, which means that the rule is kept.
    """

    violation: Violation
    broken: pl.Expr


def rat_name(column: str = "rat") -> pl.Expr:
    """Return the RAT as `RAT_GENERATIONS` spells it: lower case, numbers without leading zeros."""
    rat = pl.col(column)
    return pl.when(rat.str.contains("^[0-9]+$")).then(rat.str.strip_chars_start("0")).otherwise(rat.str.to_lowercase())


def _missing(field: str) -> Rule:
    return Rule(Violation(Code.MISSING_FIELD, field), pl.col(field).is_null())


def _unlike(field: str, pattern: str, code: Code) -> Rule:
    return Rule(Violation(code, field), ~pl.col(field).str.contains(pattern))


def _no_count(field: str) -> Rule:
    is_whole = pl.col(field).str.contains("^[0-9]+$") & pl.col(f"parsed_{field}").is_not_null()
    return Rule(Violation(Code.INVALID_NUMBER, field), pl.col(field).is_not_null() & ~is_whole)


_event_time = pl.col("parsed_time")

RULES: tuple[Rule, ...] = (
    _missing("imsi"),
    _unlike("imsi", "^[0-9]{14,15}$", Code.INVALID_IMSI),
    _missing("msisdn"),
    _unlike("msisdn", r"^(?:\+|00)?[0-9]{10,15}$", Code.INVALID_MSISDN),
    _unlike("imei", "^[0-9]{14,16}$", Code.INVALID_IMEI),
    Rule(
        Violation(Code.UNKNOWN_EVENT_TYPE, "event_type"),
        pl.col("raw_format").is_in(_FORMATS_WITH_EVENT_TYPE)
        & ~pl.col("event_type").str.to_lowercase().is_in(EVENT_TYPES).fill_null(False),
    ),
    Rule(Violation(Code.UNKNOWN_RAT, "rat"), pl.col("rat").is_not_null() & ~rat_name().is_in(list(RAT_GENERATIONS))),
    *map(_no_count, COUNTS),
    Rule(Violation(Code.MISSING_FIELD, "event_time"), pl.col("event_time").is_null() & _event_time.is_null()),
    Rule(Violation(Code.INVALID_TIMESTAMP, "event_time"), pl.col("event_time").is_not_null() & _event_time.is_null()),
    Rule(
        Violation(Code.FUTURE_TIMESTAMP, "event_time"),
        _event_time > pl.col("source_timestamp") + FUTURE_TOLERANCE,
    ),
)
