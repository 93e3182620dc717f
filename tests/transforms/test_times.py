"""parse_event_times against the row model's parser: the same instants, the same refusals."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.fields import parse_event_time
from transforms.times import NONE, TIMESTAMP, as_times, as_timestamps, parse_event_times, to_local

ZONES = ["Europe/Paris", "Africa/Tunis", "Africa/Casablanca", "Africa/Dakar"]


def by_row(text: str | None, zone: str) -> datetime | None:
    try:
        return None if text is None else parse_event_time(text, ZoneInfo(zone))
    except (ValueError, OverflowError):
        return None


def by_column(texts: list[str | None], zone: str) -> list[datetime | None]:
    return as_timestamps(parse_event_times(pa.array(texts, pa.string()), zone)).to_pylist()


def _spelled(moment: datetime, fraction: str, offset: str) -> list[str]:
    # strftime pads no years.
    day, clock = f"{moment.year:04d}-{moment:%m-%d}", f"{moment:%H:%M:%S}"
    compact = f"{moment.year:04d}{moment:%m%d}"
    return [
        f"{day}T{clock}{offset}",
        f"{day} {clock}{fraction}{offset}",
        f"{day}T{clock}{fraction}",
        f"{compact}T{moment:%H%M%S}Z",
        f"{compact}{moment:%H%M%S}",
    ]


_moments = st.datetimes() | st.datetimes(datetime(2015, 1, 1), datetime(2030, 1, 1))
_fractions = st.from_regex(r"(?:\.[0-9]{0,10})?", fullmatch=True)
_offsets = st.sampled_from(["Z", "", "+01:00", "-0330", "+14:00", "-14:59", "+15:00", "+00:60", "+1:00", "z", "-00:00"])
_spellings = st.builds(_spelled, _moments, _fractions, _offsets).flatmap(st.sampled_from)
_digits = st.text(st.sampled_from("0123456789"), max_size=16)
_near = st.text(st.sampled_from("0123456789-:TZ+ ."), max_size=30)


@st.composite
def spoiled(draw: st.DrawFn) -> str:
    text = draw(_spellings)
    place = draw(st.integers(0, len(text)))
    return text[:place] + draw(st.sampled_from(["", "6", "9", "-", " ", "T", "\n", "٣", "\0"])) + text[place + 1 :]


_texts = st.one_of(_spellings, _spellings, spoiled(), _digits, _near)
_texts_or_none = _texts | st.none()


@pytest.mark.parametrize("zone", ZONES)
@given(texts=st.lists(_texts_or_none, max_size=20))
@settings(max_examples=100)
@example(texts=["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z"])
@example(texts=["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "000000000", "9999999999999"])
def test_columns_and_rows_read_the_same_instants(zone: Any, texts: Any) -> None:
    assert by_column(texts, zone) == [by_row(text, zone) for text in texts]


@pytest.mark.deep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("zone", ZONES)
@given(texts=st.lists(_texts_or_none, max_size=40))
@settings(max_examples=1000)
def test_columns_and_rows_read_the_same_instants_of_many(zone: Any, texts: Any) -> None:
    assert by_column(texts, zone) == [by_row(text, zone) for text in texts]


@pytest.mark.parametrize("zone", ZONES)
def test_local_times_around_every_change_of_the_clock_are_read_alike(zone):
    start, step = datetime(2026, 1, 1), timedelta(minutes=30)
    texts = [(start + index * step).strftime("%Y-%m-%dT%H:%M:%S") for index in range(365 * 48)]
    assert by_column(texts, zone) == [by_row(text, zone) for text in texts]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-10-25T02:30:00", datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        ("2026-03-29T02:30:00", None),
        ("20260601100000", datetime(2026, 6, 1, 8, tzinfo=UTC)),
        ("20260601T100000Z", datetime(2026, 6, 1, 10, tzinfo=UTC)),
        ("2026-06-01T10:00:00.9999999Z", datetime(2026, 6, 1, 10, 0, 0, 999_000, tzinfo=UTC)),
        ("1780308000", datetime(2026, 6, 1, 10, tzinfo=UTC)),
        ("1780308000123", datetime(2026, 6, 1, 10, 0, 0, 123_000, tzinfo=UTC)),
        ("1780308000123456", datetime(2026, 6, 1, 10, 0, 0, 123_000, tzinfo=UTC)),
    ],
)
def test_a_spelling_alone_and_among_all_others_is_read_alike(text, expected):
    others = ["2026-06-01 10:00:00+02:00", "20260601100000", "1780308000", "x", None, "2026-06-01T10:00:00Z"]
    assert by_column([text], "Europe/Paris") == [expected]
    assert by_column([*others, text, *others], "Europe/Paris")[len(others)] == expected


@pytest.mark.parametrize("texts", [[], [None], ["x"], [None, "x", ""]])
def test_the_type_is_that_of_instants_even_if_there_are_none(texts):
    times = parse_event_times(pa.array(texts, pa.string()), "Europe/Paris")
    assert times.tolist() == [NONE] * len(texts)
    assert as_timestamps(times).equals(pa.nulls(len(texts), TIMESTAMP))
    assert as_times(as_timestamps(times)).tolist() == times.tolist()


@pytest.mark.parametrize("zone", [*ZONES, "Africa/Monrovia", "Australia/Lord_Howe", "Asia/Kathmandu"])
@given(
    moments=st.lists(
        st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)) | _moments.filter(lambda m: 1 < m.year < 9999)
    )
)
@settings(max_examples=100)
def test_local_time_is_what_the_zone_says(zone: Any, moments: Any) -> None:
    instants = [moment.replace(microsecond=0, tzinfo=UTC) for moment in moments]
    times = as_times(pa.array(instants, TIMESTAMP))
    local = as_timestamps(to_local(times, zone)).to_pylist()
    assert local == [instant.astimezone(ZoneInfo(zone)).replace(tzinfo=UTC) for instant in instants]


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        # Leap seconds have no instant of their own: 2016 ended with one.
        ("2016-12-31T23:59:60Z", "Europe/Paris", None),
        ("2016-12-31 23:59:60.5+00:00", "Europe/Paris", None),
        ("20161231T235960Z", "Europe/Paris", None),
        ("20161231235960", "Africa/Tunis", None),
        ("2016-12-31T23:59:61Z", "Europe/Paris", None),
        ("2016-12-31T23:59:59.999Z", "Europe/Paris", "2016-12-31T23:59:59.999"),
        # The first second of the epoch, the last ones of 32 bits, signed and unsigned, and the last year.
        ("1970-01-01T00:00:00Z", "Europe/Paris", "1970-01-01T00:00:00.000"),
        ("1970-01-01 00:30:00", "Europe/Paris", "1969-12-31T23:30:00.000"),
        ("000000001", "Europe/Paris", "1970-01-01T00:00:01.000"),
        ("2147483647", "Europe/Paris", "2038-01-19T03:14:07.000"),
        ("2147483648", "Europe/Paris", "2038-01-19T03:14:08.000"),
        ("4294967296", "Europe/Paris", "2106-02-07T06:28:16.000"),
        ("2038-07-01T12:00:00", "Europe/Paris", "2038-07-01T10:00:00.000"),
        ("9999-12-29T23:59:59Z", "Europe/Paris", "9999-12-29T23:59:59.000"),
        ("9999-12-31T23:59:59Z", "Europe/Paris", None),
        # One instant in seconds, milliseconds and microseconds; what is between them has no unit.
        ("1780308000", "Africa/Dakar", "2026-06-01T10:00:00.000"),
        ("1780308000000", "Africa/Dakar", "2026-06-01T10:00:00.000"),
        ("1780308000000000", "Africa/Dakar", "2026-06-01T10:00:00.000"),
        ("17803080000", "Africa/Dakar", None),
        ("178030800000000", "Africa/Dakar", None),
        ("1780308000000000000", "Africa/Dakar", None),
        ("178030800000000x", "Africa/Dakar", None),
        # France skips 02:00 to 03:00 on 29 March 2026, and has 02:00 to 03:00 twice on 25 October.
        ("2026-03-29T01:59:59", "Europe/Paris", "2026-03-29T00:59:59.000"),
        ("2026-03-29T02:00:00", "Europe/Paris", None),
        ("2026-03-29T02:59:59", "Europe/Paris", None),
        ("2026-03-29T03:00:00", "Europe/Paris", "2026-03-29T01:00:00.000"),
        ("2026-10-25T02:30:00", "Europe/Paris", "2026-10-25T00:30:00.000"),
        ("2026-10-25T03:00:00", "Europe/Paris", "2026-10-25T02:00:00.000"),
        # Morocco is at UTC+1, but for Ramadan: in 2026 its clocks go back on 15 February, and forth on 22 March.
        ("2026-02-14T12:00:00", "Africa/Casablanca", "2026-02-14T11:00:00.000"),
        ("2026-02-16T12:00:00", "Africa/Casablanca", "2026-02-16T12:00:00.000"),
        ("2026-03-22T02:30:00", "Africa/Casablanca", None),
        ("2026-03-23T12:00:00", "Africa/Casablanca", "2026-03-23T11:00:00.000"),
        # Tunisia, Senegal and Côte d'Ivoire have one time all year.
        ("2026-07-01T12:00:00", "Africa/Tunis", "2026-07-01T11:00:00.000"),
        ("2026-01-01T12:00:00", "Africa/Tunis", "2026-01-01T11:00:00.000"),
        ("2026-07-01T12:00:00", "Africa/Dakar", "2026-07-01T12:00:00.000"),
        ("2026-07-01T12:00:00", "Africa/Abidjan", "2026-07-01T12:00:00.000"),
    ],
)
def test_clocks_and_calendars_are_read_as_they_were(text, zone, expected):
    instant = None if expected is None else datetime.fromisoformat(expected).replace(tzinfo=UTC)
    assert by_column([text], zone) == [by_row(text, zone)] == [instant]
