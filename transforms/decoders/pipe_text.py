"""Short pipe text, which every country may send: six fields separated by `|`."""

from orion_beam.schemas.fields import Count, EventType, Imsi, Msisdn
from orion_beam.schemas.raw import RawRow
from orion_beam.transforms.arrow.texts import Mask
from orion_beam.transforms.decoders import Decoded, RawFormat, read_separated
from orion_beam.transforms.decoders.layouts import Separated
from orion_beam.transforms.decoders.payloads import Payloads


class PipeTextCdr(RawRow):
    """`imsi|msisdn|event_type|duration|bytes_up|bytes_down`.

    The event time is the Kafka timestamp. In a unified CDR `raw_format=pipe_text` shows this.
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
    """Decode pipe text of exactly six fields. A record with fewer or more fields is malformed."""
    texts, surplus = read_separated(payloads, LAYOUT)
    return Decoded(texts, surplus != 0)


def _claims(payloads: Payloads) -> Mask:
    return payloads.hold(b"|")


FORMAT = RawFormat(
    "pipe_text",
    PipeTextCdr,
    _claims,
    decode,
    is_sent_by_all=True,
    has_event_time=False,
    layout=LAYOUT,
)
