"""The raw formats as they are written: one renderer each, from columns of text to payloads.

A module here writes the raw format of its own name, as its `RENDERING`. A format without one is read but not generated.
"""

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module

import polars as pl

from orion_beam.generator.times import Spelling

Spoil = Callable[[pl.Expr], pl.Expr]
"""Makes a bad text of a good one; null where it is absent."""


@dataclass(frozen=True)
class Rendering:
    """How to write one raw format.

    Attributes:
        fields: the fields that the format has, named as in `cdr.DecodedFields`.
        payload: expression over columns of these names (text, null is absent) that makes the payload.
        spellings: of event times; 64 entries, one dominating, each as likely; empty where there is no event time.
        is_json: whether texts are JSON strings, so that quotes and control characters in them are escaped.
        is_fixed_width: whether fields have a place and a width, which no text may leave.
        breakages: ways in which a payload is malformed in this format only, by name.
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
    """Return spellings of event times: one usual, each of the others once in 64."""
    return (usual,) * (64 - len(others)) + others


def join_fields(separator: str, fields: tuple[str, ...]) -> pl.Expr:
    """Return fields in their order with a separator between them; an absent one is empty."""
    return pl.concat_str([pl.col(name).fill_null("") for name in fields], separator=separator)


def members(*each: pl.Expr) -> pl.Expr:
    """Return JSON members with commas between those that are not null."""
    return pl.concat_str(each, separator=",", ignore_nulls=True)


def member(name: str, column: str) -> pl.Expr:
    """Return `"name":"text"`, null where the column is null."""
    return pl.concat_str(pl.lit(f'"{name}":"'), column, pl.lit('"'))


def bare_member(name: str, column: str, quote: str) -> pl.Expr:
    """Return `"name":digits` with the row's kind of quote around the digits, null where the column is null."""
    return pl.concat_str(pl.lit(f'"{name}":'), quote, column, quote)
