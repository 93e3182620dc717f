"""The models of a CDR, one for the output of each stage. Each adds to the one before it.

A record batch between two transforms has the columns of a stage's model and then those of the raw message, so that
every stage can put the original bytes into a dead letter.
"""

from datetime import date, datetime
from typing import Literal

from pydantic import BaseModel, Field

from orion_beam.schemas.derive import Int32, arrow_schema
from orion_beam.schemas.raw import RawCdr

__all__ = [
    "DECODED_SCHEMA",
    "DecodedCdr",
    "DecodedFields",
    "ENRICHED_SCHEMA",
    "EnrichedCdr",
    "EnrichedFields",
    "NORMALIZED_SCHEMA",
    "NormalizedCdr",
    "NormalizedFields",
    "SCHEMA_VERSION",
    "UNIFIED_SCHEMA",
    "UnifiedCdr",
    "VALIDATED_SCHEMA",
    "ValidatedCdr",
    "ValidatedFields",
]

SCHEMA_VERSION = 2
"""Of the unified CDR; every record on cdr.final holds it."""


class DecodedFields(BaseModel):
    """The fields of one CDR as unchecked text, with the same names for all raw formats. A blank field is null."""

    raw_format: str
    imsi: str | None
    msisdn: str | None
    imei: str | None
    subscriber_type: str | None
    rat: str | None
    cell_id: str | None
    lac_tac: str | None
    event_type: str | None
    duration_s: str | None
    bytes_up: str | None
    bytes_down: str | None
    charging_id: str | None
    peer_msisdn: str | None
    call_type: str | None
    apn: str | None
    sms_type: str | None
    message_length: str | None
    event_time: str | None
    node_id: str | None
    local_sequence_number: str | None
    record_sequence_number: str | None
    cause_for_record_closing: str | None


class ValidatedFields(BaseModel):
    """A CDR whose fields keep their rules. Counts and times are typed; texts are as they were sent."""

    raw_format: str
    imsi: str
    msisdn: str
    imei: str | None
    subscriber_type: str | None
    rat: str | None
    cell_id: str | None
    lac_tac: str | None
    event_type: str
    duration_s: int | None
    bytes_up: int | None
    bytes_down: int | None
    charging_id: str | None
    peer_msisdn: str | None
    call_type: str | None
    apn: str | None
    sms_type: str | None
    message_length: int | None
    event_time: datetime
    node_id: str | None
    local_sequence_number: int | None
    record_sequence_number: int | None
    cause_for_record_closing: int | None
    # With defaults, records of the first version, which lack these two, can be read.
    event_type_inferred: bool = False
    warnings: list[str] = Field(default_factory=list)


class _Identity(BaseModel):
    imsi: str = Field(description="14 or 15 digits, 3GPP TS 23.003")
    msisdn: str = Field(description="E.164 with +")
    imei: str | None = Field(description="14 to 16 digits, 3GPP TS 23.003")
    subscriber_type: Literal["prepaid", "postpaid", "corporate"] | None


class _Network(BaseModel):
    rat: Literal["2G", "3G", "4G", "5G"] | None
    cell_id: str | None
    lac_tac: str | None
    mcc: str = Field(description="from the IMSI, ITU-T E.212")
    mnc: str = Field(description="from the IMSI; 2 or 3 digits by the MCC's plan, ITU-T E.212")


class _Usage(BaseModel):
    event_type: Literal["voice", "sms", "data"]
    duration_s: int | None = Field(description="seconds")
    bytes_up: int | None
    bytes_down: int | None
    charging_id: str | None
    peer_msisdn: str | None = Field(description="the other party: E.164 with +, or as sent where it is no such number")
    call_type: str | None
    apn: str | None
    sms_type: str | None
    message_length: int | None = Field(description="characters")


class _Time(BaseModel):
    event_time: datetime = Field(description="UTC")
    event_date: date = Field(description="local to the country")
    event_hour: Int32 = Field(description="local to the country")
    timezone: str = Field(description="IANA")


class _Roaming(BaseModel):
    country: str = Field(description="ISO 3166-1 alpha-2 of the topic's country")
    roaming: Literal["home", "national", "inbound", "outbound", "unknown"]
    is_roaming: bool
    roaming_partner: str | None = Field(description="the operator at the other end of the roaming")
    roaming_country: str | None = Field(description="ISO 3166-1 alpha-2 of the country at the other end of the roaming")


