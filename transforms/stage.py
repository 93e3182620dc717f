"""What all stages share: a pure function over a batch becomes a PTransform with a side output of dead letters."""

import logging
import time
import traceback
from collections.abc import Callable, Iterator
from typing import NamedTuple

import apache_beam as beam
import pyarrow as pa

from schemas.codes import Code, Stage
from transforms.batches import SplitBatch, joined
from transforms.observing import observer
from transforms.rejects import PAYLOAD_FIELD, Violation, dead_letters

ACCEPTED = "accepted"
DEAD_LETTERS = "dead_letters"

Split = Callable[[pa.RecordBatch], SplitBatch]

_logger = logging.getLogger(__name__)


class StageOutput(NamedTuple):
    """The two outputs of a stage, both of `pa.RecordBatch`."""

    accepted: beam.PCollection
    dead_letters: beam.PCollection


def split_stage(batches: beam.PCollection, stage: Stage, prepare: Callable[[], Split]) -> StageOutput:
    """Apply a stage to batches.

    Args:
        batches: of `pa.RecordBatch`.
        stage: named in dead letters and logs.
        prepare: makes the pure function; called once per DoFn instance on a worker, so it may load files.
    """
    split = beam.ParDo(_SplitFn(stage, prepare)).with_outputs(DEAD_LETTERS, main=ACCEPTED)
    return typed_outputs(batches | f"Split{stage.value.capitalize()}" >> split)


def typed_outputs(outputs: beam.pvalue.DoOutputsTuple) -> StageOutput:
    """Return the two outputs of a stage, typed.

    Beam 2.70 gives tagged outputs no type of their own; without one their batches would be pickled.
    """
    for tag in (ACCEPTED, DEAD_LETTERS):
        outputs[tag].element_type = pa.RecordBatch
    return StageOutput(outputs[ACCEPTED], outputs[DEAD_LETTERS])


def split_isolating(split: Split, batch: pa.RecordBatch, stage: Stage) -> SplitBatch:
    """Apply `split`; when it raises, find the rows it raises for and reject only those, as `internal_error`.

    A bug for one row costs O(log rows) more calls, and no other row its place: halves keep the order.
    """
    try:
        outcome = split(batch)
        if outcome.accepted.num_rows + outcome.rejected.num_rows != batch.num_rows:
            raise ArithmeticError(f"{stage.value} turned {batch.num_rows} rows into a different number")
        return outcome
    except BaseException as error:
        # A panic of polars or of the Avro encoder is no Exception.
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit) or batch.num_rows == 0:
            raise
        if batch.num_rows == 1:
            _log_bug(error, batch, stage)
            bug = (Violation(Code.INTERNAL_ERROR, PAYLOAD_FIELD),)
            return SplitBatch(batch.slice(0, 0), dead_letters(batch, stage, [bug]))
    middle = batch.num_rows // 2
    halves = [
        split_isolating(split, batch.slice(0, middle), stage),
        split_isolating(split, batch.slice(middle), stage),
    ]
    # A row that a bug rejects leaves an empty batch of the stage's input schema: only batches with rows are joined.
    accepted = [half.accepted for half in halves if half.accepted.num_rows] or [halves[0].accepted]
    return SplitBatch(joined(accepted), joined([half.rejected for half in halves]))


def _log_bug(error: BaseException, row: pa.RecordBatch, stage: Stage) -> None:
    # The text of an exception may hold a subscriber's number, so only its type and place are logged.
    place = traceback.extract_tb(error.__traceback__)[-1]
    names = ("source_topic", "source_partition", "source_offset", "country")
    topic, partition, offset, country = (row.column(name)[0].as_py() for name in names)
    _logger.error(
        "internal_error in stage %s at %s:%d: %s; record %s[%s]@%s goes to the dead letters",
        stage.value, place.filename.rpartition("/")[2], place.lineno, type(error).__name__, topic, partition, offset,
        extra={"event": "internal_error", "stage": stage.value, "country": country,
               "topic": topic, "partition": partition, "offset": offset},
    )  # fmt: skip


class _SplitFn(beam.DoFn):  # type: ignore[misc]
    def __init__(self, stage: Stage, prepare: Callable[[], Split]) -> None:
        self._stage = stage
        self._prepare = prepare

    def setup(self) -> None:
        self._split = self._prepare()

    def process(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch | beam.pvalue.TaggedOutput]:
        outcome = self._observed(batch) if batch.num_rows else None
        if outcome and outcome.accepted.num_rows:
            yield outcome.accepted
        if outcome and outcome.rejected.num_rows:
            yield beam.pvalue.TaggedOutput(DEAD_LETTERS, outcome.rejected)

    def _observed(self, batch: pa.RecordBatch) -> SplitBatch:
        began = time.perf_counter()
        outcome = split_isolating(self._split, batch, self._stage)
        if (told := observer()) is not None:
            told.stage_done(self._stage, batch, outcome, time.perf_counter() - began)
        return outcome
