"""What a report of conservation says of a partition, and of all."""

from dataclasses import replace
from typing import Any

import numpy as np

from orion_beam.kafka.offset_ranges import OffsetRange, SourcePartition
from orion_beam.proof.conservation import ConservationReport, PartitionConservation
from orion_beam.proof.ledger import Ledger, bitmap_of

SOURCE = SourcePartition("cdr.raw.FR", 3)


def partition(missing: list[int] | None = None, **changes: Any) -> PartitionConservation:
    balanced = PartitionConservation(
        source=SOURCE,
        held=OffsetRange(0, 100),
        final=98,
        dead_lettered=2,
        in_both=0,
        missing_offsets=bitmap_of(np.array(missing or [], np.int64)),
        duplicates=0,
    )
    return replace(balanced, **changes)


def test_a_partition_is_held_against_its_ledger() -> None:
    ledger = Ledger()
    ledger.mark_final(np.arange(3, 90))
    ledger.mark_dead_letters(np.array([2, 89, 95]))
    part = PartitionConservation.of(SOURCE, OffsetRange(5, 100), ledger)
    assert (part.records, part.final, part.dead_lettered, part.in_both) == (95, 85, 2, 1)
    assert list(part.missing_ranges()) == [(90, 95), (96, 100)]


def test_a_report_holds_when_nothing_is_missing_or_in_both() -> None:
    report = ConservationReport((partition(), partition(empty=1)))
    assert (report.records, report.final, report.dead_lettered) == (199, 196, 4)
    assert report.holds
    assert report.is_exactly_once


def test_a_report_with_duplicates_is_at_least_once() -> None:
    report = ConservationReport((partition(duplicates=7), partition()))
    assert report.holds
    assert not report.is_exactly_once
    assert report.duplicates == 7


def test_a_report_says_what_is_wrong_and_where() -> None:
    scattered = list(range(0, 22, 2))
    report = ConservationReport((partition(), partition([3, 4, 5, 9], in_both=1), partition(scattered)))
    assert not report.holds
    assert not report.is_exactly_once
    assert report.problems == [
        "cdr.raw.FR[3]: 4 of 100 missing, offsets 3-5, 9",
        "cdr.raw.FR[3]: 1 both written and dead-lettered",
        "cdr.raw.FR[3]: 11 of 100 missing, offsets 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, …",
    ]
