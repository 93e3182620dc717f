"""Basic operations on columns of text at the level of Arrow's buffers.

Arrow keeps the texts of a column in one buffer of bytes, with the offset of each text. A question about every byte (is
it a digit, is it a separator) is therefore one operation over the buffer, and a column is cut out of another by
computing offsets.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from orion_beam.schemas.fields import BLANKS
from orion_beam.transforms.arrow.compiled import (
    BYTE,
    BYTES,
    INT32S,
    INT64,
    INT64_ROWS,
    TEXTS,
    Texts,
    column_of,
    compiled,
    copy_bytes,
    is_valid,
    set_valid,
    texts_of,
)
from orion_beam.transforms.arrow.compiled import Bytes as Bytes
from orion_beam.transforms.arrow.compiled import Mask as Mask
from orion_beam.transforms.arrow.compiled import Offsets as Offsets

ZERO = ord("0")


def text_offsets(column: pa.Array) -> npt.NDArray[np.int32]:
    """Return the start of each row of a string or binary column in its bytes, then the end of the last row."""
    if len(column) == 0:
        return np.zeros(1, np.int32)
    offsets = np.frombuffer(column.buffers()[1], np.int32)
    return offsets[column.offset : column.offset + len(column) + 1]


def buffer_of(column: pa.Array) -> pa.Buffer:
    """Return the bytes that the offsets of a string or binary column refer to."""
    return column.buffers()[2] or _NO_BYTES


_NO_BYTES = pa.py_buffer(b"")


def bytes_of(column: pa.Array) -> Bytes:
    """Return the bytes that the offsets of a string or binary column refer to, as an array."""
    return np.frombuffer(buffer_of(column), np.uint8)


def lengths_of(column: pa.Array) -> npt.NDArray[np.int32]:
    """Return the length of each row in bytes. The length of a null row is undefined."""
    return np.diff(text_offsets(column))


def is_null(column: pa.Array) -> Mask:
    """Return which rows are null."""
    if column.null_count == 0:
        return np.zeros(len(column), np.bool_)
    return mask_of(column.is_null())


def mask_of(flags: pa.BooleanArray) -> Mask:
    """Return a boolean column as a mask. A null becomes False."""
    flags = flags.fill_null(False) if flags.null_count else flags
    return flags.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def if_else(mask: Mask, value: Any, other: Any) -> pa.Array:
    """Return `value` in the rows where the mask is true, else `other`. Both are a column, a scalar or None."""
    return pc.if_else(pa.array(mask), value, other)


def to_list(column: pa.Array) -> list[Any]:
    """Return a column's values as Python objects. For texts and bytes it is thirty times faster than Arrow."""
    return pl.Series(column).to_list()


def slice_texts(source: pa.Buffer, starts: npt.NDArray[np.integer], ends: npt.NDArray[np.integer]) -> pa.StringArray:
    """Cut one text a row out of the bytes of a column.

    Args:
        source: Bytes of a string or binary column.
        starts: Start of each text in the bytes; starts must not decrease.
        ends: End of each text.

    Returns:
        String column without nulls.
    """
    count = len(starts)
    if count == 0:
        return pa.array([], pa.string())
    # Read the source as a column that alternates between a wanted text and the gap before the next one; take the texts.
    bounds = np.empty(2 * count, np.int32)
    bounds[::2], bounds[1::2] = starts, ends
    spans = pa.Array.from_buffers(pa.string(), 2 * count - 1, [None, pa.py_buffer(bounds), source])
    return spans.take(pa.array(np.arange(0, 2 * count, 2)))


