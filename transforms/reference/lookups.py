"""Look-ups in columns: a table with a unique text key, found a batch at a time.

Keys are found by hash, in the same few steps whatever the size of the table. What takes time in a large one is waiting
for memory, so that what a row needs is in as few places as possible: one for where to look, one for the hash, one for
the row of values, of which few are different.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from math import prod

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from orion_beam.transforms.arrow.compiled import (
    BYTES,
    INT32S,
    INT64,
    TEXTS,
    UINT64,
    UINT64S,
    Bytes,
    Offsets,
    Texts,
    compiled,
    is_valid,
    texts_of,
)
from orion_beam.transforms.arrow.texts import ZERO, are_digits, equals, mask_of, take_texts

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


@compiled(UINT64)
def _mixed(number: np.uint64) -> np.uint64:
    """Return another number for each, in no visible order."""
    # The finalizer of splitmix64 (Steele, Lea, Flood 2014): each of its steps can be undone.
    number ^= number >> np.uint64(30)
    number *= np.uint64(0xBF58476D1CE4E5B9)
    number ^= number >> np.uint64(27)
    number *= np.uint64(0x94D049BB133111EB)
    return number ^ number >> np.uint64(31)


@compiled(BYTES, INT64, INT64, INT64)
def _text_hash(data: Bytes, start: int, end: int, seed: int) -> np.uint64:
    # FNV-1a (Fowler, Noll, Vo), and mixed, because what follows looks at the first bits.
    number = np.uint64(0xCBF29CE484222325) ^ np.uint64(seed)
    for place in range(start, end):
        number = (number ^ np.uint64(data[place])) * np.uint64(0x100000001B3)
    return _mixed(number)


class _SortedHashes:
    """Hashes in ascending order; the first bits of one say where to look for it, and steps lead on from there.

    Attributes:
        order: which of the hashes as they were given stands at each place.
        hashes: in ascending order, and the largest number behind them.
        starts: by the first bits of a hash, the first place where it can stand.
        shift: how many bits of a hash are not the first ones.
    """

    def __init__(self, hashes: _Hashes) -> None:
        self.order = np.argsort(hashes).astype(np.int32)
        # The last entry is what a hash beyond all others meets.
        self.hashes = np.append(hashes[self.order], np.uint64(_LAST_HASH))
        bits = max(1, len(hashes).bit_length())
        self.shift = np.uint64(64 - bits)
        self.starts = np.empty(1 << bits, np.int32)
        for first in range(0, 1 << bits, _PREFIXES_AT_ONCE):
            prefixes = np.arange(first, min(first + _PREFIXES_AT_ONCE, 1 << bits), dtype=np.uint64)
            places = np.searchsorted(self.hashes[:-1], prefixes << self.shift)
            self.starts[first : first + len(prefixes)] = places

    def twins(self) -> Offsets:
        """Return the places whose hash is also the next one's."""
        return np.flatnonzero(self.hashes[1:-1] == self.hashes[:-2])


@compiled(UINT64S, INT64, UINT64)
def _place_of(hashes: _Hashes, place: int, wanted: np.uint64) -> int:
    """Return where a hash stands among others in ascending order, from a place on; -1 if it does not."""
    while hashes[place] < wanted:
        place += 1
    return place if hashes[place] == wanted and place < len(hashes) - 1 else -1


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
    def find(self, keys: pa.StringArray) -> npt.NDArray[np.int32]:
        """Return the place of each key, -1 for one that is null or not there."""


class NumberKeys(Keys):
    """Keys of up to 18 digits: a key's hash is the number that it is, mixed one to one, so that no text is kept."""

    def __init__(self) -> None:
        """Begin without keys."""
        self._chunks: list[_Hashes] = []

    def add(self, chunk: pa.StringArray) -> None:
        """Take keys of more rows, all of them digits."""
        self._chunks.append(_hashed_digits(texts_of(chunk)))

    def sort(self) -> npt.NDArray[np.int32]:
        """Return which row's key stands at each place."""
        hashes = np.concatenate([np.empty(0, np.uint64), *self._chunks])
        self._chunks = []
        self._sorted = _SortedHashes(hashes)
        twins = self._sorted.twins()
        if len(twins):
            raise DuplicateKeysError(_rows_at(self._sorted, twins))
        return self._sorted.order

    def find(self, keys: pa.StringArray) -> npt.NDArray[np.int32]:
        """Return the place of each key, -1 for one that is null or not there."""
        return _find_digits(texts_of(keys), self._sorted.hashes, self._sorted.starts, self._sorted.shift)


@compiled(BYTES, INT64, INT64)
def _digits_hash(data: Bytes, start: int, end: int) -> np.uint64:
    """Return a hash of up to 18 digits, and for each text another."""
    # A 1 before them keeps zeros at the start.
    number = np.uint64(1)
    for place in range(start, end):
        number = number * np.uint64(10) + np.uint64(data[place] - np.uint8(ZERO))
    return _mixed(number)


@compiled(TEXTS)
def _hashed_digits(texts: Texts) -> _Hashes:
    hashes = np.empty(len(texts.offsets) - 1, np.uint64)
    for row in range(len(hashes)):
        hashes[row] = _digits_hash(texts.data, texts.offsets[row], texts.offsets[row + 1])
    return hashes


