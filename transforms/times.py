"""Event times in columns: the spellings of `schemas.fields.parse_event_time`, one expression for each.

Texts are told apart by length, and each spelling's expression sees only its own: a batch holds a few spellings.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import polars as pl

from schemas.fields import FIRST_TIME, LAST_TIME

_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[0-9]{2}:[0-9]{2}:[0-5][0-9]"
_UTC = pl.Datetime("ms", "UTC")
_TEXT = pl.col("text")
_OFFSET = "(Z|[+-][0-9:]+)$"


@dataclass(frozen=True)
class _Spelling:
    """A way to write an instant.

    Attributes:
        pattern: what the text looks like.
        steps: expressions of `text` and of earlier steps, in a zone, the last one named `time` (null: no such instant).
            They are steps because polars computes an expression anew wherever it stands.
    """

    pattern: str
    steps: Callable[[str], tuple[tuple[pl.Expr, ...], ...]]


def _iso_utc(_: str) -> tuple[tuple[pl.Expr, ...], ...]:
    return ((_naive(_TEXT, "%Y-%m-%dT%H:%M:%SZ").dt.replace_time_zone("UTC").alias("time"),),)


def _iso(zone: str) -> tuple[tuple[pl.Expr, ...], ...]:
    """Read ISO 8601 piece by piece: parsing fraction and offset by a format costs five times as much."""
    rest, offset, moment = pl.col("rest"), pl.col("offset"), pl.col("moment")
    base = _naive(_TEXT.str.slice(0, 10) + "T" + _TEXT.str.slice(11, 8), "%Y-%m-%dT%H:%M:%S")
    fraction = rest.str.extract(r"^\.([0-9]{1,3})").fill_null("0").str.pad_end(3, "0").cast(pl.Int64)
    hours = offset.str.slice(1, 2).cast(pl.Int64, strict=False)
    minutes = offset.str.slice(-2).cast(pl.Int64, strict=False)
    east = ((hours * 60 + minutes) * 60_000).fill_null(0).cast(pl.Duration("ms"))
    shifted = pl.when(offset.str.starts_with("-")).then(moment + pl.col("east")).otherwise(moment - pl.col("east"))
    time = pl.when(offset.is_null()).then(_local(moment, zone)).otherwise(shifted.dt.replace_time_zone("UTC"))
    return (
        (base.alias("base"), _TEXT.str.slice(19).alias("rest")),
        (
            (pl.col("base") + fraction.cast(pl.Duration("ms"))).alias("moment"),
            rest.str.extract(_OFFSET).alias("offset"),
        ),
        (east.alias("east"),),
        (time.alias("time"),),
    )


def _basic(_: str) -> tuple[tuple[pl.Expr, ...], ...]:
    return ((_naive(_TEXT, "%Y%m%dT%H%M%SZ").dt.replace_time_zone("UTC").alias("time"),),)


def _compact(zone: str) -> tuple[tuple[pl.Expr, ...], ...]:
    return ((_local(_naive(_TEXT, "%Y%m%d%H%M%S"), zone).alias("time"),),)


def _epoch_seconds(_: str) -> tuple[tuple[pl.Expr, ...], ...]:
    return (((_TEXT.cast(pl.Int64, strict=False) * 1000).cast(_UTC).alias("time"),),)


def _epoch_millis(_: str) -> tuple[tuple[pl.Expr, ...], ...]:
    return ((_TEXT.cast(pl.Int64, strict=False).cast(_UTC).alias("time"),),)


_ISO_UTC = _Spelling(f"^{_DATE}T{_TIME}Z$", _iso_utc)
_ISO = _Spelling(rf"^{_DATE}[T ]{_TIME}(?:\.[0-9]{{1,9}})?(?:Z|[+-](?:0[0-9]|1[0-4]):?[0-5][0-9])?$", _iso)
_BASIC = _Spelling(r"^[0-9]{8}T[0-9]{4}[0-5][0-9]Z$", _basic)
_COMPACT = _Spelling(r"^[0-9]{12}[0-5][0-9]$", _compact)
_EPOCH_SECONDS = _Spelling(r"^[0-9]{9,10}$", _epoch_seconds)
_EPOCH_MILLIS = _Spelling(r"^[0-9]{12,13}$", _epoch_millis)

_SPELLINGS = (_ISO_UTC, _ISO, _BASIC, _COMPACT, _EPOCH_SECONDS, _EPOCH_MILLIS)
_BY_LENGTH = {9: _EPOCH_SECONDS, 10: _EPOCH_SECONDS, 12: _EPOCH_MILLIS, 13: _EPOCH_MILLIS, 14: _COMPACT, 16: _BASIC}
_LONGEST = 64


def _spelling_of_length() -> np.ndarray[tuple[int], np.dtype[np.int8]]:
    """Return for each length of text the index of the one spelling that it may have. ISO with 20 bytes ends in Z."""
    indices = np.full(_LONGEST + 1, _SPELLINGS.index(_ISO), np.int8)
    indices[20] = _SPELLINGS.index(_ISO_UTC)
    for length, spelling in _BY_LENGTH.items():
        indices[length] = _SPELLINGS.index(spelling)
    return indices


_INDEX_OF_LENGTH = _spelling_of_length()


def parse_event_times(texts: pl.Series, zone: str) -> pl.Series:
    """Return the instants that texts name, null where they name none.

    Args:
        texts: String; nulls stay null.
        zone: IANA zone of texts without an offset. Of an hour that comes twice the first counts.

    Returns:
        Datetime("ms", "UTC").
    """
    if texts.is_empty():
        return texts.cast(_UTC)
    lengths = texts.str.len_bytes().fill_null(0).to_numpy()
    indices = _INDEX_OF_LENGTH[np.minimum(lengths, _LONGEST)]
    present = np.unique(indices)
    if len(present) == 1:
        return _in_range(_read(texts, int(present[0]), zone))
    order = np.argsort(indices, kind="stable")
    grouped, sizes = texts[order], np.bincount(indices)
    starts = np.cumsum(sizes) - sizes
    times = [_read(grouped.slice(int(starts[index]), int(sizes[index])), int(index), zone) for index in present]
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return _in_range(pl.concat(times)[back])


def _read(texts: pl.Series, index: int, zone: str) -> pl.Series:
    frame = texts.to_frame("text")
    for step in _steps(index, zone):
        frame = frame.with_columns(step)
    times = frame.select(_SPELLED).to_series()
    if _SPELLINGS[index] is _ISO_UTC and times.null_count():
        # As long, but with a blank for the T: rare enough to be looked at only when something was not read.
        unread = np.flatnonzero(times.is_null().to_numpy())
        if texts[unread].str.contains(" ", literal=True).any():
            times = times.scatter(unread, _read(texts[unread], _SPELLINGS.index(_ISO), zone))
    return times


def _in_range(times: pl.Series) -> pl.Series:
    is_in_range = pl.col("time").is_between(FIRST_TIME, LAST_TIME)
    return times.to_frame("time").select(pl.when(is_in_range).then("time")).to_series()


@cache
def _steps(index: int, zone: str) -> tuple[tuple[pl.Expr, ...], ...]:
    spelling = _SPELLINGS[index]
    first, *others = spelling.steps(zone)
    return ((*first, _TEXT.str.contains(spelling.pattern).alias("is_spelled")), *others)


_SPELLED = pl.when(pl.col("is_spelled")).then("time")


def _naive(text: pl.Expr, spelling: str) -> pl.Expr:
    return text.str.to_datetime(spelling, time_unit="ms", strict=False)


def _local(moment: pl.Expr, zone: str) -> pl.Expr:
    return moment.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")
