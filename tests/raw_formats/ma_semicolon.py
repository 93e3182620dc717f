"""MA's records: how they are read, slow and obvious, and records of it."""

from typing import Any

from hypothesis import strategies as st

from orion_beam.schemas.fields import Count, EventTime, FreeText, Imsi, Msisdn, Rat
from tests.fields import separated
from tests.reading import RawRow, by_place, is_object, parts_of


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


ROW_MODEL = MaSemicolonCdr

_NAMES = ("imsi", "msisdn", "cell_id", "rat", "bytes_up", "bytes_down", "event_time")


def read(text: str, _: int) -> dict[str, Any] | None:
    return by_place(parts_of(text, ";"), _NAMES, exact=False) if ";" in text and not is_object(text) else None


def records() -> st.SearchStrategy[bytes]:
    return separated(_NAMES, ";")
