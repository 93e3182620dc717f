"""EncodeCdrs: encodes CDRs as Kafka messages with the IMSI as key and Avro (or JSON) as value."""

import io
import json
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import fastavro
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyruhvro
from pydantic import BaseModel

from orion_beam.schemas.cdr import SCHEMA_VERSION, UnifiedCdr
from orion_beam.schemas.codes import Code, Stage
from orion_beam.schemas.derive import arrow_schema, avro_schema, required_fields, text_schema
from orion_beam.schemas.extra_fields import ExtraBlock, extended
from orion_beam.transforms.arrow.texts import lengths_of, text_offsets
from orion_beam.transforms.stage.batches import SplitBatch, batch_of, columns_of, filter_rows
from orion_beam.transforms.stage.extra_columns import structs_of
from orion_beam.transforms.stage.rejects import PAYLOAD_FIELD, Violation, dead_letters, no_rejects
from orion_beam.transforms.stage.split import Split, StageTransform

__all__ = [
    "ENCODED_SCHEMA",
    "EncodeCdrs",
    "MAX_VALUE_BYTES",
    "UnifyCdrs",
    "Wire",
    "avro_bodies",
    "encode_avro",
    "encode_batch",
    "encode_json",
    "unified",
    "unify_batch",
]

MAX_VALUE_BYTES = 1_000_000
"""Largest value of a message. It leaves room for key and framing in Kafka's default of 1,048,588 bytes a batch.

A unified CDR stays far below it: its texts come from a payload of at most 64 KiB. JSON takes at most six bytes a
character, which gives less than 400 KiB. A value on a stage's topic may reach the limit, because it holds the original
message with its key and headers.
"""

_LARGEST_COLUMN = (1 << 31) - 1
"""Most bytes of a binary column, whose offsets have 32 bits."""

ENCODED_SCHEMA = pa.schema([("key", pa.binary()), ("value", pa.binary()), ("country", pa.string())])
"""A message of a CDR topic, and its country. The key is the IMSI, so a subscriber's CDRs stay in one partition."""


@dataclass(frozen=True)
class Wire:
    """Encoding of message values.

    Attributes:
        prefix: Bytes before each Avro body: the header of single-object encoding, or Confluent's magic byte and
            schema ID. None means JSON.
    """

    prefix: bytes | None


def unified(batch: pa.RecordBatch, run_id: str | None, model: type[UnifiedCdr] = UnifiedCdr) -> pa.RecordBatch:
    """Return an enriched batch with the columns of `model`: UnifiedCdr, or UnifiedCdr with extra blocks."""
    columns = (
        columns_of(batch)
        | structs_of(batch)
        | {
            "schema_version": pa.repeat(pa.scalar(SCHEMA_VERSION, pa.int32()), batch.num_rows),
            "run_id": pa.repeat(pa.scalar(run_id, pa.string()), batch.num_rows),
        }
    )
    return batch_of(columns, arrow_schema(model))


def encode_avro(batch: pa.RecordBatch, model: type[BaseModel], prefix: bytes = b"") -> pa.BinaryArray:
    """Encode rows as Avro bodies with the schema `orion_beam.schemas.derive.avro_schema(model)`.

    Args:
        batch: Rows with the columns of `model`.
        model: Model that gives the order, types and nullability of the columns.
        prefix: Bytes to write before each body.

    Raises:
        ValueError: A required column holds a null. The encoder would write an empty value in its place.
    """
    for field in required_fields(model):
        if batch.column(field).null_count:
            raise ValueError(f"{model.__name__}.{field} must not be null")
    # Null is the first branch of each nullable union, so Avro writes it as a zero byte. Trailing columns that hold only
    # nulls are therefore written as zeros, without the encoder.
    count = _columns_up_to_last_value(batch)
    try:
        # The encoder does not support binary columns, see _text_layout.
        texts = batch.select(batch.schema.names[:count])
        if _holds_bytes(model):
            texts = texts.cast(_text_layout(model, count))
    except pa.ArrowInvalid:
        return _framed(_encode_avro_by_row(batch, model), prefix)
    (bodies,) = pyruhvro.serialize_record_batch(texts, text_schema(model, count), 1)
    return _framed(bodies, prefix, batch.num_columns - count)


