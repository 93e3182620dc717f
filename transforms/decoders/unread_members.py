"""Detection of unknown members that look like usage. They show that a feed has changed the names of its counts.

Decoders ignore unknown members, so such a feed would silently give CDRs with null counts. The decoders of formats with
named fields therefore collect unknown names, and `unread_usage` keeps those that look like usage. All other names may
hold personal data and are never shown.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from orion_beam.transforms.arrow.compiled import BYTES, INT64, INT64_ROWS, INT64S, Bytes, Offsets, compiled

MOST_NAMES = 32
"""Largest number of unknown names that are collected for one batch and format. Further names are ignored."""

_USAGE = re.compile(
    r"bytes|octets?|volume|traffic|up_?link|down_?link|up_?load|down_?load|duration|seconds|msg_?len|message_?(?:len|size)"
    r"|(?:^|[._])(?:up|down|ul|dl|tx|rx|secs?)(?:_|$)"
)
_NAME = re.compile(r"[A-Za-z_.]{1,40}")
"""Names that may be shown. A name with digits may hold a subscriber's number."""


class UnreadMember(NamedTuple):
    """A member that looks like usage and was not read.

    Attributes:
        country: Country of the records.
        raw_format: Format of the records.
        name: Path of the member: names from the outside in, joined by `.`.
        records: Number of records with the member.
    """

    country: str
    raw_format: str
    name: str
    records: int


def unread_usage(country: str, raw_format: str, unknown: Mapping[str, int]) -> tuple[UnreadMember, ...]:
    """Return the unknown names that look like usage. `unknown` is the number of records by name."""
    return tuple(
        UnreadMember(country, raw_format, name, records)
        for name, records in unknown.items()
        if _NAME.fullmatch(name) and _USAGE.search(name.lower())
    )


def names_of(
    data: Bytes, starts: Offsets, ends: Offsets, records: Offsets, outer: Iterable[str] = ()
) -> dict[str, int]:
    """Return the number of records by name, for the names that a compiled function has collected.

    Args:
        data: Bytes that contain the names, UTF-8.
        starts: Start of each name in `data`.
        ends: End of each name.
        records: Number of records with the name; 0 for an unused entry.
        outer: Prefix of each name.
    """
    before = list(outer) or [""] * len(starts)
    return {
        before[place] + data[starts[place] : ends[place]].tobytes().decode(errors="replace"): int(records[place])
        for place in range(len(starts))
        if records[place]
    }


@compiled(BYTES, INT64, INT64, INT64, INT64S, INT64S, INT64S, INT64)
def place_of_name(
    data: Bytes, start: int, end: int, within: int, starts: Offsets, ends: Offsets, outer: Offsets, count: int
) -> int:
    """Return the index of the name data[start:end] in object `within` among the `count` names collected so far.

    Return `count` if it is a new name. For use in compiled functions.
    """
    for name in range(count):
        if outer[name] == within and ends[name] - starts[name] == end - start:
            same = 0
            while same < end - start and data[starts[name] + same] == data[start + same]:
                same += 1
            if same == end - start:
                return name
    return count


@compiled(BYTES, INT64_ROWS)
def distinct_names(data: Bytes, spans: Offsets) -> tuple[Offsets, Offsets, Offsets, Offsets]:
    """Return the distinct names among some, at most MOST_NAMES, and the number of records with each.

    Args:
        data: Bytes that contain the names.
        spans: For each name a row of start, end, object and record. Records must ascend.

    Returns:
        For each distinct name its start, its end, its number of records, and its object.
    """
    starts, ends = np.zeros(MOST_NAMES, np.int64), np.zeros(MOST_NAMES, np.int64)
    records, outer = np.zeros(MOST_NAMES, np.int64), np.zeros(MOST_NAMES, np.int64)
    last_record, count = np.full(MOST_NAMES, -1, np.int64), 0
    for span in range(len(spans)):
        start, end, within, record = spans[span]
        place = place_of_name(data, start, end, within, starts, ends, outer, count)
        if place < MOST_NAMES and last_record[place] != record:
            starts[place], ends[place], outer[place], last_record[place] = start, end, within, record
            records[place] += 1
            count = max(count, place + 1)
    return starts, ends, records, outer
