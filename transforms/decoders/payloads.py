"""Payloads: the messages of a batch as spans of one buffer, with the operations that decoders need."""

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
    begins_with,
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
"""Starts or ends of fields in a buffer: shape (fields, payloads)."""


@dataclass(frozen=True, eq=False)
class Payloads:
    """The payloads of a batch, or of some of its rows, in order.

        data  |BOM|imsi;msisdn;...|blanks|BOM|imsi;...
                   ^starts[0]     ^ends[0]    ^starts[1]
                                         ^untrimmed_ends[0]

    Attributes:
        data: Bytes of all payloads.
        starts: Start of each payload, after a byte order mark.
        ends: End of each payload, before trailing blanks.
        untrimmed_ends: End of each payload, after trailing blanks.
    """

    data: Bytes
    starts: Offsets
    ends: Offsets
    untrimmed_ends: Offsets

    @classmethod
    def of(cls, column: pa.BinaryArray) -> "Payloads":
        """Return the payloads of a binary column. A null becomes an empty payload."""
        texts = texts_of(column)
        return cls(texts.data, *_bounds(texts))

    def __len__(self) -> int:
        """Return the number of payloads."""
        return len(self.starts)

    def of_rows(self, rows: Offsets) -> "Payloads":
        """Return the payloads of the given rows. Row indices must ascend."""
        if len(rows) == len(self):
            return self
        return replace(self, starts=self.starts[rows], ends=self.ends[rows], untrimmed_ends=self.untrimmed_ends[rows])

    @property
    def lengths(self) -> Offsets:
        """Length of each payload in bytes, without byte order mark and trailing blanks."""
        return self.ends - self.starts

    def begin_with(self, prefix: bytes) -> Mask:
        """Return which payloads begin with some bytes, after leading blanks."""
        return _begin_with(self.data, self.starts, self.ends, to_bytes(prefix))

    def first(self, characters: bytes) -> Offsets:
        """Return the position of the first of some ASCII characters in each payload; its end if there is none."""
        return _first(self.data, self.starts, self.ends, to_bytes(characters))

    def hold(self, characters: bytes) -> Mask:
        """Return which payloads contain one of some ASCII characters."""
        return self.first(characters) < self.ends

    def characters(self, ends: Offsets) -> Offsets:
        """Return the number of characters from the start of each payload to `ends`."""
        return _characters(self.data, self.starts, ends)

    def split(
        self, separator: bytes, parts: int, *, may_be_quoted: bool = True
    ) -> tuple[list[pa.StringArray], Offsets]:
        """Split each payload at a separator.

        A part may be in quotes (RFC 4180). Separators between quotes are text, and a pair of quotes there stands for
        one quote. If the closing quote is not at the end of the part, the quotes are ordinary characters.

        Args:
            separator: One byte.
            parts: Number of parts to return.
            may_be_quoted: Whether quotes have this meaning; otherwise they are always ordinary characters.

        Returns:
            The parts as fields, and the number of separators in each payload. A missing part is null. A trailing
            separator after the last of `parts` parts is not counted.
        """
        starts, ends, counts, pairs = _split(self.data, self.starts, self.ends, separator[0], parts, may_be_quoted)
        fields = self.fields(starts, ends)
        if pairs:
            is_quoted = (starts > self.starts) & (self.data[starts - 1] == _QUOTE)
            fields = _with_pairs_as_one(fields, is_quoted)
        return fields, counts

    def cut_at(self, places: tuple[int, ...]) -> list[pa.StringArray]:
        """Cut each payload into fields of fixed width.

        Args:
            places: Start of each field in characters from the payload's start, then the end of the last field.
        """
        bounds = _places_of_characters(self.data, self.starts, self.ends, np.array(places, np.int64))
        return self.fields(bounds[:-1], bounds[1:])

    def fields(self, starts: Spans, ends: Spans) -> list[pa.StringArray]:
        """Cut fields out of each payload, without surrounding blanks. A blank field is null."""
        return fields_of(self.data, starts, ends)

    def texts(self) -> pa.StringArray:
        """Return the payloads as a string column."""
        return slice_texts(pa.py_buffer(self.data), self.starts, self.ends)