def _framed(bodies: pa.BinaryArray, prefix: bytes, zeros: int = 0) -> pa.BinaryArray:
    """Return the bodies, each with `prefix` before it and `zeros` zero bytes after it.

    Raises:
        OverflowError: The result is more than 2 GiB.
    """
    offsets = text_offsets(bodies)
    if int(offsets[-1]) - int(offsets[0]) + len(bodies) * (len(prefix) + zeros) > _LARGEST_COLUMN:
        raise OverflowError(f"{len(bodies)} bodies are more than 2 GiB")
    before, behind, between = (pa.scalar(each, pa.binary()) for each in (prefix, bytes(zeros), b""))
    return pc.binary_join_element_wise(before, bodies, behind, between)


def _columns_up_to_last_value(batch: pa.RecordBatch) -> int:
    count: int = batch.num_columns
    while count and batch.column(count - 1).null_count == batch.num_rows:
        count -= 1
    return count or int(batch.num_columns)


def _encode_avro_by_row(batch: pa.RecordBatch, model: type[BaseModel]) -> pa.BinaryArray:
    """Encode rows that the columnar encoder cannot: their keys or headers are not UTF-8."""
    return pa.array(avro_bodies(batch, model), pa.binary())


def avro_bodies(batch: pa.RecordBatch, model: type[BaseModel]) -> list[bytes]:
    """Encode rows as Avro bodies, row by row. It accepts any bytes and takes 50 times as long as `encode_avro`."""
    schema = _parsed_schema(model)
    bodies = []
    for row in batch.to_pylist():
        body = io.BytesIO()
        fastavro.schemaless_writer(body, schema, row)
        bodies.append(body.getvalue())
    return bodies


@cache
def _parsed_schema(model: type[BaseModel]) -> Any:
    return fastavro.parse_schema(json.loads(avro_schema(model)))


@cache
def _holds_bytes(model: type[BaseModel]) -> bool:
    schema = arrow_schema(model)
    return not _text_layout(model, len(schema)).equals(schema)


@cache
def _text_layout(model: type[BaseModel], count: int) -> pa.Schema:
    """Return the Arrow schema of the model's first `count` fields, with string in place of binary.

    The encoder does not support binary. Avro encodes bytes and strings alike (Avro 1.12 specification, Binary
    encoding), so UTF-8 bytes are encoded as strings, and a reader with the true schema sees no difference.
    """

    def text(kind: pa.DataType) -> pa.DataType:
        if pa.types.is_binary(kind):
            return pa.string()
        if pa.types.is_list(kind):
            return pa.list_(text(kind.value_type))
        if pa.types.is_struct(kind):
            return pa.struct([(kind.field(i).name, text(kind.field(i).type)) for i in range(kind.num_fields)])
        return kind

    return pa.schema([(field.name, text(field.type)) for field in list(arrow_schema(model))[:count]])


def encode_json(batch: pa.RecordBatch) -> pa.BinaryArray:
    """Encode rows as JSON objects. Times are in ISO 8601; nulls are written."""
    frame = pl.DataFrame(batch)
    readable = [_readable(pl.col(name), kind) for name, kind in frame.schema.items()]
    texts = frame.select(pl.struct(readable).struct.json_encode()).to_series()
    return texts.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.string()).cast(pa.binary())


def _readable(column: pl.Expr, kind: Any) -> pl.Expr:
    if isinstance(kind, pl.Datetime):
        return column.dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
    if kind == pl.Date:
        return column.dt.strftime("%Y-%m-%d")
    if isinstance(kind, pl.Struct):
        fields = [_readable(column.struct.field(field.name), field.dtype) for field in kind.fields]
        return pl.when(column.is_not_null()).then(pl.struct(fields)).name.keep()
    return column


