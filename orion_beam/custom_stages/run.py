"""RunCustomStage: runs a stage of the user's own, and checks what it returns for each batch."""

import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from orion_beam.custom_stages.code import runnable
from orion_beam.custom_stages.declaration import JobStage
from orion_beam.durations import parse_duration_s
from orion_beam.schemas.codes import CustomCode, Stage
from orion_beam.schemas.dead_letter import DEAD_LETTER_SCHEMA
from orion_beam.schemas.derive import arrow_schema, required_fields
from orion_beam.schemas.raw import RAW_CDR_SCHEMA
from orion_beam.transforms.arrow.compiled import UINT64S, Mask, compiled
from orion_beam.transforms.stage.batches import SplitBatch, columns_of, filter_rows
from orion_beam.transforms.stage.exceptions import BrokenContractError
from orion_beam.transforms.stage.rejects import Violation, dead_letters, no_rejects
from orion_beam.transforms.stage.split import Split, StageTransform
from orion_beam.transforms.stage.stage_decoding import STAGE_MODELS

__all__ = ["RunCustomStage", "checked", "custom_splits"]

_FIELD_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?")

_KEPT = (*RAW_CDR_SCHEMA.names, "cdr_id")
"""Columns that a stage cannot change: the original message, its place, and the idempotence key."""

_PLACE = ["source_topic", "source_partition", "source_offset"]
"""Columns that say which row is which. A stage that changes one of them breaks its contract."""


def custom_splits(stages: Iterable[JobStage], after: Stage) -> dict[str, Split]:
    """Return the functions of the stages at one place, by name, in order."""
    return {stage.name: checked(runnable(stage), stage) for stage in stages if stage.after is after}


def checked(run: Split, stage: JobStage) -> Split:
    """Return a function that runs a stage and checks its output.

    Every row of the input must be accepted or rejected, and rows must keep their order. Accepted rows must have the
    columns of the input and the declared fields. The original message, its place and `cdr_id` stay as they are.
    Rejected rows must have declared codes; their dead letters get `STAGE.code`.

    The function raises BrokenContractError for any other output.
    """
    fields = arrow_schema(stage.block.model) if stage.block else pa.schema([])
    required = required_fields(STAGE_MODELS[stage.after])
    reasons = lru_cache(maxsize=4096)(partial(_reasons, stage))

    def split(batch: pa.RecordBatch) -> SplitBatch:
        try:
            outcome = run(batch)
        except (SystemExit, GeneratorExit) as error:
            # A signal that ends the process raises SystemExit, too.
            if isinstance(error, SystemExit) and error.code == 128 + signal.SIGTERM:
                raise
            raise BrokenContractError(f"it raises {type(error).__name__}") from None
        if not isinstance(outcome, SplitBatch):
            raise BrokenContractError(f"it returns a {type(outcome).__name__} where a SplitBatch is expected")
        is_accepted = _accepted_rows(batch, outcome)
        columns = _expected_columns(outcome.accepted, batch.schema, fields)
        kept = batch.select([name for name in _KEPT if name in batch.schema.names])
        columns |= columns_of(filter_rows(kept, is_accepted))
        if nulls := [name for name in required if name in columns and columns[name].null_count]:
            raise BrokenContractError(f"the column {nulls[0]} holds a null, and every CDR has a value there")
        names = [*batch.schema.names, *(f"{stage.name}.{name}" for name in fields.names)]
        accepted = pa.RecordBatch.from_arrays(list(columns.values()), names=names)
        if is_accepted.all():
            return SplitBatch(accepted, no_rejects())
        given = zip(*(outcome.rejected.column(name).to_pylist() for name in ("codes", "fields")), strict=True)
        violations = [reasons(tuple(codes), tuple(names)) for codes, names in given]
        return SplitBatch(accepted, dead_letters(filter_rows(kept, ~is_accepted), stage.name, violations))

    return split


def _reasons(stage: JobStage, codes: tuple[str, ...], fields: tuple[str, ...]) -> tuple[Violation, ...]:
    if unknown := [code for code in codes if code not in stage.codes]:
        raise BrokenContractError(f"the code {unknown[0]} is new: declare it in codes=… of custom_stage")
    if not all(map(_FIELD_NAME.fullmatch, fields)):
        # It is not shown: it may be a subscriber's number.
        raise BrokenContractError("the field of a reject is no name: it is that of a column, or `value`")
    return tuple(
        Violation(CustomCode(f"{stage.name}.{code}", stage.codes[code]), field)
        for code, field in zip(codes, fields, strict=True)
    )


