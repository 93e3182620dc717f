"""Sets of whole numbers as sorted ranges: rows of first and last number, with a gap of at least one between them."""

import numpy as np
import numpy.typing as npt

NumberRanges = npt.NDArray[np.int64]
"""Ranges of numbers: shape (n, 2)."""

NO_RANGES: NumberRanges = np.zeros((0, 2), np.int64)
_LEAST, _MOST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


def ranges_of(numbers: npt.NDArray[np.int64]) -> NumberRanges:
    """Return the ranges of some numbers, which may be in any order."""
    if not len(numbers):
        return NO_RANGES
    numbers = np.sort(numbers)
    ends = np.flatnonzero(np.diff(numbers) > 1)
    return np.column_stack([numbers[np.append(0, ends + 1)], numbers[np.append(ends, len(numbers) - 1)]])


def merge_ranges(ranges: NumberRanges) -> NumberRanges:
    """Return the union of some ranges, which may be in any order and overlap."""
    if not len(ranges):
        return NO_RANGES
    ranges = ranges[np.argsort(ranges[:, 0], kind="stable")]
    lasts = np.maximum.accumulate(ranges[:, 1])
    begins = np.append(True, ranges[1:, 0] > lasts[:-1] + 1)
    return np.column_stack([ranges[begins, 0], lasts[np.append(begins[1:], True)]])


def gaps_of(ranges: NumberRanges) -> NumberRanges:
    """Return the gaps between ranges."""
    return np.column_stack([ranges[:-1, 1] + 1, ranges[1:, 0] - 1])


def intersect_ranges(ranges: NumberRanges, others: NumberRanges) -> NumberRanges:
    """Return the numbers that are in both sets."""
    starts = np.searchsorted(others[:, 1], ranges[:, 0])
    counts = np.maximum(np.searchsorted(others[:, 0], ranges[:, 1], side="right") - starts, 0)
    rows = np.repeat(np.arange(len(ranges)), counts)
    met = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts) + starts[rows]
    firsts, lasts = np.maximum(ranges[rows, 0], others[met, 0]), np.minimum(ranges[rows, 1], others[met, 1])
    return np.column_stack([firsts, lasts])


def subtract_ranges(ranges: NumberRanges, others: NumberRanges) -> NumberRanges:
    """Return the numbers of the first set that are not in the second."""
    if not len(others):
        return ranges
    before, behind = [_LEAST, others[0, 0] - 1], [others[-1, 1] + 1, _MOST]
    return intersect_ranges(ranges, np.vstack([before, gaps_of(others), behind]))
