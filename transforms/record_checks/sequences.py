"""NodeSequence: finds missing local sequence numbers of one node, in whatever order they arrive.

3GPP TS 32.298: a node numbers its records consecutively, from 0 to 2^32 - 1 and then from 0 again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from orion_beam.transforms.arrow.texts import Mask
from orion_beam.transforms.record_checks.number_ranges import (
    NO_RANGES,
    NumberRanges,
    gaps_of,
    intersect_ranges,
    merge_ranges,
    subtract_ranges,
)

MODULUS = 2**32
MAX_JUMP = 1_000_000
"""Largest distance of a number from the others of its node. If it is further away, the node's counter was reset."""

MAX_EPOCHS = 4
MAX_RANGES = 10_000
"""Bounds of the memory of a node. Beyond them the oldest part is settled, see NodeSequence."""

MISSING, FILLED, RESET = "missing", "filled", "reset"


class SequenceFinding(NamedTuple):
    """A finding about a node's numbers.

    Attributes:
        kind: MISSING; FILLED: numbers that were reported missing arrived later; RESET: the counter has jumped.
        first: First number of the gap; for RESET, the highest number before the jump.
        last: Last number of the gap; for RESET, the number after the jump.
    """

    kind: str
    first: int
    last: int

    @property
    def records(self) -> int:
        """Number of sequence numbers in the gap, which may wrap around; 0 for RESET."""
        return 0 if self.kind == RESET else (self.last - self.first) % MODULUS + 1


@dataclass
class _Epoch:
    """The numbers between two resets. After a wrap-around they are counted on beyond 2^32, in the same epoch."""

    seen: NumberRanges
    is_first: bool
    noticed: NumberRanges = field(default_factory=lambda: NO_RANGES)
    reported: NumberRanges = field(default_factory=lambda: NO_RANGES)

    def counted_on(self, ranges: NumberRanges) -> NumberRanges:
        """Return ranges of wrapping numbers as the counted-on numbers that are nearest to the highest one seen."""
        highest = self.seen[-1, 1]
        steps = (ranges[:, 0] - highest + MODULUS // 2) % MODULUS - MODULUS // 2
        counted: NumberRanges = ranges + (highest + steps - ranges[:, 0])[:, np.newaxis]
        return counted

    def counted_on_if_near(self, number: int) -> int:
        """Return a number as `counted_on` does. For a number that is a jump away, return the lowest one seen."""
        counted = self.counted_on(np.array([[number, number]]))
        return int(counted[0, 0]) if self.is_near(counted)[0] else int(self.seen[0, 0])

    def is_near(self, ranges: NumberRanges) -> Mask:
        """Return which ranges are not a jump away from the numbers seen."""
        is_near: Mask = (ranges[:, 1] >= self.seen[0, 0] - MAX_JUMP) & (ranges[:, 0] <= self.seen[-1, 1] + MAX_JUMP)
        return is_near


class NodeSequence:
    """The numbers of one node: a few epochs, each with the ranges of numbers seen.

    A gap is reported only if it is open at two calls of `settle`. Until then its numbers may still arrive from another
    partition. Numbers that arrive after the report are reported as filled. Memory is bounded by MAX_EPOCHS and
    MAX_RANGES: beyond them the oldest gaps are reported at once.
    """

    def __init__(self, is_complete: bool) -> None:
        """Begin without numbers. `is_complete` says that the input has all records of the node from its first one on.

        A stream is not complete: records with numbers below the first one of any partition may be older than its start.
        """
        self._is_complete = is_complete
        self._firsts: dict[str, int] = {}
        self._epochs: list[_Epoch] = []

    def add(self, ranges: NumberRanges, firsts: Mapping[str, int]) -> Iterator[SequenceFinding]:
        """Add numbers that were seen, in any order, and yield what they show.

        Args:
            ranges: Ranges of numbers from 0 to MODULUS - 1.
            firsts: First number by partition. It is ignored for partitions that are already known.
        """
        rest = ranges
        for epoch in reversed(self._epochs):
            counted = epoch.counted_on(rest)
            is_near = epoch.is_near(counted)
            if is_near.any():
                yield from self._extend(epoch, merge_ranges(counted[is_near]))
                rest = rest[~is_near]
        while len(rest):
            is_first = not self._epochs
            if not is_first:
                yield SequenceFinding(RESET, int(self._epochs[-1].seen[-1, 1]) % MODULUS, int(rest[0, 0]))
            epoch = _Epoch(rest[:1], is_first)
            counted = epoch.counted_on(rest)
            is_near = epoch.is_near(counted)
            epoch.seen = merge_ranges(counted[is_near])
            self._epochs.append(epoch)
            rest = rest[~is_near]
        if self._epochs[0].is_first:
            for source, number in firsts.items():
                self._firsts.setdefault(source, self._epochs[0].counted_on_if_near(number))
        while len(self._epochs) > MAX_EPOCHS:
            yield from self._report(self._epochs[0], self._gaps(self._epochs[0]))
            del self._epochs[0]

    def settle(self) -> Iterator[SequenceFinding]:
        """Report the gaps that were already open at the last call, and remember the others for the next one."""
        for epoch in self._epochs:
            gaps = self._gaps(epoch)
            yield from self._report(epoch, intersect_ranges(gaps, epoch.noticed))
            epoch.noticed = gaps[-MAX_RANGES:]

    def close(self) -> Iterator[SequenceFinding]:
        """Report all gaps, because no more numbers will arrive."""
        for epoch in self._epochs:
            yield from self._report(epoch, self._gaps(epoch))

    def _extend(self, epoch: _Epoch, ranges: NumberRanges) -> Iterator[SequenceFinding]:
        epoch.seen = merge_ranges(np.vstack([epoch.seen, ranges]))
        filled = intersect_ranges(ranges, epoch.reported)
        yield from _findings(FILLED, filled)
        epoch.reported = subtract_ranges(epoch.reported, filled)
        if len(epoch.seen) > MAX_RANGES:
            settled = epoch.seen[: MAX_RANGES // 2]
            yield from self._report(
                epoch, intersect_ranges(self._gaps(epoch), np.array([[settled[0, 0], settled[-1, 1]]]))
            )
            epoch.seen = merge_ranges(np.vstack([[[settled[0, 0], settled[-1, 1]]], epoch.seen[MAX_RANGES // 2 :]]))

    def _gaps(self, epoch: _Epoch) -> NumberRanges:
        gaps = gaps_of(epoch.seen)
        if self._is_complete or not epoch.is_first or not self._firsts:
            return gaps
        return intersect_ranges(gaps, np.array([[max(self._firsts.values()), np.iinfo(np.int64).max]]))

    def _report(self, epoch: _Epoch, gaps: NumberRanges) -> Iterator[SequenceFinding]:
        new = subtract_ranges(gaps, epoch.reported)
        yield from _findings(MISSING, new)
        epoch.reported = merge_ranges(np.vstack([epoch.reported, new]))[-MAX_RANGES:]


def _findings(kind: str, ranges: NumberRanges) -> Iterator[SequenceFinding]:
    for first, last in ranges.tolist():
        yield SequenceFinding(kind, first % MODULUS, last % MODULUS)
