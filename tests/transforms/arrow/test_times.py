"""parse_event_times against the row model's parser: the same instants, the same refusals."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orion_beam.schemas.fields import comes_twice, local_instant, parse_event_time
from orion_beam.transforms.arrow.times import (
    NONE,
    TIMESTAMP,
    are_ambiguous,
    as_times,
    as_timestamps,
    dates_and_hours,
    parse_event_times,
    to_instants,
    to_local,
)

ZONES = ["Europe/Paris", "Africa/Tunis", "Africa/Casablanca", "Africa/Dakar"]
ODD_ZONES = [
    "Africa/Casablanca",  # goes back for Ramadan
    "Australia/Lord_Howe",  # by half an hour
    "Europe/Dublin",  # has its summer time in winter
    "Africa/Monrovia",  # was 44 minutes and 30 seconds west until 1972
    "Pacific/Apia",  # had no 30 December 2011
    "Pacific/Kwajalein",  # no 21 August 1993
    "America/St_Johns",  # changed at 00:01
    "Antarctica/Casey",  # at 00:01, by three hours
    "Asia/Gaza",  # has changed after a week
    "America/Recife",  # too
    "Pacific/Kiritimati",  # was 10 hours and 40 minutes west
    "Asia/Kathmandu",
    "Africa/Abidjan",  # has never changed
]


def by_row(text: str | None, zone: str) -> datetime | None:
    try:
        return None if text is None else parse_event_time(text, ZoneInfo(zone))
    except (ValueError, OverflowError):
        return None


def by_column(texts: list[str | None], zone: str) -> list[datetime | None]:
    return as_timestamps(parse_event_times(pa.array(texts, pa.string()), zone).instants).to_pylist()


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
@settings(max_examples=40)
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
    times = parse_event_times(pa.array(texts, pa.string()), "Europe/Paris").instants
    assert times.tolist() == [NONE] * len(texts)
    assert as_timestamps(times).equals(pa.nulls(len(texts), TIMESTAMP))
    assert as_times(as_timestamps(times)).tolist() == times.tolist()


@pytest.mark.parametrize("zone", [*ZONES, "Africa/Monrovia", "Australia/Lord_Howe", "Asia/Kathmandu"])
@given(
    moments=st.lists(
        st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)) | _moments.filter(lambda m: 1 < m.year < 9999)
    )
)
@settings(max_examples=40)
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
        ("000000001", "Europe/Paris", None),
        ("2147483647", "Europe/Paris", "2038-01-19T03:14:07.000"),
        ("2147483648", "Europe/Paris", "2038-01-19T03:14:08.000"),
        ("4294967296", "Europe/Paris", None),
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


@pytest.mark.parametrize("length", [9, 10, 11, 12, 13, 14, 15, 16])
def test_no_digits_alone_name_an_instant_of_the_seventies(length):
    # Every first four digits, and zeros before what would be an epoch in other units.
    texts = [f"{start:04d}".ljust(length, "1") for start in range(10_000)]
    texts += [epoch.zfill(length) for epoch in ("1780308000", "1780308000123") if len(epoch) <= length]
    found = by_column(texts, "Europe/Paris")
    assert found == [by_row(text, "Europe/Paris") for text in texts]
    if length != 14:
        # Of fourteen digits the year is written out.
        assert {moment.year // 100 for moment in found if moment} <= {20, 21}
        assert all(
            datetime(2000, 1, 1, tzinfo=UTC) <= moment < datetime(2101, 1, 1, tzinfo=UTC) for moment in found if moment
        )


@pytest.mark.parametrize(
    ("spelling", "text", "expected"),
    [
        ("YYMMDDhhmmss", "260601120000", datetime(2026, 6, 1, 10, tzinfo=UTC)),
        ("YYMMDDhhmmss", "991231235959", datetime(2099, 12, 31, 22, 59, 59, tzinfo=UTC)),
        ("YYMMDDhhmmss", "202606011200", None),
        ("YYMMDDhhmmss", "260230120000", None),
        ("YYMMDDhhmmss", "260329023000", None),
        ("YYMMDDhhmmss", "26060112000x", None),
        ("YYMMDDhhmmss", "x60601120000", None),
        ("YYMMDDhhmmss", "1780308000123", datetime(2026, 6, 1, 10, 0, 0, 123_000, tzinfo=UTC)),
        ("YYYYMMDDhhmm", "202606011200", datetime(2026, 6, 1, 10, tzinfo=UTC)),
        ("YYYYMMDDhhmm", "202606012400", None),
        ("YYYYMMDDhhmm", "260601120000", None),
        ("YYYYMMDDhhmm", "946684800000", None),
        (None, "260601120000", None),
        (None, "202606011200", None),
        (None, "946684800000", datetime(2000, 1, 1, tzinfo=UTC)),
    ],
)
def test_twelve_digits_are_read_as_the_profile_says(spelling, text, expected):
    column = as_timestamps(parse_event_times(pa.array([text, None, text]), "Europe/Paris", spelling).instants)
    assert column.to_pylist() == [expected, None, expected]
    try:
        by_row = parse_event_time(text, ZoneInfo("Europe/Paris"), spelling)
    except ValueError:
        by_row = None
    assert by_row == expected


def test_an_hour_that_comes_twice_is_ambiguous_unless_there_is_an_offset():
    twice = ["2026-10-25T02:00:00", "2026-10-25 02:59:59.999", "20261025023000"]
    once = [
        "2026-10-25T01:59:59", "2026-10-25T03:00:00", "2026-10-25T02:30:00Z", "2026-10-25T02:30:00+02:00",
        "2026-03-29T02:30:00", "2026-06-01T02:30:00", "20261025T023000Z", "1793000000", "x",
    ]  # fmt: skip
    for texts in ([*twice, *once], [*once, *twice], twice, once):
        found = parse_event_times(pa.array([*texts, None]), "Europe/Paris").is_ambiguous
        assert found.tolist() == [*(text in twice for text in texts), False]
    assert not parse_event_times(pa.array(twice), "Africa/Tunis").is_ambiguous.any()


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_LOCAL = _EPOCH.replace(tzinfo=None)
_MS = timedelta(milliseconds=1)
_DAY = timedelta(days=1)
_NEAR_A_CHANGE = [
    sign * timedelta(seconds=seconds)
    for sign in (-1, 1)
    for seconds in (0, 0.001, 1, 59, 61, 899, 901, 1799, 1801, 3599, 3601, 7200, 86_399, 86_401)
]


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MS


def _local_by_row(instant: int, zone: ZoneInfo) -> int:
    return _milliseconds((_EPOCH + instant * _MS).astimezone(zone).replace(tzinfo=UTC))


def _instant_by_row(moment: int, zone: ZoneInfo) -> int:
    try:
        return _milliseconds(local_instant((_EPOCH + moment * _MS).replace(tzinfo=None), zone))
    except ValueError:
        return NONE


def _changes(zone: ZoneInfo) -> list[datetime]:
    """Return the instants at which the zone's clock changes, and the ends of the tables."""

    def offset(moment: datetime) -> timedelta | None:
        return moment.astimezone(zone).utcoffset()

    start, end = datetime(1969, 11, 1, tzinfo=UTC), datetime(2102, 1, 1, tzinfo=UTC)
    changes = [datetime(1969, 12, 1, tzinfo=UTC), datetime(2101, 1, 1, tzinfo=UTC)]
    for day in range((end - start) // _DAY):
        before, after = start + day * _DAY, start + (day + 1) * _DAY
        if offset(before) != offset(after):
            while after - before > _MS:
                middle = before + (after - before) // _MS // 2 * _MS
                before, after = (middle, after) if offset(middle) == offset(before) else (before, middle)
            changes.append(after)
    return changes


def _both_clocks_agree(zone: str, times: list[int]) -> None:
    column, clock = np.array(times, np.int64), ZoneInfo(zone)
    assert to_local(column, zone).tolist() == [_local_by_row(time, clock) for time in times]
    assert to_instants(column, zone).tolist() == [_instant_by_row(time, clock) for time in times]
    assert are_ambiguous(column, zone).tolist() == [comes_twice(_EPOCH_LOCAL + time * _MS, clock) for time in times]


def _both_clocks_agree_around_changes(zone: str) -> None:
    clock = ZoneInfo(zone)
    times = [_milliseconds(change + near) for change in _changes(clock) for near in _NEAR_A_CHANGE]
    _both_clocks_agree(zone, times + [_local_by_row(time, clock) for time in times])


@pytest.mark.parametrize("zone", ODD_ZONES)
def test_clocks_around_every_change_are_those_of_the_zone(zone):
    _both_clocks_agree_around_changes(zone)


@pytest.mark.deep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("zone", sorted(available_timezones()))
def test_clocks_around_every_change_are_those_of_every_zone(zone):
    _both_clocks_agree_around_changes(zone)


@given(
    zone=st.sampled_from(sorted(available_timezones())),
    moments=st.lists(
        st.datetimes(datetime(1969, 1, 1), datetime(2102, 1, 1)) | st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1))
    ),
)
@settings(max_examples=30)
def test_clocks_are_those_of_any_zone(zone: Any, moments: Any) -> None:
    _both_clocks_agree(zone, [_milliseconds(moment.replace(tzinfo=UTC)) for moment in moments])


