"""Flat JSON: how it is read, slow and obvious, and records of it."""

import json
from typing import Any

from hypothesis import strategies as st

from tests.fields import FIELDS, json_value
from tests.reading import is_object, read_json

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
