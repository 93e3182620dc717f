"""Columnar look-ups in tables with a unique text key.

A key is found by its hash, in a few steps whatever the size of the table. In a large table the time goes into waiting
for memory, so a look-up reads from few places: the start of the search, the hash, and the row of values, of which only
the distinct ones are kept.
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
    """The key of a table is not unique.

    Attributes:
        rows: Rows that share their key with another row, counted from 0.
    """

    def __init__(self, rows: Sequence[int]) -> None:
        """Make a message with the number of rows."""
        super().__init__(f"{len(rows)} rows share their keys")
        self.rows = rows


@compiled(UINT64)
def _mixed(number: np.uint64) -> np.uint64:
    """Return a hash of a number. Different numbers have different hashes."""
    # This is the finalizer of splitmix64 (Steele, Lea, Flood 2014). Each of its steps is invertible.
    number ^= number >> np.uint64(30)
    number *= np.uint64(0xBF58476D1CE4E5B9)
    number ^= number >> np.uint64(27)
    number *= np.uint64(0x94D049BB133111EB)
    return number ^ number >> np.uint64(31)


@compiled(BYTES, INT64, INT64, INT64)
def _text_hash(data: Bytes, start: int, end: int, seed: int) -> np.uint64:
    """Return a hash of data[start:end]. Another seed gives other hashes."""
    # This is FNV-1a (Fowler, Noll, Vo). It is mixed because the search uses the first bits of a hash.
    number = np.uint64(0xCBF29CE484222325) ^ np.uint64(seed)
    for place in range(start, end):
        number = (number ^ np.uint64(data[place])) * np.uint64(0x100000001B3)
    return _mixed(number)


class _SortedHashes:
    """Hashes in ascending order, with a table of the position where the search for a hash begins.

        starts   [ 0    | 2 | 2    | ... ]     indexed by the first bits of a hash: hash >> shift
        hashes   [ 00.. 00.. | 10.. ... | 2^64 - 1 ]

    Attributes:
        order: Index of each sorted hash in the hashes as given.
        hashes: Hashes in ascending order, then the largest 64-bit number as a sentinel.
        starts: First position that a hash can have, by its first bits.
        shift: Number of bits of a hash after the first bits.
    """

    def __init__(self, hashes: _Hashes) -> None:
        self.order = np.argsort(hashes).astype(np.int32)
        # The sentinel ends the search for a hash that is larger than all others.
        self.hashes = np.append(hashes[self.order], np.uint64(_LAST_HASH))
        bits = max(1, len(hashes).bit_length())
        self.shift = np.uint64(64 - bits)
        self.starts = np.empty(1 << bits, np.int32)
        for first in range(0, 1 << bits, _PREFIXES_AT_ONCE):
            prefixes = np.arange(first, min(first + _PREFIXES_AT_ONCE, 1 << bits), dtype=np.uint64)
            places = np.searchsorted(self.hashes[:-1], prefixes << self.shift)
            self.starts[first : first + len(prefixes)] = places

    def twins(self) -> Offsets:
        """Return the positions of hashes that equal the next hash."""
        return np.flatnonzero(self.hashes[1:-1] == self.hashes[:-2])


@compiled(UINT64S, INT64, UINT64)
def _place_of(hashes: _Hashes, place: int, wanted: np.uint64) -> int:
    """Return the position of a hash among sorted hashes, searched from `place` on; -1 if it is not there."""
    while hashes[place] < wanted:
        place += 1
    return place if hashes[place] == wanted and place < len(hashes) - 1 else -1


class Keys(ABC):
    """Base class of the keys of a table. Keys are added in chunks, sorted once, and then found."""

    _sorted: _SortedHashes

    @abstractmethod
    def add(self, chunk: pa.StringArray) -> None:
        """Add the keys of further rows. No key may be null."""

    @abstractmethod
    def sort(self) -> npt.NDArray[np.int32]:
        """Sort the keys after all are added, and return the row of the key at each position.

        Raises:
            DuplicateKeysError: A key occurs twice.
        """

    @abstractmethod
    def find(self, keys: pa.StringArray) -> npt.NDArray[np.int32]:
        """Return the position of each key; -1 if it is null or not there."""


class NumberKeys(Keys):
    """Keys of up to 18 digits. Each has a hash of its own, so equal hashes mean equal keys, and no text is kept."""

    def __init__(self) -> None:
        """Begin without keys."""
        self._chunks: list[_Hashes] = []

    def add(self, chunk: pa.StringArray) -> None:
        """Add the keys of further rows. Each key must be all digits."""
        self._chunks.append(_hashed_digits(texts_of(chunk)))

    def sort(self) -> npt.NDArray[np.int32]:
        """Sort the keys and return the row of the key at each position."""
        hashes = np.concatenate([np.empty(0, np.uint64), *self._chunks])
        self._chunks = []
        self._sorted = _SortedHashes(hashes)
        twins = self._sorted.twins()
        if len(twins):
            raise DuplicateKeysError(_rows_at(self._sorted, twins))
        return self._sorted.order

    def find(self, keys: pa.StringArray) -> npt.NDArray[np.int32]:
        """Return the position of each key; -1 if it is null or not there."""
        return _find_digits(texts_of(keys), self._sorted.hashes, self._sorted.starts, self._sorted.shift)


@compiled(BYTES, INT64, INT64)
def _digits_hash(data: Bytes, start: int, end: int) -> np.uint64:
    """Return a hash of up to 18 ASCII digits. Different texts have different hashes."""
    # The leading 1 distinguishes texts with different numbers of leading zeros.
    number = np.uint64(1)
    for place in range(start, end):
        number = number * np.uint64(10) + np.uint64(data[place] - np.uint8(ZERO))
    return _mixed(number)


@compiled(TEXTS)
def _hashed_digits(texts: Texts) -> _Hashes:
    """Return `_digits_hash` of each text."""
    hashes = np.empty(len(texts.offsets) - 1, np.uint64)
    for row in range(len(hashes)):
        hashes[row] = _digits_hash(texts.data, texts.offsets[row], texts.offsets[row + 1])
    return hashes


@compiled(TEXTS, UINT64S, INT32S, UINT64)
def _find_digits(
    keys: Texts, hashes: _Hashes, starts: npt.NDArray[np.int32], shift: np.uint64
) -> npt.NDArray[np.int32]:
    """Return the position of each key among the sorted hashes; -1 if it is null, not a number, or not there."""
    rows = len(keys.offsets) - 1
    wanted, is_number, places = np.zeros(rows, np.uint64), np.zeros(rows, np.bool_), np.empty(rows, np.int32)
    for row in range(rows):
        start, end = keys.offsets[row], keys.offsets[row + 1]
        is_number[row] = is_valid(keys, row) and end - start <= _MOST_DIGITS and are_digits(keys.data, start, end)
        if is_number[row]:
            wanted[row] = _digits_hash(keys.data, start, end)
    # Separate loops let the processor wait for the memory of many rows at once.
    for row in range(rows):
        places[row] = starts[wanted[row] >> shift]
    for row in range(rows):
        places[row] = _place_of(hashes, places[row], wanted[row]) if is_number[row] else -1
    return places


class TextKeys(Keys):
    """Keys of any text. The text of a found hash is compared with the key, so the result is exact."""

    def __init__(self) -> None:
        """Begin without keys."""
        self._chunks: list[pa.StringArray] = [pa.array([], pa.string())]
        self._seed = 0

    def add(self, chunk: pa.StringArray) -> None:
        """Add the keys of further rows."""
        self._chunks.append(chunk)

    def sort(self) -> npt.NDArray[np.int32]:
        """Sort the keys and return the row of the key at each position."""
        texts = pa.concat_arrays(self._chunks)
        self._chunks = []
        self._sorted = _SortedHashes(hash_texts(texts, self._seed))
        self._texts = texts.take(pa.array(self._sorted.order))
        twins = self._sorted.twins()
        is_same = mask_of(pc.equal(self._texts.take(pa.array(twins)), self._texts.take(pa.array(twins + 1))))
        if is_same.any():
            raise DuplicateKeysError(_rows_at(self._sorted, twins[is_same]))
        if len(twins):
            # Two different keys share a hash, with a chance of one in a million for ten million keys. Use another seed.
            self._seed, self._chunks = self._seed + 1, [texts]
            return self.sort()
        return self._sorted.order

    def find(self, keys: pa.StringArray) -> npt.NDArray[np.int32]:
        """Return the position of each key; -1 if it is null or not there."""
        found = self._sorted
        return _find_texts(texts_of(keys), self._seed, found.hashes, found.starts, found.shift, texts_of(self._texts))


def hash_texts(texts: pa.StringArray, seed: int) -> _Hashes:
    """Return a hash of each text. Another seed gives other hashes."""
    return _hashed_texts(texts_of(texts), seed)


@compiled(TEXTS, INT64)
def _hashed_texts(texts: Texts, seed: int) -> _Hashes:
    """Return `_text_hash` of each text."""
    hashes = np.empty(len(texts.offsets) - 1, np.uint64)
    for row in range(len(hashes)):
        hashes[row] = _text_hash(texts.data, texts.offsets[row], texts.offsets[row + 1], seed)
    return hashes


@compiled(TEXTS, INT64, UINT64S, INT32S, UINT64, TEXTS)
def _find_texts(
    keys: Texts, seed: int, hashes: _Hashes, starts: npt.NDArray[np.int32], shift: np.uint64, texts: Texts
) -> npt.NDArray[np.int32]:
    """Return the position of each key among the sorted hashes; -1 if it is null or not there.

    `texts` holds the keys of the table in the order of their hashes.
    """
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
    """A table that is read by a unique text key."""

    def __init__(self, keys: Keys, values: Mapping[str, Sequence[pa.Array]], version: str = "") -> None:
        """Build the table.

        Args:
            keys: Keys with all rows added.
            values: Columns by name, each in one or more chunks, plain or dictionary-encoded. They have one row a key.
            version: Name of this state of the table.

        Raises:
            DuplicateKeysError: A key occurs twice.
        """
        self.version = version
        self._keys = keys
        order = keys.sort()
        rows, columns = _distinct_rows({name: _joined(chunks) for name, chunks in values.items()}, len(order))
        # The last entry of each array is -1, so that index -1, of a key that is not there, gives -1 again.
        self._rows = np.append(rows[order], np.int32(-1))
        self._codes = {
            name: np.append(column.indices.fill_null(-1).to_numpy(), np.int32(-1)) for name, column in columns.items()
        }
        self._dictionaries = {name: column.dictionary for name, column in columns.items()}

    @classmethod
    def of(cls, frame: pl.DataFrame, key: str, version: str = "") -> "Lookup":
        """Make a lookup of a frame by one of its columns, which must be unique and without nulls."""
        keys = TextKeys()
        keys.add(plain(frame[key]))
        return cls(keys, {name: [plain(frame[name])] for name in frame.columns if name != key}, version)

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self._rows) - 1

    def find(self, keys: pa.StringArray) -> dict[str, pa.Array]:
        """Return the columns of values for the keys, in order. A key that is null or not there gives nulls."""
        rows = self.rows_of(keys)
        return {name: self.values(name, rows) for name in self._codes}

    def rows_of(self, keys: pa.StringArray) -> npt.NDArray[np.int32]:
        """Return the row of values of each key; -1 if the key is null or not there. Keys may share a row."""
        return self._rows[self._keys.find(keys)]

    def values(self, name: str, rows: npt.NDArray[np.int32]) -> pa.Array:
        """Return a column of values for rows that `rows_of` returned."""
        codes, dictionary = self._codes[name][rows], self._dictionaries[name]
        if pa.types.is_string(dictionary.type):
            return take_texts(dictionary, codes)
        return dictionary.take(pa.array(codes, mask=codes < 0))

    def texts(self, name: str) -> pa.StringArray:
        """Return the distinct texts of a column."""
        return self._dictionaries[name]

    def by_row(self, name: str, number_of: Callable[[pa.StringArray], npt.NDArray[np.int32]]) -> npt.NDArray[np.int32]:
        """Return the result of `number_of` for the text of a column in each row of values.

        One more entry at the end is -1, so that row -1 gives -1.
        """
        numbers: npt.NDArray[np.int32] = np.append(number_of(self._dictionaries[name]), np.int32(-1))
        by_row: npt.NDArray[np.int32] = numbers[self._codes[name]]
        return by_row


def _joined(chunks: Sequence[pa.Array]) -> pa.DictionaryArray:
    """Join the chunks of a column, dictionary-encoded, because many rows share few values."""
    encoded = [chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode() for chunk in chunks]
    return pa.chunked_array(encoded).unify_dictionaries().combine_chunks()


def _distinct_rows(
    columns: Mapping[str, pa.DictionaryArray], count: int
) -> tuple[npt.NDArray[np.int32], dict[str, pa.DictionaryArray]]:
    """Return the index of each row among the distinct rows, and the columns of the distinct rows.

    If there may be more than _MOST_DISTINCT_ROWS distinct rows, all rows are kept.
    """
    sizes = [len(column.dictionary) + 1 for column in columns.values()]
    if prod(sizes) > _MOST_DISTINCT_ROWS:
        return np.arange(count, dtype=np.int32), dict(columns)
    # The codes of a row's values are the digits of one number. Null is the digit 0.
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
    """Return a polars column as an Arrow array. Texts get 32-bit offsets, as everywhere in the pipeline."""
    array = column.to_arrow(compat_level=pl.CompatLevel.oldest())
    return array.cast(pa.string()) if pa.types.is_large_string(array.type) else array
