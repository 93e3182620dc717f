"""SN's records of pairs: how they are read, slow and obvious, and records of it."""

from typing import Any

from hypothesis import strategies as st

from orion_beam.schemas.fields import BLANKS, Count, EventTime, FreeText, Imei, Imsi, Msisdn, Rat, StatedEventType
from tests.fields import FIELDS, without
from tests.reading import RawRow, is_object


class SnKeyValueCdr(RawRow):
    """`IMSI=...|MSISDN=...|...`: pairs in any order. The event type is optional."""

    IMSI: Imsi
    MSISDN: Msisdn
    IMEI: Imei
    CELL: FreeText
    RAT: Rat
    UP: Count
    DOWN: Count
    TS: EventTime
    EVENT: StatedEventType


ROW_MODEL = SnKeyValueCdr

_KEYS = {"imsi": "IMSI", "msisdn": "MSISDN", "imei": "IMEI", "cell_id": "CELL", "rat": "RAT", "bytes_up": "UP",
         "bytes_down": "DOWN", "event_time": "TS"}  # fmt: skip


def read(text: str, _: int) -> dict[str, Any] | None:
    if is_object(text) or "=" not in text.split("|")[0]:
        return None
    pairs = [pair.split("=", 1) for pair in text.split("|") if "=" in pair]
    # Of a key that comes twice the first counts.
    return {key.strip(BLANKS): value for key, value in reversed(pairs)}


@st.composite
def records(draw: st.DrawFn) -> bytes:
    pairs = [f"{key}={without(draw(FIELDS[name]), '|{')}" for name, key in _KEYS.items() if draw(st.integers(0, 9))]
    pairs += draw(
        st.sampled_from([[], [], ["X=1"], ["IMSI=1"], ["CALL_ID=a=b"], ["EVENT=voice"], ["EVENT= Sms"], ["EVENT=mms"]])
    )
    return "|".join(draw(st.permutations(pairs)) or ["X="]).encode()
