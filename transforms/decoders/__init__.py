"""The decoders, one file a raw format: each claims the payloads of its format and turns them into columns of text."""

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from schemas.raw import RawFormat


@dataclass(frozen=True)
class Decoder:
    """How to tell and read one raw format.

    Attributes:
        format: the format's name.
        claims: expression over the columns `text` (payloads as text, without BOM and trailing blanks) and `raw_value`
            (as they came): is it mine?
        decode: turns the payloads that were claimed, in order, into a frame of the same height: columns of
            `schemas.cdr.DecodedFields` as text (those it has; blanks are trimmed later), and `is_malformed`
            (boolean, no nulls) for payloads that are not of the format after all. A column `raw_format` says where a
            payload turned out to be of another format.
        column_names: the line that a file of this format may begin with, if there is one.
    """

    format: RawFormat
    claims: pl.Expr
    decode: Callable[[pl.Series], pl.DataFrame]
    column_names: str | None = None
