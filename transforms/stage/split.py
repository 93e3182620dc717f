"""StageTransform: base class that makes a PTransform with a dead-letter output from a pure function over a batch."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar, NamedTuple

import apache_beam as beam
import pyarrow as pa

from orion_beam.schemas.codes import Code, Stage, internal_error_of
from orion_beam.transforms.decoders.unread_members import UnreadMember
from orion_beam.transforms.stage.batches import SplitBatch, concat_batches
from orion_beam.transforms.stage.counters import count
from orion_beam.transforms.stage.exceptions import name_of
from orion_beam.transforms.stage.observing import observer
from orion_beam.transforms.stage.rejects import PAYLOAD_FIELD, Violation, dead_letters
from orion_beam.transforms.stage.time_limit import TIME_LIMIT_S, TimeLimit, TimeUpError

__all__ = [
    "Breaker",
    "MAX_BUGS",
    "StageFailedError",
    "StageOutput",
    "StageTransform",
    "split_isolating",
    "typed_outputs",
]

ACCEPTED_TAG = "accepted"
DEAD_LETTER_TAG = "dead_letters"
UNREAD_MEMBER = "unread_member"

Split = Callable[[pa.RecordBatch], SplitBatch]

MAX_BUGS = 32
"""Largest number of rows in a batch, or of successive rows across batches, for which a stage may raise. Up to this
number, each such row is rejected alone. One more fails the bundle, because the bug does not concern single rows."""

_logger = logging.getLogger(__name__)


class StageOutput(NamedTuple):
    """The two outputs of a stage, both of `pa.RecordBatch`."""

    accepted: beam.PCollection
    dead_letters: beam.PCollection


class StageFailedError(RuntimeError):
    """A bug makes a stage fail for row after row, or not return within its time limit.

    The bundle fails and is tried again, so that no row is lost. The message names the stage and the exception's type
    and place. It never holds the exception's text, which may quote a row.
    """


def typed_outputs(outputs: beam.pvalue.DoOutputsTuple) -> StageOutput:
    """Return the two outputs of a stage with their element type.

    Beam 2.70 sets no type on tagged outputs. Without the type Beam would pickle their batches.
    """
    for tag in (ACCEPTED_TAG, DEAD_LETTER_TAG):
        outputs[tag].element_type = pa.RecordBatch
    return StageOutput(outputs[ACCEPTED_TAG], outputs[DEAD_LETTER_TAG])


@dataclass(eq=False)
class StageTransform(beam.PTransform):  # type: ignore[misc]
    """Base class of the stages and their steps.

    In: `pa.RecordBatch`. Out: StageOutput of accepted batches and dead letters (`dead_letter.DEAD_LETTER_SCHEMA`).
    Each row goes to exactly one of the two, and rows keep their order. A subclass is a dataclass; its fields are its
    settings.

    Attributes:
        stage: The stage, as dead letters and logs name it.
    """

    stage: ClassVar[Stage]

    def __post_init__(self) -> None:
        """Call Beam's constructor, which a dataclass does not."""
        super().__init__()

    @property
    def named(self) -> str:
        """The stage's name in dead letters and logs."""
        return self.stage

    def prepare(self) -> Split:
        """Return the pure function over a batch. A worker calls this once per DoFn instance, so it may load files."""
        raise NotImplementedError

    @property
    def counted_as(self) -> str:
        """The step's name in the worker's metrics."""
        return str(self.named)

    @property
    def time_limit_s(self) -> float:
        """Longest time that the stage may take for a batch."""
        return TIME_LIMIT_S

    @beam.typehints.no_annotations  # type: ignore[untyped-decorator]  # Beam knows no named tuples of outputs
    def expand(self, batches: beam.PCollection) -> StageOutput:
        """Split each batch into accepted rows and dead letters."""
        split = _SplitFn(self.named, self.prepare, self.counted_as, self.time_limit_s)
        outputs = beam.ParDo(split).with_outputs(DEAD_LETTER_TAG, main=ACCEPTED_TAG)
        return typed_outputs(batches | f"Split{self.named.capitalize()}" >> outputs)


@dataclass
class Breaker:
    """Counter of successive failed rows. A bug that hits more than MAX_BUGS of them fails the bundle.

    Attributes:
        in_a_row: Number of failed rows since the last success, across batches.
    """

    in_a_row: int = 0


class _Bug(NamedTuple):
    """A row for which a stage raised, and the name of the exception."""

    row: pa.RecordBatch
    name: str


def split_isolating(split: Split, batch: pa.RecordBatch, stage: str, breaker: Breaker | None = None) -> SplitBatch:
    """Apply `split`. If it raises, find the rows for which it raises, and reject only those as `internal_error`.

    A stage of the user's own has a code of its own, see `codes.internal_error_of`.

    The batch is halved until the rows are found, so one such row costs O(log rows) more calls. Rows keep their order.

    Raises:
        StageFailedError: `split` raises for more rows than MAX_BUGS allows. Without a breaker there is no limit.
    """
    bugs: list[_Bug] = []
    outcome = _isolated(split, batch, stage, breaker, bugs)
    for bug in bugs:
        _log(bug, stage)
    return outcome


