"""MA's records: up to seven fields separated by `;`. Trailing fields may be missing."""

from orion_beam.schemas.fields import Count, EventTime, FreeText, Imsi, Msisdn, Rat
from orion_beam.schemas.raw import RawRow
from orion_beam.transforms.arrow.texts import Mask
from orion_beam.transforms.decoders import Decoded, RawFormat, read_separated
from orion_beam.transforms.decoders.layouts import Separated
from orion_beam.transforms.decoders.payloads import Payloads


class MaSemicolonCdr(RawRow):
    """`imsi;msisdn;cell_id;rat;bytes_up;bytes_down;event_time`: at most seven fields.

    Missing trailing fields are null. The last field, event_time, is required, so a record without it is rejected with
    `missing_field.event_time` and not as malformed.
    """

    imsi: Imsi
    msisdn: Msisdn
    cell_id: FreeText
    rat: Rat
    bytes_up: Count
    bytes_down: Count
    event_time: EventTime


LAYOUT = Separated(
    ";",
    ("imsi", "msisdn", "cell_id", "rat", "bytes_up", "bytes_down", "event_time"),
)


def decode(payloads: Payloads) -> Decoded:
    """Decode MA records. Missing trailing fields are null; a record with more than seven fields is malformed."""
    texts, surplus = read_separated(payloads, LAYOUT)
    return Decoded(texts, surplus > 0)


def _claims(payloads: Payloads) -> Mask:
    return payloads.hold(b";")


FORMAT = RawFormat(
    "ma_semicolon",
    MaSemicolonCdr,
    _claims,
    decode,
    layout=LAYOUT,
)
