"""SN's records of fixed width: how they are read, slow and obvious, and records of it."""

from itertools import accumulate, pairwise
from typing import Any

from hypothesis import strategies as st

from orion_beam.schemas.fields import Count, EventTime, FreeText, Imei, Imsi, Msisdn, Rat
from tests.fields import FIELDS, without
from tests.reading import RawRow, by_place


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


ROW_MODEL = SnFixedWidthCdr

_WIDTHS = {"imsi": 15, "msisdn": 16, "imei": 15, "cell_id": 10, "rat": 2, "bytes_up": 12, "bytes_down": 12,
           "event_time": 20}  # fmt: skip


def read(text: str, size: int) -> dict[str, Any] | None:
    if set("|;={") & set(text):
        return None
    starts = [0, *accumulate(_WIDTHS.values())]
    # Without its event time it could be cut off anywhere, unless it has its full length in blanks.
    if len(text) > starts[-1] or (len(text) <= starts[-2] and size < starts[-1]):
        raise ValueError("neither 102 characters nor 102 with the last blanks trimmed")
    return by_place([text[start:end] for start, end in pairwise(starts)], tuple(_WIDTHS), exact=True)


@st.composite
def records(draw: st.DrawFn) -> bytes:
    cuts = [without(draw(FIELDS[name]), "|;={\r\n")[:width].ljust(width) for name, width in _WIDTHS.items()]
    text = "".join(cuts)
    return (text.rstrip() if draw(st.booleans()) else text).encode()
