"""Sets of numbers as ranges, against Python's own sets."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from orion_beam.transforms.record_checks.number_ranges import (
    NumberRanges,
    gaps_of,
    intersect_ranges,
    merge_ranges,
    ranges_of,
    subtract_ranges,
)

numbers = st.sets(st.integers(0, 40))


def of(values: set[int]) -> NumberRanges:
    return ranges_of(np.array(sorted(values, reverse=True), np.int64))


def members(ranges: NumberRanges) -> set[int]:
    return {number for first, last in ranges.tolist() for number in range(first, last + 1)}


@given(values=st.lists(st.integers(0, 40)))
def test_numbers_may_come_twice(values):
    assert ranges_of(np.array(values, np.int64)).tolist() == of(set(values)).tolist()


@given(values=numbers)
def test_ranges_are_in_order_and_apart(values):
    ranges = of(values)
    assert members(ranges) == values
    assert all(first <= last for first, last in ranges.tolist())
    assert all(last + 1 < first for (_, last), (first, _) in zip(ranges.tolist(), ranges.tolist()[1:], strict=False))


@given(values=numbers, others=numbers)
def test_operations_are_those_of_sets(values, others):
    assert members(intersect_ranges(of(values), of(others))) == values & others
    assert members(subtract_ranges(of(values), of(others))) == values - others
    assert members(merge_ranges(np.vstack([of(values), of(others)]))) == values | others


@given(values=numbers)
def test_gaps_are_what_is_missing_between_the_first_and_the_last(values):
    assert members(gaps_of(of(values))) == set(range(min(values, default=0), max(values, default=0))) - values
