"""CI's records: how they are read, slow and obvious, and records of it."""

from typing import Any

from hypothesis import strategies as st

from tests.fields import FIELDS, without
from tests.reading import by_place, is_object, parts_of

_NAMES = (
    "record_type", "node_id", "local_sequence_number", "imsi", "msisdn", "imei", "cell_id", "rat", "event_time",
    "duration", "called_number", "bytes_up", "bytes_down", "charging_id", "record_sequence_number",
    "cause_for_record_closing",
)  # fmt: skip
_TEXTS = {
    "node_id": "text", "local_sequence_number": "count", "duration": "duration_s", "called_number": "peer",
    "charging_id": "text", "record_sequence_number": "count", "cause_for_record_closing": "count",
}  # fmt: skip
_record_types = st.sampled_from(
    ["MOC", "MTC", "SMO", "SMT", "SGW", "PGW", "pgw", " moc", "", "MMS", "voice", "Data", "0"]
)


def read(text: str, _: int) -> dict[str, Any] | None:
    return by_place(parts_of(text, ";"), _NAMES, exact=True) if ";" in text and not is_object(text) else None


@st.composite
def records(draw: st.DrawFn) -> bytes:
    parts = [without(draw(FIELDS[_TEXTS.get(name, name)]), ";{") for name in _NAMES[1:]]
    parts = [draw(_record_types), *parts]
    if not draw(st.integers(0, 9)):
        parts = parts[: draw(st.integers(2, len(parts)))] + [""] * draw(st.integers(0, 2))
    return ";".join(parts).encode()
