"""Generated raw messages: records of every format and country, good, odd, broken and mutated."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from orion_beam.countries import all_profiles
from schemas.country import CountryProfile
from schemas.fields import RAT_GENERATIONS
from schemas.raw import RawFormat
from tests.oracle import FIXED_WIDTHS

ARRIVED = datetime(2026, 6, 1, 12, tzinfo=UTC)
PROFILES = all_profiles()
EVERY_COUNTRY = (RawFormat.FLAT_JSON, RawFormat.PIPE_TEXT)

MAX_COUNT = 2**63 - 1
ARABIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")

_absent = st.sampled_from(["", " ", "\t"])
_junk = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_sane_junk = st.text(st.sampled_from("0123456789+-.eEZT: abc"), max_size=20)


def _mixed(good: st.SearchStrategy[str], *odd: str) -> st.SearchStrategy[str]:
    """Mostly good values, so that a record of many fields is now and then good as a whole."""
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
    "event_type": _mixed(st.sampled_from(["voice", "sms", "data", "VOICE", "Data"]), "mms", "1", "v\u043eice"),
    "event_time": _mixed(
        _times, "2026-02-30T00:00:00Z", "2026-06-01T13:00:00Z", "2026-06-01T13:00:01Z", "2030-01-01T00:00:00Z",
        "2026-03-29T02:30:00", "2025-10-26T02:30:00", "2016-12-31T23:59:60Z", "2026-06-01T00:00:00+15:00", "0",
        "2026-06-01T10:00:00Z".translate(ARABIC), "0000-01-01T00:00:00Z", "1" * 40,
    ),
    "text": _mixed(st.sampled_from(["internet", "orange.fr", "MO"]), "NaN"),
    "peer": _mixed(st.tuples(st.sampled_from(["", "+"]), _digits(5, 15)).map("".join), "INFO", "3244"),
}  # fmt: skip


def good_fields(profile: CountryProfile) -> dict[str, str]:
    """One good value for each field."""
    return {
        "imsi": f"{profile.operators[0].plmns[0]}1234567890"[:15],
        "msisdn": f"+{profile.calling_code}612345678",
        "imei": "352099001761481",
        "cell_id": "FR-PAR-001",
        "rat": "4G",
        "bytes_up": "1",
        "bytes_down": "2",
        "duration_s": "3",
        "message_length": "4",
        "event_type": "data",
        "event_time": "2026-06-01T10:00:00Z",
    }


COLUMNS = {
    RawFormat.FR_SEMICOLON: ("imsi", "msisdn", "imei", "cell_id", "rat", "bytes_up", "bytes_down", "event_time"),
    RawFormat.MA_SEMICOLON: ("imsi", "msisdn", "cell_id", "rat", "bytes_up", "bytes_down", "event_time"),
    RawFormat.SN_FIXED_WIDTH: ("imsi", "msisdn", "imei", "cell_id", "rat", "bytes_up", "bytes_down", "event_time"),
    RawFormat.PIPE_TEXT: ("imsi", "msisdn", "event_type", "duration_s", "bytes_up", "bytes_down"),
}
KEYS = {"imsi": "IMSI", "msisdn": "MSISDN", "imei": "IMEI", "cell_id": "CELL", "rat": "RAT", "bytes_up": "UP",
        "bytes_down": "DOWN", "event_time": "TS"}  # fmt: skip
MEMBERS = {
    "event_type": "event_type", "imsi": "imsi", "msisdn": "msisdn", "imei": "imei", "cell_id": "cell_id", "rat": "rat",
    "timestamp": "event_time", "duration": "duration_s", "called_number": "peer", "call_type": "text",
    "bytes_uploaded": "bytes_up", "bytes_downloaded": "bytes_down", "apn": "text", "destination_number": "peer",
    "sms_type": "text", "message_length": "message_length", "charging_id": "text", "subscriber_type": "text",
    "lac_tac": "text",
}  # fmt: skip
NESTED = {
    "subscriber": {"imsi": "imsi", "msisdn": "msisdn", "imei": "imei"},
    "network": {"cell": "cell_id", "rat": "rat"},
    "usage": {"up": "bytes_up", "down": "bytes_down"},
}


def _json_value(draw: st.DrawFn, text: str) -> Any:
    """Return a text as JSON may write it: with quotes, as a number, or as something else altogether."""
    if text.isascii() and text.isdigit() and (text == "0" or text[0] != "0") and draw(st.booleans()):
        return int(text)
    kind = draw(st.integers(0, 60))
    return {0: None, 1: True, 2: 1.5, 3: [], 4: {"a": 1}, 5: -1, 6: 2**63, 7: 10**30}.get(kind, text)


@st.composite
def flat_json(draw: st.DrawFn) -> bytes:
    record = {
        name: _json_value(draw, draw(FIELDS[field])) for name, field in MEMBERS.items() if draw(st.integers(0, 9))
    }
    if draw(st.booleans()):
        record |= draw(st.sampled_from([{"extra": [1, {"b": None}]}, {"a;b": "c|d=e"}, {"apn": "x;y"}]))
    text = json.dumps(dict(draw(st.permutations(list(record.items())))), ensure_ascii=draw(st.booleans()))
    return text.encode()


@st.composite
def nested_json(draw: st.DrawFn) -> bytes:
    record: dict[str, Any] = {
        block: {
            name: _json_value(draw, draw(FIELDS[field])) for name, field in members.items() if draw(st.integers(0, 9))
        }
        for block, members in NESTED.items()
        if draw(st.integers(0, 9))
    }
    record["timestamp"] = _json_value(draw, draw(FIELDS["event_time"]))
    if not draw(st.integers(0, 20)):
        record[draw(st.sampled_from(list(NESTED)))] = draw(st.sampled_from([None, [], "x", 1]))
    return json.dumps(record, ensure_ascii=draw(st.booleans())).encode()


def _without(text: str, forbidden: str) -> str:
    return "".join(character for character in text if character not in forbidden)


@st.composite
def separated(draw: st.DrawFn, raw_format: RawFormat, separator: str) -> bytes:
    parts = [_without(draw(FIELDS[name]), separator + "{") for name in COLUMNS[raw_format]]
    if not draw(st.integers(0, 9)):
        parts = parts[: draw(st.integers(2, len(parts)))] + [""] * draw(st.integers(0, 2))
    return separator.join(parts).encode()


@st.composite
def key_value(draw: st.DrawFn) -> bytes:
    pairs = [f"{key}={_without(draw(FIELDS[name]), '|{')}" for name, key in KEYS.items() if draw(st.integers(0, 9))]
    pairs += draw(st.sampled_from([[], [], ["X=1"], ["IMSI=1"], ["CALL_ID=a=b"]]))
    return "|".join(draw(st.permutations(pairs)) or ["X="]).encode()


@st.composite
def fixed_width(draw: st.DrawFn) -> bytes:
    names = COLUMNS[RawFormat.SN_FIXED_WIDTH]
    cuts = [
        _without(draw(FIELDS[name]), "|;={\r\n")[:width].ljust(width)
        for name, width in zip(names, FIXED_WIDTHS, strict=True)
    ]
    text = "".join(cuts)
    return (text.rstrip() if draw(st.booleans()) else text).encode()


def records(raw_format: RawFormat) -> st.SearchStrategy[bytes]:
    """Payloads that mean to be of a format."""
    match raw_format:
        case RawFormat.FLAT_JSON:
            return flat_json()
        case RawFormat.TN_JSON:
            return nested_json()
        case RawFormat.SN_KEY_VALUE:
            return key_value()
        case RawFormat.SN_FIXED_WIDTH:
            return fixed_width()
        case RawFormat.PIPE_TEXT:
            return separated(raw_format, "|")
        case _:
            return separated(raw_format, ";")


def payloads(profile: CountryProfile) -> st.SearchStrategy[bytes]:
    """Payloads of all formats of a country."""
    return st.one_of([records(raw_format) for raw_format in (*profile.formats, *EVERY_COUNTRY)])


_SPLICES = (b"\xff", b"\xc3", b"\x00", b"\n", b"\r\n", b'"', b"'", b"\\", b"\xef\xbb\xbf", b";", b"|", b"=", b"{", b"}",
            b" ", b",", b"\xe2\x80\xa8", "é".encode(), "٣".encode(), b"9" * 400)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, originals: st.SearchStrategy[bytes]) -> bytes:
    """A payload with some bytes cut out or put in."""
    payload = draw(originals)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(payload)))
        end = min(len(payload), start + draw(st.integers(0, 3)))
        payload = payload[:start] + draw(st.sampled_from((b"", *_SPLICES))) + payload[end:]
    return payload


_framed = st.tuples(st.sampled_from([b"", b"", b"\xef\xbb\xbf", b" "]), st.sampled_from([b"", b"", b"\r", b" \r\n"]))


@st.composite
def anything(draw: st.DrawFn, profile: CountryProfile) -> bytes | None:
    """None, empty, random bytes, records of any country, and mutated ones."""
    own = payloads(profile)
    kind = draw(st.integers(0, 11))
    if kind == 0:
        return draw(st.sampled_from([None, b"", b" \r\n", b"\xef\xbb\xbf", b"\x00", b"{", b"{}", b"9" * 70_000]))
    if kind == 1:
        return draw(st.binary(max_size=150))
    if kind == 2:
        return draw(payloads(draw(st.sampled_from(list(PROFILES.values())))))
    if kind in (3, 4, 5):
        return draw(mutated(own))
    if kind == 6:
        before, after = draw(_framed)
        return before + draw(own) + after
    return draw(own)


def batches_of(profile: CountryProfile, most: int = 25) -> st.SearchStrategy[list[bytes | None]]:
    return st.lists(anything(profile), min_size=1, max_size=most)


def timestamps(count: int) -> st.SearchStrategy[list[datetime | None]]:
    moments = st.sampled_from(
        [ARRIVED, ARRIVED, ARRIVED, None, ARRIVED - timedelta(days=900), datetime(1969, 1, 1, tzinfo=UTC)]
    )
    return st.lists(moments, min_size=count, max_size=count)