@compiled(TEXTS, UINT64S, INT32S, UINT64)
def _find_digits(
    keys: Texts, hashes: _Hashes, starts: npt.NDArray[np.int32], shift: np.uint64
) -> npt.NDArray[np.int32]:
    rows = len(keys.offsets) - 1
    wanted, is_number, places = np.zeros(rows, np.uint64), np.zeros(rows, np.bool_), np.empty(rows, np.int32)
    for row in range(rows):
        start, end = keys.offsets[row], keys.offsets[row + 1]
        is_number[row] = is_valid(keys, row) and end - start <= _MOST_DIGITS and are_digits(keys.data, start, end)
        if is_number[row]:
            wanted[row] = _digits_hash(keys.data, start, end)
    # In loops of their own, so that what waits for memory waits for many rows at once.
    for row in range(rows):
        places[row] = starts[wanted[row] >> shift]
    for row in range(rows):
        places[row] = _place_of(hashes, places[row], wanted[row]) if is_number[row] else -1
    return places


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
        return self._sorted.order

    def find(self, keys: pa.StringArray) -> npt.NDArray[np.int32]:
        """Return the place of each key, -1 for one that is null or not there."""
        found = self._sorted
        return _find_texts(texts_of(keys), self._seed, found.hashes, found.starts, found.shift, texts_of(self._texts))

    def _hashed(self, texts: pa.StringArray) -> _Hashes:
        return hash_texts(texts, self._seed)


def hash_texts(texts: pa.StringArray, seed: int) -> _Hashes:
    """Return a hash of each text; another seed makes others."""
    return _hashed_texts(texts_of(texts), seed)


@compiled(TEXTS, INT64)
def _hashed_texts(texts: Texts, seed: int) -> _Hashes:
    hashes = np.empty(len(texts.offsets) - 1, np.uint64)
    for row in range(len(hashes)):
        hashes[row] = _text_hash(texts.data, texts.offsets[row], texts.offsets[row + 1], seed)
    return hashes


@compiled(TEXTS, INT64, UINT64S, INT32S, UINT64, TEXTS)
def _find_texts(
    keys: Texts, seed: int, hashes: _Hashes, starts: npt.NDArray[np.int32], shift: np.uint64, texts: Texts
) -> npt.NDArray[np.int32]:
    places = np.full(len(keys.offsets) - 1, -1, np.int32)
    for row in range(len(places)):
        if not is_valid(keys, row):
            continue
        start, end = keys.offsets[row], keys.offsets[row + 1]
        wanted = _text_hash(keys.data, start, end, seed)
        place = _place_of(hashes, starts[wanted >> shift], wanted)
        if place >= 0:
            first = texts.offsets[place]
            text = texts.data[first : texts.offsets[place + 1]]
            if equals(keys.data, start, end, text):
                places[row] = place
    return places


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
        rows, columns = _distinct_rows({name: _joined(chunks) for name, chunks in values.items()}, len(order))
        # The last entries are what is read at -1.
        self._rows = np.append(rows[order], np.int32(-1))
        self._codes = {
            name: np.append(column.indices.fill_null(-1).to_numpy(), np.int32(-1)) for name, column in columns.items()
        }
        self._dictionaries = {name: column.dictionary for name, column in columns.items()}

    @classmethod
    def of(cls, frame: pl.DataFrame, key: str, version: str = "") -> "Lookup":
        """Return the lookup of a frame by one of its columns, which must be unique and without nulls."""
        keys = TextKeys()
        keys.add(plain(frame[key]))
        return cls(keys, {name: [plain(frame[name])] for name in frame.columns if name != key}, version)

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self._rows) - 1

    def find(self, keys: pa.StringArray) -> dict[str, pa.Array]:
        """Return columns of the values for each key, in order: nulls for a key that is null or not there."""
        rows = self.rows_of(keys)
        return {name: self.values(name, rows) for name in self._codes}

    def rows_of(self, keys: pa.StringArray) -> npt.NDArray[np.int32]:
        """Return which row of values each key has, -1 for one that is null or not there; keys may share one."""
        return self._rows[self._keys.find(keys)]

    def values(self, name: str, rows: npt.NDArray[np.int32]) -> pa.Array:
        """Return a column of rows that `rows_of` has found."""
        codes, dictionary = self._codes[name][rows], self._dictionaries[name]
        if pa.types.is_string(dictionary.type):
            return take_texts(dictionary, codes)
        return dictionary.take(pa.array(codes, mask=codes < 0))

    def texts(self, name: str) -> pa.StringArray:
        """Return the different texts of a column."""
        return self._dictionaries[name]

    def by_row(self, name: str, number_of: Callable[[pa.StringArray], npt.NDArray[np.int32]]) -> npt.NDArray[np.int32]:
        """Return a number for each row of values, by its text in a column; the last, which row -1 meets, is -1."""
        numbers: npt.NDArray[np.int32] = np.append(number_of(self._dictionaries[name]), np.int32(-1))
        by_row: npt.NDArray[np.int32] = numbers[self._codes[name]]
        return by_row


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
