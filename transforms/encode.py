"""EncodeCdrs: CDRs as Kafka messages, the IMSI as key and Avro (or JSON) as value."""

import io
import json
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import fastavro
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyruhvro
from pydantic import BaseModel

from orion_beam.schemas.cdr import SCHEMA_VERSION, UNIFIED_SCHEMA, UnifiedCdr
from orion_beam.schemas.codes import Code, Stage
from orion_beam.schemas.derive import arrow_schema, avro_schema
from orion_beam.transforms.arrow.compiled import BYTES, INT64, TEXTS, Bytes, Texts, compiled, copy_bytes, texts_of
from orion_beam.transforms.arrow.texts import lengths_of, to_bytes
from orion_beam.transforms.stage.batches import SplitBatch, batch_of, columns_of, filter_rows
from orion_beam.transforms.stage.rejects import PAYLOAD_FIELD, Violation, dead_letters, no_rejects
from orion_beam.transforms.stage.split import Split, StageTransform

MAX_VALUE_BYTES = 1_000_000
"""Of a message's value, so that key and framing have room in Kafka's default of 1,048,588 bytes a batch.

A unified CDR never comes near it: its texts are parts of a payload of 64 KiB at most, and written as JSON, where one
character takes six bytes at most, they are below 400 KiB. The value of a stage's topic has the original message with
its key and headers, which may be as large as the raw topic takes.
"""

ENCODED_SCHEMA = pa.schema([("key", pa.binary()), ("value", pa.binary()), ("country", pa.string())])
"""A message of a CDR topic, and its country. The key is the IMSI: a subscriber's CDRs stay in one partition."""


@dataclass(frozen=True)
class Wire:
    """How values are written.

    Attributes:
        prefix: bytes before each Avro body: the header of single-object encoding, or Confluent's magic byte and
            schema id. None means JSON.
    """

    prefix: bytes | None


def unified(batch: pa.RecordBatch, run_id: str | None) -> pa.RecordBatch:
    """Return the columns of `cdr.UnifiedCdr` of an enriched batch."""
    columns = columns_of(batch) | {
        "schema_version": pa.repeat(pa.scalar(SCHEMA_VERSION, pa.int32()), batch.num_rows),
        "run_id": pa.repeat(pa.scalar(run_id, pa.string()), batch.num_rows),
    }
    return batch_of(columns, UNIFIED_SCHEMA)


def encode_avro(batch: pa.RecordBatch, model: type[BaseModel], prefix: bytes = b"") -> pa.BinaryArray:
    """Return the Avro bodies of rows, by `orion_beam.schemas.derive.avro_schema(model)`.

    Args:
        batch: the columns of `model`.
        model: says order, types, and which columns may be null.
        prefix: what stands before each body.

    Raises:
        ValueError: a column holds a null and must not (the encoder would write an empty value in its place).
    """
    for field in _required(model):
        if batch.column(field).null_count:
            raise ValueError(f"{model.__name__}.{field} must not be null")
    # Null is the first branch of its union, which Avro writes as a zero: columns at the end that hold nothing else
    # need no encoder.
    count = _columns_up_to_last_value(batch)
    try:
        # The encoder has no bytes, see _text_layout.
        texts = batch.select(batch.schema.names[:count])
        if _holds_bytes(model):
            texts = texts.cast(_text_layout(model, count))
    except pa.ArrowInvalid:
        return _framed(_encode_avro_by_row(batch, model), prefix)
    (bodies,) = pyruhvro.serialize_record_batch(texts, _text_schema(model, count), 1)
    return _framed(bodies, prefix, batch.num_columns - count)


def _framed(bodies: pa.BinaryArray, prefix: bytes, zeros: int = 0) -> pa.BinaryArray:
    """Return bodies with `prefix` before, and so many zeros behind each."""
    offsets, values = _frame(texts_of(bodies), to_bytes(prefix), zeros)
    if offsets[-1] != len(values):
        raise OverflowError(f"{len(bodies)} bodies are more than 2 GiB")
    return pa.Array.from_buffers(pa.binary(), len(bodies), [None, pa.py_buffer(offsets), pa.py_buffer(values)])


@compiled(TEXTS, BYTES, INT64)
def _frame(bodies: Texts, prefix: Bytes, zeros: int) -> tuple[npt.NDArray[np.int32], Bytes]:
    rows = len(bodies.offsets) - 1
    size = np.int64(bodies.offsets[rows]) - bodies.offsets[0] + rows * (len(prefix) + zeros)
    offsets, values = np.empty(rows + 1, np.int32), np.empty(size, np.uint8)
    offsets[0] = written = 0
    for row in range(rows):
        start, end = bodies.offsets[row], bodies.offsets[row + 1]
        copy_bytes(values, written, prefix, 0, len(prefix))
        written += len(prefix)
        copy_bytes(values, written, bodies.data, start, end - start)
        written += end - start
        values[written : written + zeros] = 0
        written += zeros
        offsets[row + 1] = written
    return offsets, values


def _columns_up_to_last_value(batch: pa.RecordBatch) -> int:
    count: int = batch.num_columns
    while count and batch.column(count - 1).null_count == batch.num_rows:
        count -= 1
    return count or int(batch.num_columns)


def _encode_avro_by_row(batch: pa.RecordBatch, model: type[BaseModel]) -> pa.BinaryArray:
    """Encode what the columnar encoder cannot: keys and headers that are not UTF-8."""
    return pa.array(avro_bodies(batch, model), pa.binary())


