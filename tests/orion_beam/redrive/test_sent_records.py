"""Which records have been sent back, as the journal keeps it."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from orion_beam.io.letter_headers import LETTER_SCHEMA
from orion_beam.redrive.sent_records import ENTRY_OFFSETS, Redriven, SentRecords, first_letters

IDS = {"cdr.raw.FR": "id/f+r", "cdr.raw.TN": "id-tn"}
"""Kafka's ids are base64, which has slashes."""
Record = tuple[str, int, int, int]
"""Topic, partition, attempt, offset."""


def letters_of(*records: Record) -> pa.RecordBatch:
    """Return a letter of each record, by turns at other places of the dead-letter topic."""
    columns = {name: [None] * len(records) for name in LETTER_SCHEMA.names}
    names = ("source_topic", "source_partition", "attempt", "source_offset")
    columns |= {name: [record[place] for record in records] for place, name in enumerate(names)}
    columns |= {"letter_partition": [0] * len(records), "letter_offset": list(range(len(records)))}
    return pa.RecordBatch.from_pydict(columns, schema=LETTER_SCHEMA)


_records = st.lists(
    st.tuples(st.sampled_from(list(IDS)), st.integers(0, 2), st.integers(1, 3), st.integers(0, 3 * ENTRY_OFFSETS)),
    max_size=30,
)


@given(_records, _records, _records)
@settings(max_examples=50)
def test_what_was_noted_is_held_after_a_restart_and_nothing_else_is(first, second, others):
    journal: dict = {}
    for some in (first, second):
        redriven = Redriven(IDS, journal)
        entries = redriven.entries_with(letters_of(*some))
        assert not redriven.holds(letters_of(*(set(some) - set(first)))).any()
        redriven.add(letters_of(*some))
        assert redriven.holds(letters_of(*some)).all()
        journal |= entries
    held = Redriven(IDS, journal).holds(letters_of(*others))
    assert held.tolist() == [record in {*first, *second} for record in others]
    made_anew = {name: f"{topic_id}-2" for name, topic_id in IDS.items()}
    assert not Redriven(made_anew, journal).holds(letters_of(*first)).any()


def test_a_record_is_known_by_its_source_and_attempt_wherever_its_letters_lie():
    sent, copy = ("cdr.raw.FR", 3, 1, 7), ("cdr.raw.FR", 3, 1, 7)
    redriven = Redriven(IDS, Redriven(IDS, {}).entries_with(letters_of(sent)))
    others = [("cdr.raw.FR", 3, 2, 7), ("cdr.raw.TN", 3, 1, 7), ("cdr.raw.FR", 2, 1, 7), ("cdr.raw.FR", 3, 1, 8)]
    assert redriven.holds(letters_of(*others, copy)).tolist() == [False] * 4 + [True]


@given(_records)
def test_the_first_letter_of_each_record_is_told(records):
    is_first = first_letters(letters_of(*records)).tolist()
    assert is_first == [record not in records[:row] for row, record in enumerate(records)]


def test_records_of_no_letters_are_none():
    assert SentRecords().holds(letters_of()).tolist() == []
    assert Redriven(IDS, {}).entries_with(letters_of()) == {}


def test_an_entry_of_the_journal_is_small():
    every_other = np.arange(0, ENTRY_OFFSETS, 2)
    scattered = np.random.default_rng(1).choice(ENTRY_OFFSETS, ENTRY_OFFSETS // 2, replace=False)
    for offsets, most in ((every_other, 200), (scattered, 12_000), (np.arange(3), 80)):
        letters = letters_of(*(("cdr.raw.FR", 0, 1, int(offset)) for offset in offsets))
        (entry,) = Redriven(IDS, {}).entries_with(letters).values()
        assert len(entry["offsets"]) < most


def test_entries_of_others_are_passed_over():
    older = {"redriven/letter-topic/0/0": {"kind": "redriven", "bits": ""}, "redriven/id/f+r/x": {}, "reveal/1": {}}
    assert Redriven(IDS, older).holds(letters_of(("cdr.raw.FR", 0, 1, 0))).tolist() == [False]
