"""Reference data in columns: cells and subscribers, loaded once and looked up a batch at a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import polars as pl
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems

from schemas.fields import SUBSCRIBER_TYPES

CELL_COLUMNS = {"cell_id": pl.String, "country": pl.String, "plmn": pl.String, "place": pl.String,
                "lat": pl.Float64, "lon": pl.Float64}  # fmt: skip
SUBSCRIBER_COLUMNS = {"imsi": pl.String, "segment": pl.String, "plan": pl.String, "subscriber_type": pl.String}


class ReferenceDataError(ValueError):
    """Reference data that cannot be used; names file, column or rows, and what is wrong."""


@dataclass(frozen=True)
class Lookup:
    """A table with a unique text key, kept sorted by it: a look-up is one binary search a row, whatever the size.

    Attributes:
        keys: sorted, unique, no nulls.
        values: one row for each key, then one of nulls, for keys that are not there.
    """

    keys: pl.Series
    values: pl.DataFrame

    @classmethod
    def of(cls, frame: pl.DataFrame, key: str) -> "Lookup":
        """Return the lookup of a frame by one of its columns, which must be unique and without nulls."""
        frame = frame.sort(key)
        values = frame.drop(key)
        return cls(frame[key], pl.concat([values, values.clear(1)]))

    def find(self, keys: pl.Series) -> pl.DataFrame:
        """Return the values for each key, in order: a row of nulls for a key that is null or not there."""
        nowhere = len(self.keys)
        if nowhere == 0:
            return self.values[np.zeros(len(keys), np.int64)]
        places = self.keys.search_sorted(keys).to_numpy()
        candidates = self.keys[np.minimum(places, nowhere - 1)]
        is_found = candidates.eq_missing(keys).to_numpy()
        return self.values[np.where(is_found, places, nowhere)]


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


@cache
def _load(path: str, kind: Literal["cells", "subscribers"]) -> Lookup:
    table = _CELLS if kind == "cells" else _SUBSCRIBERS
    schema = pl.Schema(table.columns)
    try:
        with FileSystems.open(path) as file:
            content = pa.BufferReader(file.read())
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
    return Lookup.of(frame, table.key)


def load_cells(path: str) -> Lookup:
    """Load the cells: `cell_id` to country, plmn, place, lat, lon; once a process.

    Args:
        path: CSV or Parquet (by its ending) on any file system that Beam knows.

    Raises:
        ReferenceDataError: the file cannot be read, lacks a column, has a cell twice or a value out of range.
    """
    return _load(path, "cells")


def load_subscribers(path: str) -> Lookup:
    """Load the subscribers: `imsi` to segment, plan, subscriber_type; once a process.

    Args:
        path: CSV or Parquet (by its ending) on any file system that Beam knows.

    Raises:
        ReferenceDataError: the file cannot be read, lacks a column, has an IMSI twice or an unknown subscriber type.
    """
    return _load(path, "subscribers")
