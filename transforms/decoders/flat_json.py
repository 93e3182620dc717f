"""Flat JSON records, which every country may send. They may hold voice, SMS or data events."""

from pydantic import Field

from orion_beam.schemas.fields import Count, EventTime, EventType, FreeText, Imei, Imsi, Msisdn, Rat
from orion_beam.schemas.raw import RawRow
from orion_beam.transforms.decoders import RawFormat
from orion_beam.transforms.decoders.json import decode_flat, is_object
from orion_beam.transforms.decoders.layouts import JsonObject


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


_RENAMED = {
    "event_time": "timestamp",
    "duration_s": "duration",
    "bytes_up": "bytes_uploaded",
    "bytes_down": "bytes_downloaded",
    "peer_msisdn": "called_number,destination_number",
}
_ALIKE = {name: name for name in FlatJsonCdr.model_fields if name not in ",".join(_RENAMED.values()).split(",")}

LAYOUT = JsonObject(_ALIKE | _RENAMED)

FORMAT = RawFormat(
    "flat_json",
    FlatJsonCdr,
    is_object,
    decode_flat,
    is_told_by_first_byte=True,
    is_sent_by_all=True,
    layout=LAYOUT,
)