@pytest.mark.parametrize(
    ("zone", "text", "expected"),
    [
        # St. John's clocks went forth at 00:01, so that 00:00:59 was and 00:01 was not.
        ("America/St_Johns", "2010-03-14 00:00:59", "2010-03-14T03:30:59"),
        ("America/St_Johns", "2010-03-14 00:01:00", None),
        ("America/St_Johns", "2010-03-14 01:01:00", "2010-03-14T03:31:00"),
        ("Pacific/Apia", "2011-12-29 23:59:59", "2011-12-30T09:59:59"),
        ("Pacific/Apia", "2011-12-30 12:00:00", None),
        ("Pacific/Apia", "2011-12-31 00:00:00", "2011-12-30T10:00:00"),
        ("Australia/Lord_Howe", "2026-04-05 01:45:00", "2026-04-04T14:45:00"),
        ("Africa/Monrovia", "1972-01-06 23:59:59", "1972-01-07T00:44:29"),
        ("Africa/Monrovia", "1972-01-07 00:30:00", None),
    ],
)
def test_a_local_time_at_an_odd_change_is_read_as_the_zone_says(zone, text, expected):
    instant = None if expected is None else datetime.fromisoformat(expected).replace(tzinfo=UTC)
    assert by_column([text], zone) == [by_row(text, zone)] == [instant]


