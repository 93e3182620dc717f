"""Writers of the raw formats: one rendering each, from columns of text to payloads.

Each module writes the raw format of its own name, as its `RENDERING`. A format without a module is read but not
generated.
"""

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module

import polars as pl

from orion_beam.generator.times import Spelling

Spoil = Callable[[pl.Expr], pl.Expr]
"""Function that makes a bad text from a good one; null where the field is absent."""


@dataclass(frozen=True)
class Rendering:
    """How to write one raw format.

    Attributes:
        fields: The format's fields, named as in `cdr.DecodedFields`.
        payload: Expression that makes the payload from columns of these names (text; null: absent).
        spellings: 64 spellings of event times, each equally likely, most of them the usual one. Empty: the format has
            no event time.
        is_json: Whether texts are JSON strings, so that quotes and control characters in them are escaped.
        is_fixed_width: Whether each field has a fixed position and width, which no text may exceed.
        breakages: Ways of making a payload malformed that are specific to this format, by name.
    """

    fields: tuple[str, ...]
    payload: pl.Expr
    spellings: tuple[Spelling, ...]
    is_json: bool = False
    is_fixed_width: bool = False
    breakages: Mapping[str, Spoil] = field(default_factory=dict)


@cache
def renderings() -> Mapping[str, Rendering]:
    """Return how each raw format is written, by its name."""
    names = [found.name for found in pkgutil.iter_modules(__path__)]
    return {name: import_module(f"{__name__}.{name}").RENDERING for name in names}


def mostly(usual: Spelling, *others: Spelling) -> tuple[Spelling, ...]:
    """Return 64 spellings of event times: each of the others once, the usual one in the remaining places."""
    return (usual,) * (64 - len(others)) + others


def join_fields(separator: str, fields: tuple[str, ...]) -> pl.Expr:
    """Return the fields in order, joined by a separator; an absent field is empty."""
    return pl.concat_str([pl.col(name).fill_null("") for name in fields], separator=separator)


def members(*each: pl.Expr) -> pl.Expr:
    """Return those JSON members that are not null, joined by commas."""
    return pl.concat_str(each, separator=",", ignore_nulls=True)


def member(name: str, column: str) -> pl.Expr:
    """Return `"name":"text"`, null where the column is null."""
    return pl.concat_str(pl.lit(f'"{name}":"'), column, pl.lit('"'))


def bare_member(name: str, column: str, quote: str) -> pl.Expr:
    """Return `"name":digits` with the row's quote (`"` or nothing) around the digits; null where the column is null."""
    return pl.concat_str(pl.lit(f'"{name}":'), quote, column, quote)
