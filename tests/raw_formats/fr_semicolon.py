"""FR's records: how they are read, slow and obvious, and records of it."""

from typing import Any

from hypothesis import strategies as st

from orion_beam.schemas.fields import Count, EventTime, FreeText, Imei, Imsi, Msisdn, Rat
from tests.fields import separated
from tests.reading import RawRow, by_place, is_object, parts_of


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


ROW_MODEL = FrSemicolonCdr

_NAMES = ("imsi", "msisdn", "imei", "cell_id", "rat", "bytes_up", "bytes_down", "event_time")


def read(text: str, _: int) -> dict[str, Any] | None:
    return by_place(parts_of(text, ";"), _NAMES, exact=True) if ";" in text and not is_object(text) else None


def records() -> st.SearchStrategy[bytes]:
    return separated(_NAMES, ";")
