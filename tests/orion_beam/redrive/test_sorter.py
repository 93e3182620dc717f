"""Letters of one record: a restarted job may have written several, and one goes back."""

import random
from dataclasses import replace
from datetime import timedelta

import pyarrow as pa
import pytest

from orion_beam.chain import load_reference
from orion_beam.dlq.judge import Judge
from orion_beam.redrive.sent_records import Redriven
from orion_beam.redrive.sorter import RedriveOptions, Sorter
from orion_beam.redrive.targets import Target, Targets
from tests.orion_beam.dlq.desk import ARRIVED, letters, read, semicolon

FR = Target("FR", 12, None, "id-fr", 1_048_588)
TARGETS = Targets("letter-topic-id", {"cdr.raw.FR": FR}, ARRIVED + timedelta(hours=1))
JUDGE = Judge("cdr.dlq", load_reference())


def sorter(
    sent_before: pa.RecordBatch | None = None, target: Target = FR, options: RedriveOptions | None = None
) -> Sorter:
    redriven = Redriven(TARGETS.topic_ids, {})
    if sent_before is not None:
        redriven.add(sent_before)
    targets = replace(TARGETS, topics={"cdr.raw.FR": target})
    return Sorter(options or RedriveOptions(validate=False), JUDGE, redriven, targets)


def copy_of(batch: pa.RecordBatch, *offsets: int) -> pa.RecordBatch:
    """Return the same letters once more, at other offsets of the dead-letter topic."""
    place = batch.schema.get_field_index("letter_offset")
    return batch.set_column(place, batch.schema.field(place), pa.array(offsets, pa.int64()))


def test_of_copies_in_one_batch_and_in_later_ones_the_first_is_sent():
    batch = copy_of(letters("FR", [semicolon(rat="6G"), semicolon(rat="7G")]), 0, 1)
    (twice,) = pa.Table.from_batches([batch, copy_of(batch, 2, 3)]).combine_chunks().to_batches()
    desk = sorter()
    first, later = desk.sort(read(twice)), desk.sort(read(copy_of(batch, 4, 5)))
    assert first.letters.column("letter_offset").to_pylist() == [0, 1]
    assert len(first.timestamps_ms) == 2
    assert (first.report.fates, later.report.fates) == ({"sent": 2, "copy": 2}, {"copy": 2})
    assert later.timestamps_ms == []


def test_a_copy_of_what_an_earlier_redrive_sent_stays_where_it_is():
    batch = copy_of(letters("FR", [semicolon(rat="6G"), semicolon(rat="7G")]), 0, 1)
    desk = sorter(sent_before=batch.slice(0, 1))
    (all_of_them,) = pa.Table.from_batches([batch, copy_of(batch, 2, 3)]).combine_chunks().to_batches()
    ready = desk.sort(read(all_of_them))
    assert ready.letters.column("letter_offset").to_pylist() == [1]
    assert ready.report.fates == {"already_redriven": 2, "copy": 1, "sent": 1}
    assert ready.report.is_balanced


PIPE = b"208010000000001|+33612345678|data|x||"


def test_only_a_record_whose_event_time_is_its_kafka_timestamp_is_too_old():
    """Also where the rules refuse it, so that no stage says of which format it is."""
    payloads = [semicolon(imsi="x"), b'{"imsi":"x","rat":"6G","timestamp":"2026-06-01T10:00:00Z"}', PIPE, b"no format"]
    short_lived = replace(FR, retention=timedelta(minutes=10))
    ready = sorter(target=short_lived).sort(read(letters("FR", payloads)))
    assert ready.letters.column("value").to_pylist() == payloads[:2]
    assert ready.timestamps_ms == [None, None]
    assert ready.report.fates == {"sent": 2, "too_old": 2}


@pytest.mark.parametrize(
    "target",
    [
        replace(FR, takes_before=timedelta(minutes=10)),
        replace(FR, takes_after=timedelta(hours=-2)),
        replace(FR, has_own_timestamps=False),
    ],
    ids=["too far behind", "too far ahead", "the broker's own"],
)
def test_a_timestamp_that_the_topic_would_not_take_is_left_to_the_broker_unless_it_is_the_event_time(target):
    ready = sorter(target=target).sort(read(letters("FR", [semicolon(imsi="x"), PIPE])))
    assert (ready.letters.num_rows, ready.timestamps_ms) == (1, [None])
    assert ready.report.fates == {"sent": 1, "too_old": 1}


def test_what_a_wrong_kafka_timestamp_made_future_goes_with_a_new_one_for_a_reason():
    soon, too_far, broken = "2026-06-01T13:30:00Z", "2026-06-01T15:00:00Z", "2026-06-01T10:00:00Z"
    batch = letters("FR", [semicolon(time=soon), semicolon(time=too_far), semicolon(imsi="x", time=broken)])
    assert batch.column("code").to_pylist() == ["future_timestamp"] * 2 + ["invalid_imsi"]
    # 13:00 by the clock of the redrive; the Kafka timestamps say 12:00.
    assert sorter(options=RedriveOptions()).sort(read(batch)).report.fates == {"still_fails": 3}
    restamping = RedriveOptions(restamp_reason="the gateway's clock was behind")
    ready = sorter(options=restamping).sort(read(batch))
    assert ready.report.fates == {"sent": 1, "still_fails": 2}
    assert ready.letters.column("value").to_pylist() == [semicolon(time=soon)]
    assert ready.timestamps_ms == [None]
    # Without the rules, those that are not future keep theirs.
    unjudged = sorter(options=replace(restamping, validate=False)).sort(read(batch))
    assert unjudged.timestamps_ms == [None, None, round(ARRIVED.timestamp() * 1000)]


def test_headers_are_left_out_by_name_and_pattern():
    options = RedriveOptions(drop_headers=("traceparent", "b3*", "__repl.[a-c]"))
    names = ["traceparent", "Traceparent", "b3", "b3-x", "ab3", "__repl.b", "__repl.d"]
    assert [name for name in names if options.keeps_header(name)] == ["Traceparent", "ab3", "__repl.d"]


def test_a_record_that_is_gone_or_too_large_for_its_topic_stays_where_it_is():
    large, squeezed = random.Random(1).randbytes(1_048_588), b"x" * 3_000_000
    batch = letters("FR", [b"gone", large[:-1_000], large[:-100], squeezed])
    place = batch.schema.get_field_index("reference")
    marks = pa.array(["gone", "followed", "followed", None])
    batch = batch.set_column(place, batch.schema.field(place), marks)
    ready = sorter().sort(read(batch))
    # What counts is what is sent, which is compressed.
    assert ready.letters.column("letter_offset").to_pylist() == [1, 3]
    assert ready.report.fates == {"gone": 1, "too_large": 1, "sent": 2}
    assert ready.report.is_balanced
