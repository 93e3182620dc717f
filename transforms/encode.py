"""EncodeCdrs: CDRs as Kafka messages, the IMSI as key and Avro (or JSON) as value."""

import io
import json
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import apache_beam as beam
import fastavro
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyruhvro
from pydantic import BaseModel

from schemas.cdr import SCHEMA_VERSION, EnrichedCdr, UnifiedCdr
from schemas.codes import Stage
from schemas.derive import arrow_schema, avro_schema
from transforms.batches import SplitBatch, frame_of
from transforms.rejects import no_rejects
from transforms.stage import Split, StageOutput, split_stage

ENCODED_SCHEMA = pa.schema([("key", pa.binary_view()), ("value", pa.binary()), ("country", pa.string_view())])
"""A message of a CDR topic, and its country. The key is the IMSI: a subscriber's CDRs stay in one partition."""


@dataclass(frozen=True)
class Wire:
    """How values are written.

    Attributes:
        prefix: bytes before each Avro body: the header of single-object encoding, or Confluent's magic byte and
            schema id. None means JSON.
    """

    prefix: bytes | None


def unified_frame(batch: pa.RecordBatch, run_id: str | None) -> pl.DataFrame:
    """Return the columns of `schemas.cdr.UnifiedCdr` of an enriched batch."""
    return frame_of(batch).select(
        *(name for name in UnifiedCdr.model_fields if name in EnrichedCdr.model_fields),
        schema_version=pl.lit(SCHEMA_VERSION, pl.Int32),
        run_id=pl.lit(run_id, pl.String),
    )


def encode_avro(frame: pl.DataFrame, model: type[BaseModel]) -> pa.BinaryArray:
    """Return the Avro bodies of rows, by `schemas.derive.avro_schema(model)`.

    Args:
        frame: the columns of `model`.
        model: says order, types, and which columns may be null.

    Raises:
        ValueError: a column holds a null and must not (the encoder would write an empty value in its place).
    """
    for field in _required(model):
        if frame[field].null_count():
            raise ValueError(f"{model.__name__}.{field} must not be null")
    try:
        batch = _plain(frame, _text_layout(model))
    except (pl.exceptions.ComputeError, pa.ArrowInvalid):
        return _encode_avro_by_row(frame, model)
    return pa.concat_arrays(pyruhvro.serialize_record_batch(batch, _text_schema(model), 1))


def _encode_avro_by_row(frame: pl.DataFrame, model: type[BaseModel]) -> pa.BinaryArray:
    """Encode what the columnar encoder cannot: keys and headers that are not UTF-8."""
    schema = fastavro.parse_schema(json.loads(avro_schema(model)))
    bodies = []
    for row in frame.select(*model.model_fields).iter_rows(named=True):
        body = io.BytesIO()
        fastavro.schemaless_writer(body, schema, row)
        bodies.append(body.getvalue())
    return pa.array(bodies, pa.binary())


def _plain(frame: pl.DataFrame, target: pa.Schema) -> pa.RecordBatch:
    """Return the columns of `target` in the Arrow types that the encoder reads: it knows no views and no bytes."""
    views = frame.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())
    columns = []
    for name, kind in zip(target.names, target.types, strict=True):
        if pa.types.is_list(kind):
            # Arrow casts no views inside of lists.
            columns.append(frame[name].to_arrow(compat_level=pl.CompatLevel.oldest()).cast(kind))
        else:
            column = views.column(name).chunk(0) if frame.height else pa.nulls(0, kind)
            columns.append(column if column.type == kind else column.cast(kind))
    return pa.RecordBatch.from_arrays(columns, schema=target)


@cache
def _required(model: type[BaseModel]) -> tuple[str, ...]:
    fields = json.loads(avro_schema(model))["fields"]
    return tuple(field["name"] for field in fields if not isinstance(field["type"], list))


@cache
def _text_layout(model: type[BaseModel]) -> pa.Schema:
    """Return the model's Arrow schema with string for binary.

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

    return pa.schema([(field.name, text(field.type)) for field in arrow_schema(model)])


@cache
def _text_schema(model: type[BaseModel]) -> str:
    def text(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: value if key in ("name", "doc") else text(value) for key, value in part.items()}
        if isinstance(part, list):
            return [text(item) for item in part]
        return "string" if part == "bytes" else part

    return json.dumps(text(json.loads(avro_schema(model))))


def encode_json(frame: pl.DataFrame) -> pa.BinaryArray:
    """Return rows as JSON objects: times in ISO 8601, nulls included."""
    times = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Datetime)]
    dates = [name for name, kind in frame.schema.items() if kind == pl.Date]
    readable = frame.with_columns(
        pl.col(times).dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"), pl.col(dates).dt.strftime("%Y-%m-%d")
    )
    texts = readable.select(pl.struct(pl.all()).struct.json_encode()).to_series()
    return texts.to_arrow(compat_level=pl.CompatLevel.newest()).cast(pa.string()).cast(pa.binary())


def encode_batch(batch: pa.RecordBatch, model: type[BaseModel], wire: Wire, run_id: str | None = None) -> SplitBatch:
    """Encode every row as a message.

    Args:
        batch: rows of the stage that `model` stands for; enriched rows for `UnifiedCdr`.
        model: what a value holds.
        wire: how it is written.
        run_id: of a replay, else None.

    Returns:
        All rows, accepted, as ENCODED_SCHEMA, in order.
    """
    frame = unified_frame(batch, run_id) if model is UnifiedCdr else frame_of(batch)
    if wire.prefix is None:
        values = encode_json(frame.select(*model.model_fields))
    else:
        values = pc.binary_join_element_wise(wire.prefix, encode_avro(frame, model), b"")
    keys = frame["imsi"].cast(pl.Binary).to_arrow(compat_level=pl.CompatLevel.newest())
    columns = [keys, values, batch.column("country")]
    return SplitBatch(pa.RecordBatch.from_arrays(columns, schema=ENCODED_SCHEMA), no_rejects())


@dataclass(eq=False)
class EncodeCdrs(beam.PTransform):  # type: ignore[misc]
    """Encodes CDRs as Kafka messages.

    In: `pa.RecordBatch` of the stage that `model` stands for. Out: StageOutput of accepted batches (ENCODED_SCHEMA) and
    dead letters (only `internal_error`, a bug). Every row goes to exactly one of the two; order holds.

    Attributes:
        model: what a value holds.
        wire: how it is written.
        run_id: of a replay, else None.
    """

    model: type[BaseModel]
    wire: Wire
    run_id: str | None = None

    def __post_init__(self) -> None:
        """Name the transform."""
        super().__init__()

    @beam.typehints.no_annotations  # type: ignore[untyped-decorator]  # Beam knows no named tuples of outputs
    def expand(self, batches: beam.PCollection) -> StageOutput:
        """Split each batch into messages and dead letters."""
        return split_stage(batches, Stage.ENCODE, self._prepare)

    def _prepare(self) -> Split:
        return partial(encode_batch, model=self.model, wire=self.wire, run_id=self.run_id)
