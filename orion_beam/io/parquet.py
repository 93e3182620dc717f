"""Writer of Parquet files in Hive partitions: `country=FR/event_date=2026-01-31/…`."""

import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

ROW_GROUP_ROWS = 131_072
"""Rows of a row group. They wait in memory; fewer would make column chunks too small to read efficiently."""


class _OpenFile:
    """Parquet file that is being written; rows wait until they fill a row group."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._writer = pq.ParquetWriter(path, schema, compression="snappy")
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        self._waiting.append(batch)
        self._rows += batch.num_rows
        if self._rows >= ROW_GROUP_ROWS:
            self._write_group()

    def close(self) -> None:
        if self._rows:
            self._write_group()
        self._writer.close()

    def discard(self) -> None:
        self._writer.close()
        self._path.unlink(missing_ok=True)

    def _write_group(self) -> None:
        self._writer.write_table(pa.Table.from_batches(self._waiting), row_group_size=self._rows)
        self._waiting, self._rows = [], 0


class _WriteFn(beam.DoFn):  # type: ignore[misc]
    def __init__(self, directory: Path, partition_by: Sequence[str]) -> None:
        self._directory = directory
        self._partition_by = tuple(partition_by)

    def start_bundle(self) -> None:
        self._files: dict[tuple[str, ...], _OpenFile] = {}
        # Another bundle may write to the same directory.
        self._name = f"{uuid.uuid4().hex}.parquet"

    def process(self, batch: pa.RecordBatch) -> None:
        for values, rows in _parts_of(batch, self._partition_by):
            # Readers take the partition columns from the path.
            kept = rows.select([name for name in rows.schema.names if name not in self._partition_by])
            if values not in self._files:
                pairs = zip(self._partition_by, values, strict=True)
                path = self._directory.joinpath(*(f"{name}={value}" for name, value in pairs), self._name)
                self._files[values] = _OpenFile(path, kept.schema)
            self._files[values].write(kept)

    def finish_bundle(self) -> None:
        for file in self._files.values():
            file.close()
        self._files = {}

    def teardown(self) -> None:
        """Close and remove the files of a bundle that failed."""
        for file in getattr(self, "_files", {}).values():
            file.discard()


def _parts_of(batch: pa.RecordBatch, names: Sequence[str]) -> Iterator[tuple[tuple[str, ...], pa.RecordBatch]]:
    """Yield each combination of values of the columns, as texts, with its rows; a batch mostly has one or two."""
    parts: list[tuple[tuple[str, ...], pa.RecordBatch]] = [((), batch)]
    for name in names:
        parts = [
            ((*values, str(value)), rows if len(distinct) == 1 else rows.filter(pc.equal(rows.column(name), value)))
            for values, rows in parts
            for distinct in [rows.column(name).unique()]
            for value in distinct
        ]
    yield from parts


class WriteParquet(beam.PTransform):  # type: ignore[misc]
    """Writes rows to a directory of Parquet files, partitioned by columns whose values are in the paths only.

    In: `pa.RecordBatch`, all of one schema. Each bundle writes its own files under random names. A process that is
    killed leaves files behind, so the caller must give each attempt of a job its own directory.
    """

    def __init__(self, directory: Path, partition_by: Sequence[str]) -> None:
        """Take the directory, and the partition columns: they have few distinct values and no nulls."""
        super().__init__()
        self.directory = directory
        self.partition_by = partition_by

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        """Write each batch."""
        return batches | "WriteParquet" >> beam.ParDo(_WriteFn(self.directory, self.partition_by))
