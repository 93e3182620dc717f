"""Letters of one record: a restarted job may have written several, and one goes back."""

import pyarrow as pa

from orion_beam.chain import load_reference
from orion_beam.dlq.judge import Judge
from orion_beam.dlq.redriven import Redriven
from orion_beam.dlq.sorter import RedriveOptions, Sorter
from orion_beam.dlq.targets import Target, Targets
from tests.orion_beam.dlq.desk import ARRIVED, letters, read, semicolon

TARGETS = Targets("topic-id", {"cdr.raw.FR": Target("FR", 12, None)}, ARRIVED)


def sorter(sent_before: pa.RecordBatch | None = None) -> Sorter:
    redriven = Redriven(TARGETS.letter_topic_id, {})
    if sent_before is not None:
        changed, _ = redriven.with_letters(sent_before)
        redriven.note(changed)
    return Sorter(RedriveOptions(validate=False), Judge("cdr.dlq", load_reference()), redriven, TARGETS)


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
    assert ready.report.fates == {"already_redriven": 1, "copy": 2, "sent": 1}
    assert ready.report.is_balanced
