"""SN records of fixed width: 102 characters."""

from itertools import accumulate

import numpy as np

from schemas.fields import Count, EventTime, FreeText, Imei, Imsi, Msisdn, Rat
from schemas.raw import RawRow
from transforms.decoders import Decoded, RawFormat
from transforms.layouts import FixedWidth
from transforms.payloads import Payloads
from transforms.texts import Mask


class SnFixedWidthCdr(RawRow):
    """102 characters: imsi 15, msisdn 16, imei 15, cell 10, rat 2, up 12, down 12, event_time 20; blanks pad right."""

    imsi: Imsi
    msisdn: Msisdn
    imei: Imei
    cell_id: FreeText
    rat: Rat
    bytes_up: Count
    bytes_down: Count
    event_time: EventTime


_WIDTHS = {
    "imsi": 15,
    "msisdn": 16,
    "imei": 15,
    "cell_id": 10,
    "rat": 2,
    "bytes_up": 12,
    "bytes_down": 12,
    "event_time": 20,
}
_BOUNDS = (0, *accumulate(_WIDTHS.values()))
WIDTH = _BOUNDS[-1]
_EVENT_TIME_AT = _BOUNDS[-2]


def decode(payloads: Payloads) -> Decoded:
    """Cut fixed-width records by character."""
    bounds = np.minimum(payloads.starts + np.array(_BOUNDS)[:, np.newaxis], payloads.ends)
    for row in np.flatnonzero(payloads.characters(payloads.ends) < payloads.lengths):
        # Characters of several bytes: rare enough to be counted one by one.
        text = payloads.source.data[payloads.starts[row] : payloads.ends[row]].tobytes().decode()
        bounds[:, row] = payloads.starts[row] + [len(text[:bound].encode()) for bound in _BOUNDS]
    texts = {name: payloads.fields(bounds[place], bounds[place + 1]) for place, name in enumerate(_WIDTHS)}
    return Decoded(texts, np.zeros(len(payloads), np.bool_))


def _claims(payloads: Payloads) -> Mask:
    """Claim what has the length, and none of the other formats' separators.

    The blanks that pad the event time may have been trimmed on the way, so a record may be shorter than 102 characters.
    One that is so short that its event time is gone must come in full length.
    """
    length = payloads.characters(payloads.ends)
    is_long_enough = (length > _EVENT_TIME_AT) | (payloads.characters(payloads.untrimmed_ends) == WIDTH)
    is_mine: Mask = is_long_enough & (length <= WIDTH)
    for separator in (b"|", b";", b"=", b"{"):
        is_mine &= ~payloads.hold(separator)
    return is_mine


FORMAT = RawFormat("sn_fixed_width", SnFixedWidthCdr, _claims, decode, layout=FixedWidth(_WIDTHS))
