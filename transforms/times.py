"""Event times in columns: the spellings of `schemas.fields.parse_event_time`, one expression for each.

A batch usually holds one or two spellings; only the expressions of those that occur are evaluated.
"""

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[0-9]{2}:[0-9]{2}:[0-5][0-9]"
_UTC = pl.Datetime("ms", "UTC")


@dataclass(frozen=True)
class _Spelling:
    """A way to write an instant: what the text looks like, and how it is read (null: no such instant)."""

    pattern: str
    read: Callable[[pl.Series, str], pl.Series]


def _read_iso_utc(text: pl.Series, _: str) -> pl.Series:
    return _naive(text, "%Y-%m-%dT%H:%M:%SZ").dt.replace_time_zone("UTC")


def _read_iso(text: pl.Series, zone: str) -> pl.Series:
    """Read ISO 8601 piece by piece: parsing fraction and offset by a format costs five times as much."""
    base = _naive(text.str.slice(0, 10) + "T" + text.str.slice(11, 8), "%Y-%m-%dT%H:%M:%S")
    rest = text.str.slice(19)
    fraction = rest.str.extract(r"^\.([0-9]{1,3})").fill_null("0").str.pad_end(3, "0").cast(pl.Int64)
    moment = base + fraction.cast(pl.Duration("ms"))
    offset = rest.str.extract(r"(Z|[+-][0-9:]+)$")
    hours = offset.str.slice(1, 2).cast(pl.Int64, strict=False)
    minutes = offset.str.slice(-2).cast(pl.Int64, strict=False)
    shift = (hours * 60 + minutes) * 60_000
    signed = pl.select(pl.when(offset.str.starts_with("-")).then(-shift).otherwise(shift)).to_series()
    shifted = (moment - signed.fill_null(0).cast(pl.Duration("ms"))).dt.replace_time_zone("UTC")
    return pl.select(pl.when(offset.is_null()).then(_local(moment, zone)).otherwise(shifted)).to_series()


def _read_basic(text: pl.Series, _: str) -> pl.Series:
    return _naive(text, "%Y%m%dT%H%M%SZ").dt.replace_time_zone("UTC")


def _read_compact(text: pl.Series, zone: str) -> pl.Series:
    return _local(_naive(text, "%Y%m%d%H%M%S"), zone)


def _read_epoch_seconds(text: pl.Series, _: str) -> pl.Series:
    return (text.cast(pl.Int64, strict=False) * 1000).cast(_UTC)


def _read_epoch_millis(text: pl.Series, _: str) -> pl.Series:
    return text.cast(pl.Int64, strict=False).cast(_UTC)


_SPELLINGS = (
    _Spelling(f"^{_DATE}T{_TIME}Z$", _read_iso_utc),
    _Spelling(rf"^{_DATE}[T ]{_TIME}(?:\.[0-9]{{1,9}})?(?:Z|[+-](?:0[0-9]|1[0-4]):?[0-5][0-9])?$", _read_iso),
    _Spelling(r"^[0-9]{8}T[0-9]{4}[0-5][0-9]Z$", _read_basic),
    _Spelling(r"^[0-9]{12}[0-5][0-9]$", _read_compact),
    _Spelling(r"^[0-9]{9,10}$", _read_epoch_seconds),
    _Spelling(r"^[0-9]{12,13}$", _read_epoch_millis),
)


def parse_event_times(texts: pl.Series, zone: str) -> pl.Series:
    """Return the instants that texts name, null where they name none.

    Args:
        texts: String; nulls stay null.
        zone: IANA zone of texts without an offset. Of an hour that comes twice the first counts.

    Returns:
        Datetime("ms", "UTC").
    """
    times = pl.repeat(None, len(texts), dtype=_UTC, eager=True)
    pending = texts.is_not_null()
    for spelling in _SPELLINGS:
        if not pending.any():
            break
        is_spelled = texts.str.contains(spelling.pattern).fill_null(False) & pending
        if is_spelled.any():
            rows = is_spelled.arg_true()
            if len(rows) == len(texts):
                return _in_range(spelling.read(texts, zone))
            times = times.scatter(rows, spelling.read(texts.gather(rows), zone))
            pending &= ~is_spelled
    return _in_range(times)


def _naive(text: pl.Series, spelling: str) -> pl.Series:
    return text.str.to_datetime(spelling, time_unit="ms", strict=False)


def _local(moments: pl.Series, zone: str) -> pl.Series:
    return moments.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")


def _in_range(times: pl.Series) -> pl.Series:
    """Keep the years that a calendar of four digits has, as the row model does."""
    return pl.select(pl.when(times.dt.year().is_between(1, 9999)).then(times)).to_series()
