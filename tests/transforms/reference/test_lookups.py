"""Look-ups in columns: every key is found, and no other."""

import polars as pl
import pyarrow as pa
import pytest

from orion_beam.transforms.reference import lookups
from orion_beam.transforms.reference.lookups import DuplicateKeysError, Lookup, NumberKeys


def found(lookup: Lookup, *keys: str | None) -> list[dict[str, object]]:
    return pa.RecordBatch.from_pydict(lookup.find(pa.array(keys, pa.string()))).to_pylist()


def test_each_of_many_keys_is_found_and_no_other():
    keys = [f"{number:05d}" for number in range(0, 20_000, 2)]
    lookup = Lookup.of(pl.DataFrame({"key": keys, "value": [key[::-1] for key in keys]}), "key")
    asked = [f"{number:05d}" for number in range(20_000)]
    assert [row["value"] for row in found(lookup, *asked)] == [
        key[::-1] if index % 2 == 0 else None for index, key in enumerate(asked)
    ]


def test_keys_that_share_a_hash_are_told_apart(monkeypatch):
    real = lookups.hash_texts
    monkeypatch.setattr(lookups, "hash_texts", lambda texts, seed: real(texts, seed) * (seed > 0))
    lookup = Lookup.of(pl.DataFrame({"key": ["a", "b"], "value": [1, 2]}), "key")
    assert [row["value"] for row in found(lookup, "b", "a", "c")] == [2, 1, None]


def test_keys_that_come_twice_are_named():
    with pytest.raises(DuplicateKeysError) as caught:
        Lookup.of(pl.DataFrame({"key": ["a", "b", "c", "b", "a"], "value": 1}), "key")
    assert caught.value.rows == [0, 1, 3, 4]


def by_number(*keys: str) -> Lookup:
    numbers = NumberKeys()
    for key in keys:
        numbers.add(pa.array([key]))
    return Lookup(numbers, {"value": [pa.array([key[::-1]]) for key in keys]})


def test_keys_of_digits_are_found_with_their_zeros_and_nothing_else_is():
    lookup = by_number("208011234567890", "001011234567890", "01011234567890", "999999999999999999", "0")
    asked = ["001011234567890", "01011234567890", "1011234567890", "0", "", "00", None, "20801123456789x",
             "208011234567890", "999999999999999999", "1999999999999999999", "9" * 40, "-1", "٣"]  # fmt: skip
    known = {"208011234567890", "001011234567890", "01011234567890", "999999999999999999", "0"}
    assert [row["value"] for row in found(lookup, *asked)] == [key[::-1] if key in known else None for key in asked]


def test_keys_of_digits_that_come_twice_are_named():
    with pytest.raises(DuplicateKeysError) as caught:
        by_number("1", "2", "01", "2")
    assert caught.value.rows == [1, 3]


@pytest.mark.parametrize("most", [1, 1 << 22])
def test_chunks_become_one_table_whether_few_rows_differ_or_many(monkeypatch, most):
    monkeypatch.setattr(lookups, "_MOST_DISTINCT_ROWS", most)
    chunks = [["a", None, "b"], ["c", "b", None], []]
    numbers = [[1.5, 2.5, None], [1.5, None, None], []]
    keys = NumberKeys()
    for first in (0, 3):
        keys.add(pa.array([str(first + row) for row in range(3)]))
    values = {
        "text": [pa.array(chunk, pa.string()).dictionary_encode() for chunk in chunks],
        "number": [pa.array(chunk, pa.float64()) for chunk in numbers],
    }
    rows = found(Lookup(keys, values), "5", "4", "3", "2", "1", "0", "6")
    assert [row["text"] for row in rows] == [None, "b", "c", "b", None, "a", None]
    assert [row["number"] for row in rows] == [None, None, 1.5, None, 2.5, 1.5, None]


def test_a_table_larger_than_one_step_of_prefixes_is_found_whole(monkeypatch):
    monkeypatch.setattr(lookups, "_PREFIXES_AT_ONCE", 8)
    keys = [str(number) for number in range(100)]
    lookup = Lookup.of(pl.DataFrame({"key": keys, "value": range(100)}), "key")
    assert [row["value"] for row in found(lookup, *keys)] == list(range(100))