def encode_batch(batch: pa.RecordBatch, model: type[BaseModel], wire: Wire, run_id: str | None = None) -> SplitBatch:
    """Encode each row as a message.

    Args:
        batch: Rows with the schema of `model`; enriched rows for `UnifiedCdr`.
        model: Model of a value.
        wire: Encoding of the value.
        run_id: ID of the replay run; None if the job is not a replay.

    Returns:
        Accepted rows as ENCODED_SCHEMA, in order. A row whose value is longer than MAX_VALUE_BYTES is rejected as
        `oversized_payload`.
    """
    rows = unified(batch, run_id, model) if issubclass(model, UnifiedCdr) else batch.select(list(model.model_fields))
    values = encode_json(rows) if wire.prefix is None else encode_avro(rows, model, wire.prefix)
    columns = [batch.column("imsi").cast(pa.binary()), values, batch.column("country")]
    encoded = pa.RecordBatch.from_arrays(columns, schema=ENCODED_SCHEMA)
    fits = lengths_of(values) <= MAX_VALUE_BYTES
    if fits.all():
        return SplitBatch(encoded, no_rejects())
    too_large = filter_rows(batch, ~fits)
    reason = (Violation(Code.OVERSIZED_PAYLOAD, PAYLOAD_FIELD),)
    rejected = dead_letters(too_large, Stage.ENCODE, [reason] * too_large.num_rows)
    return SplitBatch(filter_rows(encoded, fits), rejected)


def unify_batch(batch: pa.RecordBatch, run_id: str | None = None, model: type[UnifiedCdr] = UnifiedCdr) -> SplitBatch:
    """Return all enriched rows, accepted and in order, with the columns of `model`."""
    return SplitBatch(unified(batch, run_id, model), no_rejects())


@dataclass(eq=False)
class UnifyCdrs(StageTransform):
    """Turns enriched CDRs into unified CDRs, for sinks that write columns.

    In: `pa.RecordBatch` of `cdr.ENRICHED_SCHEMA`. Out: StageOutput of accepted batches (`cdr.UNIFIED_SCHEMA`, then one
    struct for each block) and dead letters (only `internal_error`, a bug). Each row goes to exactly one of the two, and
    rows keep their order.

    Attributes:
        run_id: ID of the replay run; None if the job is not a replay.
        blocks: Fields that stages of the user's own have added.
    """

    stage = Stage.ENCODE

    run_id: str | None = None
    blocks: tuple[ExtraBlock, ...] = ()

    def prepare(self) -> Split:
        """Return the function over a batch."""
        return partial(unify_batch, run_id=self.run_id, model=extended(UnifiedCdr, self.blocks))


@dataclass(eq=False)
class EncodeCdrs(StageTransform):
    """Encodes CDRs as Kafka messages.

    In: `pa.RecordBatch` with the schema of `model`; enriched batches for `UnifiedCdr`. Out: StageOutput of accepted
    batches (ENCODED_SCHEMA) and dead letters (`oversized_payload`, see MAX_VALUE_BYTES, and `internal_error`, a bug).
    Each row goes to exactly one of the two, and rows keep their order.

    Attributes:
        model: Model of a value.
        wire: Encoding of the value.
        run_id: ID of the replay run; None if the job is not a replay.
        blocks: Fields that stages of the user's own have added; they follow those of `model`.
        step: Name of the step in the worker's metrics; None for the stage's name, which the last step of the chain has.
    """

    stage = Stage.ENCODE

    model: type[BaseModel]
    wire: Wire
    run_id: str | None = None
    blocks: tuple[ExtraBlock, ...] = ()
    step: str | None = None

    @property
    def counted_as(self) -> str:
        """The step's name in the worker's metrics."""
        return self.step or self.stage.value

    def prepare(self) -> Split:
        """Return the function over a batch."""
        return partial(encode_batch, model=extended(self.model, self.blocks), wire=self.wire, run_id=self.run_id)
