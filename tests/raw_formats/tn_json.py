"""TN's nested JSON: how it is read, slow and obvious, and records of it."""

import json
from typing import Annotated, Any

from hypothesis import strategies as st
from pydantic import BaseModel, BeforeValidator

from orion_beam.schemas.codes import Code
from orion_beam.schemas.fields import Count, EventTime, FreeText, Imei, Imsi, Msisdn, Rat, StatedEventType, reject
from tests.fields import FIELDS, json_value
from tests.reading import RawRow, is_object, read_json


class TnSubscriber(RawRow):
    """The `subscriber` member of a Tunisian record."""

    imsi: Imsi
    msisdn: Msisdn
    imei: Imei


class TnNetwork(RawRow):
    """The `network` member of a Tunisian record."""

    cell: FreeText
    rat: Rat


class TnUsage(RawRow):
    """The `usage` member of a Tunisian record, in bytes."""

    up: Count
    down: Count


def _object(value: Any) -> Any:
    if value is not None and not isinstance(value, (dict, BaseModel)):
        raise reject(Code.MALFORMED_PAYLOAD)
    return {} if value is None else value


class TnJsonCdr(RawRow):
    """`{"subscriber":{...},"network":{...},"usage":{...},"timestamp":...}`: nested JSON with an optional event type."""

    subscriber: Annotated[TnSubscriber, BeforeValidator(_object)]
    network: Annotated[TnNetwork, BeforeValidator(_object)]
    usage: Annotated[TnUsage, BeforeValidator(_object)]
    timestamp: EventTime
    event_type: StatedEventType


ROW_MODEL = TnJsonCdr

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
