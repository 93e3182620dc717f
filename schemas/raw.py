"""The raw message as it is read from Kafka or a file, and the base class of the raw formats' row models.

The row model of a raw format is in the file of its decoder in `transforms/decoders/`. Tests compare decoders and rules
with the row models; the hot path does not use them. Validate a row model with the context
`{"profile": CountryProfile, "source_timestamp": datetime | None}`. An error's `type` is a member of `codes.Code`.
"""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from orion_beam.schemas.derive import Int32, arrow_schema

__all__ = ["Header", "RAW_CDR_SCHEMA", "RAW_MESSAGE_SCHEMA", "RawCdr", "RawMessage", "RawRow"]


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


class RawRow(BaseModel):
    """Base class of a raw format's row model. An absent field is null, and unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _absent_is_null(cls, fields: Any) -> Any:
        return dict.fromkeys(cls.model_fields) | fields if isinstance(fields, dict) else fields