def _accepted_rows(batch: pa.RecordBatch, outcome: SplitBatch) -> Mask:
    """Return which rows of a batch are accepted.

    Raises:
        BrokenContractError: A row is neither accepted nor rejected, or both, or rows are in another order.
    """
    accepted, rejected = outcome.accepted, outcome.rejected
    if missing := set(_PLACE) - set(accepted.schema.names):
        raise BrokenContractError(f"accepted rows lack the column {min(missing)}")
    if rejected.schema != DEAD_LETTER_SCHEMA:
        raise BrokenContractError("rejected rows are no dead letters: `split` and `dead_letters` make them")
    if accepted.num_rows + rejected.num_rows != batch.num_rows:
        raise BrokenContractError(
            f"{batch.num_rows} rows came out as {accepted.num_rows} accepted and {rejected.num_rows} rejected ones: a"
            " stage that drops rows must reject them with a code of its own"
        )
    if not rejected.num_rows and accepted.select(_PLACE).equals(batch.select(_PLACE)):
        return np.ones(batch.num_rows, np.bool_)
    topics = pc.unique(batch.column("source_topic"))
    keys, of_accepted, of_rejected = (_keys(rows, topics) for rows in (batch, accepted, rejected))
    is_accepted = _found_in_order(keys, of_accepted)
    left = keys[~is_accepted]
    if len(left) != rejected.num_rows or not np.array_equal(left, of_rejected):
        raise BrokenContractError("the accepted and the rejected rows are not those of the input, each once, in order")
    return is_accepted


def _keys(rows: pa.RecordBatch, topics: pa.Array) -> npt.NDArray[np.uint64]:
    """Return one number for each row, which its topic, partition and offset determine."""
    key = np.zeros(rows.num_rows, np.uint64)
    topic = pc.index_in(rows.column("source_topic"), topics).fill_null(len(topics))
    for column in (topic, rows.column("source_partition"), rows.column("source_offset")):
        values = column.fill_null(0).to_numpy(zero_copy_only=False).astype(np.uint64)
        # Fibonacci hashing; the constant is 2^64 divided by the golden ratio.
        key = (key ^ values) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    return key


@compiled(UINT64S, UINT64S)
def _found_in_order(keys: npt.NDArray[np.uint64], some: npt.NDArray[np.uint64]) -> Mask:
    """Return which keys are the next of `some`. If `some` is no part of the keys in order, too few are true."""
    found = np.zeros(len(keys), np.bool_)
    place = 0
    for row in range(len(keys)):
        if place < len(some) and keys[row] == some[place]:
            found[row] = True
            place += 1
    return found


def _expected_columns(accepted: pa.RecordBatch, before: pa.Schema, fields: pa.Schema) -> dict[str, pa.Array]:
    """Return the columns of accepted rows: those of the input in their order, then the stage's fields."""
    names = accepted.schema.names
    given = dict(zip(names, accepted.columns, strict=True))
    if len(given) < len(names):
        raise BrokenContractError("two columns have the same name")
    expected = [*before, *fields]
    if unknown := sorted(given.keys() - {field.name for field in expected}):
        raise BrokenContractError(f"the column {unknown[0]} is new: declare it in fields=… of custom_stage")
    if missing := [field.name for field in expected if field.name not in given]:
        raise BrokenContractError(f"accepted rows lack the column {missing[0]}")
    columns = {field.name: _typed(given[field.name], field) for field in expected}
    for field in fields:
        if _is_text(field.type):
            _check_text(columns[field.name])
    return columns


def _typed(column: pa.Array, field: pa.Field) -> pa.Array:
    if column.type == field.type:
        return column
    try:
        # polars has other types of text and of integers. Digits in a text are no number, though.
        if _is_text(column.type) is _is_text(field.type) or pa.types.is_null(column.type):
            return column.cast(field.type)
    except pa.ArrowException:
        pass
    raise BrokenContractError(f"the column {field.name} has type {column.type}, and its values do not fit {field.type}")


def _check_text(column: pa.Array) -> None:
    """Check that a text is UTF-8: a reader of cdr.final would fail at any other, and lose the rest of the file."""
    try:
        column.validate(full=True)
    except pa.ArrowException:
        raise BrokenContractError("a field of the stage holds text that is not UTF-8") from None


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


@dataclass(eq=False)
class RunCustomStage(StageTransform):
    """Runs a stage of the user's own.

    In: `pa.RecordBatch` of the schema of the stage `declared.after`, with extra columns. Out: StageOutput of accepted
    batches (the same columns, then the stage's fields as `STAGE.field`) and dead letters (the stage's own codes, and
    `STAGE.internal_error`, a bug of it). Each row goes to exactly one of the two, and rows keep their order.

    Attributes:
        declared: The stage, with its code.
    """

    stage = Stage.ENRICH

    declared: JobStage

    @property
    def named(self) -> str:
        """The stage's name in dead letters, logs and metrics."""
        return self.declared.name

    @property
    def time_limit_s(self) -> float:
        """The limit that its declaration gives."""
        return parse_duration_s(self.declared.time_limit)

    def prepare(self) -> Split:
        """Return the function over a batch."""
        return checked(runnable(self.declared), self.declared)
