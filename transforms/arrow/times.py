"""Event times in columns: parsing of the spellings of `fields.parse_event_time`, and conversion between time zones.

Instants and local times are int64 milliseconds since 1970. The smallest int64, NONE, means that there is no time.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from orion_beam.schemas.fields import END_OF_EPOCHS, FIRST_EPOCH, FIRST_TIME, LAST_TIME, comes_twice, local_instant
from orion_beam.schemas.zones import zone_of
from orion_beam.transforms.arrow.compiled import (
    BYTES,
    INT64,
    TEXTS,
    Bytes,
    Mask,
    Texts,
    compiled,
    is_valid,
    numbers_of,
    texts_of,
)
from orion_beam.transforms.arrow.texts import ZERO, if_else, is_null

Times = npt.NDArray[np.int64]
"""Milliseconds since 1970, or NONE."""

NONE = np.iinfo(np.int64).min
TIMESTAMP = pa.timestamp("ms", "UTC")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_HOUR_MS = 3_600_000
_DOT, _COLON, _DASH, _PLUS, _T, _Z, _BLANK = map(ord, ".:-+TZ ")


_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DAYS_TO_1970 = 719_468
"""Days from 1 March of the year 0 to 1 January 1970."""


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MS


_FIRST, _LAST = _milliseconds(FIRST_TIME), _milliseconds(LAST_TIME)


_FIRST_EPOCH, _END_OF_EPOCHS = _milliseconds(FIRST_EPOCH), _milliseconds(END_OF_EPOCHS)
_FIRST_YEAR, _END_OF_YEARS = FIRST_EPOCH.year, END_OF_EPOCHS.year
_TWELVE_DIGITS = (None, "YYMMDDhhmmss", "YYYYMMDDhhmm")


class EventTimes(NamedTuple):
    """Event times parsed from texts.

    Attributes:
        instants: Instant of each text; NONE if the text is no event time.
        is_ambiguous: Whether a text is a local time that comes twice. Its instant is the first of the two.
    """

    instants: Times
    is_ambiguous: Mask


def parse_event_times(texts: pa.StringArray, zone: str, twelve_digits: str | None = None) -> EventTimes:
    """Parse event times with the rules of `fields.parse_event_time`.

    Args:
        texts: String column.
        zone: IANA zone of texts without an offset.
        twelve_digits: Format of twelve digits, see `CountryProfile.twelve_digit_times`.
    """
    times, is_local = _read_times(texts_of(texts), _TWELVE_DIGITS.index(twelve_digits))
    is_ambiguous = np.zeros(len(times), np.bool_)
    if is_local.any():
        local = times[is_local]
        times[is_local], is_ambiguous[is_local] = to_instants(local, zone), are_ambiguous(local, zone)
    times[(times < _FIRST) | (times > _LAST)] = NONE
    return EventTimes(times, is_ambiguous)


def plausible_or_null(timestamps: pa.TimestampArray) -> pa.TimestampArray:
    """Return Kafka timestamps, with null in place of those that are not plausible."""
    is_odd = ~are_plausible_epochs(as_times(timestamps))
    return if_else(is_odd, None, timestamps) if is_odd.any() else timestamps


def are_plausible_epochs(times: Times) -> Mask:
    """Return which times are plausible as Kafka timestamps, see `fields.is_plausible_epoch`."""
    mask: Mask = (times >= _FIRST_EPOCH) & (times < _END_OF_EPOCHS)
    return mask


@compiled(BYTES, INT64, INT64)
def _number(data: Bytes, start: int, digits: int) -> int:
    """Return the number that the `digits` bytes from `start` on spell; NONE if a byte is not a digit."""
    number = 0
    for place in range(start, start + digits):
        digit = int(data[place]) - ZERO
        if digit < 0 or digit > 9:
            return NONE
        number = number * 10 + digit
    return number


@compiled(BYTES, INT64, INT64, INT64, INT64, INT64, INT64)
def _moment(data: Bytes, year: int, month_at: int, day_at: int, hour_at: int, minute_at: int, second_at: int) -> int:
    """Return the wall-clock time with this year and two digits at the position of each other part.

    Return NONE if there is no such time. If `second_at` is negative, the text has no seconds, and they are 0.
    """
    month, day = _number(data, month_at, 2), _number(data, day_at, 2)
    hour, minute = _number(data, hour_at, 2), _number(data, minute_at, 2)
    second = 0 if second_at < 0 else _number(data, second_at, 2)
    is_clock = 0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 59
    if year == NONE or not 1 <= month <= 12 or day < 1 or not is_clock:
        return NONE
    is_leap_year = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if day > (29 if month == 2 and is_leap_year else _DAYS[month - 1]):
        return NONE
    # The formula counts years from March, so that the leap day is the last of its year (Fliegel and van Flandern 1968).
    years, months = (year, month - 3) if month > 2 else (year - 1, month + 9)
    days = 365 * years + years // 4 - years // 100 + years // 400 + (153 * months + 2) // 5 + day - 1 - _DAYS_TO_1970
    return ((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000


@compiled(BYTES, INT64, INT64)
def _iso(data: Bytes, start: int, end: int) -> tuple[int, bool]:
    """Parse data[start:end], at least 19 bytes, as `YYYY-MM-DDTHH:MM:SS`, or with a blank instead of the T.

    A fraction and an offset may follow.

    Returns:
        The time, and whether it is local because it has no offset.
    """
    dashes = data[start + 4] == _DASH and data[start + 7] == _DASH
    colons = data[start + 13] == _COLON and data[start + 16] == _COLON
    if not (dashes and colons and (data[start + 10] == _T or data[start + 10] == _BLANK)):
        return NONE, False
    moment = _moment(data, _number(data, start, 4), start + 5, start + 8, start + 11, start + 14, start + 17)
    # The last bytes show the kind of offset: none, Z, +HHMM or +HH:MM.
    offset_width = 0
    if data[end - 1] == _Z:
        offset_width = 1
    elif data[end - 5] == _PLUS or data[end - 5] == _DASH:
        offset_width = 5
    elif (data[end - 6] == _PLUS or data[end - 6] == _DASH) and data[end - 3] == _COLON:
        offset_width = 6
    sign = end - offset_width
    fraction_at, fraction_digits = start + 20, sign - start - 20
    if moment == NONE or (fraction_digits != -1 and not 1 <= fraction_digits <= 9):
        return NONE, False
    if fraction_digits != -1:
        if data[fraction_at - 1] != _DOT or _number(data, fraction_at, fraction_digits) == NONE:
            return NONE, False
        shown = min(fraction_digits, 3)
        moment += _number(data, fraction_at, shown) * (100, 10, 1)[shown - 1]
    if offset_width > 1:
        hours, minutes = _number(data, sign + 1, 2), _number(data, end - 2, 2)
        if not (0 <= hours <= 14 and 0 <= minutes <= (0 if hours == 14 else 59)):
            return NONE, False
        east = (hours * 60 + minutes) * 60_000
        moment += east if data[sign] == _DASH else -east
    return moment, offset_width == 0


@compiled(TEXTS, INT64)
def _read_times(texts: Texts, twelve_digits: int) -> tuple[Times, Mask]:
    """Return the time of each text, NONE if it is no time, and whether it is local. The length selects the spelling.

    `twelve_digits` is the index in `_TWELVE_DIGITS` of the format of twelve digits.
    """
    times, is_local = np.full(len(texts.offsets) - 1, NONE), np.zeros(len(texts.offsets) - 1, np.bool_)
    data = texts.data
    for row in range(len(times)):
        if not is_valid(texts, row):
            continue
        start, end = int(texts.offsets[row]), int(texts.offsets[row + 1])
        length = end - start
        if 19 <= length <= 35:
            times[row], is_local[row] = _iso(data, start, end)
        elif length == 14:
            year = _number(data, start, 4)
            times[row] = _moment(data, year, start + 4, start + 6, start + 8, start + 10, start + 12)
            is_local[row] = True
        elif length == 12 and twelve_digits == 1:
            year = 2000 + _number(data, start, 2) if _number(data, start, 2) != NONE else NONE
            times[row] = _moment(data, year, start + 2, start + 4, start + 6, start + 8, start + 10)
            is_local[row] = True
        elif length == 12 and twelve_digits == 2:
            year = _number(data, start, 4)
            if _FIRST_YEAR <= year < _END_OF_YEARS:
                times[row] = _moment(data, year, start + 4, start + 6, start + 8, start + 10, -1)
                is_local[row] = True
        elif length == 16 and data[start + 8] == _T:
            if data[start + 15] == _Z:
                year = _number(data, start, 4)
                times[row] = _moment(data, year, start + 4, start + 6, start + 9, start + 11, start + 13)
        elif length in (9, 10, 12, 13, 16):
            number = _number(data, start, length)
            if number != NONE:
                epoch = number * 1000 if length < 12 else number if length < 16 else number // 1000
                if _FIRST_EPOCH <= epoch < _END_OF_EPOCHS:
                    times[row] = epoch
    return times, is_local


def as_timestamps(times: Times) -> pa.TimestampArray:
    """Return times as an Arrow column, with null for NONE."""
    is_valid = times != NONE
    nulls = len(times) - np.count_nonzero(is_valid)
    return numbers_of(times, TIMESTAMP, np.packbits(is_valid, bitorder="little") if nulls else None, nulls)


def as_times(timestamps: pa.TimestampArray) -> Times:
    """Return an Arrow column as times, with NONE for null."""
    if not len(timestamps):
        return np.zeros(0, np.int64)
    times = np.frombuffer(timestamps.buffers()[1], np.int64)[timestamps.offset :][: len(timestamps)]
    return np.where(is_null(timestamps), NONE, times) if timestamps.null_count else times


class _Periods(NamedTuple):
    """The times of one clock in periods of constant offset to another clock. Periods do not overlap.

    Attributes:
        starts: First time of each period, ascending.
        ends: First time after each period. A time between an end and the next start does not exist.
        shifts: Milliseconds to add to a time of each period to get the other clock's time.
    """

    starts: Times
    ends: Times
    shifts: Times


_SCAN_FROM, _SCAN_TO = datetime(1969, 12, 1, tzinfo=UTC), datetime(2101, 1, 1, tzinfo=UTC)
"""Range of the tables of periods. A clock that was reset shows 1970 in its own zone. No zone changed around the first
day of the range, so its local times are certain."""
_SCAN_STEP = timedelta(days=3)
"""Step of the scan. It is well below the shortest time between two changes of a zone: a week, in Brazil in 2000."""


def to_instants(moments: Times, zone: str) -> Times:
    """Return the instants of local times. A time that comes twice gives the first one; a skipped time gives NONE."""
    return _moved(moments, _local_periods(zone), partial(_from_local, zone_of(zone)))


def are_ambiguous(moments: Times, zone: str) -> Mask:
    """Return which local times occur twice because the clock goes back."""
    starts, ends = _overlaps(zone)
    mask: Mask = starts[np.searchsorted(ends, moments, "right")] <= moments
    periods = _local_periods(zone)
    is_dated = (moments >= _FIRST) & (moments <= _LAST)
    is_open = is_dated & ((moments < periods.starts[0]) | (moments >= periods.ends[-1]))
    if is_open.any():
        clock = zone_of(zone)
        mask[is_open] = [
            comes_twice(_EPOCH.replace(tzinfo=None) + each * _MS, clock) for each in moments[is_open].tolist()
        ]
    return mask


def to_local(instants: Times, zone: str) -> Times:
    """Return the local times of instants."""
    return _moved(instants, _utc_periods(zone), partial(_from_utc, zone_of(zone)))


def dates_and_hours(local: Times) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return the dates of local times as days since 1970, and the hours of the day. No time may be NONE."""
    hours = local // _HOUR_MS
    return (hours // 24).astype(np.int32), (hours % 24).astype(np.int32)


def _moved(times: Times, periods: _Periods, clock: Callable[[int], int]) -> Times:
    """Convert times to another clock. A time outside all periods is converted by the function `clock`, each once."""
    starts, ends, shifts = periods
    is_open = (times != NONE) & ((times < starts[0]) | (times >= ends[-1]))
    period = np.minimum(np.searchsorted(ends, times, "right"), len(ends) - 1)
    # A time that is NONE, or between two periods, gives NONE.
    moved = np.where((times != NONE) & (times >= starts[period]), times + shifts[period], NONE)
    if is_open.any():
        distinct, places = np.unique(times[is_open], return_inverse=True)
        moved[is_open] = np.array([clock(time) for time in distinct.tolist()])[places]
    return moved


@cache
def _utc_periods(zone: str) -> _Periods:
    """Return the periods of UTC times with a constant offset of the zone.

    A scan asks the zone for its offset every few days, which takes 20 to 40 ms.
    """
    clock = zone_of(zone)

    def offset_at(instant: int) -> int:
        offset = (_EPOCH + instant * _MS).astimezone(clock).utcoffset()
        assert offset is not None, "a zone has an offset at all times"
        return offset // _MS

    scanned, end, step = _milliseconds(_SCAN_FROM), _milliseconds(_SCAN_TO), _SCAN_STEP // _MS
    starts, offsets = [scanned], [offset_at(scanned)]
    for instant in range(scanned + step, end, step):
        while offset_at(instant) != offsets[-1]:
            before, after = max(instant - step, starts[-1]), instant
            while after - before > 1:
                middle = (before + after) // 2
                before, after = (middle, after) if offset_at(middle) == offsets[-1] else (before, middle)
            starts.append(after)
            offsets.append(offset_at(after))
    return _Periods(np.array(starts), np.array([*starts[1:], end]), np.array(offsets))


@cache
def _local_periods(zone: str) -> _Periods:
    """Return the periods of the zone's local times. An hour that comes twice belongs to the first period."""
    starts, ends, offsets = _utc_periods(zone)
    local_starts, local_ends = starts + offsets, ends + offsets
    local_starts[1:] = np.maximum(local_starts[1:], local_ends[:-1])
    return _Periods(local_starts, local_ends, -offsets)


@cache
def _overlaps(zone: str) -> tuple[Times, Times]:
    """Return the starts and ends of the ranges of local times that come twice.

    The starts have one more element, later than all times, for a search beyond the last range.
    """
    starts, ends, offsets = _utc_periods(zone)
    again, first_end = (starts + offsets)[1:], (ends + offsets)[:-1]
    is_overlap = again < first_end
    return np.append(again[is_overlap], np.iinfo(np.int64).max), first_end[is_overlap]


def _from_local(zone: ZoneInfo, moment: int) -> int:
    try:
        return _milliseconds(local_instant(_EPOCH.replace(tzinfo=None) + moment * _MS, zone))
    except (ValueError, OverflowError):
        return NONE


def _from_utc(zone: ZoneInfo, instant: int) -> int:
    try:
        return _milliseconds((_EPOCH + instant * _MS).astimezone(zone).replace(tzinfo=UTC))
    except OverflowError:
        return NONE
