"""Options that choose raw records: times with their zones, and offsets by country and partition."""

import logging
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from orion_beam.cli.shared.late import late_imports
from orion_beam.cli.shared.options import parse_list
from orion_beam.errors import UserError
from orion_beam.telemetry.logs import say

with late_imports():
    from orion_beam.kafka.offset_ranges import (
        OffsetRange,
        SourcePartition,
        early_end,
        ends_ahead_of_now,
        offset_ranges,
        offsets_between,
    )
    from orion_beam.schemas.country import CountryProfile

_OFFSETS = re.compile(r"([A-Z]{2}):([0-9]{1,9})=([0-9]{1,18})-([0-9]{1,18})")


def time_of(text: str, option: str) -> datetime:
    """Parse a time and return it in UTC.

    Raises:
        UserError: the text is no time, or has no zone.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"{option} {text} is no time: write it as 2026-01-01T00:00Z") from None
    if found.tzinfo is None:
        raise UserError(f"{option} {text} has no offset: say which zone, such as {text}Z or {text}+01:00")
    try:
        return found.astimezone(UTC)
    except OverflowError:
        raise UserError(f"{option} {text} is no time: in UTC it is of no year from 1 to 9999") from None


def range_of(text: str) -> tuple[str, int, OffsetRange]:
    """Return country, partition and range of a text such as `FR:0=100-2000`; the end is excluded.

    Raises:
        UserError: the text has another form, or the end is not after the start.
    """
    found = _OFFSETS.fullmatch(text)
    if found is None:
        raise UserError(f"--offsets {text}: expected COUNTRY:PARTITION=FIRST-END, such as FR:0=100-2000")
    low, high = int(found[3]), int(found[4])
    if low >= high:
        raise UserError(f"--offsets {text}: {low} is not before {high}")
    return found[1], int(found[2]), OffsetRange(low, high)


def offsets_by_partition(text: str, profiles: Mapping[str, CountryProfile]) -> dict[SourcePartition, OffsetRange]:
    """Return the ranges of a text such as `FR:0=100-2000,TN:3=0-10`; see `range_of`.

    Raises:
        UserError: a part is no range, its country is unknown, or a partition is named twice.
    """
    ranges: dict[SourcePartition, OffsetRange] = {}
    for part in parse_list(text):
        country, partition, offsets = range_of(part)
        if country not in profiles:
            raise UserError(f"--offsets {part}: expected COUNTRY:PARTITION=FIRST-END, such as FR:0=100-2000")
        source = SourcePartition(profiles[country].topic, partition)
        if source in ranges:
            raise UserError(f"--offsets names {source} twice")
        ranges[source] = offsets
    return ranges


def held_offsets(
    bootstrap_servers: str, wanted: Mapping[SourcePartition, OffsetRange]
) -> dict[SourcePartition, OffsetRange]:
    """Check that partitions hold all wanted offsets, and return these.

    Raises:
        UserError: a partition does not hold them. The message says what it holds.
        PrerequisiteError: the broker cannot be reached, or lacks a topic.
    """
    held = offset_ranges(bootstrap_servers, {source.topic for source in wanted}, committed_only=True)
    for source, offsets in wanted.items():
        if source not in held:
            raise UserError(f"there is no partition {source}")
        low, high = held[source]
        if offsets.low < low or offsets.high > high:
            raise UserError(f"{source} holds offsets {low}-{high}, and not all of {offsets.low}-{offsets.high}")
    return dict(wanted)


def held_between(
    bootstrap_servers: str, topics: Iterable[str], start: datetime | None, end: datetime | None
) -> dict[SourcePartition, OffsetRange]:
    """Return the offsets of records that topics hold of `[start, end)`, by Kafka timestamps; None: no bound.

    Warns when a timestamp ahead of the present ends a range too early.

    Raises:
        UserError: `start` is not before `end`.
        PrerequisiteError: the broker cannot be reached, or lacks a topic.
    """
    if start is not None and end is not None and start >= end:
        raise UserError(f"--from {start.isoformat()} is not before --to {end.isoformat()}")
    held = offset_ranges(bootstrap_servers, topics, committed_only=True)
    ranges = offsets_between(bootstrap_servers, held, start, end)
    for source, timestamp in ends_ahead_of_now(bootstrap_servers, held, ranges).items():
        say(f"warning: {early_end(source, ranges[source].high, timestamp)}", logging.WARNING)
    return ranges
