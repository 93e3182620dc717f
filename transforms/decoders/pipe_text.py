"""Short pipe text, from any country: six fields, separated by `|`."""

from orion_beam.schemas.fields import Count, EventType, Imsi, Msisdn
from orion_beam.schemas.raw import RawRow
from orion_beam.transforms.arrow.texts import Mask
from orion_beam.transforms.decoders import Decoded, RawFormat, read_separated
from orion_beam.transforms.decoders.layouts import Separated
from orion_beam.transforms.decoders.payloads import Payloads


class PipeTextCdr(RawRow):
    """`imsi|msisdn|event_type|duration|bytes_up|bytes_down`.

    The Kafka timestamp is its event time, which `raw_format=pipe_text` says of the unified record.
    """

    imsi: Imsi
    msisdn: Msisdn
    event_type: EventType
    duration: Count
    bytes_up: Count
    bytes_down: Count


LAYOUT = Separated(
    "|",
    ("imsi", "msisdn", "event_type", "duration_s", "bytes_up", "bytes_down"),
    names={"duration_s": "duration"},
)


def decode(payloads: Payloads) -> Decoded:
    """Read pipe text of exactly six fields."""
    texts, surplus = read_separated(payloads, LAYOUT)
    return Decoded(texts, surplus != 0)


def _claims(payloads: Payloads) -> Mask:
    return payloads.hold(b"|")


FORMAT = RawFormat(
    "pipe_text",
    PipeTextCdr,
    _claims,
    decode,
    column_names=LAYOUT.header,
    is_sent_by_all=True,
    has_event_time=False,
    layout=LAYOUT,
)
