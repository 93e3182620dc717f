"""TN's nested JSON: how it is read, slow and obvious, and records of it."""

import json
from typing import Any

from hypothesis import strategies as st

from tests.fields import FIELDS, json_value
from tests.reading import is_object, read_json

_NESTED = {
    "subscriber": {"imsi": "imsi", "msisdn": "msisdn", "imei": "imei"},
    "network": {"cell": "cell_id", "rat": "rat"},
    "usage": {"up": "bytes_up", "down": "bytes_down"},
}


def read(text: str, _: int) -> dict[str, Any] | None:
    record = read_json(text) if is_object(text) else {}
    return record if any(name in record for name in _NESTED) else None


@st.composite
def records(draw: st.DrawFn) -> bytes:
    record: dict[str, Any] = {
        block: {
            name: json_value(draw, draw(FIELDS[field])) for name, field in members.items() if draw(st.integers(0, 9))
        }
        for block, members in _NESTED.items()
        if draw(st.integers(0, 9))
    }
    record["timestamp"] = json_value(draw, draw(FIELDS["event_time"]))
    if not draw(st.integers(0, 3)):
        record["event_type"] = json_value(draw, draw(FIELDS["event_type"]))
    if not draw(st.integers(0, 20)):
        record[draw(st.sampled_from(list(_NESTED)))] = draw(st.sampled_from([None, [], "x", 1]))
    return json.dumps(record, ensure_ascii=draw(st.booleans())).encode()
