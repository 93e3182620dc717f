"""Short pipe text: how it is read, slow and obvious, and records of it."""

from typing import Any

from hypothesis import strategies as st

from tests.fields import separated
from tests.reading import by_place, parts_of


def read(text: str, _: int) -> dict[str, Any] | None:
    names = ("imsi", "msisdn", "event_type", "duration", "bytes_up", "bytes_down")
    return by_place(parts_of(text, "|"), names, exact=True)


def records() -> st.SearchStrategy[bytes]:
    return separated(("imsi", "msisdn", "event_type", "duration_s", "bytes_up", "bytes_down"), "|")
