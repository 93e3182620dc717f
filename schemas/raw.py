"""What arrives: the raw message as Kafka or a file hands it over, and what the row models of all raw formats share.

A raw format's row model stands beside its decoder in `transforms/decoders/`. The row models are the oracle of decoders
and rules; they are not on the hot path. Validate one with the context
`{"profile": CountryProfile, "source_timestamp": datetime | None}`; an error's `type` is a member of
`codes.Code`.
"""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from orion_beam.schemas.derive import Int32, arrow_schema


class Header(BaseModel):
    """A Kafka record header."""

    key: str
    value: bytes | None


class RawMessage(BaseModel):
    """One message, its bytes untouched, and where it was read. One message is one row, always."""

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
RAW_CDR_SCHEMA = arrow_schema(RawCdr)


class RawRow(BaseModel):
    """A raw record's own fields. An absent field is a null one; other fields are ignored."""

    model_config = ConfigDict(extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _absent_is_null(cls, fields: Any) -> Any:
        return dict.fromkeys(cls.model_fields) | fields if isinstance(fields, dict) else fields
