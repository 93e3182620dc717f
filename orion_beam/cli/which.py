"""Which raw records a command is about: times with their zones, and offsets by country and partition."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from orion_beam.errors import UserError
from orion_beam.kafka.ranges import OffsetRange, SourcePartition, offset_ranges, offsets_at
from schemas.country import CountryProfile

_OFFSETS = re.compile(r"([A-Z]{2}):([0-9]+)=([0-9]+)-([0-9]+)")


def time_of(text: str, option: str) -> datetime:
    """Return the time that a text says, in UTC.

    Raises:
        UserError: it is no time, or has no zone.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"{option} {text} is no time: write it as 2026-01-01T00:00Z") from None
    if found.tzinfo is None:
        raise UserError(f"{option} {text} has no offset: say which zone, such as {text}Z or {text}+01:00")
    return found.astimezone(UTC)


def offsets_of(text: str, profiles: Mapping[str, CountryProfile]) -> dict[SourcePartition, OffsetRange]:
    """Return the ranges of `FR:0=100-2000,TN:3=0-10`, whose ends do not belong to them.

    Raises:
        UserError: something is written otherwise, an end is not behind its start, or a partition is there twice.
    """
    ranges: dict[SourcePartition, OffsetRange] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        found = _OFFSETS.fullmatch(part)
        if found is None or found[1] not in profiles:
            raise UserError(f"--offsets {part}: expected COUNTRY:PARTITION=FIRST-END, such as FR:0=100-2000")
        source = SourcePartition(profiles[found[1]].topic, int(found[2]))
        low, high = int(found[3]), int(found[4])
        if low >= high:
            raise UserError(f"--offsets {part}: {low} is not before {high}")
        if source in ranges:
            raise UserError(f"--offsets names {source} twice")
        ranges[source] = OffsetRange(low, high)
    return ranges


def held_offsets(
    bootstrap_servers: str, wanted: Mapping[SourcePartition, OffsetRange]
) -> dict[SourcePartition, OffsetRange]:
    """Check that partitions hold the offsets.

    Raises:
        UserError: one does not; says what it holds.
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
    """Return the offsets of what topics hold of `[start, end)`, by Kafka's timestamps; None has no bound.

    Raises:
        UserError: `start` is not before `end`.
        PrerequisiteError: the broker cannot be reached, or lacks a topic.
    """
    if start is not None and end is not None and start >= end:
        raise UserError(f"--from {start.isoformat()} is not before --to {end.isoformat()}")
    held = offset_ranges(bootstrap_servers, topics, committed_only=True)
    lows = {source: within.low for source, within in held.items()}
    highs = {source: within.high for source, within in held.items()}
    if start is not None:
        lows = offsets_at(bootstrap_servers, held, start)
    if end is not None:
        highs = offsets_at(bootstrap_servers, held, end)
    return {source: OffsetRange(lows[source], max(lows[source], highs[source])) for source in held}
