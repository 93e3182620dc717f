"""The element of every PCollection between read and write: a `pa.RecordBatch` of up to `MAX_ROWS` rows of one country.

polars is the engine inside the pure functions, Arrow is what flows between the transforms. The two share memory: texts
are string views on both sides, so a stage costs no copy of what it does not change.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import polars as pl
import pyarrow as pa

MAX_ROWS = 16_384
"""Rows of a batch at most. The chain costs the same for a batch of one row as for hundreds, so more is cheaper: 16,384
take a quarter less CPU a row than 4,096, see docs/decisions.md."""


@dataclass(frozen=True)
class SplitBatch:
    """What a stage makes of a batch: `accepted.num_rows + rejected.num_rows` is the number of rows that went in.

    Attributes:
        accepted: rows that keep every rule of the stage, in the stage's output schema.
        rejected: the other rows, as `schemas.dead_letter.DEAD_LETTER_SCHEMA`.
    """

    accepted: pa.RecordBatch
    rejected: pa.RecordBatch


def frame_of(batch: pa.RecordBatch) -> pl.DataFrame:
    """Return the polars view of a batch."""
    return pl.DataFrame(batch)


def batch_of(frame: pl.DataFrame, schema: pa.Schema) -> pa.RecordBatch:
    """Return the columns of `schema` as one batch, without copying texts.

    Raises:
        TypeError: a column has another type than `schema` says: a bug in the stage that made it.
    """
    # Arrow picks columns at a tenth of what polars takes for it.
    table = frame.rechunk().to_arrow(compat_level=pl.CompatLevel.newest()).select(schema.names)
    if not table.schema.equals(schema):
        wrong = [f"{is_.name} is {is_.type}, not {must.type}" for is_, must in zip(table.schema, schema, strict=True)
                 if is_.type != must.type]  # fmt: skip
        raise TypeError(f"batch breaks its schema: {'; '.join(wrong)}")
    return table.to_batches()[0] if table.num_rows else empty_batch(schema)


def empty_batch(schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch of no rows."""
    return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)


def country_of(batch: pa.RecordBatch) -> str:
    """Return the country of a batch, which is that of its first row."""
    return str(batch.column("country")[0].as_py())


def slices_of(batch: pa.RecordBatch, rows: int = MAX_ROWS) -> Iterator[pa.RecordBatch]:
    """Cut a batch into pieces of at most `rows` rows, without copying."""
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def _without_foreign_rows(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch with view columns that point at bytes of its own rows only: IPC writes whole buffers."""

    def compact(column: pa.Array) -> pa.Array:
        if pa.types.is_string_view(column.type):
            return column.cast(pa.large_string()).cast(pa.string_view())
        if pa.types.is_binary_view(column.type):
            return column.cast(pa.large_binary()).cast(pa.binary_view())
        return column

    return pa.RecordBatch.from_arrays([compact(column) for column in batch.columns], schema=batch.schema)


class RecordBatchCoder(beam.coders.Coder):  # type: ignore[misc]
    """Arrow IPC stream of exactly one batch, for where a batch crosses a process."""

    def encode(self, batch: pa.RecordBatch) -> bytes:
        """Return the batch as an Arrow IPC stream: of a slice, its own rows only."""
        batch = _without_foreign_rows(batch)
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
