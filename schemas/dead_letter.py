"""A reject: the original message, untouched, and why the chain refused it."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from orion_beam.schemas.codes import known_code, known_stage
from orion_beam.schemas.derive import Int32, arrow_schema
from orion_beam.schemas.raw import Header

__all__ = ["DEAD_LETTER_SCHEMA", "DeadLetter", "LETTER_HEADERS"]

_Stage = Annotated[str, AfterValidator(known_stage)]
_Code = Annotated[str, AfterValidator(known_code)]


class DeadLetter(BaseModel):
    """A rejected record: original bytes, coordinates, stage and every rule that it breaks."""

    key: bytes | None
    value: bytes | None
    headers: list[Header]
    stage: _Stage
    code: _Code = Field(description="the first of codes")
    codes: list[_Code]
    fields: list[str] = Field(description="the fields that break the rules of codes, one for each code")
    message: str = Field(description="for people, 1 KB at most; never holds a field's value")
    country: str
    source_topic: str = Field(description="Kafka topic, or path of the file")
    source_partition: Int32
    source_offset: int = Field(description="Kafka offset, or line number from 0")
    source_timestamp: datetime | None
    attempt: Int32 = Field(description="from 1; grows with each redrive")
    version: str = Field(description="of ORION Beam")
    failed_at: datetime
    run_id: str | None = Field(default=None, description="set by a replay")
    payload_bytes: int | None = Field(
        default=None,
        description="length of the record's value; set in a letter without value, as it was too large for its topic",
    )
    payload_sha256: str | None = Field(
        default=None, description="SHA-256 of the record's value, as hex digits; set with payload_bytes"
    )


DEAD_LETTER_SCHEMA = arrow_schema(DeadLetter)
"""Arrow schema of the batches of rejects that every stage hands on."""

LETTER_HEADERS = {
    "stage": "orion.error.stage",
    "code": "orion.error.code",
    "codes": "orion.error.codes",
    "fields": "orion.error.fields",
    "message": "orion.error.message",
    "source_topic": "orion.source.topic",
    "source_partition": "orion.source.partition",
    "source_offset": "orion.source.offset",
    "source_timestamp": "orion.source.timestamp",
    "country": "orion.country",
    "attempt": "orion.attempt",
    "version": "orion.version",
    "failed_at": "orion.failed_at",
    "run_id": "orion.run_id",
    "payload_bytes": "orion.payload.bytes",
    "payload_sha256": "orion.payload.sha256",
}
"""Kafka header of a dead letter by field of `DeadLetter`. Lists are joined by commas; times are epoch milliseconds."""
