"""SN's records of fixed width: 102 characters."""

from itertools import accumulate

import numpy as np

from orion_beam.schemas.fields import Count, EventTime, FreeText, Imei, Imsi, Msisdn, Rat
from orion_beam.schemas.raw import RawRow
from orion_beam.transforms.arrow.texts import Mask
from orion_beam.transforms.decoders import Decoded, RawFormat
from orion_beam.transforms.decoders.layouts import FixedWidth
from orion_beam.transforms.decoders.payloads import Payloads


class SnFixedWidthCdr(RawRow):
    """102 characters: imsi 15, msisdn 16, imei 15, cell 10, rat 2, up 12, down 12, event_time 20. Blanks pad right."""

    imsi: Imsi
    msisdn: Msisdn
    imei: Imei
    cell_id: FreeText
    rat: Rat
    bytes_up: Count
    bytes_down: Count
    event_time: EventTime


LAYOUT = FixedWidth(
    {
        "imsi": 15,
        "msisdn": 16,
        "imei": 15,
        "cell_id": 10,
        "rat": 2,
        "bytes_up": 12,
        "bytes_down": 12,
        "event_time": 20,
    }
)
_BOUNDS = (0, *accumulate(LAYOUT.widths.values()))
WIDTH = _BOUNDS[-1]
_EVENT_TIME_AT = _BOUNDS[-2]


def decode(payloads: Payloads) -> Decoded:
    """Decode fixed-width records. Widths count characters, not bytes."""
    fields = payloads.cut_at(_BOUNDS)
    return Decoded(dict(zip(LAYOUT.widths, fields, strict=True)), np.zeros(len(payloads), np.bool_))


def _claims(payloads: Payloads) -> Mask:
    """Return which payloads have the right length and none of the other formats' separators.

    A record may be shorter than 102 characters, because the blanks that pad the event time may have been trimmed on the
    way. A record with a blank event time must have the full length.
    """
    length = payloads.characters(payloads.ends)
    is_long_enough = (length > _EVENT_TIME_AT) | (payloads.characters(payloads.untrimmed_ends) == WIDTH)
    is_mine: Mask = is_long_enough & (length <= WIDTH) & ~payloads.hold(b"|;={")
    return is_mine


FORMAT = RawFormat("sn_fixed_width", SnFixedWidthCdr, _claims, decode, layout=LAYOUT)
