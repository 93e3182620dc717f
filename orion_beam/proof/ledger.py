"""Ledger of the offsets of a source partition, in roaring bitmaps: an offset takes two bits at most."""

import array
from collections.abc import Iterable, Iterator

import numpy as np
from pyroaring import BitMap64

from orion_beam.kafka.offset_ranges import OffsetRange
from orion_beam.transforms.arrow.compiled import Offsets

_WINDOW_OFFSETS = 1 << 20


def bitmap_of(offsets: Offsets) -> BitMap64:
    """Return offsets as a bitmap."""
    # An array of the bitmap's own type is by far the fastest input.
    return BitMap64(array.array("Q", offsets.astype(np.uint64).tobytes()))


def bitmap_of_range(offsets: OffsetRange) -> BitMap64:
    """Return the offsets of a range as a bitmap."""
    bitmap = BitMap64()
    bitmap.add_range(offsets.low, offsets.high)
    return bitmap


def maximal_ranges(bitmap: BitMap64) -> Iterator[OffsetRange]:
    """Yield the maximal ranges of a bitmap of any size, in ascending order."""
    return merge_near(_runs_by_window(bitmap), gap=1)


def merge_near(ranges: Iterable[OffsetRange], gap: int) -> Iterator[OffsetRange]:
    """Join ascending ranges that overlap, or that have fewer than `gap` offsets between them."""
    pending: OffsetRange | None = None
    for run in ranges:
        if pending is not None and run.low - pending.high < gap:
            pending = OffsetRange(pending.low, max(pending.high, run.high))
            continue
        if pending is not None:
            yield pending
        pending = run
    if pending is not None:
        yield pending


def _runs_by_window(bitmap: BitMap64) -> Iterator[OffsetRange]:
    """Yield the ranges of a bitmap in ascending order, cut at the ends of windows of _WINDOW_OFFSETS."""
    if not bitmap:
        return
    for low in range(bitmap.min(), bitmap.max() + 1, _WINDOW_OFFSETS):
        window = bitmap_of_range(OffsetRange(low, low + _WINDOW_OFFSETS)) & bitmap
        offsets = np.frombuffer(window.to_array(), np.uint64).astype(np.int64)
        if not len(offsets):
            continue
        cuts = np.flatnonzero(np.diff(offsets) != 1)
        lows = offsets[np.concatenate([[0], cuts + 1])].tolist()
        highs = (offsets[np.concatenate([cuts, [-1]])] + 1).tolist()
        yield from map(OffsetRange, lows, highs)


class Ledger:
    """Offsets of one source partition that have come out, by output topic.

    Attributes:
        final: Offsets that have come out on cdr.final.
        dead_letters: Offsets that have come out on cdr.dlq.
        duplicates: Number of records that have come out again on the same topic.
    """

    def __init__(self) -> None:
        """Create an empty ledger."""
        self.final = BitMap64()
        self.dead_letters = BitMap64()
        self.duplicates = 0

    @property
    def accounted(self) -> int:
        """Number of offsets that have come out."""
        return self.final.union_cardinality(self.dead_letters)

    def mark_final(self, offsets: Offsets) -> None:
        """Enter the source offsets of records on cdr.final."""
        self._mark(self.final, offsets)

    def mark_dead_letters(self, offsets: Offsets) -> None:
        """Enter the source offsets of records on cdr.dlq."""
        self._mark(self.dead_letters, offsets)

    def add(self, other: "Ledger") -> None:
        """Add the ledger of other partitions of the output topics."""
        self.duplicates += other.duplicates
        self._join(self.final, other.final)
        self._join(self.dead_letters, other.dead_letters)

    def _mark(self, seen: BitMap64, offsets: Offsets) -> None:
        new = bitmap_of(offsets)
        self.duplicates += len(offsets) - len(new)
        self._join(seen, new)

    def _join(self, seen: BitMap64, new: BitMap64) -> None:
        self.duplicates += new.intersection_cardinality(seen)
        seen |= new
