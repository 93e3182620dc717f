"""The element of every PCollection between read and write: a `pa.RecordBatch` of some thousand rows.

Arrow flows between the transforms, and the pure functions inside them work on its columns, see `arrow.texts`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from orion_beam.transforms.arrow.row_copies import take
from orion_beam.transforms.arrow.texts import Mask
from orion_beam.transforms.decoders.unread_members import UnreadMember

MAX_ROWS = 32_768
"""Rows of a batch at most. The chain costs the same for a batch of one row as for hundreds, so more is cheaper: 32,768
take a quarter less CPU a row than 8,192, see decision 0013 (docs/decisions)."""


@dataclass(frozen=True)
class SplitBatch:
    """What a stage makes of a batch: `accepted.num_rows + rejected.num_rows` is the number of rows that went in.

    Attributes:
        accepted: rows that keep every rule of the stage, in the stage's output schema.
        rejected: the other rows, as `dead_letter.DEAD_LETTER_SCHEMA`.
        unread: members of records that look like usage and were not read; of decode.
    """

    accepted: pa.RecordBatch
    rejected: pa.RecordBatch
    unread: tuple[UnreadMember, ...] = ()


def columns_of(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """Return the columns of a batch by name."""
    return dict(zip(batch.schema.names, batch.columns, strict=True))


def batch_of(columns: Mapping[str, pa.Array], schema: pa.Schema) -> pa.RecordBatch:
    """Return the columns of `schema` as a batch; others are left out."""
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def filter_rows(batch: pa.RecordBatch, mask: Mask) -> pa.RecordBatch:
    """Return the rows of a batch for which the mask holds, in order."""
    return batch if mask.all() else take(batch, np.flatnonzero(mask))


def empty_batch(schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch of no rows."""
    return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)


def join_small_batches(batches: Sequence[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """Return batches of one schema, at least one, as few as they fit in: one, but where a column is more than 2 GiB."""
    if len(batches) == 1:
        return list(batches)
    try:
        table = pa.Table.from_batches(batches).combine_chunks()
    except pa.ArrowInvalid:
        # A column of lists is not split by Arrow when it is too large.
        return list(batches)
    return table.to_batches() or [batches[0]]


def concat_batches(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Return batches of one schema, at least one, as one.

    Raises:
        OverflowError: a column is more than 2 GiB then. Where that can be, see `join_small_batches`.
    """
    whole, *others = join_small_batches(batches)
    if others:
        raise OverflowError(f"{sum(batch.num_rows for batch in batches)} rows are more than 2 GiB in a column")
    return whole


def at_bundle_end(element: object) -> WindowedValue:
    """Return an element as `finish_bundle` emits it: of no time, in the global window, as all of ours are."""
    return WindowedValue(element, MIN_TIMESTAMP, [GlobalWindow()])


def country_of(batch: pa.RecordBatch) -> str:
    """Return the country of a batch, which is that of its first row."""
    return str(batch.column("country")[0].as_py())


def slices_of(batch: pa.RecordBatch, rows: int = MAX_ROWS) -> Iterator[pa.RecordBatch]:
    """Cut a batch into as few pieces of at most `rows` rows as will do, all about as long, without copying."""
    pieces = -(-batch.num_rows // rows)
    for piece in range(pieces):
        start, end = (batch.num_rows * bound // pieces for bound in (piece, piece + 1))
        yield batch.slice(start, end - start)


class RecordBatchCoder(beam.coders.Coder):  # type: ignore[misc]
    """Arrow IPC stream of exactly one batch, for where a batch crosses a process."""

    def encode(self, batch: pa.RecordBatch) -> bytes:
        """Return the batch as an Arrow IPC stream: of a slice, its own rows only."""
        sink = pa.BufferOutputStream()
        # Beam runs several bundles at a time: threads of Arrow's own would only get into their way.
        with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(use_threads=False)) as stream:
            stream.write_batch(batch)
        return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]

    def decode(self, encoded: bytes) -> pa.RecordBatch:
        """Return the batch of an Arrow IPC stream; its columns point into `encoded`."""
        return pa.ipc.open_stream(encoded).read_next_batch()

    def is_deterministic(self) -> bool:
        """Return False: equal batches may have different buffers."""
        return False

    def estimate_size(self, batch: pa.RecordBatch) -> int:
        """Return the bytes of the batch's buffers, without encoding it."""
        return int(batch.get_total_buffer_size())

    def to_type_hint(self) -> type[pa.RecordBatch]:
        """Return the type that this coder is for."""
        return pa.RecordBatch  # type: ignore[no-any-return]


beam.coders.registry.register_coder(pa.RecordBatch, RecordBatchCoder)
