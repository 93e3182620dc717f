"""What arrives: the raw message as Kafka or a file hands it over, and one row model for each raw format.

The row models are the oracle of the decoders and rules; they are not on the hot path. Validate one with the context
`{"time_zone": ZoneInfo, "source_timestamp": datetime | None}`; an error's `type` is a member of `schemas.codes.Code`.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from schemas.codes import Code
from schemas.derive import Int32, arrow_schema
from schemas.fields import Count, EventTime, EventType, FreeText, Imei, Imsi, Msisdn, Rat, reject


class RawFormat(StrEnum):
    """The raw formats, named after who sends them or what they are made of."""

    FR_SEMICOLON = "fr_semicolon"
    TN_JSON = "tn_json"
    MA_SEMICOLON = "ma_semicolon"
    SN_KEY_VALUE = "sn_key_value"
    SN_FIXED_WIDTH = "sn_fixed_width"
    FLAT_JSON = "flat_json"
    PIPE_TEXT = "pipe_text"


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
    source_timestamp: datetime | None = Field(description="Kafka timestamp, or when the file was last modified")


class RawCdr(RawMessage):
    """A raw message of a known country."""

    country: str = Field(description="ISO 3166-1 alpha-2, from the topic or the --input option")


RAW_MESSAGE_SCHEMA = arrow_schema(RawMessage)
RAW_CDR_SCHEMA = arrow_schema(RawCdr)


class _RawRow(BaseModel):
    """A raw record's own fields. An absent field is a null one; other fields are ignored."""

    model_config = ConfigDict(extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _absent_is_null(cls, fields: Any) -> Any:
        return dict.fromkeys(cls.model_fields) | fields if isinstance(fields, dict) else fields


class FrSemicolonCdr(_RawRow):
    """`imsi;msisdn;imei;cell_id;rat;bytes_up;bytes_down;event_time`: exactly eight fields."""

    imsi: Imsi
    msisdn: Msisdn
    imei: Imei
    cell_id: FreeText
    rat: Rat
    bytes_up: Count
    bytes_down: Count
    event_time: EventTime


class MaSemicolonCdr(_RawRow):
    """`imsi;msisdn;cell_id;rat;bytes_up;bytes_down;event_time`: trailing fields may be missing, then they are null."""

    imsi: Imsi
    msisdn: Msisdn
    cell_id: FreeText
    rat: Rat
    bytes_up: Count
    bytes_down: Count
    event_time: EventTime


class TnSubscriber(_RawRow):
    """The `subscriber` member of a Tunisian record."""

    imsi: Imsi
    msisdn: Msisdn
    imei: Imei


class TnNetwork(_RawRow):
    """The `network` member of a Tunisian record."""

    cell: FreeText
    rat: Rat


class TnUsage(_RawRow):
    """The `usage` member of a Tunisian record: bytes."""

    up: Count
    down: Count


def _object(value: Any) -> Any:
    if value is not None and not isinstance(value, (dict, BaseModel)):
        raise reject(Code.MALFORMED_PAYLOAD)
    return {} if value is None else value


class TnJsonCdr(_RawRow):
    """`{"subscriber":{...},"network":{...},"usage":{...},"timestamp":...}`: nested JSON."""

    subscriber: Annotated[TnSubscriber, BeforeValidator(_object)]
    network: Annotated[TnNetwork, BeforeValidator(_object)]
    usage: Annotated[TnUsage, BeforeValidator(_object)]
    timestamp: EventTime


class SnKeyValueCdr(_RawRow):
    """`IMSI=...|MSISDN=...|...`: pairs in any order."""

    IMSI: Imsi
    MSISDN: Msisdn
    IMEI: Imei
    CELL: FreeText
    RAT: Rat
    UP: Count
    DOWN: Count
    TS: EventTime


class SnFixedWidthCdr(_RawRow):
    """102 characters: imsi 15, msisdn 16, imei 15, cell 10, rat 2, up 12, down 12, event_time 20; blanks pad right."""

    imsi: Imsi
    msisdn: Msisdn
    imei: Imei
    cell_id: FreeText
    rat: Rat
    bytes_up: Count
    bytes_down: Count
    event_time: EventTime


class FlatJsonCdr(_RawRow):
    """A flat JSON object, the one format that every country may send and that carries voice and sms."""

    event_type: EventType
    imsi: Imsi
    msisdn: Msisdn
    imei: Imei
    cell_id: FreeText
    rat: Rat
    timestamp: EventTime
    duration: Count = Field(description="voice: seconds")
    called_number: FreeText
    call_type: FreeText
    bytes_uploaded: Count
    bytes_downloaded: Count
    apn: FreeText
    destination_number: FreeText
    sms_type: FreeText
    message_length: Count = Field(description="sms: characters")
    charging_id: FreeText
    subscriber_type: FreeText
    lac_tac: FreeText


class PipeTextCdr(_RawRow):
    """`imsi|msisdn|event_type|duration|bytes_up|bytes_down`.

    The Kafka timestamp is its event time, which `raw_format=pipe_text` says of the unified record.
    """

    imsi: Imsi
    msisdn: Msisdn
    event_type: EventType
    duration: Count
    bytes_up: Count
    bytes_down: Count


RAW_MODELS: dict[RawFormat, type[BaseModel]] = {
    RawFormat.FR_SEMICOLON: FrSemicolonCdr,
    RawFormat.TN_JSON: TnJsonCdr,
    RawFormat.MA_SEMICOLON: MaSemicolonCdr,
    RawFormat.SN_KEY_VALUE: SnKeyValueCdr,
    RawFormat.SN_FIXED_WIDTH: SnFixedWidthCdr,
    RawFormat.FLAT_JSON: FlatJsonCdr,
    RawFormat.PIPE_TEXT: PipeTextCdr,
}
