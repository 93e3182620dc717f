"""The numbers of one node: gaps, late numbers, wrap-around, resets, and the bounds of memory."""

from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orion_beam.transforms.record_checks import sequences
from orion_beam.transforms.record_checks.number_ranges import ranges_of
from orion_beam.transforms.record_checks.sequences import FILLED, MISSING, MODULUS, RESET, NodeSequence, SequenceFinding


def add(sequence: NodeSequence, numbers: Iterable[int], **firsts: int) -> list[SequenceFinding]:
    return list(sequence.add(ranges_of(np.array([*numbers], np.int64)), firsts))


def complete(*batches: Iterable[int]) -> list[SequenceFinding]:
    """Return what is found when all of the batches, and nothing else, have come."""
    sequence = NodeSequence(is_complete=True)
    found = [finding for batch in batches for finding in add(sequence, batch)]
    return [*found, *sequence.close()]


@given(
    numbers=st.lists(st.integers(0, 60), min_size=1, unique=True),
    start=st.sampled_from([0, 1_000, MODULUS - 30]),
    data=st.data(),
)
def test_what_is_missing_depends_on_neither_order_nor_batches(numbers: list[int], start: int, data: st.DataObject):
    order = data.draw(st.permutations(numbers))
    cut = data.draw(st.integers(1, len(order)))
    batches = [[(start + number) % MODULUS for number in order[at : at + cut]] for at in range(0, len(order), cut)]
    missing = [
        (first + offset) % MODULUS
        for kind, first, last in complete(*batches)
        for offset in range((last - first) % MODULUS + 1)
        if kind == MISSING
    ]
    assert missing == [
        (start + number) % MODULUS for number in range(min(numbers), max(numbers)) if number not in numbers
    ]


def test_nothing_is_missing_of_numbers_without_a_gap_across_the_wrap_around():
    assert complete(range(MODULUS - 5, MODULUS), range(3)) == []


def test_a_gap_across_the_wrap_around_is_one_gap():
    (gap,) = complete([MODULUS - 3], [2])
    assert gap == SequenceFinding(MISSING, MODULUS - 2, 1)
    assert gap.records == 4


def test_records_that_come_twice_change_nothing():
    assert complete([1, 2, 4], [1, 2, 4], [2]) == [SequenceFinding(MISSING, 3, 3)]


def test_a_gap_is_reported_when_it_is_old_enough_and_once():
    sequence = NodeSequence(is_complete=True)
    assert add(sequence, [1, 2, 5]) == []
    assert list(sequence.settle()) == []
    assert list(sequence.settle()) == [SequenceFinding(MISSING, 3, 4)]
    assert list(sequence.settle()) == []
    assert list(sequence.close()) == []


def test_a_late_number_fills_its_gap_before_it_is_reported():
    sequence = NodeSequence(is_complete=True)
    add(sequence, [1, 2, 5])
    assert list(sequence.settle()) == []
    assert add(sequence, [3]) == []
    assert list(sequence.settle()) == [SequenceFinding(MISSING, 4, 4)]


def test_a_number_that_was_reported_missing_and_comes_is_reported_as_filled():
    sequence = NodeSequence(is_complete=True)
    add(sequence, [1, 9])
    assert [*sequence.settle(), *sequence.settle()] == [SequenceFinding(MISSING, 2, 8)]
    assert add(sequence, [4, 5, 10]) == [SequenceFinding(FILLED, 4, 5)]
    assert add(sequence, [4, 5]) == []
    assert [*sequence.settle(), *sequence.settle()] == []


@pytest.mark.parametrize("start", [0, 1, 7_000_000])
def test_a_counter_that_jumps_was_reset_and_no_number_is_missing(start):
    assert complete([50_000_000, 50_000_001], [start, start + 1]) == [SequenceFinding(RESET, 50_000_001, start)]


def test_numbers_from_before_a_reset_that_come_late_are_still_known():
    found = complete([50_000_000, 50_000_003], [1, 2], [50_000_001], [3], [50_000_002])
    assert found == [SequenceFinding(RESET, 50_000_003, 1)]


def test_gaps_from_before_a_reset_are_reported():
    assert complete([50_000_000, 50_000_002], [1, 3]) == [
        SequenceFinding(RESET, 50_000_002, 1),
        SequenceFinding(MISSING, 50_000_001, 50_000_001),
        SequenceFinding(MISSING, 2, 2),
    ]


def test_a_stream_does_not_miss_what_may_have_come_before_it_began():
    sequence = NodeSequence(is_complete=False)
    add(sequence, [100, 103], a=100)
    add(sequence, [106, 110], b=106)
    add(sequence, [112], a=112)
    assert [*sequence.settle(), *sequence.settle()] == [
        SequenceFinding(MISSING, 107, 109),
        SequenceFinding(MISSING, 111, 111),
    ]


def test_memory_is_bounded_by_reporting_the_oldest_gaps(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sequences, "MAX_RANGES", 10)
    sequence = NodeSequence(is_complete=True)
    found: Sequence[SequenceFinding] = []
    for number in range(0, 100, 2):
        found = [*found, *add(sequence, [number])]
    assert len(sequence._epochs[0].seen) <= 10
    assert [*found, *sequence.close()] == [SequenceFinding(MISSING, number, number) for number in range(1, 98, 2)]
    assert add(sequence, [95, 97]) == [SequenceFinding(FILLED, 95, 95), SequenceFinding(FILLED, 97, 97)]


def test_only_a_few_resets_are_remembered():
    sequence = NodeSequence(is_complete=True)
    found = [finding for start in range(9, 0, -1) for finding in add(sequence, [start * 10**7, start * 10**7 + 2])]
    assert len(sequence._epochs) == sequences.MAX_EPOCHS
    assert sum(finding.kind == RESET for finding in found) == 8
    assert sum(finding.kind == MISSING for finding in [*found, *sequence.close()]) == 9
