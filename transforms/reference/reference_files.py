"""Loading of reference data, cells and subscribers, from files here, on S3 or on Beam's file systems, and reload."""

import csv
import hashlib
import io
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from threading import Event, Thread
from typing import IO, TYPE_CHECKING, NamedTuple
from weakref import ref

import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from orion_beam.schemas.fields import SUBSCRIBER_TYPES
from orion_beam.transforms.reference.file_content import DamagedFileError, encoding_of, open_whole
from orion_beam.transforms.reference.lookups import DuplicateKeysError, Keys, Lookup, NumberKeys, TextKeys, plain
from orion_beam.transforms.reference.s3_files import PREFIX as S3
from orion_beam.transforms.reference.s3_files import stamp_of_s3
from orion_beam.transforms.stage.exceptions import name_of

CELL_COLUMNS = {"cell_id": pl.String, "country": pl.String, "plmn": pl.String, "place": pl.String,
                "lat": pl.Float64, "lon": pl.Float64}  # fmt: skip
SUBSCRIBER_COLUMNS = {"imsi": pl.String, "segment": pl.String, "plan": pl.String, "subscriber_type": pl.String}

_CHUNK_ROWS = 1 << 18
_CHUNK_BYTES = 16 << 20
_MOST_ROWS_NAMED = 5
_HEAD_BYTES = 1000
_HEADER_ROWS = 1
"""Rows of the header. Arrow counts rows from 1, including the header."""

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_logger = logging.getLogger(__name__)


class ReferenceDataError(ValueError):
    """Reference data cannot be used. The message names file, column or lines, and the fault, never a value."""


class UnreadableReferenceError(ReferenceDataError):
    """Reference data could not be read, perhaps only for now."""


@dataclass(frozen=True)
class _Table:
    """The contents of a kind of reference file.

    Attributes:
        key: Name of the unique column.
        keys: Type of the keys.
        columns: Type by name of column, with the key's.
        broken: Expression that is true in a row that breaks a rule.
    """

    key: str
    keys: type[Keys]
    columns: Mapping[str, type[pl.DataType]]
    broken: pl.Expr


_CELLS = _Table("cell_id", TextKeys, CELL_COLUMNS, ~pl.col("country").str.contains("^[A-Z]{2}$")
                | ~pl.col("plmn").str.contains("^[0-9]{5,6}$")
                | ~pl.col("lat").is_between(-90, 90)
                | ~pl.col("lon").is_between(-180, 180))  # fmt: skip
_SUBSCRIBERS = _Table("imsi", NumberKeys, SUBSCRIBER_COLUMNS, ~pl.col("imsi").str.contains("^[0-9]{14,15}$")
                      | ~pl.col("subscriber_type").is_in(SUBSCRIBER_TYPES))  # fmt: skip


def load_cells(path: str) -> Lookup:
    """Load the cells: country, plmn, place, lat and lon by `cell_id`.

    Args:
        path: Path of a CSV or Parquet file (by its ending) on S3 or any file system that Beam supports.

    Raises:
        ReferenceDataError: The file cannot be read, lacks a column, or has a cell twice or a value out of range.
    """
    return _load(path, _CELLS)


def load_subscribers(path: str) -> Lookup:
    """Load the subscribers: segment, plan and subscriber_type by `imsi`.

    Args:
        path: Path of a CSV or Parquet file (by its ending) on S3 or any file system that Beam supports.

    Raises:
        ReferenceDataError: The file cannot be read, lacks a column, or has an IMSI twice, an invalid IMSI or an unknown
            subscriber type.
    """
    return _load(path, _SUBSCRIBERS)


class _BadRowsError(Exception):
    """Some rows cannot be used. The error holds their numbers, from 0, and the reason."""

    def __init__(self, reason: str, rows: Sequence[int]) -> None:
        super().__init__(reason)
        self.reason, self.rows = reason, rows[:_MOST_ROWS_NAMED]


