"""Reader of the Avro and Parquet files that a run has written."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
from fastavro.read import SchemaResolutionError
from fastavro.schema import SchemaParseException
from pydantic import BaseModel

from orion_beam.errors import UserError
from orion_beam.schemas.derive import avro_schema

_PARQUET = "*.parquet"
_BROKEN = (
    *(ValueError, KeyError, IndexError, TypeError, EOFError, AttributeError, OverflowError, MemoryError),
    *(SchemaParseException, SchemaResolutionError, pa.ArrowException),
)
"""Errors of fastavro and pyarrow for a file that is cut off, has another format, or holds other records."""


@dataclass(frozen=True)
class RecordFiles:
    """Files of records of one kind.

    Attributes:
        path: File or directory where the files were found.
        files: Paths of the files, sorted.
        model: Model of the records; records of its older versions are read as well.
        schema: Arrow schema of the batches.
    """

    path: Path
    files: tuple[Path, ...]
    model: type[BaseModel]
    schema: pa.Schema

    @property
    def count(self) -> int:
        """Number of records in all files.

        Raises:
            UserError: A file cannot be read; names the file.
        """
        rows = 0
        for file in self.files:
            with self._refusing(file):
                rows += pq.read_metadata(file).num_rows if _is_parquet(file) else _avro_rows(file)
        return rows

    def read(self) -> Iterator[pa.RecordBatch]:
        """Yield all records in order, as batches of `schema`.

        Raises:
            UserError: A file cannot be read, is cut off, or holds something else; names the file.
        """
        for file in self.files:
            with self._refusing(file):
                yield from self._of_parquet(file) if _is_parquet(file) else self._of_avro(file)

    @contextmanager
    def _refusing(self, file: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"{file} cannot be read: {error.strerror or 'it is cut off, or broken'}") from None
        except _BROKEN:
            raise UserError(
                f"{file} cannot be read as records of {self.model.__name__}: it is cut off, or holds something else"
            ) from None

    def _of_avro(self, file: Path) -> Iterator[pa.RecordBatch]:
        reader_schema = json.loads(avro_schema(self.model))
        with file.open("rb") as content:
            for block in fastavro.block_reader(content, reader_schema):
                yield pa.RecordBatch.from_pylist(list(block), schema=self.schema)

    def _of_parquet(self, file: Path) -> Iterator[pa.RecordBatch]:
        for batch in pq.ParquetFile(file).iter_batches():
            known = set(batch.schema.names)
            columns = [
                batch.column(field.name).cast(field.type)
                if field.name in known
                else pa.nulls(batch.num_rows, field.type)
                for field in self.schema
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=self.schema)


def _is_parquet(file: Path) -> bool:
    return file.suffix == ".parquet"


def _avro_rows(file: Path) -> int:
    with file.open("rb") as content:
        # fastavro decodes a block only when its records are read.
        return sum(block.num_records for block in fastavro.block_reader(content))


def records_in(path: Path, name: str, directory: str, model: type[BaseModel], schema: pa.Schema) -> RecordFiles:
    """Find the files of one kind of record in an output.

    Args:
        path: A file, a directory of Parquet files, or a directory that contains `name` or `directory`.
        name: Name of the Avro file in an output directory.
        directory: Name of the directory of Parquet files in an output directory.
        model: Model of the records.
        schema: Arrow schema of the records.

    Raises:
        UserError: There are no such files; names the path and what was expected there.
    """
    if path.is_file():
        return RecordFiles(path, (path,), model, schema)
    if (path / name).is_file():
        return RecordFiles(path / name, (path / name,), model, schema)
    inner = path / directory if (path / directory).is_dir() else path
    files = tuple(sorted(inner.glob(_PARQUET)))
    if not files:
        raise UserError(
            f"--input {path}: expected {name}, a directory {directory} of Parquet files, or what `run --output` or"
            " `replay --output` has written"
        )
    return RecordFiles(inner, files, model, schema)
