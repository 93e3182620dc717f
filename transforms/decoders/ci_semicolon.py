"""CI's records: sixteen fields separated by `;`. The first field is the record type."""

from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from orion_beam.schemas.fields import Count, EventTime, EventType, FreeText, Imei, Imsi, Msisdn, Rat, text_of
from orion_beam.schemas.raw import RawRow
from orion_beam.transforms.arrow.texts import Mask, index_in, take_texts
from orion_beam.transforms.decoders import Decoded, RawFormat, read_separated
from orion_beam.transforms.decoders.layouts import Separated
from orion_beam.transforms.decoders.payloads import Payloads


class _RecordType(NamedTuple):
    """The fields of a CDR that follow from a record type of 3GPP TS 32.298."""

    event_type: str
    call_type: str | None = None
    sms_type: str | None = None


_RECORD_TYPES = {
    "MOC": _RecordType("voice", call_type="MO"),
    "MTC": _RecordType("voice", call_type="MT"),
    "SMO": _RecordType("sms", sms_type="MO"),
    "SMT": _RecordType("sms", sms_type="MT"),
    "SGW": _RecordType("data"),
    "PGW": _RecordType("data"),
}


class CiSemicolonCdr(RawRow):
    """`record_type;node_id;local_sequence_number;imsi;…`: exactly sixteen fields.

    The record type gives the event type and its direction. An unknown record type is used as the event type.
    """

    event_type: EventType = Field(description="from the record type")
    call_type: FreeText = Field(description="from the record type")
    sms_type: FreeText = Field(description="from the record type")
    node_id: FreeText
    local_sequence_number: Count
    imsi: Imsi
    msisdn: Msisdn
    imei: Imei
    cell_id: FreeText
    rat: Rat
    event_time: EventTime
    duration: Count
    called_number: FreeText
    bytes_up: Count
    bytes_down: Count
    charging_id: FreeText
    record_sequence_number: Count
    cause_for_record_closing: Count

    @model_validator(mode="before")
    @classmethod
    def _of_record_type(cls, fields: Any) -> Any:
        sent = fields.get("record_type")
        known = _RECORD_TYPES.get((text_of(sent) or "").upper(), _RecordType(sent))
        return fields | known._asdict()


LAYOUT = Separated(
    ";",
    (
        "record_type",
        "node_id",
        "local_sequence_number",
        "imsi",
        "msisdn",
        "imei",
        "cell_id",
        "rat",
        "event_time",
        "duration_s",
        "peer_msisdn",
        "bytes_up",
        "bytes_down",
        "charging_id",
        "record_sequence_number",
        "cause_for_record_closing",
    ),
    names={"duration_s": "duration", "peer_msisdn": "called_number"},
)
_NAMES = pa.array(_RECORD_TYPES)
_SAID = {
    name: pa.array([getattr(each, name) for each in _RECORD_TYPES.values()], pa.string())
    for name in _RecordType._fields
}


def decode(payloads: Payloads) -> Decoded:
    """Decode CI records. A record with fewer or more than sixteen fields is malformed: its fields may have shifted."""
    texts, surplus = read_separated(payloads, LAYOUT)
    sent = texts.pop("record_type")
    kinds = index_in(pc.ascii_upper(sent), _NAMES)
    said = {name: take_texts(options, kinds) for name, options in _SAID.items()}
    said["event_type"] = pc.coalesce(said["event_type"], sent)
    return Decoded(texts | said, surplus != 0)


def _claims(payloads: Payloads) -> Mask:
    return payloads.hold(b";")


FORMAT = RawFormat(
    "ci_semicolon",
    CiSemicolonCdr,
    _claims,
    decode,
    layout=LAYOUT,
)
