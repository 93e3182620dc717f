"""Short pipe text: how it is read, slow and obvious, and records of it."""

from typing import Any

from hypothesis import strategies as st

from orion_beam.schemas.fields import Count, EventType, Imsi, Msisdn
from tests.fields import separated
from tests.reading import RawRow, by_place, parts_of


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


ROW_MODEL = PipeTextCdr


def read(text: str, _: int) -> dict[str, Any] | None:
    names = ("imsi", "msisdn", "event_type", "duration", "bytes_up", "bytes_down")
    return by_place(parts_of(text, "|"), names, exact=True)


def records() -> st.SearchStrategy[bytes]:
    return separated(("imsi", "msisdn", "event_type", "duration_s", "bytes_up", "bytes_down"), "|")
