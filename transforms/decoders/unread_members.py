"""Members of records that no format knows and that look like usage: a feed whose names have changed loses its counts.

Unknown members are ignored, so such a feed would turn into CDRs of nulls without a word. Decoders of formats that name
their fields note the names that they do not know; `unread_usage` keeps those that look like usage. Names of other
members, which may hold anything, are never told to anybody.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from orion_beam.transforms.arrow.compiled import BYTES, INT64, INT64_ROWS, INT64S, Bytes, Offsets, compiled

MOST_NAMES = 32
"""Unknown names that are noted of one batch and format; others beyond are not looked at."""

_USAGE = re.compile(
    r"bytes|octets?|volume|traffic|up_?link|down_?link|up_?load|down_?load|duration|seconds|msg_?len|message_?(?:len|size)"
    r"|(?:^|[._])(?:up|down|ul|dl|tx|rx|secs?)(?:_|$)"
)
_NAME = re.compile(r"[A-Za-z_.]{1,40}")
"""What may be shown: a name that has digits may hold a subscriber's number."""


class UnreadMember(NamedTuple):
    """A member that looks like usage and was not read.

    Attributes:
        country: of the records.
        raw_format: their format.
        name: of the member, from the outside in, joined by `.`.
        records: how many have it.
    """

    country: str
    raw_format: str
    name: str
    records: int


def unread_usage(country: str, raw_format: str, unknown: Mapping[str, int]) -> tuple[UnreadMember, ...]:
    """Return which of some unknown names, with the records that have each, look like usage."""
    return tuple(
        UnreadMember(country, raw_format, name, records)
        for name, records in unknown.items()
        if _NAME.fullmatch(name) and _USAGE.search(name.lower())
    )


def names_of(
    data: Bytes, starts: Offsets, ends: Offsets, records: Offsets, outer: Iterable[str] = ()
) -> dict[str, int]:
    """Return the names that a compiled function has noted, and how many records have each.

    Args:
        data: the bytes that they stand in, UTF-8.
        starts: where each begins.
        ends: where it ends.
        records: how many records have it; the rest, from the first 0 on, is not used.
        outer: what stands before each.
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
    """Return which of the names noted so far some bytes are, `count` for none; for use in compiled functions."""
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
    """Return the distinct names of some, up to MOST_NAMES, and in how many records each is.

    Args:
        data: the bytes that they stand in.
        spans: of each name, where it begins and ends, within which object it is, and the record, ascending.

    Returns:
        Where each begins and ends, how many records have it, and within which object it is.
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
