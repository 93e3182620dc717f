"""Payloads: the messages of a batch as spans of one buffer, and what the decoders ask of them."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa

from schemas.fields import BLANKS
from transforms.texts import Bytes, Mask, Offsets, buffer_of, bytes_of, cut, is_null, offsets_of, row_by_row, trimmed

_BYTE_ORDER_MARK = "\ufeff".encode()
_BLANKS = BLANKS.encode()
_IS_BLANK = np.zeros(256, np.bool_)
_IS_BLANK[list(_BLANKS)] = True
_BLANK_ROUNDS = 32
_NOWHERE = np.iinfo(np.int64).max


class Source:
    """The bytes that payloads lie in, and where among them certain bytes stand: looked for once, when asked."""

    def __init__(self, buffer: pa.Buffer) -> None:
        """Take the bytes."""
        self.buffer = buffer
        self.data: Bytes = np.frombuffer(buffer, np.uint8)
        self._positions: dict[bytes, Offsets] = {}

    def positions(self, byte: bytes) -> Offsets:
        """Return where a byte stands, in ascending order; the last entry is behind everything."""
        if byte not in self._positions:
            self._positions[byte] = np.append(np.flatnonzero(self.data == byte[0]), _NOWHERE)
        return self._positions[byte]

    @cached_property
    def continuing(self) -> Offsets:
        """Where the bytes stand that continue a character of UTF-8."""
        return np.flatnonzero((self.data & 0xC0) == 0x80)


@dataclass(frozen=True, eq=False)
class Payloads:
    """Payloads of a batch, or of some of its rows, in order.

    Attributes:
        source: the bytes that they lie in.
        starts: where each begins, behind a byte order mark.
        ends: where each ends, before trailing blanks.
        untrimmed_ends: where each ends, with its trailing blanks.
    """

    source: Source
    starts: Offsets
    ends: Offsets
    untrimmed_ends: Offsets

    @classmethod
    def of(cls, column: pa.BinaryArray) -> "Payloads":
        """Return the payloads of a column of bytes; a null one is empty."""
        offsets = offsets_of(column).astype(np.int64)
        # A slice's bytes only: the column may be a large one's.
        source = Source(buffer_of(column).slice(offsets[0], offsets[-1] - offsets[0]))
        offsets -= offsets[0]
        starts, ends = offsets[:-1].copy(), offsets[1:]
        nulls = is_null(column)
        starts[nulls] = ends[nulls]
        marked = np.flatnonzero(ends - starts >= len(_BYTE_ORDER_MARK))
        for place, byte in enumerate(_BYTE_ORDER_MARK):
            marked = marked[source.data[starts[marked] + place] == byte]
        starts[marked] += len(_BYTE_ORDER_MARK)
        return cls(source, starts, _before_blanks(source.data, starts, ends), ends)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.starts)

    def of_rows(self, rows: Offsets) -> "Payloads":
        """Return the payloads of some rows, which must ascend."""
        if len(rows) == len(self):
            return self
        return replace(self, starts=self.starts[rows], ends=self.ends[rows], untrimmed_ends=self.untrimmed_ends[rows])

    @property
    def lengths(self) -> Offsets:
        """Bytes of each, without mark and trailing blanks."""
        return self.ends - self.starts

    def begin_with(self, byte: bytes) -> Mask:
        """Say which of them begin with a byte, blanks before it aside."""
        starts = _behind_blanks(self.source.data, self.starts, self.ends)
        mask = starts < self.ends
        mask[mask] = self.source.data[starts[mask]] == byte[0]
        return mask

    def first(self, byte: bytes) -> Offsets:
        """Return where a byte stands first in each; the end where it does not."""
        at = self.source.positions(byte)
        return np.minimum(at[np.searchsorted(at, self.starts)], self.ends)

    def hold(self, byte: bytes) -> Mask:
        """Say which of them hold a byte."""
        return self.first(byte) < self.ends

    def characters(self, ends: Offsets) -> Offsets:
        """Return the number of characters from each start to `ends`."""
        at = self.source.continuing
        lengths: Offsets = ends - self.starts
        return lengths - (np.searchsorted(at, ends) - np.searchsorted(at, self.starts)) if len(at) else lengths

    def split(self, separator: bytes, parts: int) -> tuple[list[pa.StringArray], Offsets]:
        """Split each at a separator.

        Args:
            separator: one byte.
            parts: how many parts are wanted.

        Returns:
            The parts as fields, and how many separators each payload has. A part that is not there is null.
        """
        at = self.source.positions(separator)
        firsts = np.searchsorted(at, self.starts)
        counts = np.searchsorted(at, self.ends) - firsts
        fields, start = [], self.starts
        for part in range(parts):
            # Of a payload with fewer separators it is one of a later payload, behind its end.
            end = np.minimum(at[np.minimum(firsts + part, len(at) - 1)], self.ends)
            fields.append(self.fields(start, end))
            start = np.minimum(end + 1, self.ends)
        return fields, counts

    def fields(self, starts: Offsets, ends: Offsets) -> pa.StringArray:
        """Cut one field out of each: without the blanks around it, null where there is nothing else."""
        return trimmed(cut(self.source.buffer, starts, ends))

    def texts(self) -> pa.StringArray:
        """Return each as text."""
        return cut(self.source.buffer, self.starts, self.ends)


def are_utf8(payloads: pa.BinaryArray) -> Mask:
    """Say which rows are UTF-8 (RFC 3629); null is."""
    mask = np.ones(len(payloads), np.bool_)
    try:
        payloads.cast(pa.string())
    except pa.ArrowInvalid:
        # It does not say where.
        offsets = offsets_of(payloads)
        beyond_ascii = np.flatnonzero(bytes_of(payloads)[offsets[0] : offsets[-1]] >= 0x80) + offsets[0]
        rows = np.unique(np.searchsorted(offsets[1:], beyond_ascii, side="right"))
        mask[rows] = row_by_row(rows, payloads, _is_utf8)
    return mask


def _is_utf8(value: bytes | None) -> bool:
    try:
        return value is None or value.decode() is not None
    except UnicodeDecodeError:
        return False


def _before_blanks(data: Bytes, starts: Offsets, ends: Offsets) -> Offsets:
    """Return `ends`, moved before trailing blanks."""
    ends = ends.copy()
    rows = np.flatnonzero(starts < ends)
    for _ in range(_BLANK_ROUNDS):
        rows = rows[_IS_BLANK[data[ends[rows] - 1]]]
        if not len(rows):
            return ends
        ends[rows] -= 1
        rows = rows[starts[rows] < ends[rows]]
    for row in rows:
        ends[row] = starts[row] + len(data[starts[row] : ends[row]].tobytes().rstrip(_BLANKS))
    return ends


def _behind_blanks(data: Bytes, starts: Offsets, ends: Offsets) -> Offsets:
    """Return `starts`, moved behind leading blanks."""
    starts = starts.copy()
    rows = np.flatnonzero(starts < ends)
    for _ in range(_BLANK_ROUNDS):
        rows = rows[_IS_BLANK[data[starts[rows]]]]
        if not len(rows):
            return starts
        starts[rows] += 1
        rows = rows[starts[rows] < ends[rows]]
    for row in rows:
        starts[row] = ends[row] - len(data[starts[row] : ends[row]].tobytes().lstrip(_BLANKS))
    return starts
