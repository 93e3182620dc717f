"""Filter and selection of dead letters, shared by all commands of the desk."""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orion_beam.dlq.references import followed
from orion_beam.io.letter_headers import ReadLetters, letters_of
from orion_beam.kafka.offset_ranges import (
    Advance,
    OffsetRange,
    SourcePartition,
    offset_ranges,
    offsets_at,
    read_ranges,
)
from orion_beam.transforms.arrow.texts import Mask, is_in, lengths_of, mask_of
from orion_beam.transforms.stage.batches import filter_rows


@dataclass(frozen=True)
class LetterFilter:
    """Conditions that a dead letter must meet. An empty set, or None, means no condition.

    Attributes:
        codes: Codes of which the letter has at least one, not only as its first.
        countries: Countries of which the letter has one.
        stages: Stages of which one has rejected the record.
        since: Earliest time of the failure.
        until: Time before which the record failed.
        offsets: Offsets of the letter on its topic, by partition; letters of other partitions do not match.
    """

    codes: frozenset[str] = frozenset()
    countries: frozenset[str] = frozenset()
    stages: frozenset[str] = frozenset()
    since: datetime | None = None
    until: datetime | None = None
    offsets: Mapping[int, OffsetRange] = field(default_factory=dict)

    def matches(self, letters: pa.RecordBatch) -> Mask:
        """Return which rows of `orion_beam.io.letter_headers.LETTER_SCHEMA` match; the reader checks `offsets`."""
        mask = np.ones(letters.num_rows, np.bool_)
        if self.codes:
            mask &= break_one_of(letters, self.codes)
        if self.countries:
            mask &= is_in(letters.column("country"), pa.array(sorted(self.countries)))
        if self.stages:
            mask &= is_in(letters.column("stage"), pa.array(sorted(self.stages)))
        failed_at = letters.column("failed_at")
        if self.since is not None:
            mask &= mask_of(pc.greater_equal(failed_at, pa.scalar(self.since, failed_at.type)))
        if self.until is not None:
            mask &= mask_of(pc.less(failed_at, pa.scalar(self.until, failed_at.type)))
        return mask

    def described(self) -> dict[str, Any]:
        """Return the given conditions in JSON's types."""
        described: dict[str, Any] = {
            "codes": sorted(self.codes),
            "countries": sorted(self.countries),
            "stages": sorted(self.stages),
            "since": self.since and self.since.isoformat(),
            "until": self.until and self.until.isoformat(),
            "offsets": {str(partition): list(offsets) for partition, offsets in sorted(self.offsets.items())},
        }
        return {name: value for name, value in described.items() if value}


def break_one_of(letters: pa.RecordBatch, codes: Set[str]) -> Mask:
    """Return which letters have at least one of these codes, not only as their first."""
    broken = letters.column("codes")
    is_meant = is_in(broken.flatten(), pa.array(sorted(codes), pa.string()))
    rows = np.repeat(np.arange(letters.num_rows), lengths_of(broken))
    return np.bincount(rows[is_meant], minlength=letters.num_rows) > 0


@dataclass(frozen=True)
class Selection:
    """Dead letters of a topic to read, up to the ends that its partitions had when the selection was made.

    Attributes:
        bootstrap_servers: Brokers, `host:port,…`.
        topic: Topic of the dead letters.
        filter: Filter that letters must match.
        ranges: Offsets that may hold matching letters.
    """

    bootstrap_servers: str
    topic: str
    filter: LetterFilter
    ranges: Mapping[SourcePartition, OffsetRange]

    @classmethod
    def of(cls, bootstrap_servers: str, topic: str, wanted: LetterFilter) -> "Selection":
        """Ask the broker for the present offsets of the topic, and narrow them by the filter.

        Raises:
            PrerequisiteError: The broker cannot be reached, or lacks the topic.
        """
        ranges = offset_ranges(bootstrap_servers, [topic], committed_only=True)
        if wanted.since is not None:
            # A letter is written after its record failed, so no letter written before `since` can match.
            starts = offsets_at(bootstrap_servers, ranges, wanted.since)
            ranges = {part: OffsetRange(starts[part], held.high) for part, held in ranges.items()}
        if wanted.offsets:
            ranges = {
                part: OffsetRange(max(held.low, asked.low), min(held.high, asked.high))
                for part, held in ranges.items()
                if (asked := wanted.offsets.get(part.partition)) is not None
            }
        return cls(bootstrap_servers, topic, wanted, {p: held for p, held in ranges.items() if held.low < held.high})

    @property
    def offsets(self) -> int:
        """Number of offsets to read."""
        return sum(held.offsets for held in self.ranges.values())

    def read(self, advance: Advance | None = None, *, follow: bool = False) -> Iterator[ReadLetters]:
        """Yield the letters that match, and all foreign messages in the ranges. Letters of a partition are in order.

        Args:
            advance: Called with the number of offsets by which the read has advanced.
            follow: Whether to read the records of letters by reference from their raw topics, see
                `orion_beam.dlq.references`.

        Raises:
            PrerequisiteError: The broker stops handing out records.
        """
        for messages in read_ranges(self.bootstrap_servers, self.ranges, committed_only=True, advance=advance):
            letters, foreign = letters_of(messages)
            letters = filter_rows(letters, self.filter.matches(letters))
            for part in followed(self.bootstrap_servers, letters) if follow else [letters]:
                yield ReadLetters(part, foreign)
                foreign = foreign.slice(0, 0)
