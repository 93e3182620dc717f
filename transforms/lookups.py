"""Reference data in columns: cells and subscribers, loaded once and looked up a batch at a time."""

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from threading import Event, Thread

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from schemas.fields import SUBSCRIBER_TYPES
from transforms.texts import mask_of

CELL_COLUMNS = {"cell_id": pl.String, "country": pl.String, "plmn": pl.String, "place": pl.String,
                "lat": pl.Float64, "lon": pl.Float64}  # fmt: skip
SUBSCRIBER_COLUMNS = {"imsi": pl.String, "segment": pl.String, "plan": pl.String, "subscriber_type": pl.String}


_logger = logging.getLogger(__name__)


class ReferenceDataError(ValueError):
    """Reference data that cannot be used; names file, column or rows, and what is wrong."""


class Lookup:
    """A table with a unique text key, found by hash: the same few steps a row, whatever the size.

    The hashes are sorted, and their first bits say where among them to look: steps over the whole column until each
    hash is reached.
    """

    def __init__(self, keys: pl.Series, values: pa.RecordBatch, version: str = "") -> None:
        """Take unique keys without nulls, a row of values for each, and what this state of the table is called."""
        self.version = version
        self._seed = 0
        while True:
            hashes = keys.hash(self._seed).to_numpy()
            order = np.argsort(hashes, kind="stable")
            hashes = hashes[order]
            if not (hashes[1:] == hashes[:-1]).any():
                break
            # One chance in a million even for ten million keys.
            self._seed += 1
        bits = max(1, len(keys).bit_length())
        self._shift = np.uint64(64 - bits)
        self._starts = np.searchsorted(hashes >> self._shift, np.arange(1 << bits, dtype=np.uint64)).astype(np.int32)
        # The last entry is what a hash beyond all others meets: no key, and a row of nulls.
        self._hashes = np.append(hashes, np.uint64(_LAST_HASH))
        rows = pa.array(order)
        self._keys = pa.concat_arrays([_texts(keys).take(rows), pa.nulls(1, pa.string())])
        self._names = values.schema.names
        # Few values stand in many rows.
        self._values = [
            pa.concat_arrays([column.take(rows), pa.nulls(1, column.type)]).dictionary_encode()
            for column in values.columns
        ]

    @classmethod
    def of(cls, frame: pl.DataFrame, key: str, version: str = "") -> "Lookup":
        """Return the lookup of a frame by one of its columns, which must be unique and without nulls."""
        values = frame.drop(key)
        columns = {
            name: _texts(values[name]) if kind == pl.String else values[name].to_arrow()
            for name, kind in values.schema.items()
        }
        return cls(frame[key], pa.RecordBatch.from_pydict(columns), version)

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self._keys) - 1

    def find(self, keys: pa.StringArray) -> dict[str, pa.Array]:
        """Return columns of the values for each key, in order: nulls for a key that is null or not there."""
        hashes = pl.Series(keys).hash(self._seed).to_numpy()
        places = self._starts[hashes >> self._shift]
        while (is_behind := self._hashes[places] < hashes).any():
            places += is_behind
        is_found = mask_of(pc.equal(self._keys.take(pa.array(places)), keys))
        rows = pa.array(np.where(is_found, places, len(self._keys) - 1))
        taken = (values.take(rows).dictionary_decode() for values in self._values)
        return dict(zip(self._names, taken, strict=True))


_LAST_HASH = np.iinfo(np.uint64).max


def _texts(column: pl.Series) -> pa.StringArray:
    return column.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.string())


@dataclass(frozen=True)
class _Table:
    """What a reference file must hold: its columns, the unique one, and where a row breaks a rule."""

    key: str
    columns: Mapping[str, type[pl.DataType]]
    broken: pl.Expr


_CELLS = _Table("cell_id", CELL_COLUMNS, ~pl.col("country").str.contains("^[A-Z]{2}$")
                | ~pl.col("plmn").str.contains("^[0-9]{5,6}$")
                | ~pl.col("lat").is_between(-90, 90)
                | ~pl.col("lon").is_between(-180, 180))  # fmt: skip
