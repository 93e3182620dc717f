"""Payloads: the messages of a batch as spans of one buffer, and what the decoders ask of them."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from orion_beam.transforms.arrow.compiled import (
    BYTE,
    BYTES,
    INT64,
    INT64S,
    TEXTS,
    Bytes,
    Mask,
    Offsets,
    Texts,
    compiled,
    is_valid,
    texts_of,
)
from orion_beam.transforms.arrow.texts import (
    bytes_of,
    fields_of,
    if_else,
    is_blank,
    row_by_row,
    slice_texts,
    text_offsets,
    to_bytes,
)

_QUOTE = ord('"')

Spans = npt.NDArray[np.int64]
"""Where fields begin, or end: a row for each field, a column for each payload."""


@dataclass(frozen=True, eq=False)
class Payloads:
    """Payloads of a batch, or of some of its rows, in order.

    Attributes:
        data: the bytes that they lie in.
        starts: where each begins, behind a byte order mark.
        ends: where each ends, before trailing blanks.
        untrimmed_ends: where each ends, with its trailing blanks.
    """

    data: Bytes
    starts: Offsets
    ends: Offsets
    untrimmed_ends: Offsets

    @classmethod
    def of(cls, column: pa.BinaryArray) -> "Payloads":
        """Return the payloads of a column of bytes; a null one is empty."""
        texts = texts_of(column)
        return cls(texts.data, *_bounds(texts))

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
        return _begin_with(self.data, self.starts, self.ends, byte[0])

    def first(self, characters: bytes) -> Offsets:
        """Return where one of some ASCII characters stands first in each; the end where none does."""
        return _first(self.data, self.starts, self.ends, to_bytes(characters))

    def hold(self, characters: bytes) -> Mask:
        """Say which of them hold one of some ASCII characters."""
        return self.first(characters) < self.ends

    def characters(self, ends: Offsets) -> Offsets:
        """Return the number of characters from each start to `ends`."""
        return _characters(self.data, self.starts, ends)

    def split(self, separator: bytes, parts: int) -> tuple[list[pa.StringArray], Offsets]:
        """Split each at a separator.

        A part may stand in quotes (RFC 4180): the separators in them are part of it, and two quotes in them are one.
        Quotes that do not end where the part ends are characters like others.

        Args:
            separator: one byte.
            parts: how many parts are wanted.

        Returns:
            The parts as fields, and how many separators each payload has; one that stands behind all parts at the end
            of a payload is not counted. A part that is not there is null.
        """
        starts, ends, counts, pairs = _split(self.data, self.starts, self.ends, separator[0], parts)
        fields = self.fields(starts, ends)
        if pairs:
            is_quoted = (starts > self.starts) & (self.data[starts - 1] == _QUOTE)
            fields = _with_pairs_as_one(fields, is_quoted)
        return fields, counts

    def cut_at(self, places: tuple[int, ...]) -> list[pa.StringArray]:
        """Cut each into fields.

        Args:
            places: characters before each field, and before what is behind the last one.
        """
        bounds = _places_of_characters(self.data, self.starts, self.ends, np.array(places, np.int64))
        return self.fields(bounds[:-1], bounds[1:])

    def fields(self, starts: Spans, ends: Spans) -> list[pa.StringArray]:
        """Cut fields out of each: without the blanks around them, null where there is nothing else."""
        return fields_of(self.data, starts, ends)

    def texts(self) -> pa.StringArray:
        """Return each as text."""
        return slice_texts(pa.py_buffer(self.data), self.starts, self.ends)


@compiled(TEXTS)
def _bounds(payloads: Texts) -> tuple[Offsets, Offsets, Offsets]:
    rows = len(payloads.offsets) - 1
    starts, ends, untrimmed_ends = np.empty(rows, np.int64), np.empty(rows, np.int64), np.empty(rows, np.int64)
    data = payloads.data
    for row in range(rows):
        start, end = int(payloads.offsets[row]), int(payloads.offsets[row + 1])
        if not is_valid(payloads, row):
            start = end
        untrimmed_ends[row] = end
        # UTF-8's byte order mark.
        if end - start >= 3 and data[start] == 0xEF and data[start + 1] == 0xBB and data[start + 2] == 0xBF:
            start += 3
        while start < end and is_blank(data[end - 1]):
            end -= 1
        starts[row], ends[row] = start, end
    return starts, ends, untrimmed_ends


@compiled(BYTES, INT64S, INT64S, BYTE)
def _begin_with(data: Bytes, starts: Offsets, ends: Offsets, byte: int) -> Mask:
    mask = np.zeros(len(starts), np.bool_)
    for row in range(len(starts)):
        start = starts[row]
        while start < ends[row] and is_blank(data[start]):
            start += 1
        mask[row] = start < ends[row] and data[start] == byte
    return mask


@compiled(BYTES, INT64S, INT64S, BYTES)
def _first(data: Bytes, starts: Offsets, ends: Offsets, characters: Bytes) -> Offsets:
    is_wanted = np.zeros(256, np.bool_)
    for character in characters:
        is_wanted[character] = True
    places = np.empty(len(starts), np.int64)
    for row in range(len(starts)):
        place = starts[row]
        while place < ends[row] and not is_wanted[data[place]]:
            place += 1
        places[row] = place
    return places


@compiled(BYTE)
def _continues(byte: int) -> bool:
    """Say whether a byte continues a character of UTF-8."""
    return byte & 0xC0 == 0x80


@compiled(BYTES, INT64S, INT64S)
def _characters(data: Bytes, starts: Offsets, ends: Offsets) -> Offsets:
    counts = np.zeros(len(starts), np.int64)
    for row in range(len(starts)):
        for place in range(starts[row], ends[row]):
            counts[row] += not _continues(data[place])
    return counts


@compiled(BYTES, INT64, INT64, BYTE)
def _quoted_end(data: Bytes, place: int, end: int, separator: int) -> tuple[int, int]:
    """Return where the quote that ends a quoted part stands, and the pairs of quotes before it.

    The place is -1 where none does: behind such a quote comes a separator, or the end, or blanks and one of them.
    """
    pairs = 0
    while place < end:
        if data[place] == _QUOTE:
            if place + 1 < end and data[place + 1] == _QUOTE:
                pairs, place = pairs + 1, place + 1
            else:
                behind = place + 1
                while behind < end and is_blank(data[behind]):
                    behind += 1
                return (place, pairs) if behind == end or data[behind] == separator else (-1, 0)
        place += 1
    return -1, 0


@compiled(BYTES, INT64S, INT64S, BYTE, INT64)
def _split(
    data: Bytes, starts: Offsets, ends: Offsets, separator: int, parts: int
) -> tuple[Spans, Spans, Offsets, int]:
    """Return where parts begin and end, how many separators each payload has, and the pairs of quotes in all."""
    rows = len(starts)
    part_starts, part_ends = np.empty((parts, rows), np.int64), np.empty((parts, rows), np.int64)
    counts = np.zeros(rows, np.int64)
    all_pairs = 0
    for row in range(rows):
        part, place, end = 0, starts[row], ends[row]
        while True:
            first, closing = place, -1
            while place < end and is_blank(data[place]):
                place += 1
            if place < end and data[place] == _QUOTE:
                closing, pairs = _quoted_end(data, place + 1, end, separator)
                if closing >= 0:
                    first, place, all_pairs = place + 1, closing, all_pairs + pairs
            while place < end and data[place] != separator:
                place += 1
            last = place if closing < 0 else closing
            if part < parts:
                part_starts[part, row], part_ends[part, row] = first, last
            if place == end:
                break
            part, place = part + 1, place + 1
        for missing in range(part + 1, parts):
            part_starts[missing, row], part_ends[missing, row] = end, end
        counts[row] = part - (part == parts and first == last)
    return part_starts, part_ends, counts, all_pairs


def _with_pairs_as_one(fields: list[pa.StringArray], is_quoted: npt.NDArray[np.bool_]) -> list[pa.StringArray]:
    return [
        if_else(quoted, pc.replace_substring(field, '""', '"'), field)
        for field, quoted in zip(fields, is_quoted, strict=True)
    ]


@compiled(BYTES, INT64S, INT64S, INT64S)
def _places_of_characters(data: Bytes, starts: Offsets, ends: Offsets, characters: Offsets) -> Spans:
    """Return where each payload has had so many characters; its end if it has not as many."""
    places = np.empty((len(characters), len(starts)), np.int64)
    for row in range(len(starts)):
        place, count = starts[row], 0
        for index in range(len(characters)):
            while place < ends[row] and count < characters[index]:
                place, count = place + 1, count + 1
                while place < ends[row] and _continues(data[place]):
                    place += 1
            places[index, row] = place
    return places


def are_utf8(payloads: pa.BinaryArray) -> Mask:
    """Say which rows are UTF-8 (RFC 3629); null is."""
    mask = np.ones(len(payloads), np.bool_)
    try:
        payloads.cast(pa.string())
    except pa.ArrowInvalid:
        # It does not say where.
        offsets = text_offsets(payloads)
        beyond_ascii = np.flatnonzero(bytes_of(payloads)[offsets[0] : offsets[-1]] >= 0x80) + offsets[0]
        rows = np.unique(np.searchsorted(offsets[1:], beyond_ascii, side="right"))
        mask[rows] = row_by_row(rows, payloads, _is_utf8)
    return mask


def _is_utf8(value: bytes | None) -> bool:
    try:
        return value is None or value.decode() is not None
    except UnicodeDecodeError:
        return False