def _isolated(split: Split, batch: pa.RecordBatch, stage: str, breaker: Breaker | None, bugs: list[_Bug]) -> SplitBatch:
    try:
        outcome = split(batch)
        if outcome.accepted.num_rows + outcome.rejected.num_rows != batch.num_rows:
            raise ArithmeticError(f"{stage} turned {batch.num_rows} rows into a different number")
        if breaker is not None:
            breaker.in_a_row = 0
        return outcome
    except BaseException as error:
        # A panic of polars or of the Avro encoder is a BaseException but not an Exception.
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit | TimeUpError) or batch.num_rows == 0:
            raise
        name = name_of(error)
    if batch.num_rows == 1:
        bugs.append(_Bug(batch, name))
        if breaker is not None:
            _break_if_too_many(breaker, bugs, stage)
        violations = (Violation(internal_error_of(stage), PAYLOAD_FIELD),)
        return SplitBatch(batch.slice(0, 0), dead_letters(batch, stage, [violations]))
    middle, bugs_before = batch.num_rows // 2, len(bugs)
    halves = [
        _isolated(split, batch.slice(0, middle), stage, breaker, bugs),
        _isolated(split, batch.slice(middle), stage, breaker, bugs),
    ]
    if len(bugs) == bugs_before:
        _warn_of_batches(stage, name)
    # A row that a bug rejects leaves an empty batch with the input schema, so only batches with rows are joined.
    accepted = [half.accepted for half in halves if half.accepted.num_rows] or [halves[0].accepted]
    return SplitBatch(concat_batches(accepted), concat_batches([half.rejected for half in halves]))


@cache
def _warn_of_batches(stage: str, name: str) -> None:
    """Warn, once a process, of a stage that fails for several rows together and for none of them alone."""
    _logger.warning(
        "stage %s fails for rows together and not for each alone, with %s: it works, and is far slower", stage, name,
        extra={"event": "batch_failed", "stage": str(stage)},
    )  # fmt: skip


def _break_if_too_many(breaker: Breaker, bugs: Sequence[_Bug], stage: str) -> None:
    breaker.in_a_row += 1
    if max(breaker.in_a_row, len(bugs)) > MAX_BUGS:
        # The bundle is tried again, perhaps by the same DoFn, so the count starts anew.
        breaker.in_a_row = 0
        raise StageFailedError(f"stage {stage} fails for row after row with {bugs[-1].name}: {_comfort(stage)}")


def _comfort(stage: str) -> str:
    return f"this is a bug of {_owner(stage)}. No record is lost: a version without the bug reads these again"


def _owner(stage: str) -> str:
    return "ours, please report it" if internal_error_of(stage) is Code.INTERNAL_ERROR else "that stage, mend it"


def _log(bug: _Bug, stage: str) -> None:
    names = ("source_topic", "source_partition", "source_offset", "country")
    topic, partition, offset, country = (bug.row.column(name)[0].as_py() for name in names)
    _logger.error(
        "internal_error in stage %s, %s; record %s[%s]@%s goes to the dead letters",
        stage, bug.name, topic, partition, offset,
        extra={"event": "internal_error", "stage": str(stage), "country": country,
               "topic": topic, "partition": partition, "offset": offset},
    )  # fmt: skip


_told_of: set[tuple[str, str]] = set()
_MOST_TOLD_OF = 100
"""Largest number of names that a process reports. Each becomes a metric label, and a feed may send any number."""


def _is_told(member: UnreadMember, batch: pa.RecordBatch) -> bool:
    """Count the records with an unread member, and log a warning once per feed and process.

    Return False, without counting, if the member is new and the process has already reported _MOST_TOLD_OF names.
    """
    name = f"{member.raw_format}.{member.name}"
    is_new = (member.country, name) not in _told_of
    if is_new and len(_told_of) >= _MOST_TOLD_OF:
        return False
    count(UNREAD_MEMBER, member.country, name, member.records)
    if not is_new:
        return True
    _told_of.add((member.country, name))
    _logger.warning(
        "records of %s have a member %s that looks like usage and is not read: has the feed changed its names?",
        member.country, name,
        extra={"event": "unread_member", "country": member.country, "topic": batch.column("source_topic")[0].as_py()},
    )  # fmt: skip
    return True


class _SplitFn(beam.DoFn):  # type: ignore[misc]
    def __init__(self, stage: str, prepare: Callable[[], Split], step: str, time_limit_s: float) -> None:
        self._stage = stage
        self._prepare = prepare
        self._step = step
        self._time_limit_s = time_limit_s

    def setup(self) -> None:
        self._split = self._prepare()
        self._breaker = Breaker()

    def process(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch | beam.pvalue.TaggedOutput]:
        outcome = self._observed(batch) if batch.num_rows else None
        if outcome and outcome.accepted.num_rows:
            yield outcome.accepted
        if outcome and outcome.rejected.num_rows:
            yield beam.pvalue.TaggedOutput(DEAD_LETTER_TAG, outcome.rejected)

    def _observed(self, batch: pa.RecordBatch) -> SplitBatch:
        began = time.perf_counter()
        limit = TimeLimit(self._stage, batch.num_rows, self._time_limit_s)
        try:
            with limit:
                outcome = split_isolating(self._split, batch, self._stage, self._breaker)
        except (StageFailedError, TimeUpError) as error:
            failure = StageFailedError(f"{limit}; {_comfort(self._stage)}") if isinstance(error, TimeUpError) else error
            _logger.error("%s", failure, extra={"event": "stage_failed", "stage": str(self._stage)})
            raise failure from None
        if outcome.unread:
            outcome = replace(outcome, unread=tuple(each for each in outcome.unread if _is_told(each, batch)))
        if (told := observer()) is not None:
            told.stage_done(self._step, batch, outcome, time.perf_counter() - began)
        return outcome