_SUBSCRIBERS = _Table("imsi", SUBSCRIBER_COLUMNS, ~pl.col("subscriber_type").is_in(SUBSCRIBER_TYPES))


def _load(path: str, table: _Table) -> Lookup:
    schema = pl.Schema(table.columns)
    try:
        with FileSystems.open(path) as file:
            read = file.read()
        content, version = pa.BufferReader(read), hashlib.blake2b(read, digest_size=4).hexdigest()
        frame = (
            pl.read_parquet(content).select(*schema).cast(schema)
            if path.endswith(".parquet")
            else pl.read_csv(content, schema_overrides=schema).select(*schema)
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        # Only the first line of polars' text says what is wrong; the rest is advice on polars.
        raise ReferenceDataError(f"reference data {path}: {str(error).splitlines()[0]}") from None
    key = pl.col(table.key)
    for rule, broken in ((f"{table.key} is empty or comes twice", key.is_null() | key.is_duplicated()),
                         ("a value is out of range", table.broken)):  # fmt: skip
        rows = frame.with_row_index("row", offset=1).filter(broken.fill_null(False))["row"].head(5).to_list()
        if rows:
            raise ReferenceDataError(f"reference data {path}: {rule} in rows {', '.join(map(str, rows))}")
    return Lookup.of(frame, table.key, version)


def load_cells(path: str) -> Lookup:
    """Load the cells: `cell_id` to country, plmn, place, lat, lon.

    Args:
        path: CSV or Parquet (by its ending) on any file system that Beam knows.

    Raises:
        ReferenceDataError: the file cannot be read, lacks a column, has a cell twice or a value out of range.
    """
    return _load(path, _CELLS)


def load_subscribers(path: str) -> Lookup:
    """Load the subscribers: `imsi` to segment, plan, subscriber_type.

    Args:
        path: CSV or Parquet (by its ending) on any file system that Beam knows.

    Raises:
        ReferenceDataError: the file cannot be read, lacks a column, has an IMSI twice or an unknown subscriber type.
    """
    return _load(path, _SUBSCRIBERS)


class LiveLookup:
    """A reference file in use: it is read again when it changes.

    A file that is not good, or not there, is logged once, and the last good state stays in use. Readers never wait: a
    new state takes the old one's place when it is complete.
    """

    def __init__(self, path: str, load: Callable[[str], Lookup], refresh_s: float | None) -> None:
        """Load the file, and look every `refresh_s` seconds whether it has changed; None never looks.

        Raises:
            ReferenceDataError: the file is not good.
        """
        self._path, self._load = path, load
        self._stamp = _stamp(path)
        self.current = load(path)
        if refresh_s is not None:
            Thread(target=self._watch, args=(refresh_s,), name=f"reference data {path}", daemon=True).start()

    def refresh(self) -> bool:
        """Read the file if it has changed since it was last looked at; return whether its content is in use now."""
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self.current = self._load(self._path)
        except ReferenceDataError as error:
            _logger.error("%s; version %s stays in use", error, self.current.version)
            return False
        _logger.warning(
            "reference data %s: version %s with %d rows is in use", self._path, self.current.version, len(self.current)
        )
        return True

    def _watch(self, refresh_s: float) -> None:
        never = Event()
        while not never.wait(refresh_s):
            self.refresh()


def _stamp(path: str) -> tuple[int, float] | None:
    """Return size and time of a file, None if it is not there."""
    try:
        (found,) = FileSystems.match([path])[0].metadata_list
    except (BeamIOError, ValueError):
        return None
    return found.size_in_bytes, found.last_updated_in_seconds


@cache
def live_lookup(path: str, load: Callable[[str], Lookup], refresh_s: float | None) -> LiveLookup:
    """Return a reference file in use, the same for all of a process."""
    return LiveLookup(path, load, refresh_s)
