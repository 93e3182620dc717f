"""What the proof says of records that come out again, too early, or in the wrong order."""

import numpy as np

from orion_beam.kafka.offset_ranges import SourcePartition
from orion_beam.proof.sources import Sources
from tests.chaos.proof import Findings, in_order
from tests.topics import DEAD_LETTERS, FINAL

PART = SourcePartition("cdr.raw.FR", 3)


def noted(*records: tuple[bytes, int], floor: int = 0) -> Findings:
    findings = Findings()
    findings.set_floor({PART: floor})
    for key, offset in records:
        findings.note(FINAL.name, key, PART, offset)
    return findings


def test_records_that_come_out_again_are_duplicates_and_no_disorder() -> None:
    found = noted((b"a", 0), (b"b", 1), (b"a", 2), (b"b", 1), (b"a", 2), (b"a", 4))
    assert (found.duplicates, found.disorder, found.too_early) == (2, 0, 0)
    assert found.came_out(PART).to_array().tolist() == [0, 1, 2, 4]


def test_a_record_that_comes_out_first_behind_a_later_one_of_its_key_is_out_of_order() -> None:
    assert noted((b"a", 5), (b"a", 3)).disorder == 1
    assert noted((b"a", 5), (b"b", 3)).disorder == 0


def test_dead_letters_are_in_order_for_each_stage() -> None:
    # Of one batch, what cannot be decoded comes out before what breaks a rule.
    found = Findings()
    for offset, stage in ((5, "decode"), (3, "validate"), (6, "validate"), (4, "validate")):
        found.note(DEAD_LETTERS.name, b"a", PART, offset, stage)
    assert found.disorder == 1


def test_a_record_below_the_committed_offset_must_not_come_out_again() -> None:
    assert noted((b"a", 5), (b"a", 7), (b"a", 5), (b"a", 7), floor=6).too_early == 1


def test_records_count_once_on_either_topic() -> None:
    found = noted((b"a", 5))
    found.note(DEAD_LETTERS.name, b"a", PART, 5)
    found.note(DEAD_LETTERS.name, b"a", PART, 6)
    assert found.counts() == {PART.topic: 2}


def test_records_are_taken_in_their_order_whatever_the_order_in_which_they_were_decoded() -> None:
    rows, zeros = np.array([1, 3, 0, 2]), np.zeros(4, np.int64)
    sources = Sources([PART.topic], zeros, zeros + PART.partition, rows + 10, zeros, rows)
    assert list(in_order(sources)) == [(row, PART, row + 10) for row in range(4)]
