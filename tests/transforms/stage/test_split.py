"""What all stages share: a bug for some rows costs those rows only, and no row is ever lost."""

import logging
from collections.abc import Callable

import polars as pl
import pyarrow as pa
import pytest

from orion_beam.schemas.codes import Stage
from orion_beam.testing import raw_batch, rows
from orion_beam.transforms.stage.batches import SplitBatch
from orion_beam.transforms.stage.rejects import no_rejects
from orion_beam.transforms.stage.split import MAX_BUGS, Breaker, StageFailedError, split_isolating

SECRET = "208011234567890"


class HalfPanicError(BaseException):
    """As polars' panics, no Exception."""


def numbered(count: int) -> pa.RecordBatch:
    return raw_batch("FR", [f"{SECRET}-{index}".encode() for index in range(count)])


def failing_for(bad: set[int], error: Callable[[str], BaseException] = ValueError) -> Callable[..., SplitBatch]:
    """Return a stage that raises for batches that hold one of these rows, quoting a payload as errors do."""

    def split(batch: pa.RecordBatch) -> SplitBatch:
        if bad & set(batch.column("source_offset").to_pylist()):
            raise error(f"cannot read {batch.column('raw_value')[0].as_py()}")
        return SplitBatch(batch, no_rejects())

    return split


@pytest.mark.parametrize(
    ("count", "bad"),
    [(1, {0}), (2, {1}), (9, {0}), (9, {8}), (9, {3, 4}), (9, set(range(9))), (100, {7, 50, 51, 99}), (8, set())],
)
@pytest.mark.parametrize("error", [ValueError, HalfPanicError, pl.exceptions.PanicException])
def test_only_rows_that_raise_become_internal_errors(count, bad, error):
    outcome = split_isolating(failing_for(bad, error), numbered(count), Stage.NORMALIZE)
    assert [row["source_offset"] for row in rows(outcome.accepted)] == sorted(set(range(count)) - bad)
    letters = rows(outcome.rejected)
    assert [letter["source_offset"] for letter in letters] == sorted(bad)
    for letter in letters:
        assert (letter["stage"], letter["code"], letter["codes"]) == ("normalize", "internal_error", ["internal_error"])
        assert letter["value"] == f"{SECRET}-{letter['source_offset']}".encode()


def test_rows_that_a_stage_rejects_itself_stay_rejected_in_order():
    from orion_beam.schemas.codes import Code
    from orion_beam.transforms.stage.rejects import PAYLOAD_FIELD, Violation, dead_letters

    def split(batch: pa.RecordBatch) -> SplitBatch:
        failing_for({5})(batch)
        is_even = [offset % 2 == 0 for offset in batch.column("source_offset").to_pylist()]
        odd = batch.filter(pa.array([not even for even in is_even]))
        violations = [(Violation(Code.MALFORMED_PAYLOAD, PAYLOAD_FIELD),)] * odd.num_rows
        return SplitBatch(batch.filter(pa.array(is_even)), dead_letters(odd, Stage.DECODE, violations))

    outcome = split_isolating(split, numbered(10), Stage.DECODE)
    assert [row["source_offset"] for row in rows(outcome.accepted)] == [0, 2, 4, 6, 8]
    assert [(letter["source_offset"], letter["code"]) for letter in rows(outcome.rejected)] == [
        (1, "malformed_payload"), (3, "malformed_payload"), (5, "internal_error"), (7, "malformed_payload"),
        (9, "malformed_payload"),
    ]  # fmt: skip


@pytest.mark.parametrize("lost", [{0}, {4}, {2, 3}, set(range(6))])
def test_a_stage_that_loses_rows_is_caught_and_the_rows_kept(lost):
    def split(batch: pa.RecordBatch) -> SplitBatch:
        offsets = batch.column("source_offset").to_pylist()
        return SplitBatch(batch.filter(pa.array([offset not in lost for offset in offsets])), no_rejects())

    outcome = split_isolating(split, numbered(6), Stage.ENRICH)
    assert [row["source_offset"] for row in rows(outcome.accepted)] == sorted(set(range(6)) - lost)
    assert [(letter["source_offset"], letter["code"]) for letter in rows(outcome.rejected)] == [
        (offset, "internal_error") for offset in sorted(lost)
    ]


