"""Search of topics for all records of some subscribers, for requests that data protection law gives them.

It compares bytes and decodes nothing, so it also finds a number in a record that no decoder reads.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orion_beam.kafka.offset_ranges import Advance, OffsetRange, SourcePartition, read_ranges
from orion_beam.schemas.country import CountryProfile
from orion_beam.transforms.arrow.texts import Mask, lengths_of, mask_of

_NUMBERS_AT_ONCE = 200
"""Numbers in one regular expression. RE2 gets slow when its automaton outgrows its memory."""


@dataclass(frozen=True)
class SubscriberNumber:
    """A number to search for.

    Attributes:
        file: Kind of the number, and of the file that it is from: `imsi` or `msisdn`.
        line: Line of the file, from 1. Output names the number by it.
        digits: The digits; of an MSISDN those of the international number.
        national: Digits of an MSISDN without its calling code, for records with national numbers; None for others.
        trunk_prefix: Digit that may stand before `national`; empty if the country has none.
    """

    file: str
    line: int
    digits: str
    national: str | None = None
    trunk_prefix: str = ""

    @property
    def pattern(self) -> str:
        """Regular expression for the number in a record, in the syntax that RE2 and Python share."""
        if self.national is None:
            return self.digits
        # Fifteen digits may stand before it: in a record of fixed width, the IMSI does.
        prefix = f"{self.trunk_prefix}?" if self.trunk_prefix else ""
        return f"{self.digits}|(?:^|[^0-9]|[0-9]{{15}}){prefix}{self.national}(?:[^0-9]|$)"


@dataclass
class FoundRecords:
    """Records of a subscriber in a partition.

    Attributes:
        first: Offset of the first record; `last` is that of the last.
        newest: Largest Kafka timestamp; None if no record has one.
    """

    records: int
    first: int
    last: int
    newest: datetime | None


class NumberPlace(NamedTuple):
    """A subscriber's number and a partition."""

    number: SubscriberNumber
    partition: SourcePartition


def msisdn_of(line: int, digits: str, profiles: Iterable[CountryProfile]) -> SubscriberNumber:
    """Return an MSISDN with its national form, which the profile of its country gives.

    Args:
        line: Line of the file.
        digits: Digits of the international number, calling code first.
        profiles: Profiles of the countries.
    """
    for profile in profiles:
        if digits.startswith(profile.calling_code):
            national = digits.removeprefix(profile.calling_code)
            return SubscriberNumber("msisdn", line, digits, national, profile.trunk_prefix or "")
    return SubscriberNumber("msisdn", line, digits)


class NumberSearch:
    """Search of batches for numbers.

    Args:
        numbers: The numbers.
    """

    def __init__(self, numbers: Sequence[SubscriberNumber]) -> None:
        """Take the numbers."""
        self._numbers = numbers

    @cached_property
    def _patterns(self) -> list[tuple[str, Sequence[SubscriberNumber]]]:
        parts = [
            self._numbers[start : start + _NUMBERS_AT_ONCE] for start in range(0, len(self._numbers), _NUMBERS_AT_ONCE)
        ]
        return [("|".join(f"(?:{number.pattern})" for number in part), part) for part in parts]

    def rows_with(self, batch: pa.RecordBatch) -> Iterator[tuple[SubscriberNumber, Mask]]:
        """Yield each number that records hold in key, value or a header, and which records do.

        Args:
            batch: Rows of `raw.RAW_MESSAGE_SCHEMA`.
        """
        for pattern, numbers in self._patterns:
            rows = np.flatnonzero(_rows_that_match(batch, pattern))
            if not len(rows):
                continue
            # Few rows match, so each number may have a pass of its own over them.
            found = batch.take(pa.array(rows))
            for number in numbers:
                is_there = _rows_that_match(found, number.pattern)
                if is_there.any():
                    mask = np.zeros(batch.num_rows, np.bool_)
                    mask[rows[is_there]] = True
                    yield number, mask


def _rows_that_match(batch: pa.RecordBatch, pattern: str) -> Mask:
    is_there: Mask = np.zeros(batch.num_rows, np.bool_)
    for name in ("raw_key", "raw_value"):
        is_there |= mask_of(pc.match_substring_regex(batch.column(name), pattern).fill_null(False))
    headers = batch.column("raw_headers")
    values = headers.flatten().field("value")
    if len(values):
        rows = np.repeat(np.arange(batch.num_rows), lengths_of(headers))
        is_there[rows[mask_of(pc.match_substring_regex(values, pattern).fill_null(False))]] = True
    return is_there


def find_subscribers(
    bootstrap_servers: str,
    ranges: Mapping[SourcePartition, OffsetRange],
    numbers: Sequence[SubscriberNumber],
    advance: Advance,
) -> dict[NumberPlace, FoundRecords]:
    """Read offsets, and return where records of the numbers lie.

    Records of aborted transactions count: they lie on the topic as well.

    Args:
        bootstrap_servers: Brokers, `host:port,…`.
        ranges: Offsets to read.
        numbers: Numbers to search for.
        advance: Called with the number of offsets by which the read has advanced.
    """
    found: dict[NumberPlace, FoundRecords] = {}
    search = NumberSearch(numbers)
    for batch in read_ranges(bootstrap_servers, ranges, advance=advance):
        topic = batch.column("source_topic")[0].as_py()
        partitions = batch.column("source_partition").to_numpy()
        for number, is_there in search.rows_with(batch):
            for partition in np.unique(partitions[is_there]).tolist():
                rows = batch.filter(pa.array(is_there & (partitions == partition)))
                _add(found, NumberPlace(number, SourcePartition(topic, partition)), rows)
    return found


def _add(found: dict[NumberPlace, FoundRecords], place: NumberPlace, rows: pa.RecordBatch) -> None:
    offsets = rows.column("source_offset")
    first, last = offsets[0].as_py(), offsets[-1].as_py()
    newest = pc.max(rows.column("source_timestamp")).as_py()
    known = found.get(place)
    if known is None:
        found[place] = FoundRecords(rows.num_rows, first, last, newest)
        return
    known.records += rows.num_rows
    known.last = last
    known.newest = max(filter(None, (known.newest, newest)), default=None)
