"""Sequence gaps as a PTransform: bounded, and as a stream whose clock is the test's."""

import json
from collections import Counter
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

from orion_beam.transforms.record_checks import gaps
from orion_beam.transforms.record_checks.gaps import DetectSequenceGaps, SequenceGap, summaries_of
from tests.transforms.chain import normalized


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


def test_of_more_nodes_than_a_shard_holds_the_one_that_was_quiet_longest_is_forgotten_and_its_gaps_are_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gaps, "SHARDS", 1)
    monkeypatch.setattr(gaps, "SHARD_NODES", 3)
    options = PipelineOptions()
    options.view_as(StandardOptions).streaming = True
    stream = Stream().add_elements([batch([1, 3], node="first", topic="t")])
    for number in range(3):
        stream.add_elements([batch([1, 4], node=f"other {number}", topic="t")])
    # Whoever is heard of again stays: now "other 1" is the quietest.
    stream.add_elements([batch([5], node="other 0", topic="t")]).add_elements([batch([7], node="last", topic="t")])
    with LocalPipeline(options=options) as pipeline:
        found = pipeline | stream.advance_watermark_to_infinity() | DetectSequenceGaps(1e6)
        assert_that(
            found,
            equal_to(
                [SequenceGap("FR", "first", "missing", 2, 2, 1), SequenceGap("FR", "other 1", "missing", 2, 3, 2)]
            ),
        )
    assert {record.event for record in caplog.records if record.name == "orion_beam.transforms.record_checks.gaps"} == {
        "too_many_nodes"
    }


def test_a_flood_of_made_up_nodes_costs_a_bounded_number_of_states_and_timers() -> None:
    nodes = [("FR", f"node {number}") for number in range(20_000)]
    assert len({gaps.shard_of(node) for node in nodes}) == gaps.SHARDS
    # Real networks lose none: thousands of nodes are spread over the shards.
    spread = Counter(gaps.shard_of(("FR", f"pgw-{number:04}")) for number in range(2_000))
    assert max(spread.values()) <= gaps.SHARD_NODES + 4


def test_as_many_nodes_as_records_are_summed_up_each() -> None:
    record = {"event_type": "data", "imsi": "208011234567890", "msisdn": "+33612345678", "timestamp": 1780308000}
    payloads = [json.dumps(record | {"node_id": f"n{number}", "local_sequence_number": 7}) for number in range(4_000)]
    many = list(summaries_of(normalized("FR", [payload.encode() for payload in payloads])))
    assert [node for (_, node), _ in many] == [f"n{number}" for number in range(4_000)]


def test_what_is_too_long_to_be_a_nodes_id_is_left_out() -> None:
    assert len(list(summaries_of(batch([5], node="n" * gaps.MAX_NODE_BYTES)))) == 1
    assert not list(summaries_of(batch([5], node="n" * (gaps.MAX_NODE_BYTES + 1))))