@compiled(TEXTS)
def _bounds(payloads: Texts) -> tuple[Offsets, Offsets, Offsets]:
    """Return the starts, ends and untrimmed ends of `Payloads`. A null row is empty: its start is its end."""
    rows = len(payloads.offsets) - 1
    starts, ends, untrimmed_ends = np.empty(rows, np.int64), np.empty(rows, np.int64), np.empty(rows, np.int64)
    data = payloads.data
    for row in range(rows):
        start, end = int(payloads.offsets[row]), int(payloads.offsets[row + 1])
        if not is_valid(payloads, row):
            start = end
        untrimmed_ends[row] = end
        # Skip UTF-8's byte order mark.
        if end - start >= 3 and data[start] == 0xEF and data[start + 1] == 0xBB and data[start + 2] == 0xBF:
            start += 3
        while start < end and is_blank(data[end - 1]):
            end -= 1
        starts[row], ends[row] = start, end
    return starts, ends, untrimmed_ends


@compiled(BYTES, INT64S, INT64S, BYTES)
def _begin_with(data: Bytes, starts: Offsets, ends: Offsets, prefix: Bytes) -> Mask:
    """Return whether each data[starts:ends] begins with `prefix`, after leading blanks."""
    mask = np.zeros(len(starts), np.bool_)
    for row in range(len(starts)):
        start = starts[row]
        while start < ends[row] and is_blank(data[start]):
            start += 1
        mask[row] = begins_with(data, start, ends[row], prefix)
    return mask


@compiled(BYTES, INT64S, INT64S, BYTES)
def _first(data: Bytes, starts: Offsets, ends: Offsets, characters: Bytes) -> Offsets:
    """Return the position of the first byte in each data[starts:ends] that is among `characters`; its end if none."""
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
    """Return whether a byte is a continuation byte of UTF-8."""
    return byte & 0xC0 == 0x80


@compiled(BYTES, INT64S, INT64S)
def _characters(data: Bytes, starts: Offsets, ends: Offsets) -> Offsets:
    """Return the number of UTF-8 characters in each data[starts:ends]."""
    counts = np.zeros(len(starts), np.int64)
    for row in range(len(starts)):
        for place in range(starts[row], ends[row]):
            counts[row] += not _continues(data[place])
    return counts


@compiled(BYTES, INT64, INT64, BYTE)
def _quoted_end(data: Bytes, place: int, end: int, separator: int) -> tuple[int, int]:
    """Return the position of the closing quote of a quoted part, and the number of pairs of quotes before it.

    A closing quote is followed by optional blanks and then a separator or the end. The position is -1 if the next
    single quote is not such a quote, or if there is none.
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


@compiled(BYTES, INT64S, INT64S, BYTE, INT64, BYTE)
def _split(
    data: Bytes, starts: Offsets, ends: Offsets, separator: int, parts: int, may_be_quoted: int
) -> tuple[Spans, Spans, Offsets, int]:
    """Return the starts and ends of the parts, the separators in each payload, and the pairs of quotes in all payloads.

    The starts and ends have shape (parts, payloads). Quotes are outside a quoted part:

        data   abc;"d;e";f      parts  abc  d;e  f
    """
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
            if may_be_quoted and place < end and data[place] == _QUOTE:
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
    """Return the byte position in each payload after the given numbers of characters; its end if it is shorter.

    The result has shape (characters, payloads). The numbers must ascend.
    """
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
    """Return which rows are UTF-8 (RFC 3629). A null counts as UTF-8."""
    mask = np.ones(len(payloads), np.bool_)
    try:
        payloads.cast(pa.string())
    except pa.ArrowInvalid:
        # Arrow's error does not name the rows, so all rows with bytes beyond ASCII are checked one by one.
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
