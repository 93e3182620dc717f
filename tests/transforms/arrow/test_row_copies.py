"""Rows taken by their places: Arrow's `take` gives the same."""

from datetime import date

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orion_beam.transforms.arrow.row_copies import take

ROWS = 3_000

some_bytes = st.binary(max_size=20) | st.none()
headers = st.lists(st.fixed_dictionaries({"key": st.text(max_size=3), "value": some_bytes}), max_size=2)
columns = {
    "text": (pa.string(), st.text(max_size=20) | st.none()),
    "always": (pa.string(), st.text(max_size=20)),
    "never": (pa.string(), st.none()),
    "bytes": (pa.binary(), some_bytes),
    "long": (pa.int64(), st.integers(-(2**63), 2**63 - 1) | st.none()),
    "int": (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "double": (pa.float64(), st.floats(allow_nan=False) | st.none()),
    "date": (pa.date32(), st.dates(date(1970, 1, 1), date(2100, 1, 1)) | st.none()),
    "time": (pa.timestamp("ms", "UTC"), st.integers(0, 2**40) | st.none()),
    "flag": (pa.bool_(), st.booleans() | st.none()),
    "words": (pa.list_(pa.string()), st.lists(st.text(max_size=3), max_size=2) | st.none()),
    "headers": (pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())])), headers),
    "no_headers": (pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())])), st.just([])),
}
SCHEMA = pa.schema([(name, kind) for name, (kind, _) in columns.items()])
rows_of_columns = st.lists(st.fixed_dictionaries({name: values for name, (_, values) in columns.items()}), min_size=1)


@given(rows=rows_of_columns, seed=st.integers(0, 2**32 - 1), dropped=st.floats(0, 0.6), start=st.integers(0, 20))
@settings(max_examples=30)
def test_rows_are_taken_as_arrow_takes_them(rows, seed, dropped, start):
    random = np.random.default_rng(seed)
    some = pa.RecordBatch.from_pylist(rows, schema=SCHEMA)
    batch = some.take(pa.array(random.integers(0, len(rows), ROWS + start))).slice(start)
    places = np.flatnonzero(random.random(ROWS) >= dropped)
    taken = take(batch, places)
    taken.validate(full=True)
    assert taken.equals(batch.take(pa.array(places)))


@pytest.mark.parametrize("places", [[], [0], [ROWS - 1], list(range(ROWS)), [*range(1_500), *range(1_600, ROWS)]])
def test_none_one_or_all_rows_are_taken(places):
    batch = pa.RecordBatch.from_pylist([{"text": str(row), "long": row} for row in range(ROWS)], schema=SCHEMA)
    assert take(batch, np.array(places, np.int64)).column("long").to_pylist() == places
    assert take(batch, np.array(places, np.int64)).column("text").to_pylist() == [str(place) for place in places]
