"""What was seen of late: keys of the last rows and where each was seen first, exact and in bounded memory."""

from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from orion_beam.transforms.arrow.texts import Mask, Offsets
from orion_beam.transforms.stage.batches import MAX_ROWS

KeyHashes = npt.NDArray[np.uint64]

_FREE = np.uint64(0)
_NEVER = np.iinfo(np.int64).min // 2
_SLOTS_PER_KEY = 1.5


class Places(NamedTuple):
    """Where rows were read.

    Attributes:
        sources: number of topic and partition.
        offsets: in that partition.
    """

    sources: Offsets
    offsets: Offsets

    def of_rows(self, rows: npt.NDArray[np.integer] | slice) -> "Places":
        """Return the places of some rows."""
        return Places(self.sources[rows], self.offsets[rows])

    def are_before(self, others: "Places") -> Mask:
        """Say which may have been read before the others: of one partition, those of a lower offset."""
        is_before: Mask = (self.sources != others.sources) | (self.offsets < others.offsets)
        return is_before


class _Table:
    """Keys by open addressing. A slot follows from a key's first bits, so that keys in order walk through memory."""

    def __init__(self, keys: int) -> None:
        self._slots = int(keys * _SLOTS_PER_KEY)
        self.keys: KeyHashes = np.zeros(self._slots, np.uint64)
        self.seen_last = np.zeros(self._slots, np.int64)
        self.sources = np.zeros(self._slots, np.int32)
        self.offsets = np.zeros(self._slots, np.int64)
        self.size = 0

    def cleared(self) -> Self:
        """Forget all keys."""
        self.keys.fill(_FREE)
        self.size = 0
        return self

    def find(self, keys: KeyHashes) -> Offsets:
        """Return the slot of each key, -1 for one that is not there."""
        found = np.full(len(keys), -1, np.int64)
        rows, slots = np.arange(len(keys)), self._first_slots(keys)
        while len(rows):
            held = self.keys[slots]
            is_found = held == keys[rows]
            found[rows[is_found]] = slots[is_found]
            goes_on = ~is_found & (held != _FREE)
            rows, slots = rows[goes_on], self._behind(slots[goes_on])
        return found

    def place(self, keys: KeyHashes) -> tuple[Offsets, Mask]:
        """Return the slot of each of some different keys, and which keys are new and have got one now."""
        placed, is_new = np.empty(len(keys), np.int64), np.zeros(len(keys), np.bool_)
        rows, slots = np.arange(len(keys)), self._first_slots(keys)
        while len(rows):
            is_free = self.keys[slots] == _FREE
            # Of several keys that claim a slot the last one written has it, and the others go on.
            self.keys[slots[is_free]] = keys[rows[is_free]]
            is_mine = self.keys[slots] == keys[rows]
            placed[rows[is_mine]] = slots[is_mine]
            is_new[rows[is_mine & is_free]] = True
            rows, slots = rows[~is_mine], self._behind(slots[~is_mine])
        self.size += int(is_new.sum())
        return placed, is_new

    def _first_slots(self, keys: KeyHashes) -> Offsets:
        return ((keys >> np.uint64(32)) * np.uint64(self._slots) >> np.uint64(32)).astype(np.int64)

    def _behind(self, slots: Offsets) -> Offsets:
        slots = slots + 1
        slots[slots == self._slots] = 0
        return slots


class SeenKeys:
    """Where the key of a row was seen first, if it was seen within the last `window` rows.

    Keys are in two tables: what is seen goes into the younger one, and when that has `window` keys the older one is
    forgotten. So whatever was seen within the window is in one of the two, and rows are numbered to tell what is
    exactly within: the answer does not depend on how rows are cut into batches.

    Memory: 42 bytes a key and table, that is 84 bytes for each row of the window, and 1.4 MB.
    """

    def __init__(self, window: int) -> None:
        """Take how many rows a key is remembered."""
        self._window = window
        self._younger, self._older = _Table(window + MAX_ROWS), _Table(window + MAX_ROWS)
        self._rows = 0

    def first_seen(self, keys: KeyHashes, places: Places) -> Places:
        """Return for each row where its key was first seen: the row's own place if it is new within the window.

        A row that is read again finds itself, or what it found the first time.

        Args:
            keys: hashes, none of them 0.
            places: where the rows were read.
        """
        at_once = min(self._window, MAX_ROWS)
        parts = [
            self._first_seen(keys[start : start + at_once], places.of_rows(slice(start, start + at_once)))
            for start in range(0, len(keys), at_once)
        ]
        return Places(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def _first_seen(self, keys: KeyHashes, places: Places) -> Places:
        rows = np.arange(self._rows, self._rows + len(keys))
        self._rows += len(keys)
        keys, firsts, key_of_row = np.unique(keys, return_index=True, return_inverse=True)
        slots, is_new = self._younger.place(keys)
        origins = Places(self._younger.sources[slots].astype(np.int64), self._younger.offsets[slots])
        seen_last = self._younger.seen_last[slots]
        self._look_among_older(keys, is_new, origins, seen_last)
        own = places.of_rows(firsts)
        is_seen = (rows[firsts] - seen_last <= self._window) & origins.are_before(own)
        origins = Places(*(np.where(is_seen, origin, mine) for origin, mine in zip(origins, own, strict=True)))
        self._younger.sources[slots], self._younger.offsets[slots] = origins
        # Of several rows of a key the last one written stays.
        seen_last[key_of_row] = rows
        self._younger.seen_last[slots] = seen_last
        if self._younger.size >= self._window:
            self._younger, self._older = self._older.cleared(), self._younger
        return origins.of_rows(key_of_row)

    def _look_among_older(self, keys: KeyHashes, is_new: Mask, origins: Places, seen_last: Offsets) -> None:
        """Fill in, for keys that are new among the younger, what the older know."""
        new = np.flatnonzero(is_new)
        slots = self._older.find(keys[new])
        seen_last[new] = _NEVER
        known, slots = new[slots >= 0], slots[slots >= 0]
        origins.sources[known], origins.offsets[known] = self._older.sources[slots], self._older.offsets[slots]
        seen_last[known] = self._older.seen_last[slots]
