"""Sequence gaps as a PTransform: bounded, and as a stream whose clock is the test's."""

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.testing.test_pipeline import TestPipeline as LocalPipeline
from apache_beam.testing.test_stream import TestStream as Stream
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.utils.timestamp import Timestamp

from tests.transforms.chain import normalized
from transforms import gaps
from transforms.gaps import DetectSequenceGaps, SequenceGap, summaries_of


def batch(numbers: Sequence[object], node: str | None = "pgw-1", country: str = "FR", **options: Any) -> pa.RecordBatch:
    record = {"event_type": "data", "imsi": "208011234567890", "msisdn": "+33612345678", "timestamp": 1780308000}
    payloads = [json.dumps(record | {"node_id": node, "local_sequence_number": number}).encode() for number in numbers]
    return normalized(country, payloads, **options)


def test_gaps_of_a_bounded_input_are_reported_by_country_and_node():
    batches = [
        batch([1, 2]), batch([6, 4], first_offset=2), batch([2, 3], node="pgw-2"), batch([9], country="MA"),
        batch([10, 12], node=None), batch([None, "7"], country="MA"),
    ]  # fmt: skip
    expected = [
        SequenceGap("FR", "pgw-1", "missing", 3, 3, 1),
        SequenceGap("FR", "pgw-1", "missing", 5, 5, 1),
        SequenceGap("MA", "pgw-1", "missing", 8, 8, 1),
    ]
    with LocalPipeline() as pipeline:
        created = pipeline | beam.Create(batches, reshuffle=False)
        assert_that(created | DetectSequenceGaps(None), equal_to(expected))


def test_a_stream_reports_a_gap_when_it_has_been_open_for_long_enough_and_what_fills_it(
    monkeypatch: pytest.MonkeyPatch,
):
    # The stream's processing time begins at 0, and not now.
    times = iter([0, 61, 122, 183])
    monkeypatch.setattr(gaps, "Timestamp", SimpleNamespace(now=lambda: Timestamp(next(times))))
    options = PipelineOptions()
    options.view_as(StandardOptions).streaming = True
    stream = (
        Stream()
        .add_elements([batch([1, 2, 9], topic="t")])
        .advance_processing_time(61)
        .add_elements([batch([4, 5], topic="t", first_offset=3)])
        .advance_processing_time(61)
        .add_elements([batch([7], topic="t", first_offset=5)])
        .advance_processing_time(61)
        .advance_watermark_to_infinity()
    )
    expected = [
        SequenceGap("FR", "pgw-1", "missing", 3, 3, 1),
        SequenceGap("FR", "pgw-1", "missing", 6, 8, 3),
        SequenceGap("FR", "pgw-1", "filled", 7, 7, 1),
    ]
    with LocalPipeline(options=options) as pipeline:
        assert_that(pipeline | stream | DetectSequenceGaps(60), equal_to(expected))


def test_records_without_node_or_number_and_numbers_beyond_32_bits_are_left_out():
    mixed = [batch([5]), batch([6], node=None), batch([None]), batch([2**32])]
    assert [len(list(summaries_of(each))) for each in mixed] == [1, 0, 0, 0]


def test_a_summary_says_where_each_partition_begins():
    both = pa.Table.from_batches([batch([5, 4], partition=3), batch([7], partition=1)]).combine_chunks().to_batches()[0]
    ((node, (_, firsts)),) = summaries_of(both)
    assert node == ("FR", "pgw-1")
    assert firsts == {"cdr.raw.FR[3]": 5, "cdr.raw.FR[1]": 7}


def test_a_tolerance_is_positive():
    with pytest.raises(ValueError, match="tolerance_s must be positive, not 0"):
        DetectSequenceGaps(0)