def _load(path: str, table: _Table) -> Lookup:
    is_parquet = path.endswith(".parquet")
    try:
        try:
            if Path(path).is_fifo():
                raise OSError("it is a pipe: workers read it, too, so give a file")
            with open_whole(path) as file:
                lookup = _lookup_of(_parquet(file, table), table) if is_parquet else _csv_lookup(file, table)
        except _BadRowsError as bad:
            lines = [] if is_parquet else _lines_of(path, bad.rows)
            where = f"lines {_listed(lines)}" if lines else f"rows {_listed(bad.rows, 1)}"
            raise ReferenceDataError(f"reference data {path}: {bad.reason} in {where}") from None
    except pl.exceptions.PanicException as error:
        # Polars panics at some types of columns. A panic is a BaseException, and no PolarsError.
        reason = str(error).partition("\n")[0]
        raise ReferenceDataError(f"reference data {path}: Polars cannot read it: {reason}") from None
    except (OSError, KeyError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        # The first line of these texts names the fault; the rest is advice.
        reason = str(error).partition("\n")[0] or type(error).__name__
        kind = UnreadableReferenceError if isinstance(error, OSError) else ReferenceDataError
        raise kind(f"reference data {path}: {reason}") from None
    # Return the memory that only loading needed.
    pa.default_memory_pool().release_unused()
    return lookup


class _Content(NamedTuple):
    """A file's rows in chunks, and its version, a hash of its content. Call `version` after all chunks are read."""

    chunks: Iterator[pl.DataFrame]
    version: Callable[[], str]


def _lookup_of(content: _Content, table: _Table) -> Lookup:
    """Check and encode the content chunk by chunk, so that the whole file is never in memory."""
    keys = table.keys()
    values: dict[str, list[pa.DictionaryArray]] = {name: [] for name in table.columns if name != table.key}
    rows = 0
    for frame in chain([pl.DataFrame(schema=table.columns)], content.chunks):
        checked = _checked(frame, table, rows)
        keys.add(plain(checked[table.key]))
        for name, encoded in values.items():
            encoded.append(plain(checked[name]).dictionary_encode())
        rows += len(frame)
    try:
        return Lookup(keys, values, content.version())
    except DuplicateKeysError as error:
        raise _BadRowsError(f"{table.key} comes twice", error.rows) from None


def _checked(frame: pl.DataFrame, table: _Table, first_row: int) -> pl.DataFrame:
    """Return a chunk with typed columns.

    Raises:
        _BadRowsError: A row breaks a rule. Rows are counted from `first_row`.
    """
    typed = frame.cast(pl.Schema(table.columns), strict=False)
    is_unreadable = pl.any_horizontal(frame[name].is_not_null() & typed[name].is_null() for name in table.columns)
    for reason, broken in ((f"{table.key} is empty", typed[table.key].is_null()),
                           ("a value is no number", typed.select(is_unreadable).to_series()),
                           ("a value is out of range", typed.select(table.broken).to_series())):  # fmt: skip
        rows = broken.fill_null(False).arg_true()
        if len(rows):
            raise _BadRowsError(reason, [first_row + row for row in rows])
    return typed


def _csv_lookup(file: IO[bytes], table: _Table) -> Lookup:
    hashed = _Hashed(file)
    try:
        return _lookup_of(_csv(hashed, table), table)
    except pa.ArrowInvalid as error:
        # All columns are read as text, so invalid UTF-8 is the only fault for which Arrow refuses a row.
        row = re.search(r"Row #([0-9]+)", str(error))
        if row is None:
            raise
        raise _BadRowsError("a text is not UTF-8", [int(row[1]) - _HEADER_ROWS - 1]) from None
    finally:
        # If the file itself cannot be read, that error comes first: all other faults follow from it.
        hashed.check()


def _parquet(file: IO[bytes], table: _Table) -> _Content:
    version = hashlib.blake2b(digest_size=4)
    while read := file.read(_CHUNK_BYTES):
        version.update(read)
    file.seek(0)
    parquet = pyarrow.parquet.ParquetFile(file)
    missing = [name for name in table.columns if name not in parquet.schema_arrow.names]
    if missing:
        raise KeyError(f"there is no column {missing[0]}")
    batches = parquet.iter_batches(_CHUNK_ROWS, columns=list(table.columns))
    return _Content((_frame(batch).select(list(table.columns)) for batch in batches), version.hexdigest)


def _csv(hashed: "_Hashed", table: _Table) -> _Content:
    misshapen: list[int] = []

    def note(row: pyarrow.csv.InvalidRow) -> str:
        misshapen.append(row.number - _HEADER_ROWS - 1)
        return "skip"

    reader = pyarrow.csv.open_csv(
        pa.PythonFile(hashed, "r"),
        # Arrow numbers the rows only if it reads with one thread.
        pyarrow.csv.ReadOptions(use_threads=False, block_size=_CHUNK_BYTES),
        pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
        pyarrow.csv.ConvertOptions(
            include_columns=list(table.columns),
            column_types=dict.fromkeys(table.columns, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
        ),
    )

    def chunks() -> Iterator[pl.DataFrame]:
        for batch in reader:
            if misshapen:
                raise _BadRowsError("the number of columns is not the header's", misshapen)
            yield _frame(batch)
        if misshapen:
            raise _BadRowsError("the number of columns is not the header's", misshapen)

    return _Content(chunks(), hashed.version.hexdigest)


class _Hashed(io.RawIOBase):
    """A file that is read once, from start to end, and hashed on the way.

    Arrow reads in a thread of its own. If a read fails, the file seems to end for Arrow, and `check` raises the error.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.version = file, hashlib.blake2b(digest_size=4)
        self._is_begun = False
        self._error: OSError | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer)
        try:
            read = self._file.read(len(view))
            if not self._is_begun and (encoding := encoding_of(read[:_HEAD_BYTES])):
                raise DamagedFileError(f"its text is {encoding.upper()}: save it as UTF-8")
        except OSError as error:
            self._error = error
            return 0
        self._is_begun = True
        view[: len(read)] = read
        self.version.update(read)
        return len(read)

    def check(self) -> None:
        """Raise the error of a failed read, if there was one."""
        if self._error is not None:
            raise self._error


def _frame(batch: pa.RecordBatch) -> pl.DataFrame:
    frame = pl.from_arrow(batch)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _lines_of(path: str, rows: Sequence[int]) -> list[int]:
    """Return the lines of a CSV file, from 1, at which rows begin. Headers, empty lines and quoted newlines count.

    It reads the file again, row by row. That is slow, but happens only for a file that is refused.
    """
    wanted, lines, row = set(rows), [], -1
    with open_whole(path) as file:
        reader = csv.reader(io.TextIOWrapper(file, "utf-8", errors="replace", newline=""))
        begins = 1
        try:
            for record in reader:
                if record:
                    if row in wanted:
                        lines.append(begins)
                    if row == max(wanted):
                        break
                    row += 1
                begins = reader.line_num + 1
        except csv.Error:
            # A quote that nothing closes makes one field of the rest of the file, more than this reader takes.
            if row in wanted:
                lines.append(begins)
    return lines


def _listed(numbers: Iterable[int], first: int = 0) -> str:
    return ", ".join(str(first + number) for number in numbers)


class LiveLookup:
    """A reference file in use. It is loaded again when the file changes.

    If the changed file is invalid or missing, that is logged once, and the last good state stays in use. Readers never
    wait, because a new state replaces the old one only when it is complete.
    """

    def __init__(self, path: str, load: Callable[[str], Lookup], refresh_s: float | None) -> None:
        """Load the file, and check every `refresh_s` seconds whether it has changed; None means no checks.

        Raises:
            ReferenceDataError: The file cannot be used.
        """
        self._path, self._load = path, load
        self._stamp = _stamp(path)
        self.current = load(path)
        if refresh_s is not None:
            Thread(target=_watch, args=(ref(self), refresh_s), name=f"reference data {path}", daemon=True).start()

    def refresh(self) -> bool:
        """Load the file if it has changed since it was last read. Return whether a new state is in use.

        A file that is there but could not be read, or whose loading raises an unexpected error, is tried again.
        """
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return False
        try:
            self.current = self._load(self._path)
        except ReferenceDataError as error:
            if stamp is None or not isinstance(error, UnreadableReferenceError):
                self._stamp = stamp
            refused = {"event": "reference_data_refused"}
            _logger.error("%s; version %s stays in use", error, self.current.version, extra=refused)
            return False
        self._stamp = stamp
        _logger.warning(
            "reference data %s: version %s with %d rows is in use",
            self._path,
            self.current.version,
            len(self.current),
            extra={"event": "reference_data_changed"},
        )
        return True

    def log_failure(self, error: Exception) -> None:
        """Log that a refresh failed with an unexpected error and will be tried again."""
        _logger.error(
            "reference data %s: a refresh failed with %s; version %s stays in use until the next refresh",
            self._path,
            name_of(error),
            self.current.version,
            extra={"event": "reference_refresh_failed"},
        )


def _watch(live: "ref[LiveLookup]", refresh_s: float) -> None:
    """Refresh a look-up for as long as it is in use."""
    never = Event()
    while not never.wait(refresh_s):
        if (in_use := live()) is None:
            return
        try:
            in_use.refresh()
        except Exception as error:
            # If the thread ended here, the data would grow old unnoticed.
            in_use.log_failure(error)
        # Without this, the thread itself would keep the look-up alive.
        del in_use


def _stamp(path: str) -> tuple[int, float] | None:
    """Return the size and the time of last change of a file; None if it does not exist."""
    if path.startswith(S3):
        return stamp_of_s3(path)
    try:
        (found,) = FileSystems.match([path])[0].metadata_list
    except (BeamIOError, ValueError):
        return None
    return found.size_in_bytes, found.last_updated_in_seconds


@cache
def live_lookup(path: str, load: Callable[[str], Lookup], refresh_s: float | None) -> LiveLookup:
    """Return the look-up of a reference file. All callers in a process share it."""
    return LiveLookup(path, load, refresh_s)
