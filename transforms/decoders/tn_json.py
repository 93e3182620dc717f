"""TN's records: nested JSON."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator

from orion_beam.schemas.codes import Code
from orion_beam.schemas.fields import Count, EventTime, FreeText, Imei, Imsi, Msisdn, Rat, StatedEventType, reject
from orion_beam.schemas.raw import RawRow
from orion_beam.transforms.decoders import RawFormat
from orion_beam.transforms.decoders.json import TN_PATHS, decode_tn, is_object
from orion_beam.transforms.decoders.layouts import JsonObject


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


FORMAT = RawFormat("tn_json", TnJsonCdr, is_object, decode_tn, is_told_by_first_byte=True, layout=JsonObject(TN_PATHS))
