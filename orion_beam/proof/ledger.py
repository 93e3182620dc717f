"""What became of the offsets of a source partition, in roaring bitmaps: an offset takes a bit or two at most."""

import array
from collections.abc import Iterable, Iterator

import numpy as np
from pyroaring import BitMap64

from orion_beam.kafka.offset_ranges import OffsetRange
from orion_beam.transforms.arrow.compiled import Offsets

_WINDOW_OFFSETS = 1 << 20


def bitmap_of(offsets: Offsets) -> BitMap64:
    """Return the set of some offsets."""
    # By far the fastest of the ways in: an array of the bitmap's own type.
    return BitMap64(array.array("Q", offsets.astype(np.uint64).tobytes()))


def bitmap_of_range(offsets: OffsetRange) -> BitMap64:
    """Return the set of the offsets of a range."""
    bitmap = BitMap64()
    bitmap.add_range(offsets.low, offsets.high)
    return bitmap


def maximal_ranges(bitmap: BitMap64) -> Iterator[OffsetRange]:
    """Yield the maximal ranges of a set, from the lowest on, however large it is."""
    return merge_near(_runs_by_window(bitmap), gap=1)


def merge_near(ranges: Iterable[OffsetRange], gap: int) -> Iterator[OffsetRange]:
    """Yield ascending ranges, those joined that overlap, or between which there are less than `gap` offsets."""
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
    """Yield the ranges of a set, cut where a window ends."""
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
    """Which offsets of one source partition have come out, and where.

    Attributes:
        final: those that have come out on cdr.final,
        dead_letters: and on cdr.dlq.
        duplicates: records that came out again on the same topic.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.final = BitMap64()
        self.dead_letters = BitMap64()
        self.duplicates = 0

    @property
    def accounted(self) -> int:
        """How many offsets have come out."""
        return self.final.union_cardinality(self.dead_letters)

    def mark_final(self, offsets: Offsets) -> None:
        """Note records on cdr.final."""
        self._mark(self.final, offsets)

    def mark_dead_letters(self, offsets: Offsets) -> None:
        """Note records on cdr.dlq."""
        self._mark(self.dead_letters, offsets)

    def add(self, other: "Ledger") -> None:
        """Take in what has come out elsewhere: on other partitions of the output topics."""
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
