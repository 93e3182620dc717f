"""Strategies for the texts of raw records' fields: good, odd and broken."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from hypothesis import strategies as st

from orion_beam.schemas.fields import RAT_GENERATIONS

MAX_COUNT = 2**63 - 1
ARABIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")

_absent = st.sampled_from(["", " ", "\t"])
_junk = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_sane_junk = st.text(st.sampled_from("0123456789+-.eEZT: abc"), max_size=20)


def _mixed(good: st.SearchStrategy[str], *odd: str) -> st.SearchStrategy[str]:
    """Return a strategy of mostly good values, so that some records of many fields are good as a whole."""
    return st.one_of(good, good, good, good, good, good, good, st.sampled_from(odd), _absent, _sane_junk | _junk)


def _digits(least: int, most: int) -> st.SearchStrategy[str]:
    return st.text(st.sampled_from("0123456789"), min_size=least, max_size=most)


_times = st.datetimes(datetime(2020, 1, 1), datetime(2026, 6, 1, 13)).flatmap(
    lambda moment: st.sampled_from(
        [
            moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            moment.strftime("%Y-%m-%d %H:%M:%S"),
            moment.strftime("%Y-%m-%dT%H:%M:%S.%f") + "+02:00",
            moment.strftime("%Y-%m-%dT%H:%M:%S") + "-0330",
            moment.strftime("%Y%m%dT%H%M%SZ"),
            moment.strftime("%Y%m%d%H%M%S"),
            str(int(moment.timestamp())),
            str(int(moment.timestamp() * 1000)),
            str(int(moment.timestamp() * 1_000_000)),
        ]
    )
)
_counts = st.integers(0, 10**12).map(str)
_odd_counts = (
    "-1",
    "+1",
    "1.0",
    "1e3",
    "NaN",
    str(MAX_COUNT),
    str(MAX_COUNT + 1),
    "007",
    "1" * 30,
    "12".translate(ARABIC),
)

FIELDS: dict[str, st.SearchStrategy[str]] = {
    "imsi": _mixed(_digits(14, 15), "2080112345678", "2.08011E+14", "208011234567890".translate(ARABIC), "2" * 16),
    "msisdn": _mixed(
        st.tuples(st.sampled_from(["", "+", "00"]), _digits(10, 15)).map("".join), "123456789", "+33 61234567", "1" * 16
    ),
    "imei": _mixed(_digits(14, 16), "3" * 13, "3" * 17, "35209900176148X"),
    "cell_id": _mixed(st.sampled_from(["FR-PAR-001", "Zürich", "cell 7", "12.50"]), "NaN", "null"),
    "rat": _mixed(st.sampled_from([*RAT_GENERATIONS, "LTE", "06", "E-UTRAN"]), "WLAN", "3", "0", "6.0", "6G"),
    "bytes_up": _mixed(_counts, *_odd_counts),
    "bytes_down": _mixed(_counts, *_odd_counts),
    "duration_s": _mixed(_counts, *_odd_counts),
    "message_length": _mixed(_counts, *_odd_counts),
    "count": st.one_of(_counts, _counts, _counts, _mixed(_counts, *_odd_counts)),
    "event_type": _mixed(st.sampled_from(["voice", "sms", "data", "VOICE", "Data"]), "mms", "1", "v\u043eice"),
    "event_time": _mixed(
        _times, "2026-02-30T00:00:00Z", "2026-06-01T13:00:00Z", "2026-06-01T13:00:01Z", "2030-01-01T00:00:00Z",
        "2026-03-29T02:30:00", "2025-10-26T02:30:00", "2016-12-31T23:59:60Z", "2026-06-01T00:00:00+15:00", "0",
        "2026-06-01T10:00:00Z".translate(ARABIC), "0000-01-01T00:00:00Z", "1" * 40,
    ),
    "text": _mixed(st.sampled_from(["internet", "orange.fr", "MO"]), "NaN"),
    "peer": _mixed(st.tuples(st.sampled_from(["", "+"]), _digits(5, 15)).map("".join), "INFO", "3244"),
}  # fmt: skip


def json_value(draw: st.DrawFn, text: str) -> Any:
    """Draw a JSON value for a text: the text itself, the number that it spells, or rarely an unrelated value."""
    if text.isascii() and text.isdigit() and (text == "0" or text[0] != "0") and draw(st.booleans()):
        return int(text)
    kind = draw(st.integers(0, 60))
    return {0: None, 1: True, 2: 1.5, 3: [], 4: {"a": 1}, 5: -1, 6: 2**63, 7: 10**30}.get(kind, text)


def without(text: str, forbidden: str) -> str:
    """Return a text without the characters that would start another field."""
    return "".join(character for character in text if character not in forbidden)


@st.composite
def separated(draw: st.DrawFn, names: Sequence[str], separator: str) -> bytes:
    """Draw a record of fields with a separator between them; some have too few or too many fields, or quoted ones."""
    parts = [without(draw(FIELDS[name]), separator + "{") for name in names]
    if not draw(st.integers(0, 9)):
        parts = parts[: draw(st.integers(2, len(parts)))] + [""] * draw(st.integers(0, 2))
    if not draw(st.integers(0, 3)):
        parts = [draw(quoted(part, separator)) for part in parts]
    return separator.join(parts).encode()


def quoted(text: str, separator: str) -> st.SearchStrategy[str]:
    """Return a strategy of spellings of a field: plain, quoted, quoted with a separator or a quote, or badly quoted."""
    marked = text.replace('"', '""')
    return st.sampled_from(
        [f'"{marked}"', f'"{marked}"', f'"{marked}"', f' "{marked}"\t', text]
        + [f'"{marked}{separator}"', f'"{marked}"""', f'"{text}', f'{text}"', f'"{text}"x', '""']
    )
