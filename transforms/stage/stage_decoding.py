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
from pydantic import BaseModel

from orion_beam.schemas.avro_format import single_object_header
from orion_beam.schemas.cdr import EnrichedCdr, NormalizedCdr, ValidatedCdr
from orion_beam.schemas.codes import Code, Stage
from orion_beam.schemas.country import CountryProfile
from orion_beam.schemas.derive import arrow_schema, avro_schema
from orion_beam.transforms.arrow.texts import is_in, to_list
from orion_beam.transforms.stage.batches import filter_rows
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


def decode_stage(batch: pa.RecordBatch, model: type[BaseModel]) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Decode the values of a stage's topic.

    Args:
        batch: Rows of `raw.RAW_MESSAGE_SCHEMA`.
        model: Model of the values.

    Returns:
        The records of `model`, with the coordinates and bytes of their raw messages. Then the other rows as dead
        letters (`malformed_payload`), with their coordinates on the stage's topic.

    Raises:
        OtherVersionError: A row is a record of another version.
    """
    header, parse = single_object_header(avro_schema(model)), _parser(model)
    records: list[dict[str, Any]] = []
    is_record = []
    for value in to_list(batch.column("raw_value")):
        record = parse(value[len(header) :]) if value is not None and value.startswith(header) else None
        is_record.append(record is not None)
        if record is not None:
            records.append(record)
    foreign = filter_rows(batch, ~np.array(is_record, np.bool_))
    refuse_other_versions(foreign)
    foreign = foreign.append_column("country", pa.repeat(UNKNOWN_COUNTRY, foreign.num_rows))
    reason = (Violation(Code.MALFORMED_PAYLOAD, PAYLOAD_FIELD),)
    rejected = dead_letters(foreign, Stage.DECODE, [reason] * foreign.num_rows)
    return pa.RecordBatch.from_pylist(records, schema=arrow_schema(model)), rejected


@cache
def _parser(model: type[BaseModel]) -> Any:
    schema = fastavro.parse_schema(json.loads(avro_schema(model)))

    def parse(body: bytes) -> dict[str, Any] | None:
        # fastavro may raise any exception on arbitrary bytes. Each means that the bytes are not a record.
        try:
            record = fastavro.schemaless_reader(io.BytesIO(body), schema, None)
        except Exception:
            return None
        return record if isinstance(record, dict) else None

    return parse


class _DecodeStageFn(beam.DoFn):  # type: ignore[misc]
    def __init__(self, stage: Stage, countries: frozenset[str]) -> None:
        self._model = STAGE_MODELS[stage]
        self._countries = countries

    def process(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch | beam.pvalue.TaggedOutput]:
        try:
            records, foreign = decode_stage(batch, self._model)
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
    `profiles` are dropped: other jobs read them. A record of another version fails the bundle with OtherVersionError.

    Attributes:
        stage: Stage whose topic is read.
        profiles: Country profiles by code.
    """

    stage: Stage
    profiles: Mapping[str, CountryProfile]

    def __post_init__(self) -> None:
        """Call Beam's constructor, which a dataclass does not."""
        super().__init__()

    @beam.typehints.no_annotations  # type: ignore[untyped-decorator]  # Beam knows no named tuples of outputs
    def expand(self, messages: beam.PCollection) -> StageOutput:
        """Decode each batch."""
        decode = beam.ParDo(_DecodeStageFn(self.stage, frozenset(self.profiles)))
        return typed_outputs(messages | "DecodeStage" >> decode.with_outputs(DEAD_LETTER_TAG, main=ACCEPTED_TAG))
