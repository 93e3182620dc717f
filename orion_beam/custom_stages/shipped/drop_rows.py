"""The stage `drop_rows`: rows that meet conditions go to the dead letters, with a code of the stage's own."""

from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from orion_beam.custom_stages.contract import Reject, custom_stage, split
from orion_beam.errors import UserError
from orion_beam.schemas.codes import Stage
from orion_beam.schemas.derive import arrow_schema
from orion_beam.transforms.arrow.texts import Mask, lengths_of, mask_of
from orion_beam.transforms.stage.batches import SplitBatch
from orion_beam.transforms.stage.stage_decoding import STAGE_MODELS

__all__ = ["Condition", "DropRows", "CompareBy", "DropOptions"]


class CompareBy(StrEnum):
    """Comparison of a field with values. A null meets `is_null` only."""

    IN = "in"
    NOT_IN = "not_in"
    STARTS_WITH = "starts_with"
    LESS = "less"
    AT_MOST = "at_most"
    AT_LEAST = "at_least"
    GREATER = "greater"
    IS_NULL = "is_null"
    NOT_NULL = "not_null"


_ORDERS = {
    CompareBy.LESS: pc.less,
    CompareBy.AT_MOST: pc.less_equal,
    CompareBy.AT_LEAST: pc.greater_equal,
    CompareBy.GREATER: pc.greater,
}
_WITHOUT_VALUES = (CompareBy.IS_NULL, CompareBy.NOT_NULL)


class Condition(BaseModel):
    """A condition on a field.

    Attributes:
        field: Field of the CDR, or `STAGE.field` of a stage before. For a field that is a list, such as `warnings`, any
            item may meet the condition.
        operator: How field and values are compared.
        values: Values; the orders take one, `is_null` and `not_null` take none. A time is text in ISO 8601 with offset.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    field: str
    operator: CompareBy = CompareBy.IN
    values: tuple[bool | int | float | str, ...] = ()


class DropOptions(BaseModel):
    """Options of `drop_rows`.

    Attributes:
        where: Conditions. A row that meets all of them is dropped.
    """

    where: tuple[Condition, ...] = Field(min_length=1)


@custom_stage(codes={"dropped": "the row meets the conditions of the stage's options"})
class DropRows:
    """Rejects the rows that meet all conditions, with the code `STAGE.dropped`. No record is lost without a trace."""

    def __init__(self, options: DropOptions, after: Stage) -> None:
        """Check fields and values against the schema of the rows.

        Raises:
            UserError: A field is not there, or its type does not fit the operator or the values.
        """
        schema = arrow_schema(STAGE_MODELS[after])
        self._fields = [condition.field for condition in options.where]
        self._tests = [
            _test_of(f"options.where.{place}", condition, schema, after)
            for place, condition in enumerate(options.where)
        ]

    def __call__(self, batch: pa.RecordBatch) -> SplitBatch:
        """Return the other rows, and dead letters for those that meet the conditions."""
        masks = [test(batch.column(field)) for field, test in zip(self._fields, self._tests, strict=True)]
        return split(batch, Reject("dropped", self._fields[0], np.logical_and.reduce(masks)))


def _test_of(place: str, condition: Condition, schema: pa.Schema, after: Stage) -> Callable[[pa.Array], Mask]:
    name, operator, values = condition.field, condition.operator, condition.values
    if "." not in name and name not in schema.names:
        raise UserError(f"{place}.field: {name} is no field after {after}; there are {', '.join(schema.names)}")
    expected = 0 if operator in _WITHOUT_VALUES else 1 if operator in _ORDERS else None
    if (expected is None and not values) or (expected is not None and len(values) != expected):
        raise UserError(f"{place}.values: {operator} takes {'one or more values' if expected is None else expected}")

    def test(column: pa.Array) -> Mask:
        if not pa.types.is_list(column.type):
            return mask_of(_met(column, operator, values))
        rows = np.repeat(np.arange(len(column)), lengths_of(column))
        return np.bincount(rows[mask_of(_met(column.flatten(), operator, values))], minlength=len(column)) > 0

    if "." not in name:
        try:
            test(pa.nulls(0, schema.field(name).type))
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise UserError(f"{place}: {name} {operator} {list(values)}: {str(error).splitlines()[0]}") from None
    return test


def _met(column: pa.Array, operator: CompareBy, values: Sequence[Any]) -> pa.BooleanArray:
    match operator:
        case CompareBy.IS_NULL:
            return column.is_null()
        case CompareBy.NOT_NULL:
            return column.is_valid()
        case CompareBy.STARTS_WITH:
            return reduce(pc.or_, [pc.starts_with(column, str(value)) for value in values])
    typed = _typed(values, column.type)
    if operator in _ORDERS:
        return _ORDERS[operator](column, typed[0])
    is_in = pc.is_in(column, typed)
    return pc.and_not(column.is_valid(), is_in) if operator is CompareBy.NOT_IN else is_in


def _typed(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind):
        values = [datetime.fromisoformat(str(value)) for value in values]
        if any(value.tzinfo is None for value in values):
            raise ValueError("a time needs an offset, such as 2026-01-01T00:00Z")
    return pa.array(values).cast(kind)
