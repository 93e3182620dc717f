"""Flat JSON: how it is read, slow and obvious, and records of it."""

import json
from typing import Any

from hypothesis import strategies as st
from pydantic import Field

from orion_beam.schemas.fields import Count, EventTime, EventType, FreeText, Imei, Imsi, Msisdn, Rat
from tests.fields import FIELDS, json_value
from tests.reading import RawRow, is_object, read_json


class FlatJsonCdr(RawRow):
    """A flat JSON object. Its fields depend on the event type."""

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
    node_id: FreeText
    local_sequence_number: Count = Field(description="consecutive in the node, 3GPP TS 32.298")
    record_sequence_number: Count = Field(description="of a partial record, from 1, 3GPP TS 32.298")
    cause_for_record_closing: Count = Field(description="3GPP TS 32.298")


ROW_MODEL = FlatJsonCdr

_MEMBERS = {
    "event_type": "event_type", "imsi": "imsi", "msisdn": "msisdn", "imei": "imei", "cell_id": "cell_id", "rat": "rat",
    "timestamp": "event_time", "duration": "duration_s", "called_number": "peer", "call_type": "text",
    "bytes_uploaded": "bytes_up", "bytes_downloaded": "bytes_down", "apn": "text", "destination_number": "peer",
    "sms_type": "text", "message_length": "message_length", "charging_id": "text", "subscriber_type": "text",
    "lac_tac": "text", "node_id": "text", "local_sequence_number": "count", "record_sequence_number": "count",
    "cause_for_record_closing": "count",
}  # fmt: skip


def read(text: str, _: int) -> dict[str, Any] | None:
    return read_json(text) if is_object(text) else None


@st.composite
def records(draw: st.DrawFn) -> bytes:
    record = {
        name: json_value(draw, draw(FIELDS[field])) for name, field in _MEMBERS.items() if draw(st.integers(0, 9))
    }
    if draw(st.booleans()):
        record |= draw(st.sampled_from([{"extra": [1, {"b": None}]}, {"a;b": "c|d=e"}, {"apn": "x;y"}]))
    text = json.dumps(dict(draw(st.permutations(list(record.items())))), ensure_ascii=draw(st.booleans()))
    return text.encode()
