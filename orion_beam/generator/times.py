"""Event times as text, in every documented spelling, made from tables instead of row by row."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from orion_beam.generator.draws import Index

_DAY_S = 86_400
_QUARTER_S = 900


class Spelling(IntEnum):
    """How an event time is written; names with LOCAL have no offset from UTC."""

    ISO = 0
    ISO_MILLIS = 1
    ISO_OFFSET = 2
    ISO_SHORT_OFFSET = 3
    SPACE_LOCAL = 4
    BASIC = 5
    COMPACT_LOCAL = 6
    EPOCH_SECONDS = 7
    EPOCH_MILLIS = 8


@cache
def _offset_s(quarter: int, zone: ZoneInfo) -> int:
    """Return the zone's offset in seconds during one quarter of an hour since the epoch; it is constant within one."""
    offset = datetime.fromtimestamp(quarter * _QUARTER_S, zone).utcoffset()
    return int((offset or timedelta()).total_seconds())


def offsets_s(instants_s: Index, zone: ZoneInfo) -> Index:
    """Return the zone's offset from UTC in seconds at each instant (epoch seconds)."""
    if not len(instants_s):
        return instants_s
    quarters = instants_s // _QUARTER_S
    first, last = int(quarters.min()), int(quarters.max())
    table = np.array([_offset_s(quarter, zone) for quarter in range(first, last + 1)], dtype=np.int64)
    return table[quarters - first]


@cache
def _clock(separator: str) -> pl.Series:
    """Return the 86,400 times of a day as text."""
    return pl.Series(
        [f"{s // 3600:02}{separator}{s // 60 % 60:02}{separator}{s % 60:02}" for s in range(_DAY_S)], dtype=pl.String
    )


@cache
def _millis() -> pl.Series:
    return pl.Series([f".{ms:03}Z" for ms in range(1000)], dtype=pl.String)


def _dates(days: Index, pattern: str) -> pl.Series:
    first, last = int(days.min()), int(days.max())
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    table = [(epoch + timedelta(days=day)).strftime(pattern) for day in range(first, last + 1)]
    return pl.Series(table, dtype=pl.String).gather(pl.Series(days - first))


def _wall(seconds: Index, date_pattern: str, separator: str) -> pl.Series:
    return _dates(seconds // _DAY_S, date_pattern) + _clock(separator).gather(pl.Series(seconds % _DAY_S))


def _offset_texts(offsets: Index, separator: str) -> pl.Series:
    kinds, positions = np.unique(offsets, return_inverse=True)
    texts = [
        f"{'-' if offset < 0 else '+'}{abs(offset) // 3600:02}{separator}{abs(offset) // 60 % 60:02}"
        for offset in kinds.tolist()
    ]
    return pl.Series(texts, dtype=pl.String).gather(pl.Series(positions))


def _with_offset(instants_ms: Index, zone: ZoneInfo, separator: str) -> pl.Series:
    seconds = instants_ms // 1000
    offsets = offsets_s(seconds, zone)
    return _wall(seconds + offsets, "%Y-%m-%dT", ":") + _offset_texts(offsets, separator)


def _local(instants_ms: Index, zone: ZoneInfo, date_pattern: str, separator: str) -> pl.Series:
    seconds = instants_ms // 1000
    return _wall(seconds + offsets_s(seconds, zone), date_pattern, separator)


_SPELL: dict[Spelling, Callable[[Index, ZoneInfo], pl.Series]] = {
    Spelling.ISO: lambda ms, _: _wall(ms // 1000, "%Y-%m-%dT", ":") + "Z",
    Spelling.ISO_MILLIS: lambda ms, _: _wall(ms // 1000, "%Y-%m-%dT", ":") + _millis().gather(pl.Series(ms % 1000)),
    Spelling.ISO_OFFSET: lambda ms, zone: _with_offset(ms, zone, ":"),
    Spelling.ISO_SHORT_OFFSET: lambda ms, zone: _with_offset(ms, zone, ""),
    Spelling.SPACE_LOCAL: lambda ms, zone: _local(ms, zone, "%Y-%m-%d ", ":"),
    Spelling.BASIC: lambda ms, _: _wall(ms // 1000, "%Y%m%dT", "") + "Z",
    Spelling.COMPACT_LOCAL: lambda ms, zone: _local(ms, zone, "%Y%m%d", ""),
    Spelling.EPOCH_SECONDS: lambda ms, _: pl.Series(ms // 1000).cast(pl.String),
    Spelling.EPOCH_MILLIS: lambda ms, _: pl.Series(ms).cast(pl.String),
}


def spelled(instants_ms: Index, spellings: Index, zone: ZoneInfo) -> pl.Series:
    """Return instants as text, each in its own spelling.

    Args:
        instants_ms: Epoch milliseconds, best within a few weeks: the tables span from the first to the last.
        spellings: Values of `Spelling`, one per row.
        zone: Time zone of local times and offsets.
    """
    texts: list[pl.Series] = [pl.Series([], dtype=pl.String)]
    rows: list[Index] = [np.empty(0, dtype=np.int64)]
    for spelling, spell in _SPELL.items():
        chosen = np.flatnonzero(spellings == spelling).astype(np.int64)
        if len(chosen):
            texts.append(spell(instants_ms[chosen], zone))
            rows.append(chosen)
    return in_order(texts, rows)


def in_order(parts: list[pl.Series], rows: list[Index]) -> pl.Series:
    """Return the values of `parts` as one series, each at its place in `rows`, which together are 0, 1, 2 ..."""
    places = np.concatenate(rows)
    order = np.empty(len(places), dtype=np.int64)
    order[places] = np.arange(len(places))
    return pl.concat(parts).gather(pl.Series(order))


@cache
def last_gap(zone: ZoneInfo, year: int) -> datetime | None:
    """Return a local time within the last hour that clocks skipped before `year`, so that it never existed.

    Looks back ten years; None when the clocks skipped no hour in them.
    """
    for back in range(1, 11):
        first = datetime(year - back, 1, 1, tzinfo=zone)
        for days in range(366):
            today, tomorrow = first + timedelta(days=days), first + timedelta(days=days + 1)
            if (today.utcoffset() or timedelta()) < (tomorrow.utcoffset() or timedelta()):
                return _gap_within(today)
    return None


def _gap_within(day: datetime) -> datetime | None:
    """Return, without a zone, half past the first hour that the zone skips on a day; None when it skips none."""
    for hour in range(24):
        wall = day + timedelta(hours=hour, minutes=30)
        if wall.astimezone(UTC).astimezone(wall.tzinfo).replace(tzinfo=None) != wall.replace(tzinfo=None):
            return wall.replace(tzinfo=None)
    return None
