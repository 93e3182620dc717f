"""FR's records: exactly eight fields separated by `;`."""

from orion_beam.schemas.fields import Count, EventTime, FreeText, Imei, Imsi, Msisdn, Rat
from orion_beam.schemas.raw import RawRow
from orion_beam.transforms.arrow.texts import Mask
from orion_beam.transforms.decoders import Decoded, RawFormat, read_separated
from orion_beam.transforms.decoders.layouts import Separated
from orion_beam.transforms.decoders.payloads import Payloads


class FrSemicolonCdr(RawRow):
    """`imsi;msisdn;imei;cell_id;rat;bytes_up;bytes_down;event_time`: exactly eight fields."""

    imsi: Imsi
    msisdn: Msisdn
    imei: Imei
    cell_id: FreeText
    rat: Rat
    bytes_up: Count
    bytes_down: Count
    event_time: EventTime


LAYOUT = Separated(
    ";",
    ("imsi", "msisdn", "imei", "cell_id", "rat", "bytes_up", "bytes_down", "event_time"),
)


def decode(payloads: Payloads) -> Decoded:
    """Decode FR records. A record with fewer or more than eight fields is malformed: its fields may have shifted."""
    texts, surplus = read_separated(payloads, LAYOUT)
    return Decoded(texts, surplus != 0)


def _claims(payloads: Payloads) -> Mask:
    return payloads.hold(b";")


FORMAT = RawFormat(
    "fr_semicolon",
    FrSemicolonCdr,
    _claims,
    decode,
    layout=LAYOUT,
)