def test_a_local_time_is_the_same_whatever_the_row_before_it():
    # An overlap, a gap, either side of both, and times outside of the tables.
    texts = [
        f"{day} {clock}"
        for day in ("2026-10-25", "2026-03-29", "1850-01-01", "2500-07-01")
        for clock in ("01:59:59", "02:00:00", "02:59:59", "03:00:00")
    ]
    alone = {text: by_column([text], "Europe/Paris") for text in texts}
    for first in texts:
        for second in texts:
            assert by_column([first, second], "Europe/Paris") == alone[first] + alone[second]


def test_dates_and_hours_are_those_of_the_local_clock_before_and_after_1970():
    instants = [datetime(1969, 12, 31, 22, 59, 59, 999_000), datetime(1969, 12, 31, 23), datetime(2026, 6, 1, 22)]
    times = np.array([_milliseconds(instant.replace(tzinfo=UTC)) for instant in instants])
    dates, hours = dates_and_hours(to_local(times, "Europe/Paris"))
    assert (dates.tolist(), hours.tolist()) == ([-1, 0, 20_606], [23, 0, 0])
    assert [len(column) for column in dates_and_hours(np.zeros(0, np.int64))] == [0, 0]


_MIXED = ["é", "2026-06-01 10:00:00", None, "", "20260601100000", "1780308000", "x", None, "2026-06-01T10:00:00.1Z"]


@pytest.mark.parametrize("start", range(len(_MIXED) + 1))
def test_a_slice_is_read_as_its_rows(start):
    whole = pa.array(_MIXED, pa.string())
    times = as_timestamps(parse_event_times(whole, "Europe/Paris").instants)
    for end in range(start, len(_MIXED) + 1):
        part = times[start:end]
        assert as_timestamps(parse_event_times(whole[start:end], "Europe/Paris").instants).equals(part)
        assert as_timestamps(as_times(part)).equals(part)
