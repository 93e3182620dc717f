"""Helpers and coder for `pa.RecordBatch`, the element of every PCollection between read and write.

A batch has some thousand rows. The pure functions inside the transforms work on its columns, see `arrow.texts`.
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
"""Largest number of rows in a batch. The chain costs the same for a batch of one row as for hundreds, so large batches
are cheaper: 32,768 rows take a quarter less CPU a row than 8,192, see decision 0013 (docs/decisions)."""


@dataclass(frozen=True)
class SplitBatch:
    """Output of a stage for one batch. `accepted.num_rows + rejected.num_rows` is the number of input rows.

    Attributes:
        accepted: Rows that keep every rule of the stage, in the stage's output schema.
        rejected: The other rows, as `dead_letter.DEAD_LETTER_SCHEMA`.
        unread: Members of records that look like usage and were not read; only the decode stage reports them.
    """

    accepted: pa.RecordBatch
    rejected: pa.RecordBatch
    unread: tuple[UnreadMember, ...] = ()


def columns_of(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """Return the columns of a batch by name."""
    return dict(zip(batch.schema.names, batch.columns, strict=True))


def batch_of(columns: Mapping[str, pa.Array], schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch of the columns that `schema` names; other columns are ignored."""
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def filter_rows(batch: pa.RecordBatch, mask: Mask) -> pa.RecordBatch:
    """Return the rows of a batch for which the mask is true, in order."""
    return batch if mask.all() else take(batch, np.flatnonzero(mask))


def empty_batch(schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch of no rows."""
    return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)


def join_small_batches(batches: Sequence[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """Join batches of one schema, at least one, into one batch; into several only if a column is more than 2 GiB."""
    if len(batches) == 1:
        return list(batches)
    try:
        table = pa.Table.from_batches(batches).combine_chunks()
    except pa.ArrowInvalid:
        # Arrow does not split a list column that is too large.
        return list(batches)
    return table.to_batches() or [batches[0]]


def concat_batches(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Join batches of one schema, at least one, into one batch.

    Raises:
        OverflowError: A joined column is more than 2 GiB. If that can happen, use `join_small_batches`.
    """
    whole, *others = join_small_batches(batches)
    if others:
        raise OverflowError(f"{sum(batch.num_rows for batch in batches)} rows are more than 2 GiB in a column")
    return whole


def at_bundle_end(element: object) -> WindowedValue:
    """Wrap an element for output from `finish_bundle`.

    It has no event time; the pipeline uses the global window only.
    """
    return WindowedValue(element, MIN_TIMESTAMP, [GlobalWindow()])


def country_of(batch: pa.RecordBatch) -> str:
    """Return the country of a batch's first row."""
    return str(batch.column("country")[0].as_py())


def slices_of(batch: pa.RecordBatch, rows: int = MAX_ROWS) -> Iterator[pa.RecordBatch]:
    """Cut a batch, without a copy, into the fewest pieces of at most `rows` rows. All have about the same length."""
    pieces = -(-batch.num_rows // rows)
    for piece in range(pieces):
        start, end = (batch.num_rows * bound // pieces for bound in (piece, piece + 1))
        yield batch.slice(start, end - start)


class RecordBatchCoder(beam.coders.Coder):  # type: ignore[misc]
    """Beam coder that encodes a batch as an Arrow IPC stream. Beam uses it when a batch crosses processes."""

    def encode(self, batch: pa.RecordBatch) -> bytes:
        """Return the batch as an Arrow IPC stream. A slice is written with its own rows only."""
        sink = pa.BufferOutputStream()
        # Beam runs several bundles at a time, so threads of Arrow's own would compete with them.
        with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(use_threads=False)) as stream:
            stream.write_batch(batch)
        return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]

    def decode(self, encoded: bytes) -> pa.RecordBatch:
        """Return the batch of an Arrow IPC stream; its columns point into `encoded`."""
        return pa.ipc.open_stream(encoded).read_next_batch()

    def is_deterministic(self) -> bool:
        """Return False because equal batches may have different buffers."""
        return False

    def estimate_size(self, batch: pa.RecordBatch) -> int:
        """Return the size of the batch's buffers in bytes, without encoding them."""
        return int(batch.get_total_buffer_size())

    def to_type_hint(self) -> type[pa.RecordBatch]:
        """Return the type that this coder encodes."""
        return pa.RecordBatch  # type: ignore[no-any-return]


beam.coders.registry.register_coder(pa.RecordBatch, RecordBatchCoder)
