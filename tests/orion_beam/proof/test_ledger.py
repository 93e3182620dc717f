"""The ledger of a source partition, and the ranges of a set of offsets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orion_beam.kafka.offset_ranges import OffsetRange
from orion_beam.proof import ledger as ledger_module
from orion_beam.proof.ledger import Ledger, bitmap_of, maximal_ranges


def test_a_ledger_keeps_what_came_out_where() -> None:
    ledger = Ledger()
    ledger.mark_final(np.array([5, 7]))
    ledger.mark_dead_letters(np.array([6, 7]))
    assert list(ledger.final) == [5, 7]
    assert list(ledger.dead_letters) == [6, 7]
    assert (ledger.accounted, ledger.duplicates) == (3, 0)


def test_a_ledger_counts_duplicates_within_a_batch_and_across_batches() -> None:
    ledger = Ledger()
    ledger.mark_final(np.array([1, 1, 2]))
    ledger.mark_final(np.array([2, 3, 1]))
    assert (ledger.accounted, ledger.duplicates) == (3, 3)


@given(st.lists(st.lists(st.integers(0, 30), max_size=20), max_size=5))
def test_a_ledger_counts_as_counting_one_by_one_does(batches: list[list[int]]) -> None:
    ledger = Ledger()
    for batch in batches:
        ledger.mark_final(np.array(batch, np.int64))
    every = [offset for batch in batches for offset in batch]
    assert ledger.duplicates == len(every) - len(set(every))
    assert set(ledger.final) == set(every)


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.lists(st.integers(0, 30), max_size=20)), max_size=6))
def test_ledgers_of_shares_add_up_to_the_ledger_of_all(batches: list[tuple[bool, bool, list[int]]]) -> None:
    whole, shares = Ledger(), (Ledger(), Ledger())
    for is_final, share, offsets in batches:
        for ledger in (whole, shares[share]):
            (ledger.mark_final if is_final else ledger.mark_dead_letters)(np.array(offsets, np.int64))
    shares[0].add(shares[1])
    assert (shares[0].final, shares[0].dead_letters, shares[0].duplicates) == (
        whole.final, whole.dead_letters, whole.duplicates,
    )  # fmt: skip


@pytest.mark.parametrize("window", [1, 3, 1 << 20])
@given(offsets=st.sets(st.integers(0, 40)), base=st.sampled_from([0, 3_000_000_000, 1 << 40]))
def test_runs_are_maximal_and_cover_the_set(window: int, offsets: set[int], base: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger_module, "_WINDOW_OFFSETS", window)
        runs = list(maximal_ranges(bitmap_of(np.array([base + offset for offset in sorted(offsets)], np.int64))))
    assert [place - base for run in runs for place in range(run.low, run.high)] == sorted(offsets)
    assert all(before.high < after.low for before, after in zip(runs, runs[1:], strict=False))


def test_the_runs_of_a_large_set_are_few() -> None:
    whole = bitmap_of(np.arange(3_000_000))
    assert list(maximal_ranges(whole)) == [OffsetRange(0, 3_000_000)]