def avro_bodies(batch: pa.RecordBatch, model: type[BaseModel]) -> list[bytes]:
    """Return the Avro bodies of rows, encoded row by row: any bytes will do, and it takes fifty times as long."""
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
def _required(model: type[BaseModel]) -> tuple[str, ...]:
    fields = json.loads(avro_schema(model))["fields"]
    return tuple(field["name"] for field in fields if not isinstance(field["type"], list))


@cache
def _holds_bytes(model: type[BaseModel]) -> bool:
    schema = arrow_schema(model)
    return not _text_layout(model, len(schema)).equals(schema)


@cache
def _text_layout(model: type[BaseModel], count: int) -> pa.Schema:
    """Return the Arrow schema of the model's first `count` fields with string for binary.

    The encoder has no bytes. Avro writes bytes and strings alike (Avro 1.12 specification, Binary encoding), so bytes
    that are UTF-8 pass through it as strings and readers of the true schema see no difference.
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


@cache
def _text_schema(model: type[BaseModel], count: int) -> str:
    """Return the Avro schema of the model's first `count` fields with string for bytes."""

    def text(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: value if key in ("name", "doc") else text(value) for key, value in part.items()}
        if isinstance(part, list):
            return [text(item) for item in part]
        return "string" if part == "bytes" else part

    schema = text(json.loads(avro_schema(model)))
    return json.dumps(schema | {"fields": schema["fields"][:count]})


def encode_json(batch: pa.RecordBatch) -> pa.BinaryArray:
    """Return rows as JSON objects: times in ISO 8601, nulls included."""
    frame = pl.DataFrame(batch)
    times = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Datetime)]
    dates = [name for name, kind in frame.schema.items() if kind == pl.Date]
    readable = frame.with_columns(
        pl.col(times).dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"), pl.col(dates).dt.strftime("%Y-%m-%d")
    )
    texts = readable.select(pl.struct(pl.all()).struct.json_encode()).to_series()
    return texts.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.string()).cast(pa.binary())


def encode_batch(batch: pa.RecordBatch, model: type[BaseModel], wire: Wire, run_id: str | None = None) -> SplitBatch:
    """Encode every row as a message.

    Args:
        batch: rows of the stage that `model` stands for; enriched rows for `UnifiedCdr`.
        model: what a value holds.
        wire: how it is written.
        run_id: of a replay, else None.

    Returns:
        Accepted rows as ENCODED_SCHEMA, in order; those whose value is longer than MAX_VALUE_BYTES are rejected as
        `oversized_payload`.
    """
    rows = unified(batch, run_id) if model is UnifiedCdr else batch
    if wire.prefix is None:
        values = encode_json(rows.select(list(model.model_fields)))
    else:
        values = encode_avro(rows, model, wire.prefix)
    columns = [batch.column("imsi").cast(pa.binary()), values, batch.column("country")]
    encoded = pa.RecordBatch.from_arrays(columns, schema=ENCODED_SCHEMA)
    fits = lengths_of(values) <= MAX_VALUE_BYTES
    if fits.all():
        return SplitBatch(encoded, no_rejects())
    too_large = filter_rows(batch, ~fits)
    reason = (Violation(Code.OVERSIZED_PAYLOAD, PAYLOAD_FIELD),)
    rejected = dead_letters(too_large, Stage.ENCODE, [reason] * too_large.num_rows)
    return SplitBatch(filter_rows(encoded, fits), rejected)


def unify_batch(batch: pa.RecordBatch, run_id: str | None = None) -> SplitBatch:
    """Return every enriched row, accepted, as `cdr.UNIFIED_SCHEMA`, in order."""
    return SplitBatch(unified(batch, run_id), no_rejects())


@dataclass(eq=False)
class UnifyCdrs(StageTransform):
    """Makes unified CDRs, for sinks that write columns.

    In: `pa.RecordBatch` of `cdr.ENRICHED_SCHEMA`. Out: as EncodeCdrs, but `cdr.UNIFIED_SCHEMA`.

    Attributes:
        run_id: of a replay, else None.
    """

    stage = Stage.ENCODE

    run_id: str | None = None

    def prepare(self) -> Split:
        """Return the function over a batch."""
        return partial(unify_batch, run_id=self.run_id)


@dataclass(eq=False)
class EncodeCdrs(StageTransform):
    """Encodes CDRs as Kafka messages.

    In: `pa.RecordBatch` of the stage that `model` stands for. Out: StageOutput of accepted batches (ENCODED_SCHEMA) and
    dead letters (`oversized_payload`, see MAX_VALUE_BYTES, and `internal_error`, a bug). Every row goes to exactly one
    of the two; order holds.

    Attributes:
        model: what a value holds.
        wire: how it is written.
        run_id: of a replay, else None.
        step: what the worker's metrics count it as, if it is not the stage that ends the chain.
    """

    stage = Stage.ENCODE

    model: type[BaseModel]
    wire: Wire
    run_id: str | None = None
    step: str | None = None

    @property
    def counted_as(self) -> str:
        """The step's name in the worker's metrics."""
        return self.step or self.stage.value

    def prepare(self) -> Split:
        """Return the function over a batch."""
        return partial(encode_batch, model=self.model, wire=self.wire, run_id=self.run_id)
