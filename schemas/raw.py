"""The raw message as it is read from Kafka or a file."""

from datetime import datetime

from pydantic import BaseModel, Field

from orion_beam.schemas.derive import Int32, arrow_schema

__all__ = ["Header", "MAX_PAYLOAD_BYTES", "RAW_CDR_SCHEMA", "RAW_MESSAGE_SCHEMA", "RawCdr", "RawMessage"]

MAX_PAYLOAD_BYTES = 65_536
"""Largest payload that is decoded. A CDR has some hundred bytes, so a larger payload is not a CDR."""


class Header(BaseModel):
    """A Kafka record header."""

    key: str
    value: bytes | None


class RawMessage(BaseModel):
    """One message, its bytes unchanged, and the place where it was read. One message is always one row."""

    raw_key: bytes | None
    raw_value: bytes | None
    raw_headers: list[Header]
    source_topic: str = Field(description="Kafka topic, or path of the file")
    source_partition: Int32
    source_offset: int = Field(description="Kafka offset, or line number from 0")
    source_timestamp: datetime | None = Field(description="Kafka timestamp, or when a file's records arrived")


class RawCdr(RawMessage):
    """A raw message of a known country."""

    country: str = Field(description="ISO 3166-1 alpha-2, from the topic or the --input option")


RAW_MESSAGE_SCHEMA = arrow_schema(RawMessage)
"""Arrow schema of messages of any topic."""

RAW_CDR_SCHEMA = arrow_schema(RawCdr)
"""Arrow schema of the batches that ReadRawCdrs reads."""
