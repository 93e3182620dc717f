"""Event times in columns: the spellings of `schemas.fields.parse_event_time`, and the clocks of time zones.

Instants and local times are milliseconds since 1970 as int64; the smallest int64 stands for none.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.fields import FIRST_TIME, LAST_TIME, local_instant
from transforms.compiled import (
    BYTES,
    INT32S,
    INT64,
    INT64S,
    TEXTS,
    Bytes,
    Mask,
    Texts,
    compiled,
    is_valid,
    numbers_of,
    texts_of,
)
from transforms.texts import ZERO, is_null

Times = npt.NDArray[np.int64]
"""Milliseconds since 1970, or NONE."""

NONE = np.iinfo(np.int64).min
TIMESTAMP = pa.timestamp("ms", "UTC")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_DOT, _COLON, _DASH, _PLUS, _T, _Z, _BLANK = map(ord, ".:-+TZ ")


_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DAYS_TO_1970 = 719_468
"""From 1 March of the year 0."""


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MS


_FIRST, _LAST = _milliseconds(FIRST_TIME), _milliseconds(LAST_TIME)


def parse_event_times(texts: pa.StringArray, zone: str) -> Times:
    """Return the instants that texts name, NONE where they name none.

    Args:
        texts: string column.
        zone: IANA zone of texts without an offset. Of an hour that comes twice the first counts.
    """
    times, is_local = _read_times(texts_of(texts))
    if is_local.any():
        times[is_local] = to_instants(times[is_local], zone)
    times[(times < _FIRST) | (times > _LAST)] = NONE
    return times


@compiled(BYTES, INT64, INT64)
def _number(data: Bytes, start: int, digits: int) -> int:
    """Return the number that some digits are, NONE if they are no digits."""
    number = 0
    for place in range(start, start + digits):
        digit = int(data[place]) - ZERO
        if digit < 0 or digit > 9:
            return NONE
        number = number * 10 + digit
    return number


@compiled(BYTES, INT64, INT64, INT64, INT64, INT64, INT64)
def _moment(data: Bytes, year_at: int, month_at: int, day_at: int, hour_at: int, minute_at: int, second_at: int) -> int:
    """Return the wall clock's time whose parts stand at these places, NONE if there is no such time."""
    year, month, day = _number(data, year_at, 4), _number(data, month_at, 2), _number(data, day_at, 2)
    hour, minute, second = _number(data, hour_at, 2), _number(data, minute_at, 2), _number(data, second_at, 2)
    is_clock = 0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 59
    if year == NONE or not 1 <= month <= 12 or day < 1 or not is_clock:
        return NONE
    is_leap_year = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if day > (29 if month == 2 and is_leap_year else _DAYS[month - 1]):
        return NONE
    # Years that begin in March have the leap day at their end (Fliegel and van Flandern 1968).
    years, months = (year, month - 3) if month > 2 else (year - 1, month + 9)
    days = 365 * years + years // 4 - years // 100 + years // 400 + (153 * months + 2) // 5 + day - 1 - _DAYS_TO_1970
    return ((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000


@compiled(BYTES, INT64, INT64)
def _iso(data: Bytes, start: int, end: int) -> tuple[int, bool]:
    """Read `YYYY-MM-DDTHH:MM:SS`, or with a blank for the T; then perhaps a fraction, then perhaps an offset.

    Returns:
        The time; and whether it has no offset, so that it is a local one.
    """
    dashes = data[start + 4] == _DASH and data[start + 7] == _DASH
    colons = data[start + 13] == _COLON and data[start + 16] == _COLON
    if not (dashes and colons and (data[start + 10] == _T or data[start + 10] == _BLANK)):
        return NONE, False
    moment = _moment(data, start, start + 5, start + 8, start + 11, start + 14, start + 17)
    # The end tells which offset there is: none, Z, +HHMM or +HH:MM.
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
        if not (0 <= hours <= 14 and 0 <= minutes <= 59):
            return NONE, False
        east = (hours * 60 + minutes) * 60_000
        moment += east if data[sign] == _DASH else -east
    return moment, offset_width == 0


@compiled(TEXTS)
def _read_times(texts: Texts) -> tuple[Times, Mask]:
    """Return times, NONE for what is none; and which of them are local. The length says which spelling it may be."""
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
            times[row] = _moment(data, start, start + 4, start + 6, start + 8, start + 10, start + 12)
            is_local[row] = True
        elif length == 16 and data[start + 8] == _T:
            if data[start + 15] == _Z:
                times[row] = _moment(data, start, start + 4, start + 6, start + 9, start + 11, start + 13)
        elif length in (9, 10, 12, 13, 16):
            number = _number(data, start, length)
            if number != NONE:
                times[row] = number * 1000 if length < 12 else number if length < 16 else number // 1000
    return times, is_local


def as_timestamps(times: Times) -> pa.TimestampArray:
    """Return times as an Arrow column, null for NONE."""
    is_none = times == NONE
    if is_none.any():
        return pa.array(times, pa.int64(), mask=is_none).cast(TIMESTAMP)
    return numbers_of(times, TIMESTAMP)


def as_times(timestamps: pa.TimestampArray) -> Times:
    """Return an Arrow column as times, NONE for null."""
    if not len(timestamps):
        return np.zeros(0, np.int64)
    times = np.frombuffer(timestamps.buffers()[1], np.int64)[timestamps.offset :][: len(timestamps)]
    return np.where(is_null(timestamps), NONE, times) if timestamps.null_count else times


_SLOT_MS = 15 * 60_000
"""Since 1973 every zone's clock has changed at a multiple of this, so that all times of a slot have one offset."""
_FIRST_SLOT, _END_SLOT = (_milliseconds(datetime(year, 1, 1, tzinfo=UTC)) // _SLOT_MS for year in (1973, 2101))
_UNKNOWN, _NO_TIME = 0, -1
_SHIFT_0 = 1
"""What stands in a table for a shift of 0: its pages that are all zeros take no memory."""

_Clock = Callable[[str, int], int]
"""What is added to a time, by zone and time; NONE if there is no such time."""


def to_instants(moments: Times, zone: str) -> Times:
    """Return the instants of local times: the first of two in an overlap, NONE in a gap."""
    return _moved(moments, _from_local, zone)


def to_local(instants: Times, zone: str) -> Times:
    """Return the local times of instants."""
    return _moved(instants, _from_utc, zone)


def _moved(times: Times, clock: _Clock, zone: str) -> Times:
    """Return times moved as a clock says, which is asked once for each slot, and for each time outside of the table."""
    shifts = _table(clock, zone)
    moved, is_open = _shifted(times, shifts)
    if not is_open.any():
        return moved
    slots = times[is_open] // _SLOT_MS
    for slot in np.unique(slots[(slots >= _FIRST_SLOT) & (slots < _END_SLOT)]).tolist():
        shift = clock(zone, slot * _SLOT_MS)
        shifts[slot - _FIRST_SLOT] = _NO_TIME if shift == NONE else shift + _SHIFT_0
    moved, is_open = _shifted(times, shifts)
    for row in np.flatnonzero(is_open):
        shift = clock(zone, int(times[row]))
        moved[row] = NONE if shift == NONE else times[row] + shift
    return moved


@cache
def _table(_: _Clock, __: str) -> npt.NDArray[np.int32]:
    """Return the shifts in milliseconds of all slots, filled as they are asked for."""
    return np.zeros(_END_SLOT - _FIRST_SLOT, np.int32)


@compiled(INT64S, INT32S)
def _shifted(times: Times, shifts: npt.NDArray[np.int32]) -> tuple[Times, Mask]:
    """Return times moved by their slots' shifts, and which of them have none."""
    moved, is_open = np.full(len(times), NONE), np.zeros(len(times), np.bool_)
    for row in range(len(times)):
        if times[row] == NONE:
            continue
        slot = times[row] // _SLOT_MS - _FIRST_SLOT
        shift = shifts[slot] if 0 <= slot < len(shifts) else _UNKNOWN
        if shift == _UNKNOWN:
            is_open[row] = True
        elif shift != _NO_TIME:
            moved[row] = times[row] + shift - _SHIFT_0
    return moved, is_open


def _from_local(zone: str, moment: int) -> int:
    try:
        return _milliseconds(local_instant(_EPOCH.replace(tzinfo=None) + moment * _MS, ZoneInfo(zone))) - moment
    except (ValueError, OverflowError):
        return NONE


def _from_utc(zone: str, instant: int) -> int:
    try:
        local = (_EPOCH + instant * _MS).astimezone(ZoneInfo(zone))
    except OverflowError:
        return NONE
    return _milliseconds(local.replace(tzinfo=UTC)) - instant
