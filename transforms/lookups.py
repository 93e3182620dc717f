"""Look-ups in columns: a table with a unique text key, found a batch at a time.

Keys are found by hash, in the same few steps whatever the size of the table. What takes time in a large one is waiting
for memory, so that what a row needs is in as few places as possible: one for where to look, one for the hash, one for
the row of values, of which few are different.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from transforms.texts import Mask, Offsets, is_digits, is_null, lengths_of, mask_of

_Hashes = npt.NDArray[np.uint64]

_LAST_HASH = np.iinfo(np.uint64).max
_PREFIXES_AT_ONCE = 1 << 20
_MOST_DISTINCT_ROWS = 1 << 22
_MOST_DIGITS = 18


class DuplicateKeysError(ValueError):
    """A table whose key is not unique.

    Attributes:
        rows: those whose key comes again, counted from 0.
    """

    def __init__(self, rows: Sequence[int]) -> None:
        """Take the rows."""
        super().__init__(f"{len(rows)} rows share their keys")
        self.rows = rows


class _SortedHashes:
    """Hashes in ascending order; the first bits of one say where to look for it, and steps lead on from there.

    Attributes:
        order: which of the hashes as they were given stands at each place.
    """

    def __init__(self, hashes: _Hashes) -> None:
        self.order = np.argsort(hashes).astype(np.int32)
        # The last entry is what a hash beyond all others meets.
        self._hashes = np.append(hashes[self.order], np.uint64(_LAST_HASH))
        bits = max(1, len(hashes).bit_length())
        self._shift = np.uint64(64 - bits)
        self._starts = np.empty(1 << bits, np.int32)
        for first in range(0, 1 << bits, _PREFIXES_AT_ONCE):
            prefixes = np.arange(first, min(first + _PREFIXES_AT_ONCE, 1 << bits), dtype=np.uint64)
            places = np.searchsorted(self._hashes[:-1], prefixes << self._shift)
            self._starts[first : first + len(prefixes)] = places

    def twins(self) -> Offsets:
        """Return the places whose hash is also the next one's."""
        return np.flatnonzero(self._hashes[1:-1] == self._hashes[:-2])

    def find(self, hashes: _Hashes) -> tuple[Offsets, Mask]:
        """Return a place for each hash, and whether it stands there."""
        places = self._starts[hashes >> self._shift]
        while (is_behind := (found := self._hashes[places]) < hashes).any():
            places += is_behind
        return places, (found == hashes) & (places < len(self.order))


class Keys(ABC):
    """The keys of a table: given in chunks, then found."""

    _sorted: _SortedHashes

    @abstractmethod
    def add(self, chunk: pa.StringArray) -> None:
        """Take keys of more rows, none of them null."""

    @abstractmethod
    def sort(self) -> npt.NDArray[np.int32]:
        """Return which row's key stands at each place, when all are added.

        Raises:
            DuplicateKeysError: a key comes twice.
        """

    @abstractmethod
    def find(self, keys: pa.StringArray) -> tuple[Offsets, Mask]:
        """Return a place for each key, and whether it is the key's."""


class NumberKeys(Keys):
    """Keys of up to 18 digits: a key's hash is the number that it is, mixed one to one, so that no text is kept."""

    def __init__(self) -> None:
        """Begin without keys."""
        self._chunks: list[_Hashes] = []

    def add(self, chunk: pa.StringArray) -> None:
        """Take keys of more rows, all of them digits."""
        self._chunks.append(_mixed(chunk))

    def sort(self) -> npt.NDArray[np.int32]:
        """Return which row's key stands at each place."""
        hashes = np.concatenate([np.empty(0, np.uint64), *self._chunks])
        self._chunks = []
        self._sorted = _SortedHashes(hashes)
        twins = self._sorted.twins()
        if len(twins):
            raise DuplicateKeysError(_rows_at(self._sorted, twins))
        return self._sorted.order

    def find(self, keys: pa.StringArray) -> tuple[Offsets, Mask]:
        """Return a place for each key, and whether it is the key's."""
        is_number = ~is_null(keys) & is_digits(keys) & (lengths_of(keys) <= _MOST_DIGITS)
        places, is_found = self._sorted.find(_mixed(pc.if_else(pa.array(is_number), keys, "")))
        return places, is_found & is_number


