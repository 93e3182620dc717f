"""Compiled operations on columns of text: each says of every row, in slices and beside nulls, what Python says."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from orion_beam.schemas.fields import BLANKS
from orion_beam.transforms.arrow.texts import digit_counts, fields_of, index_among, take_texts
from orion_beam.transforms.stage.batches import RecordBatchCoder

TEXTS = st.lists(st.none() | st.text(st.sampled_from("059 ;aZé٣"), max_size=6), max_size=40)


@st.composite
def columns(draw) -> pa.StringArray:
    """Columns that are a part of another one, as batches that were cut are."""
    texts = draw(TEXTS)
    start = draw(st.integers(0, len(texts)))
    return pa.array(texts, pa.string()).slice(start, draw(st.integers(0, len(texts) - start)))


@given(columns())
def test_digits_are_counted_where_a_text_is_digits_alone(column):
    expected = [
        len(text) if text is not None and all(each in "0123456789" for each in text) else -1
        for text in column.to_pylist()
    ]
    assert digit_counts(column).tolist() == expected


@given(columns(), st.lists(st.text(st.sampled_from("059az"), max_size=2), max_size=4, unique=True))
def test_a_text_is_found_among_options_whatever_its_case(column, options):
    lowered = [None if text is None else text.replace("Z", "z") for text in column.to_pylist()]
    expected = [options.index(text) if text in options else -1 for text in lowered]
    assert index_among(column, tuple(options)).tolist() == expected


@given(columns().filter(lambda column: len(column) > 0), st.data())
def test_options_are_chosen_by_their_place_and_nothing_by_a_negative_one_or_a_null(options, data):
    indices = data.draw(st.lists(st.integers(-2, len(options) - 1), max_size=40))
    taken = take_texts(options, np.array(indices, np.int64))
    taken.validate(full=True)
    texts = options.to_pylist()
    assert taken.to_pylist() == [None if index < 0 else texts[index] for index in indices]


@given(st.lists(st.text(st.sampled_from(" \t\r\n;aé"), max_size=8), max_size=30))
def test_fields_are_cut_without_blanks_and_null_where_there_is_nothing_else(records):
    parts = [(record.split(";") + ["", ""])[:2] for record in records]
    encoded = [record.encode() for record in records]
    starts_of_records = np.cumsum([0, *map(len, encoded)])[:-1].astype(np.int64)
    lengths = np.array([[len(part.encode()) for part in each] for each in parts], np.int64).reshape(-1, 2).T
    starts = np.vstack([starts_of_records, starts_of_records + lengths[0] + 1])
    ends = starts + lengths
    missing = np.array([";" not in record for record in records], np.bool_)
    # A field that is not there ends before it begins.
    ends[1, missing] = starts[1, missing] - 1
    fields = fields_of(np.frombuffer(b"".join(encoded), np.uint8), starts, ends)
    for place, field in enumerate(fields):
        field.validate(full=True)
        coder = RecordBatchCoder()
        batch = pa.RecordBatch.from_arrays([field], names=["field"])
        assert coder.decode(coder.encode(batch)).equals(batch), "it does not survive the way to another process"
        assert field.to_pylist() == [each[place].strip(BLANKS) or None for each in parts]
