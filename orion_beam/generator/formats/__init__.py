"""Writers of the raw formats: from columns of text to payloads. Each follows from the format's declaration."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import polars as pl

from orion_beam.generator.times import Spelling

Spoil = Callable[[pl.Expr], pl.Expr]
"""Function that makes a bad text from a good one; null where the field is absent."""


@dataclass(frozen=True, eq=False)
class Rendering:
    """How to write one raw format.

    Attributes:
        fields: The format's fields, named as in `cdr.DecodedFields`.
        payload: Expression that makes the payload from columns of these names (text; null: absent).
        spellings: 64 spellings of event times, each equally likely, most of them the usual one. Empty: the format has
            no event time.
        event_type: Event type of all records, for a format that does not write it.
        is_json: Whether texts are JSON strings, so that quotes and control characters in them are escaped.
        widths: Width of each field, for a format of fixed width; no text may exceed it.
        decimal_mark: Mark before the fraction of a count.
        breakages: Ways of making a payload malformed that are specific to this format, by name.
    """

    fields: tuple[str, ...]
    payload: pl.Expr
    spellings: tuple[Spelling, ...]
    event_type: str | None = None
    is_json: bool = False
    widths: Mapping[str, int] = field(default_factory=dict)
    decimal_mark: str | None = None
    breakages: Mapping[str, Spoil] = field(default_factory=dict)

    @property
    def is_fixed_width(self) -> bool:
        """Whether each field has a fixed position and width."""
        return bool(self.widths)
