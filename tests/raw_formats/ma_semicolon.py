"""MA's records: how they are read, slow and obvious, and records of it."""

from typing import Any

from hypothesis import strategies as st

from tests.fields import separated
from tests.reading import by_place, is_object, parts_of

_NAMES = ("imsi", "msisdn", "cell_id", "rat", "bytes_up", "bytes_down", "event_time")


def read(text: str, _: int) -> dict[str, Any] | None:
    return by_place(parts_of(text, ";"), _NAMES, exact=False) if ";" in text and not is_object(text) else None


def records() -> st.SearchStrategy[bytes]:
    return separated(_NAMES, ";")