class _Enrichment(BaseModel):
    home_operator: str | None
    segment: str | None
    plan: str | None
    geo_place: str | None
    geo_lat: float | None = Field(description="degrees, WGS 84")
    geo_lon: float | None = Field(description="degrees, WGS 84")
    fraud_score: float = Field(description="0 to 1")
    fraud_reasons: list[str]
    model_version: str


class _CdrId(BaseModel):
    cdr_id: str = Field(description="deterministic from the CDR's content: the idempotence key")
    raw_format: str = Field(description="its name; pipe_text: event_time is the Kafka timestamp")


class _Quality(BaseModel):
    tac: str | None = Field(default=None, description="type allocation code: the IMEI's first 8 digits, TS 23.003")
    event_type_inferred: bool = Field(default=False, description="the raw format has no event type")
    warnings: list[str] = Field(
        default_factory=list, description="ids of the broken rules that are warnings, see rules.md"
    )


class _Recording(BaseModel):
    node_id: str | None = Field(default=None, description="the network function that wrote the record, TS 32.298")
    local_sequence_number: int | None = Field(default=None, description="consecutive in the node, TS 32.298")
    record_sequence_number: int | None = Field(default=None, description="of a partial record, from 1, TS 32.298")
    cause_for_record_closing: int | None = Field(default=None, description="CauseForRecClosing of TS 32.298")
    partial: Literal["first", "intermediate", "last", "complete"] | None = Field(
        default=None, description="which record of its session it is; set by TagPartials"
    )
    duplicate_of: str | None = Field(
        default=None, description="source of the first record of the same natural key; set by FlagDuplicates"
    )


class _Reference(BaseModel):
    reference_version: str | None = Field(default=None, description="of cells and subscribers: hashes of the files")


class _Provenance(BaseModel):
    source_topic: str = Field(description="Kafka topic, or path of the file")
    source_partition: Int32
    source_offset: int = Field(description="Kafka offset, or line number from 0")
    source_timestamp: datetime | None = Field(description="Kafka timestamp, or when a file's records arrived")
    schema_version: Int32
    run_id: str | None = Field(description="set by a replay")


# pydantic orders fields from the last base class to the first.
class NormalizedFields(_Quality, _CdrId, _Time, _Usage, _Network, _Identity):
    """A CDR in the form common to all countries: canonical numbers, RAT generations, UTC and local time."""


class EnrichedFields(_Reference, _Quality, _CdrId, _Enrichment, _Roaming, _Time, _Usage, _Network, _Identity):
    """A normalized CDR with roaming class, operator, place, segment and fraud score."""


# Fields that few formats have come last: see orion_beam.transforms.encode.encode_avro.
class UnifiedCdr(_Recording, _Provenance, EnrichedFields):
    """One call detail record, unified over all countries and raw formats: the value on cdr.final."""


class DecodedCdr(RawCdr, DecodedFields):
    """Output of DecodeCdrs: the fields as text, and the raw message they came from."""


class ValidatedCdr(RawCdr, ValidatedFields):
    """Output of ValidateCdrs, and the value on cdr.validated."""


class NormalizedCdr(RawCdr, _Recording, NormalizedFields):
    """Output of NormalizeCdrs, and the value on cdr.normalized."""


class EnrichedCdr(RawCdr, _Recording, EnrichedFields):
    """Output of EnrichCdrs, and the value on cdr.enriched."""


DECODED_SCHEMA = arrow_schema(DecodedCdr)
"""Arrow schema of the batches that DecodeCdrs accepts."""

VALIDATED_SCHEMA = arrow_schema(ValidatedCdr)
"""Arrow schema of the batches that ValidateCdrs accepts."""

NORMALIZED_SCHEMA = arrow_schema(NormalizedCdr)
"""Arrow schema of the batches that NormalizeCdrs accepts."""

ENRICHED_SCHEMA = arrow_schema(EnrichedCdr)
"""Arrow schema of the batches that EnrichCdrs accepts."""

UNIFIED_SCHEMA = arrow_schema(UnifiedCdr)
"""Arrow schema of the batches that UnifyCdrs accepts, and of Parquet files of unified CDRs."""