class TextKeys(Keys):
    """Keys of any text: that the text of a hash is the one asked for is checked, so that the result is exact."""

    def __init__(self) -> None:
        """Begin without keys."""
        self._chunks: list[pa.StringArray] = [pa.array([], pa.string())]
        self._seed = 0

    def add(self, chunk: pa.StringArray) -> None:
        """Take keys of more rows."""
        self._chunks.append(chunk)

    def sort(self) -> npt.NDArray[np.int32]:
        """Return which row's key stands at each place."""
        texts = pa.concat_arrays(self._chunks)
        self._chunks = []
        self._sorted = _SortedHashes(self._hashed(texts))
        self._texts = texts.take(pa.array(self._sorted.order))
        twins = self._sorted.twins()
        is_same = mask_of(pc.equal(self._texts.take(pa.array(twins)), self._texts.take(pa.array(twins + 1))))
        if is_same.any():
            raise DuplicateKeysError(_rows_at(self._sorted, twins[is_same]))
        if len(twins):
            # One chance in a million even for ten million keys: another seed makes other hashes.
            self._seed, self._chunks = self._seed + 1, [texts]
            return self.sort()
        self._texts = pa.concat_arrays([self._texts, pa.nulls(1, pa.string())])
        return self._sorted.order

    def find(self, keys: pa.StringArray) -> tuple[Offsets, Mask]:
        """Return a place for each key, and whether it is the key's."""
        places, _ = self._sorted.find(self._hashed(keys))
        return places, mask_of(pc.equal(self._texts.take(pa.array(places)), keys))

    def _hashed(self, texts: pa.StringArray) -> _Hashes:
        hashes: _Hashes = pl.Series(texts).hash(self._seed).to_numpy()
        return hashes


def _mixed(digits: pa.StringArray) -> _Hashes:
    """Return a hash for each text of up to 18 digits, and for each another."""
    # A 1 before them keeps zeros at the start.
    mixed: _Hashes = pc.binary_join_element_wise("1", digits, "").cast(pa.int64()).to_numpy().astype(np.uint64)
    # The finalizer of splitmix64 (Steele, Lea, Flood 2014): each of its steps can be undone.
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def _rows_at(hashes: _SortedHashes, twins: Offsets) -> list[int]:
    return sorted({*hashes.order[twins].tolist(), *hashes.order[twins + 1].tolist()})


class Lookup:
    """A table with a unique text key, found by it."""

    def __init__(self, keys: Keys, values: Mapping[str, Sequence[pa.Array]], version: str = "") -> None:
        """Build the table.

        Args:
            keys: with all keys added.
            values: columns in chunks, at least one of each, plain or dictionary-encoded; a row for each key.
            version: what this state of the table is called.

        Raises:
            DuplicateKeysError: a key comes twice.
        """
        self.version = version
        self._keys = keys
        order = keys.sort()
        rows, self._values = _distinct_rows({name: _joined(chunks) for name, chunks in values.items()}, len(order))
        self._rows = rows[order]

    @classmethod
    def of(cls, frame: pl.DataFrame, key: str, version: str = "") -> "Lookup":
        """Return the lookup of a frame by one of its columns, which must be unique and without nulls."""
        keys = TextKeys()
        keys.add(plain(frame[key]))
        return cls(keys, {name: [plain(frame[name])] for name in frame.columns if name != key}, version)

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self._rows)

    def find(self, keys: pa.StringArray) -> dict[str, pa.Array]:
        """Return columns of the values for each key, in order: nulls for a key that is null or not there."""
        places, is_found = self._keys.find(keys)
        rows = np.full(len(places), -1, np.int32)
        rows[is_found] = self._rows[places[is_found]]
        taken = pa.array(rows, mask=~is_found)
        return {name: values.take(taken).dictionary_decode() for name, values in self._values.items()}


def _joined(chunks: Sequence[pa.Array]) -> pa.DictionaryArray:
    """Return a column of values as one, dictionary-encoded: few values stand in many rows."""
    encoded = [chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode() for chunk in chunks]
    return pa.chunked_array(encoded).unify_dictionaries().combine_chunks()


def _distinct_rows(
    columns: Mapping[str, pa.DictionaryArray], count: int
) -> tuple[npt.NDArray[np.int32], dict[str, pa.DictionaryArray]]:
    """Return for each row which of the rows that differ it is, and those; all of them where they are too many."""
    sizes = [len(column.dictionary) + 1 for column in columns.values()]
    if prod(sizes) > _MOST_DISTINCT_ROWS:
        return np.arange(count, dtype=np.int32), dict(columns)
    # A row's values as the digits of one number; null is 0.
    numbers = np.zeros(count, np.int32)
    for size, column in zip(sizes, columns.values(), strict=True):
        numbers *= size
        numbers += pc.add(column.indices, 1).fill_null(0).to_numpy()
    is_there = np.zeros(prod(sizes), np.bool_)
    is_there[numbers] = True
    rows = (np.cumsum(is_there, dtype=np.int32) - 1)[numbers]
    distinct, rest = {}, np.flatnonzero(is_there)
    for size, (name, column) in zip(reversed(sizes), reversed(list(columns.items())), strict=True):
        rest, digits = np.divmod(rest, size)
        indices = pa.array(digits - 1, pa.int32(), mask=digits == 0)
        distinct[name] = pa.DictionaryArray.from_arrays(indices, column.dictionary)
    return rows, {name: distinct[name] for name in columns}


def plain(column: pl.Series) -> pa.Array:
    """Return a column as Arrow keeps texts elsewhere here: with offsets of 32 bits."""
    array = column.to_arrow(compat_level=pl.CompatLevel.oldest())
    return array.cast(pa.string()) if pa.types.is_large_string(array.type) else array
