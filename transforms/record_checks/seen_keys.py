"""SeenKeys: the keys of the latest rows and the place where each was first seen, exact and in bounded memory."""

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
    """The places where rows were read.

    Attributes:
        sources: Number that stands for topic and partition.
        offsets: Offset in the partition.
    """

    sources: Offsets
    offsets: Offsets

    def of_rows(self, rows: npt.NDArray[np.integer] | slice) -> "Places":
        """Return the places of the given rows."""
        return Places(self.sources[rows], self.offsets[rows])

    def are_before(self, others: "Places") -> Mask:
        """Return which places may have been read before the others. In the same partition, lower offsets were."""
        is_before: Mask = (self.sources != others.sources) | (self.offsets < others.offsets)
        return is_before


class _Table:
    """A hash table of keys with open addressing.

    The first bits of a key give its slot, so sorted keys use the slots in order:

        slot    0      1      2      3       seen_last, sources and offsets hold the values by slot
        keys    17..   1a..   0      c2..    key 1a.. moved on from the taken slot 0; slot 2 is free
    """

    def __init__(self, keys: int) -> None:
        self._slots = int(keys * _SLOTS_PER_KEY)
        self.keys: KeyHashes = np.zeros(self._slots, np.uint64)
        self.seen_last = np.zeros(self._slots, np.int64)
        self.sources = np.zeros(self._slots, np.int32)
        self.offsets = np.zeros(self._slots, np.int64)
        self.size = 0

    def cleared(self) -> Self:
        """Remove all keys and return the table."""
        self.keys.fill(_FREE)
        self.size = 0
        return self

    def find(self, keys: KeyHashes) -> Offsets:
        """Return the slot of each key; -1 if it is not in the table."""
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
        """Insert the new ones among some distinct keys. Return the slot of each key, and which keys are new."""
        placed, is_new = np.empty(len(keys), np.int64), np.zeros(len(keys), np.bool_)
        rows, slots = np.arange(len(keys)), self._first_slots(keys)
        while len(rows):
            is_free = self.keys[slots] == _FREE
            # If several keys claim a slot, the last one written gets it, and the others try the next slot.
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
    """The keys of the last `window` rows, each with the place where it was first seen.

    There are two tables. New keys go into the younger one. When it has `window` keys, the older one is cleared, and the
    two change roles. Each key of the window is therefore in one of the two. Rows are numbered, so the window is exact:
    the result does not depend on how rows are cut into batches.

    Memory: 42 bytes for each key and table, that is 84 bytes for each row of the window, and 1.4 MB.
    """

    def __init__(self, window: int) -> None:
        """Begin without keys. A key is remembered for `window` rows."""
        self._window = window
        self._younger, self._older = _Table(window + MAX_ROWS), _Table(window + MAX_ROWS)
        self._rows = 0

    def first_seen(self, keys: KeyHashes, places: Places) -> Places:
        """Return where the key of each row was first seen; the row's own place if the key is new within the window.

        A row that is read again gets its own place, or the place that it got the first time.

        Args:
            keys: Hashes of the keys, none of them 0.
            places: Places where the rows were read.
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
        # If a key has several rows, the last one is written last and stays.
        seen_last[key_of_row] = rows
        self._younger.seen_last[slots] = seen_last
        if self._younger.size >= self._window:
            self._younger, self._older = self._older.cleared(), self._younger
        return origins.of_rows(key_of_row)

    def _look_among_older(self, keys: KeyHashes, is_new: Mask, origins: Places, seen_last: Offsets) -> None:
        """Fill in `origins` and `seen_last` from the older table, for keys that are new in the younger one."""
        new = np.flatnonzero(is_new)
        slots = self._older.find(keys[new])
        seen_last[new] = _NEVER
        known, slots = new[slots >= 0], slots[slots >= 0]
        origins.sources[known], origins.offsets[known] = self._older.sources[slots], self._older.offsets[slots]
        seen_last[known] = self._older.seen_last[slots]
