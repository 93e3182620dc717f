"""Reference data in columns: cells and subscribers, loaded once and looked up a batch at a time."""

from dataclasses import dataclass
from functools import lru_cache

import polars as pl
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems

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
        values: one row for each key.
    """

    keys: pl.Series
    values: pl.DataFrame

    def find(self, keys: pl.Series) -> pl.DataFrame:
        """Return the values for each key, in order: a row of nulls for a key that is null or not there."""
        if self.keys.is_empty():
            return self.values.clear(len(keys))
        places = self.keys.search_sorted(keys).clip(0, len(self.keys) - 1)
        is_found = (self.keys.gather(places) == keys).fill_null(False)
        # A null index gathers a null, so a row that is not found costs no second pass over the columns.
        found = pl.select(pl.when(is_found).then(places)).to_series()
        return self.values.select(pl.all().gather(found))


@lru_cache(maxsize=8)
def load_lookup(path: str, key: str, columns: tuple[tuple[str, pl.DataType], ...]) -> Lookup:
    """Load a reference file.

    Args:
        path: CSV or Parquet (by its ending) on any file system that Beam knows.
        key: the column that rows are looked up by.
        columns: names and types that the file must have; others are ignored.

    Raises:
        ReferenceDataError: the file cannot be read, lacks a column, or has a key twice or none.
    """
    schema = dict(columns)
    try:
        with FileSystems.open(path) as file:
            content = pa.BufferReader(file.read())
        frame = (
            pl.read_parquet(content).select(*schema).cast(schema)
            if path.endswith(".parquet")
            else pl.read_csv(content, schema_overrides=schema).select(*schema)
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ReferenceDataError(f"reference data {path}: {error}") from None
    unusable = frame.with_row_index("row", offset=1).filter(pl.col(key).is_null() | pl.col(key).is_duplicated())
    if unusable.height:
        rows = ", ".join(map(str, unusable["row"].head(5)))
        raise ReferenceDataError(f"reference data {path}: {key} is empty or comes twice in rows {rows}")
    frame = frame.sort(key)
    return Lookup(frame[key], frame.drop(key))


def load_cells(path: str) -> Lookup:
    """Load the cells: `cell_id` to country, plmn, place, lat, lon."""
    return load_lookup(path, "cell_id", tuple(CELL_COLUMNS.items()))


def load_subscribers(path: str) -> Lookup:
    """Load the subscribers: `imsi` to segment, plan, subscriber_type."""
    return load_lookup(path, "imsi", tuple(SUBSCRIBER_COLUMNS.items()))