def test_a_stage_that_doubles_rows_is_caught():
    def split(batch: pa.RecordBatch) -> SplitBatch:
        return SplitBatch(pa.Table.from_batches([batch, batch]).combine_chunks().to_batches()[0], no_rejects())

    outcome = split_isolating(split, numbered(3), Stage.ENRICH)
    assert outcome.accepted.num_rows == 0
    assert [letter["code"] for letter in rows(outcome.rejected)] == ["internal_error"] * 3


def test_a_bug_for_one_row_costs_few_calls():
    calls = []

    def split(batch: pa.RecordBatch) -> SplitBatch:
        calls.append(batch.num_rows)
        return failing_for({1000})(batch)

    split_isolating(split, numbered(4096), Stage.ENRICH)
    assert len(calls) <= 2 * 12 + 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_wish_to_stop_is_no_bug(error):
    with pytest.raises(error):
        split_isolating(failing_for({0}, error), numbered(4), Stage.DECODE)


def test_a_bug_is_logged_with_its_place_and_coordinates_but_without_any_value(caplog):
    with caplog.at_level(logging.DEBUG):
        split_isolating(failing_for({2}), raw_batch("FR", [SECRET.encode()] * 4, partition=3), Stage.ENRICH)
    (record,) = [each for each in caplog.records if each.name == "orion_beam.transforms.stage.split"]
    message = record.getMessage()
    assert record.levelno == logging.ERROR
    assert "internal_error in stage enrich, ValueError at test_split.py:" in message
    assert "cdr.raw.FR[3]@2" in message
    assert SECRET not in caplog.text
    assert record.exc_info is None


def test_no_field_of_a_dead_letter_but_its_value_quotes_the_error():
    outcome = split_isolating(failing_for({0}), numbered(1), Stage.ENRICH)
    (letter,) = rows(outcome.rejected)
    others = {name: value for name, value in letter.items() if name != "value"}
    assert SECRET not in str(others)


class Counted:
    """A stage that fails for some rows, and how often it is called."""

    def __init__(self, bad: set[int]) -> None:
        self.calls = 0
        self._split = failing_for(bad)

    def __call__(self, batch: pa.RecordBatch) -> SplitBatch:
        self.calls += 1
        return self._split(batch)


def test_a_bug_that_hits_every_row_fails_the_batch_after_some_dozen_rows_with_one_clear_text(caplog):
    split = Counted(set(range(32_768)))
    with caplog.at_level(logging.DEBUG), pytest.raises(StageFailedError) as failed:
        split_isolating(split, numbered(32_768), Stage.NORMALIZE, Breaker())
    assert split.calls <= 2 * (MAX_BUGS + 1) + 15
    text = str(failed.value)
    assert text.startswith("stage normalize fails for row after row with ValueError at test_split.py:")
    # What is rolled back is not said to go to the dead letters, and no error brings a row's text along.
    assert not [record for record in caplog.records if record.name == "orion_beam.transforms.stage.split"]
    assert SECRET not in text
    assert failed.value.__context__ is None


def test_a_bug_that_hits_more_than_some_dozen_rows_of_a_batch_fails_it_in_bounded_calls():
    split = Counted(set(range(0, 32_768, 100)))
    with pytest.raises(StageFailedError):
        split_isolating(split, numbered(32_768), Stage.NORMALIZE, Breaker())
    assert split.calls <= (MAX_BUGS + 1) * 2 * 15 + 1


def test_a_few_bad_rows_in_each_of_many_batches_are_rejected_alone_for_ever():
    breaker = Breaker()
    bad = set(range(0, 3_000, 100))
    for _ in range(5):
        outcome = split_isolating(failing_for(bad), numbered(3_000), Stage.ENRICH, breaker)
        assert (outcome.accepted.num_rows, outcome.rejected.num_rows) == (2_970, 30)


def test_a_bug_that_hits_every_row_of_small_batches_fails_after_some_dozen_rows_too():
    breaker = Breaker()
    split = failing_for({0, 1})
    for _ in range(MAX_BUGS // 2):
        assert split_isolating(split, numbered(2), Stage.ENRICH, breaker).rejected.num_rows == 2
    with pytest.raises(StageFailedError):
        split_isolating(split, numbered(2), Stage.ENRICH, breaker)
    # The bundle is tried again: a version that reads these rows, or a few of them, goes on.
    assert split_isolating(split, numbered(2), Stage.ENRICH, breaker).rejected.num_rows == 2
    assert split_isolating(split, numbered(3), Stage.ENRICH, breaker).accepted.num_rows == 1
    assert breaker.in_a_row == 0
