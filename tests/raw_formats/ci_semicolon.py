"""CI's records: how they are read, slow and obvious, and records of it."""

from typing import Any, NamedTuple

from hypothesis import strategies as st
from pydantic import Field, model_validator

from orion_beam.schemas.fields import Count, EventTime, EventType, FreeText, Imei, Imsi, Msisdn, Rat, text_of
from tests.fields import FIELDS, without
from tests.reading import RawRow, by_place, is_object, parts_of


class _RecordType(NamedTuple):
    """The fields of a CDR that follow from a record type of 3GPP TS 32.298."""

    event_type: str
    call_type: str | None = None
    sms_type: str | None = None


_RECORD_TYPES = {
    "MOC": _RecordType("voice", call_type="MO"),
    "MTC": _RecordType("voice", call_type="MT"),
    "SMO": _RecordType("sms", sms_type="MO"),
    "SMT": _RecordType("sms", sms_type="MT"),
    "SGW": _RecordType("data"),
    "PGW": _RecordType("data"),
}


class CiSemicolonCdr(RawRow):
    """`record_type;node_id;local_sequence_number;imsi;…`: exactly sixteen fields.

    The record type gives the event type and its direction. An unknown record type is used as the event type.
    """

    event_type: EventType = Field(description="from the record type")
    call_type: FreeText = Field(description="from the record type")
    sms_type: FreeText = Field(description="from the record type")
    node_id: FreeText
    local_sequence_number: Count
    imsi: Imsi
    msisdn: Msisdn
    imei: Imei
    cell_id: FreeText
    rat: Rat
    event_time: EventTime
    duration: Count
    called_number: FreeText
    bytes_up: Count
    bytes_down: Count
    charging_id: FreeText
    record_sequence_number: Count
    cause_for_record_closing: Count

    @model_validator(mode="before")
    @classmethod
    def _of_record_type(cls, fields: Any) -> Any:
        sent = fields.get("record_type")
        known = _RECORD_TYPES.get((text_of(sent) or "").upper(), _RecordType(sent))
        return fields | known._asdict()


ROW_MODEL = CiSemicolonCdr

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
