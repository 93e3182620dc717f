"""Extra columns of a batch: the fields that stages of the user's own have added to it.

Their names are `STAGE.FIELD`. No other column has a dot. Each stage that follows hands them on, and the encode stage
turns them into one nullable struct a stage.
"""

import pyarrow as pa
import pyarrow.compute as pc


def with_extra_columns(schema: pa.Schema, batch: pa.RecordBatch) -> pa.Schema:
    """Return a schema with the extra columns of a batch behind its own fields."""
    extra = [field for field in batch.schema if "." in field.name]
    return pa.schema([*schema, *extra]) if extra else schema


def structs_of(batch: pa.RecordBatch) -> dict[str, pa.StructArray]:
    """Return the extra columns of a batch as one struct a stage, by the stage's name.

    A struct is null in the rows where all of its fields are.
    """
    columns: dict[str, dict[str, pa.Array]] = {}
    for field, column in zip(batch.schema, batch.columns, strict=True):
        stage, dot, name = field.name.partition(".")
        if dot:
            columns.setdefault(stage, {})[name] = column
    return {stage: _struct(fields) for stage, fields in columns.items()}


def _struct(columns: dict[str, pa.Array]) -> pa.StructArray:
    first, *others = (column.is_null() for column in columns.values())
    for other in others:
        first = pc.and_(first, other)
    return pa.StructArray.from_arrays(list(columns.values()), list(columns), mask=first)
