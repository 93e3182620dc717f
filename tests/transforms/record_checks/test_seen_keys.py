"""The memory of keys against a dictionary that forgets nothing, row by row."""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orion_beam.transforms.record_checks.seen_keys import KeyHashes, Places, SeenKeys

Row = tuple[int, int, int]
"""Key, source and offset."""


def first_seen(memory: SeenKeys, rows: list[Row]) -> list[tuple[int, int]]:
    keys, sources, offsets = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    found = memory.first_seen(keys.astype(np.uint64), Places(sources, offsets))
    return list(zip(found.sources.tolist(), found.offsets.tolist(), strict=True))


def expected(rows: Iterable[Row], window: int) -> list[tuple[int, int]]:
    known: dict[int, tuple[int, tuple[int, int]]] = {}
    answers = []
    for number, (key, source, offset) in enumerate(rows):
        seen_last, origin = known.get(key, (-window - 1, (source, offset)))
        if number - seen_last > window or (origin[0] == source and origin[1] >= offset):
            origin = (source, offset)
        known[key] = number, origin
        answers.append(origin)
    return answers


def numbered(keys: Iterable[int]) -> list[Row]:
    return [(key, 0, offset) for offset, key in enumerate(keys)]


few_keys = st.integers(1, 6).map(lambda key: key << 60 | key)
rows_of_sources = st.lists(st.tuples(few_keys, st.integers(0, 2)), min_size=1, max_size=60).map(
    lambda pairs: [(key, source, offset) for offset, (key, source) in enumerate(pairs)]
)


@settings(max_examples=50)
@given(rows=rows_of_sources, window=st.integers(1, 12), cuts=st.lists(st.integers(1, 15), min_size=60, max_size=60))
def test_a_key_is_remembered_for_exactly_the_window_however_rows_are_cut(rows, window, cuts):
    memory, found, start = SeenKeys(window), [], 0
    for cut in cuts:
        if start < len(rows):
            found += first_seen(memory, rows[start : start + cut])
        start += cut
    assert found == expected(rows, window)


def test_many_keys_are_found_over_many_turns_of_the_tables():
    keys = np.random.default_rng(1).integers(1, 2**63, 4_000)
    rows = numbered([*keys, *keys[1_000:], *keys])
    memory = SeenKeys(3_000)
    found = [place for start in range(0, len(rows), 700) for place in first_seen(memory, rows[start : start + 700])]
    assert found == expected(rows, 3_000)


def test_keys_that_want_one_slot_are_told_apart():
    keys = [(7 << 40) + low for low in range(1, 300)] + [2**64 - low for low in range(1, 300)]
    memory = SeenKeys(1_000)
    found = memory.first_seen(np.array(keys * 2, np.uint64), Places(np.zeros(1196, np.int64), np.arange(1196)))
    assert found.offsets.tolist() == [*range(598)] * 2


@pytest.mark.parametrize("distance", [5, 6])
def test_the_window_ends_where_it_says(distance):
    rows = numbered([99, *range(1, distance), 99])
    assert first_seen(SeenKeys(5), rows)[-1] == ((0, 0) if distance == 5 else (0, distance))


def test_a_key_that_is_seen_again_is_remembered_from_then_on():
    rows = numbered([99, 1, 2, 3, 99, 4, 5, 6, 99])
    assert first_seen(SeenKeys(4), rows)[-1] == (0, 0)


def test_rows_that_are_read_again_find_what_they_found_before():
    rows: list[Row] = [(99, 0, 10), (98, 0, 11), (99, 0, 12), (99, 1, 3)]
    memory = SeenKeys(100)
    once = first_seen(memory, rows)
    assert once == [(0, 10), (0, 11), (0, 10), (0, 10)]
    assert first_seen(memory, rows[1:]) == once[1:]
    assert first_seen(memory, rows) == once


def test_a_row_is_no_duplicate_of_a_later_one_that_was_read_first():
    memory = SeenKeys(100)
    assert first_seen(memory, [(99, 0, 12)]) == [(0, 12)]
    assert first_seen(memory, [(99, 0, 10), (99, 0, 12)]) == [(0, 10), (0, 10)]


def test_memory_does_not_grow():
    memory = SeenKeys(1_000)
    before = _bytes(memory)
    for start in range(1, 50_001, 5_000):
        keys: KeyHashes = np.arange(start, start + 5_000, dtype=np.uint64) << np.uint64(44)
        memory.first_seen(keys, Places(np.zeros(5_000, np.int64), np.arange(5_000)))
    assert _bytes(memory) == before


def _bytes(memory: SeenKeys) -> int:
    tables = (memory._younger, memory._older)
    return sum(array.nbytes for table in tables for array in vars(table).values() if isinstance(array, np.ndarray))
