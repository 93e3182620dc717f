"""Which dead letters are meant: one filter for all that the desk does."""

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
from orion_beam.schemas.codes import Code, Stage
from orion_beam.transforms.arrow.texts import Mask, is_in, lengths_of, mask_of
from orion_beam.transforms.stage.batches import filter_rows


@dataclass(frozen=True)
class LetterFilter:
    """What a dead letter must be like; an empty set, or None, means any.

    Attributes:
        codes: it breaks one of these rules, as the first or a later one.
        countries: of one of these.
        stages: one of these refused it.
        since: it failed then or later,
        until: and before then.
        offsets: where on the topic it lies, by partition; other partitions are left out.
    """

    codes: frozenset[Code] = frozenset()
    countries: frozenset[str] = frozenset()
    stages: frozenset[Stage] = frozenset()
    since: datetime | None = None
    until: datetime | None = None
    offsets: Mapping[int, OffsetRange] = field(default_factory=dict)

    def matches(self, letters: pa.RecordBatch) -> Mask:
        """Say which rows of `orion_beam.io.letter_headers.LETTER_SCHEMA` are meant; offsets are what is read at all."""
        mask = np.ones(letters.num_rows, np.bool_)
        if self.codes:
            mask &= break_one_of(letters, self.codes)
        if self.countries:
            mask &= is_in(letters.column("country"), pa.array(sorted(self.countries)))
        if self.stages:
            mask &= is_in(letters.column("stage"), pa.array([stage.value for stage in self.stages]))
        failed_at = letters.column("failed_at")
        if self.since is not None:
            mask &= mask_of(pc.greater_equal(failed_at, pa.scalar(self.since, failed_at.type)))
        if self.until is not None:
            mask &= mask_of(pc.less(failed_at, pa.scalar(self.until, failed_at.type)))
        return mask

    def described(self) -> dict[str, Any]:
        """Return it as JSON has it, without what is not given."""
        described: dict[str, Any] = {
            "codes": sorted(self.codes),
            "countries": sorted(self.countries),
            "stages": sorted(self.stages),
            "since": self.since and self.since.isoformat(),
            "until": self.until and self.until.isoformat(),
            "offsets": {str(partition): list(offsets) for partition, offsets in sorted(self.offsets.items())},
        }
        return {name: value for name, value in described.items() if value}


def break_one_of(letters: pa.RecordBatch, codes: Set[Code]) -> Mask:
    """Say which letters break one of these rules, as the first or a later one."""
    broken = letters.column("codes")
    is_meant = is_in(broken.flatten(), pa.array([code.value for code in codes]))
    rows = np.repeat(np.arange(letters.num_rows), lengths_of(broken))
    return np.bincount(rows[is_meant], minlength=letters.num_rows) > 0


@dataclass(frozen=True)
class Selection:
    """What is to be read: bounded by the ends that the partitions had when it was made.

    Attributes:
        bootstrap_servers: the brokers.
        topic: of the dead letters.
        filter: which of them.
        ranges: the offsets that may hold some.
    """

    bootstrap_servers: str
    topic: str
    filter: LetterFilter
    ranges: Mapping[SourcePartition, OffsetRange]

    @classmethod
    def of(cls, bootstrap_servers: str, topic: str, wanted: LetterFilter) -> "Selection":
        """Ask the broker what the topic holds now.

        Raises:
            PrerequisiteError: the broker cannot be reached, or lacks the topic.
        """
        ranges = offset_ranges(bootstrap_servers, [topic], committed_only=True)
        if wanted.since is not None:
            # A letter is written after it failed: none that lies before the first one written since then is meant.
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
        """How many offsets are to be read."""
        return sum(held.offsets for held in self.ranges.values())

    def read(self, advance: Advance | None = None, *, follow: bool = False) -> Iterator[ReadLetters]:
        """Yield the letters that are meant, and, whatever the filter, the foreign messages beside them.

        Letters of a partition come in order.

        Args:
            advance: told how many offsets further it is.
            follow: read the records of letters by reference from their raw topics, see `orion_beam.dlq.references`.

        Raises:
            PrerequisiteError: the broker hands out no more.
        """
        for messages in read_ranges(self.bootstrap_servers, self.ranges, committed_only=True, advance=advance):
            letters, foreign = letters_of(messages)
            letters = filter_rows(letters, self.filter.matches(letters))
            for part in followed(self.bootstrap_servers, letters) if follow else [letters]:
                yield ReadLetters(part, foreign)
                foreign = foreign.slice(0, 0)
