"""Selection of rows of a batch by their indices. Consecutive rows are copied together.

Arrow selects texts row by row. A stage drops few rows, so the rows that it keeps form long runs.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from orion_beam.transforms.arrow.compiled import (
    BYTES,
    INT64,
    INT64S,
    TEXTS,
    Bytes,
    Offsets,
    Texts,
    compiled,
    copy_bytes,
    texts_of,
)

_ENOUGH_ROWS = 1024
"""Smallest number of rows for which the compiled functions, called per column, are faster than one call of Arrow."""


class _Runs(NamedTuple):
    """Runs of consecutive row indices: the first index of each run, and the index after its last one."""

    starts: Offsets
    ends: Offsets


def take(batch: pa.RecordBatch, places: Offsets) -> pa.RecordBatch:
    """Return the rows of a batch at the given indices, which must ascend."""
    if len(places) < _ENOUGH_ROWS:
        return batch.take(pa.array(places))
    runs = _Runs(*_runs_of(places))
    return pa.RecordBatch.from_arrays([_rows_in(column, runs, places) for column in batch.columns], schema=batch.schema)


def _rows_in(column: pa.Array, runs: _Runs, places: Offsets) -> pa.Array:
    kind, rows = column.type, len(places)
    if column.null_count == len(column) or (pa.types.is_list(kind) and _are_empty(column)):
        return column.slice(0, rows)
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        values: tuple[npt.NDArray[Any], ...] = _texts_in(texts_of(column), *runs)
    elif pa.types.is_primitive(kind) and not pa.types.is_boolean(kind):
        width = kind.bit_width // 8
        values = (_bytes_in(np.frombuffer(column.buffers()[1], np.uint8)[column.offset * width :], width, *runs),)
    else:
        return column.take(pa.array(places))
    validity = None
    if column.null_count:
        validity = pa.py_buffer(_bits_in(np.frombuffer(column.buffers()[0], np.uint8), column.offset, *runs))
    return pa.Array.from_buffers(kind, rows, [validity, *map(pa.py_buffer, values)])


def _are_empty(lists: pa.ListArray) -> bool:
    """Return whether all lists of a column are empty and none is null. Most records have no headers."""
    return lists.null_count == 0 and not len(lists.flatten())


@compiled(INT64S)
def _runs_of(places: Offsets) -> tuple[Offsets, Offsets]:
    """Return the starts and ends of the runs of consecutive indices: 2 3 4 7 8 gives starts 2 7 and ends 5 9."""
    starts, ends = np.empty(len(places), np.int64), np.empty(len(places), np.int64)
    runs = 0
    for index in range(len(places)):
        if index == 0 or places[index] != places[index - 1] + 1:
            starts[runs] = places[index]
            runs += 1
        ends[runs - 1] = places[index] + 1
    return starts[:runs].copy(), ends[:runs].copy()


@compiled(TEXTS, INT64S, INT64S)
def _texts_in(texts: Texts, starts: Offsets, ends: Offsets) -> tuple[npt.NDArray[np.int32], Bytes]:
    """Return the offsets and bytes of the texts in runs of rows.

    The bytes of each run are copied at once:

        texts.data  aa bb CC DD EE ff GG     rows 2 to 4 and row 6 are in runs
        data        CC DD EE GG              offsets are rebased: they begin at 0
    """
    rows = size = 0
    for run in range(len(starts)):
        rows += ends[run] - starts[run]
        size += texts.offsets[ends[run]] - texts.offsets[starts[run]]
    offsets, data = np.empty(rows + 1, np.int32), np.empty(size, np.uint8)
    offsets[0] = 0
    row = written = 0
    for run in range(len(starts)):
        start, end = starts[run], ends[run]
        first = texts.offsets[start]
        for place in range(start, end):
            offsets[row + 1 + place - start] = texts.offsets[place + 1] - first + written
        copy_bytes(data, written, texts.data, first, texts.offsets[end] - first)
        row += end - start
        written += texts.offsets[end] - first
    return offsets, data


@compiled(BYTES, INT64, INT64S, INT64S)
def _bytes_in(values: Bytes, width: int, starts: Offsets, ends: Offsets) -> Bytes:
    """Return the bytes of the values in runs of rows. Each value takes `width` bytes, and each run is one copy."""
    taken = np.empty((ends - starts).sum() * width, np.uint8)
    written = 0
    for run in range(len(starts)):
        size = (ends[run] - starts[run]) * width
        copy_bytes(taken, written, values, starts[run] * width, size)
        written += size
    return taken


@compiled(BYTES, INT64, INT64S, INT64S)
def _bits_in(bits: Bytes, first: int, starts: Offsets, ends: Offsets) -> Bytes:
    """Return the bits of the rows in runs, from an Arrow bitmap in which row 0 has the bit `first`.

    The bits of each run move to the next free bits, across the boundaries of bytes (`|`):

        bits   ...b6 b7|b8 b9...      a run from bit 6 on
        taken  b6 b7 b8 b9...
    """
    taken = np.zeros(((ends - starts).sum() + 7) // 8, np.uint8)
    at = 0
    for run in range(len(starts)):
        bit, end = first + starts[run], first + ends[run]
        while bit < end:
            # The bits up to the next byte boundary in either bitmap are copied together.
            some = min(8 - (at & 7), 8 - (bit & 7), end - bit)
            wanted = (np.uint32(bits[bit >> 3]) >> np.uint32(bit & 7)) & np.uint32((1 << some) - 1)
            taken[at >> 3] |= np.uint8(wanted << np.uint32(at & 7))
            at, bit = at + some, bit + some
    return taken
