"""DecodeStage: decodes the messages of a stage's topic to its batches, so that the chain can be split into two jobs."""

import io
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import apache_beam as beam
import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyruhvro
from pydantic import BaseModel

from orion_beam.schemas.avro_format import SINGLE_OBJECT_HEADER_BYTES
from orion_beam.schemas.cdr import EnrichedCdr, NormalizedCdr, ValidatedCdr
from orion_beam.schemas.codes import Code, Stage
from orion_beam.schemas.country import CountryProfile
from orion_beam.schemas.derive import arrow_schema, avro_schema, text_schema
from orion_beam.schemas.older import readable_schemas
from orion_beam.transforms.arrow.row_copies import take
from orion_beam.transforms.arrow.texts import Mask, Offsets, is_in, to_list
from orion_beam.transforms.stage.batches import concat_batches, empty_batch, filter_rows
from orion_beam.transforms.stage.rejects import PAYLOAD_FIELD, Violation, dead_letters
from orion_beam.transforms.stage.split import ACCEPTED_TAG, DEAD_LETTER_TAG, StageOutput, typed_outputs
from orion_beam.transforms.stage.versions import OtherVersionError, refuse_other_versions

_logger = logging.getLogger(__name__)

STAGE_MODELS: dict[Stage, type[BaseModel]] = {
    Stage.VALIDATE: ValidatedCdr,
    Stage.NORMALIZE: NormalizedCdr,
    Stage.ENRICH: EnrichedCdr,
}
"""Model of a stage's accepted rows."""

UNKNOWN_COUNTRY = "ZZ"
"""Country of a message that is not a record of the stage. ISO 3166-1 leaves ZZ to users."""


def decode_stage(
    batch: pa.RecordBatch, model: type[BaseModel], kept: tuple[str, ...] = ()
) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Decode the values of a stage's topic. Records of older versions get the schema of this one.

    Args:
        batch: Rows of `raw.RAW_MESSAGE_SCHEMA`.
        model: Model of the values.
        kept: Schemas of further versions that are read, as JSON text. They resolve to the schema in use.

    Returns:
        The records of `model`, in order, with the coordinates and bytes of their raw messages. Then the other rows as
        dead letters (`malformed_payload`), with their coordinates on the stage's topic.

    Raises:
        OtherVersionError: A row is a record of a version that is not known.
    """
    values = np.array(to_list(batch.column("raw_value")), object)
    headers = np.array([None if value is None else value[:SINGLE_OBJECT_HEADER_BYTES] for value in values], object)
    rows: list[Offsets] = []
    parts: list[pa.RecordBatch] = []
    for header, schema in readable_schemas(model, kept).items():
        its_rows = np.flatnonzero(headers == header)
        if len(its_rows):
            is_record, records = _decode([value[len(header) :] for value in values[its_rows]], schema, model)
            rows.append(its_rows[is_record])
            parts.append(records)
        if len(its_rows) == len(values):
            break
    is_record = np.zeros(len(values), np.bool_)
    for its_rows in rows:
        is_record[its_rows] = True
    foreign = filter_rows(batch, ~is_record)
    refuse_other_versions(foreign, kept)
    foreign = foreign.append_column("country", pa.repeat(UNKNOWN_COUNTRY, foreign.num_rows))
    reason = (Violation(Code.MALFORMED_PAYLOAD, PAYLOAD_FIELD),)
    rejected = dead_letters(foreign, Stage.DECODE, [reason] * foreign.num_rows)
    if len(parts) == 1:
        return parts[0], rejected
    if not parts:
        return empty_batch(arrow_schema(model)), rejected
    return take(concat_batches(parts), np.argsort(np.concatenate(rows), kind="stable")), rejected


def _decode(bodies: list[bytes], schema: str, model: type[BaseModel]) -> tuple[Mask, pa.RecordBatch]:
    """Decode Avro bodies of one schema; return which of them are records, and the records."""
    if schema == avro_schema(model):
        # The decoder does not support binary columns. Their bytes are encoded as those of strings are, so it reads
        # them as strings; where they are not UTF-8, or a body is not a record, it refuses them all.
        try:
            records = pyruhvro.deserialize_array(bodies, text_schema(model)).cast(arrow_schema(model))
        except (ValueError, pa.ArrowException):
            pass
        else:
            return np.ones(len(bodies), np.bool_), records
    parse = _parser(schema, model)
    rows = [parse(body) for body in bodies]
    is_record = np.array([row is not None for row in rows], np.bool_)
    found = [row for row in rows if row is not None]
    return is_record, pa.RecordBatch.from_pylist(found, schema=arrow_schema(model))


@cache
def _parser(schema: str, model: type[BaseModel]) -> Any:
    writer, reader = (fastavro.parse_schema(json.loads(each)) for each in (schema, avro_schema(model)))

    def parse(body: bytes) -> dict[str, Any] | None:
        # fastavro may raise any exception on arbitrary bytes. Each means that the bytes are not a record.
        try:
            record = fastavro.schemaless_reader(io.BytesIO(body), writer, reader)
        except Exception:
            return None
        return record if isinstance(record, dict) else None

    return parse


class _DecodeStageFn(beam.DoFn):  # type: ignore[misc]
    def __init__(self, stage: Stage, countries: frozenset[str], kept: tuple[str, ...]) -> None:
        self._model = STAGE_MODELS[stage]
        self._countries = countries
        self._kept = kept

    def process(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch | beam.pvalue.TaggedOutput]:
        try:
            records, foreign = decode_stage(batch, self._model, self._kept)
        except OtherVersionError as error:
            # The job fails before it commits the offset, so that no record is lost until an operator decides.
            where = {"topic": error.topic, "partition": error.partition, "offset": error.offset}
            _logger.error("%s", error, extra={"event": "other_version", **where})
            raise
        # A stage's topic holds records of all countries. This job emits only those of its own, one country a batch.
        for country in pc.unique(records.column("country")).to_pylist():
            if country in self._countries:
                yield filter_rows(records, is_in(records.column("country"), pa.array([country])))
        if foreign.num_rows:
            yield beam.pvalue.TaggedOutput(DEAD_LETTER_TAG, foreign)


@dataclass(eq=False)
class DecodeStage(beam.PTransform):  # type: ignore[misc]
    """Decodes the messages of a stage's topic to the stage's batches.

    In: `pa.RecordBatch` of `raw.RAW_MESSAGE_SCHEMA`. Out: StageOutput of accepted batches (the stage's schema, one
    country each) and dead letters for messages that are not records of the stage. Rows of countries that are not in
    `profiles` are dropped: other jobs read them. Records of older versions get the schema of this one. A record of a
    version that is not known fails the bundle with OtherVersionError.

    Attributes:
        stage: Stage whose topic is read.
        profiles: Country profiles by code.
        kept: Avro schemas of further versions that are read, as JSON text.
    """

    stage: Stage
    profiles: Mapping[str, CountryProfile]
    kept: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Call Beam's constructor, which a dataclass does not."""
        super().__init__()

    @beam.typehints.no_annotations  # type: ignore[untyped-decorator]  # Beam knows no named tuples of outputs
    def expand(self, messages: beam.PCollection) -> StageOutput:
        """Decode each batch."""
        decode = beam.ParDo(_DecodeStageFn(self.stage, frozenset(self.profiles), self.kept))
        return typed_outputs(messages | "DecodeStage" >> decode.with_outputs(DEAD_LETTER_TAG, main=ACCEPTED_TAG))