def fields_of(data: Bytes, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> list[pa.StringArray]:
    """Cut fields out of records.

    Args:
        data: Bytes of the records, UTF-8.
        starts: Start of each field in `data`: shape (fields, records).
        ends: End of each field; at or before its start if a record lacks the field.

    Returns:
        A string column for each field, without surrounding blanks; null if a field is absent or blank.
    """
    offsets, cut_out, bounds, validity, nulls = _fields(data, starts, ends)
    return [
        column_of(offsets[field], cut_out[bounds[field] : bounds[field + 1]], validity[field], int(nulls[field]))
        for field in range(len(starts))
    ]


@compiled(BYTE)
def is_blank(byte: int) -> bool:
    """Return whether a byte is one of `fields.BLANKS`. For use in compiled functions."""
    return byte == 32 or byte == 9 or byte == 10 or byte == 13


@compiled(BYTES, INT64_ROWS, INT64_ROWS)
def _fields(
    data: Bytes, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int32], Bytes, npt.NDArray[np.int64], Bytes, npt.NDArray[np.int64]]:
    """Return the Arrow buffers of all fields: offsets, bytes, bounds, validity bitmaps and numbers of nulls.

    The bytes of the fields are in one array, one field after the other:

        cut_out  |field 0: row 0, row 1, ...|field 1: row 0, ...|
                 bounds[0]                  bounds[1]           bounds[2]

    Row `field` of `offsets` and of `validity` belongs to one field; its offsets count from `bounds[field]`.
    """
    fields, rows = starts.shape
    # The offsets of each field begin at 0, because Arrow's IPC (arrow 18) writes other offsets wrongly.
    offsets, bounds = np.zeros((fields, rows + 1), np.int32), np.zeros(fields + 1, np.int64)
    validity = np.zeros((fields, (rows + 7) // 8), np.uint8)
    nulls = np.zeros(fields, np.int64)
    cut_out = np.empty(np.maximum(ends - starts, 0).sum(), np.uint8)
    written = 0
    for field in range(fields):
        for row in range(rows):
            start, end = starts[field, row], ends[field, row]
            while start < end and is_blank(data[start]):
                start += 1
            while start < end and is_blank(data[end - 1]):
                end -= 1
            if start < end:
                set_valid(validity[field], row)
                copy_bytes(cut_out, written, data, start, end - start)
                written += end - start
            else:
                nulls[field] += 1
            offsets[field, row + 1] = written - bounds[field]
        bounds[field + 1] = written
    return offsets, cut_out, bounds, validity, nulls


def empty_as_null(texts: pa.StringArray) -> pa.StringArray:
    """Return the texts with null in place of empty ones."""
    is_empty = lengths_of(texts) == 0
    return if_else(is_empty, None, texts) if is_empty.any() else texts


def trimmed(texts: pa.StringArray) -> pa.StringArray:
    """Return the texts without surrounding blanks; null for a text that is empty or blank."""
    # All blanks are at most " ", and other such characters are rare. Most columns have none and need no trimming.
    may_have_blanks = (bytes_of(texts) <= ord(" ")).any()
    return empty_as_null(pc.ascii_trim(texts, characters=BLANKS) if may_have_blanks else texts)


def starts_with(texts: pa.Array, prefix: bytes) -> Mask:
    """Return which texts start with an ASCII prefix."""
    return mask_of(pc.starts_with(texts, pattern=prefix.decode()))


def ends_with(texts: pa.Array, suffix: bytes) -> Mask:
    """Return which texts end with an ASCII suffix."""
    return mask_of(pc.ends_with(texts, pattern=suffix.decode()))


def take_texts(options: pa.StringArray, indices: npt.NDArray[np.integer]) -> pa.StringArray:
    """Return for each row the option at its index; null if the index is negative or the option is null."""
    return column_of(*_chosen(texts_of(options), indices.astype(np.int32, copy=False)))


@compiled(TEXTS, INT32S)
def _chosen(options: Texts, indices: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int32], Bytes, Bytes, int]:
    """Return the offsets, bytes, validity bitmap and number of nulls of the column of `take_texts`."""
    rows = len(indices)
    offsets, validity = np.zeros(rows + 1, np.int32), np.zeros((rows + 7) // 8, np.uint8)
    nulls = 0
    for row in range(rows):
        index, length = indices[row], 0
        if index < 0 or not is_valid(options, index):
            nulls += 1
        else:
            set_valid(validity, row)
            length = options.offsets[index + 1] - options.offsets[index]
        offsets[row + 1] = offsets[row] + length
    data = np.empty(offsets[rows], np.uint8)
    for row in range(rows):
        if offsets[row] < offsets[row + 1]:
            length = offsets[row + 1] - offsets[row]
            copy_bytes(data, offsets[row], options.data, options.offsets[indices[row]], length)
    return offsets, data, validity, nulls


def index_in(texts: pa.Array, options: pa.Array) -> npt.NDArray[np.int32]:
    """Return the index of each text among the options; -1 if it is null or none of them."""
    found = pc.index_in(texts, value_set=options, skip_nulls=True)
    return found.fill_null(-1).to_numpy()  # type: ignore[no-any-return]


def is_in(texts: pa.Array, options: pa.Array) -> Mask:
    """Return which texts are among the options."""
    return mask_of(pc.is_in(texts, value_set=options, skip_nulls=True))


def row_by_row(rows: Sequence[int] | Offsets, column: pa.Array, function: Callable[[Any], Any]) -> list[Any]:
    """Apply a function to a few rows of a column, for work that has no columnar form or is too rare to need one."""
    return list(map(function, to_list(column.take(pa.array(rows, pa.int64())))))


@cache
def to_bytes(text: str | bytes) -> Bytes:
    """Return a text's bytes as an array for compiled functions."""
    return np.frombuffer(text.encode() if isinstance(text, str) else text, np.uint8)


@compiled(BYTES, INT64, INT64)
def are_digits(data: Bytes, start: int, end: int) -> bool:
    """Return whether data[start:end] are ASCII digits only. For use in compiled functions."""
    place = start
    while place < end and data[place] - np.uint8(ZERO) <= 9:
        place += 1
    return place == end


@compiled(BYTES, INT64, INT64, BYTES)
def begins_with(data: Bytes, start: int, end: int, prefix: Bytes) -> bool:
    """Return whether data[start:end] begins with a prefix. For use in compiled functions."""
    place = 0
    while place < len(prefix) and start + place < end and data[start + place] == prefix[place]:
        place += 1
    return place == len(prefix)


@compiled(BYTES, INT64, INT64, BYTES)
def equals(data: Bytes, start: int, end: int, text: Bytes) -> bool:
    """Return whether data[start:end] equals a text. For use in compiled functions."""
    return len(text) == end - start and begins_with(data, start, end, text)


def digit_counts(texts: pa.StringArray) -> npt.NDArray[np.int32]:
    """Return the number of digits of each text; -1 if it is null or has other characters."""
    return _digit_counts(texts_of(texts))


@compiled(TEXTS)
def _digit_counts(texts: Texts) -> npt.NDArray[np.int32]:
    counts = np.full(len(texts.offsets) - 1, -1, np.int32)
    for row in range(len(counts)):
        start, end = texts.offsets[row], texts.offsets[row + 1]
        if is_valid(texts, row) and are_digits(texts.data, start, end):
            counts[row] = end - start
    return counts


def index_among(texts: pa.StringArray, options: tuple[str, ...]) -> npt.NDArray[np.int32]:
    """Return the index of each text among the options; -1 if it is null or none of them.

    The options are in lower case. ASCII letters are compared without regard to case.
    """
    return index_in(pc.ascii_lower(texts), _array(options))


@cache
def _array(options: tuple[str, ...]) -> pa.StringArray:
    return pa.array(options, pa.string())
