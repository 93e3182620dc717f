"""Batches and their coder: what is encoded comes back, whatever it is made of."""

import numpy as np
import pyarrow as pa
import pytest
from apache_beam import coders
from hypothesis import given, settings
from hypothesis import strategies as st

from orion_beam.schemas.cdr import DECODED_SCHEMA, ENRICHED_SCHEMA, NORMALIZED_SCHEMA, UNIFIED_SCHEMA, VALIDATED_SCHEMA
from orion_beam.schemas.dead_letter import DEAD_LETTER_SCHEMA
from orion_beam.schemas.raw import RAW_CDR_SCHEMA
from orion_beam.testing import raw_batch, rows
from orion_beam.transforms.decode import decode_batch
from orion_beam.transforms.stage.batches import (
    MAX_ROWS,
    RecordBatchCoder,
    concat_batches,
    country_of,
    empty_batch,
    join_small_batches,
    slices_of,
)
from tests.strategies import PROFILES, batches_of
from tests.transforms.chain import normalized

CODER = RecordBatchCoder()
PIPE = b"208011234567890|33612345678|sms|||"
every_schema = pytest.mark.parametrize(
    "schema",
    [RAW_CDR_SCHEMA, DECODED_SCHEMA, VALIDATED_SCHEMA, NORMALIZED_SCHEMA, ENRICHED_SCHEMA, UNIFIED_SCHEMA,
     DEAD_LETTER_SCHEMA],
)  # fmt: skip


def assert_round_trip(batch: pa.RecordBatch) -> None:
    back = CODER.decode(CODER.encode(batch))
    back.validate(full=True)
    assert back.schema == batch.schema
    assert rows(back) == rows(batch)


@every_schema
def test_an_empty_batch_comes_back(schema):
    assert_round_trip(empty_batch(schema))
    assert_round_trip(pa.RecordBatch.from_pylist([dict.fromkeys(schema.names)], schema=schema).slice(1))


@every_schema
def test_a_row_of_nulls_comes_back(schema):
    assert_round_trip(pa.RecordBatch.from_pylist([dict.fromkeys(schema.names)] * 3, schema=schema))


@given(data=st.data())
@settings(max_examples=15)
def test_whatever_arrives_comes_back_whole_and_sliced(data):
    payloads = data.draw(batches_of(PROFILES["FR"]))
    raw = raw_batch("FR", payloads, headers=[{"h": payload} for payload in payloads])
    outcome = decode_batch(raw, PROFILES["FR"])
    for batch in (raw, outcome.accepted, outcome.rejected):
        start = data.draw(st.integers(0, batch.num_rows))
        assert_round_trip(batch)
        assert_round_trip(batch.slice(start, data.draw(st.integers(0, batch.num_rows))))


@pytest.mark.parametrize(
    "make", [lambda payloads: raw_batch("FR", payloads), lambda payloads: normalized("FR", payloads)]
)
def test_of_a_slice_only_its_own_rows_are_encoded(make):
    batch = make([PIPE.replace(b"sms", b" " * 2000 + b"sms") for _ in range(500)])
    assert len(CODER.encode(batch)) > 500 * 2000
    assert len(CODER.encode(batch.slice(250, 1))) < 20_000


def test_rows_that_were_filtered_out_are_not_encoded():
    payloads = [PIPE] + [b"x" * 5000] * 200
    outcome = decode_batch(raw_batch("FR", payloads), PROFILES["FR"])
    assert len(CODER.encode(outcome.accepted)) < 20_000


def test_a_decoded_batch_needs_the_bytes_no_longer_than_it_lives():
    encoded = bytearray(CODER.encode(raw_batch("FR", [PIPE] * 3)))
    back = CODER.decode(bytes(encoded))
    encoded[:] = b"\0" * len(encoded)
    assert back.column("raw_value").to_pylist() == [PIPE] * 3


def test_the_coder_is_registered_for_record_batches():
    coder = coders.registry.get_coder(pa.RecordBatch)
    assert isinstance(coder, RecordBatchCoder)
    assert coder.to_type_hint() is pa.RecordBatch
    assert not coder.is_deterministic()


def test_the_size_of_a_batch_is_estimated_without_encoding_it():
    batch = raw_batch("FR", [b"x" * 1000] * 100)
    assert 100_000 < CODER.estimate_size(batch) < 200_000


def test_a_batch_is_cut_into_pieces_of_at_most_so_many_rows():
    batch = raw_batch("FR", [b"x"] * 10)
    pieces = list(slices_of(batch, 4))
    assert [piece.num_rows for piece in pieces] == [3, 3, 4]
    assert rows(pieces) == rows(batch)
    assert list(slices_of(raw_batch("FR", []))) == []
    assert [piece.num_rows for piece in slices_of(raw_batch("FR", [b"x"] * (MAX_ROWS + 1)))] == [
        MAX_ROWS // 2,
        MAX_ROWS // 2 + 1,
    ]


def test_the_country_of_a_batch_is_that_of_its_rows():
    assert country_of(raw_batch("SN", [b"x", b"y"])) == "SN"


def without_memory(elements: int) -> pa.RecordBatch:
    """Return a row that is a list of so many nulls, which take no room."""
    offsets = pa.array([0, elements], pa.int32())
    return pa.RecordBatch.from_arrays([pa.ListArray.from_arrays(offsets, pa.nulls(elements))], names=["list"])


def test_batches_that_do_not_fit_in_one_stay_as_they_are_and_lose_no_row():
    batches = [without_memory(1 << 30)] * 3
    assert [batch.num_rows for batch in join_small_batches(batches)] == [1, 1, 1]
    with pytest.raises(OverflowError, match="3 rows are more than 2 GiB in a column"):
        concat_batches(batches)
    assert concat_batches([without_memory(3), without_memory(4)]).num_rows == 2


@pytest.mark.deep  # it takes 3 GiB of memory
def test_batches_of_more_than_two_gibibytes_lose_no_row():
    size = 3 << 29
    column = pa.Array.from_buffers(
        pa.binary(), 1, [None, pa.py_buffer(np.array([0, size], np.int32)), pa.py_buffer(np.empty(size, np.uint8))]
    )
    batches = [pa.RecordBatch.from_arrays([column, pa.array([number])], names=["value", "n"]) for number in range(2)]
    assert [batch.column("n").to_pylist() for batch in join_small_batches(batches)] == [[0], [1]]
    with pytest.raises(OverflowError):
        concat_batches(batches)
