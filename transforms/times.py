"""Event times in columns: the spellings of `schemas.fields.parse_event_time`, and the clocks of time zones.

Texts of one length are a matrix of characters, so a digit's place is a row of it and a whole column is read at once.
Instants and local times are milliseconds since 1970 as int64; the smallest int64 stands for none.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.fields import FIRST_TIME, LAST_TIME, local_instant
from transforms.texts import Bytes, Mask, bytes_of, is_null, lengths_of

Times = npt.NDArray[np.int64]
"""Milliseconds since 1970, or NONE."""

NONE = np.iinfo(np.int64).min
TIMESTAMP = pa.timestamp("ms", "UTC")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_ZERO, _DOT, _COLON, _DASH, _PLUS, _T, _Z, _BLANK = map(ord, "0.:-+TZ ")


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MS


_FIRST, _LAST = _milliseconds(FIRST_TIME), _milliseconds(LAST_TIME)


class _Characters:
    """Texts of one length, as a matrix: a row for each place, a column for each text.

    Attributes:
        is_good: which texts have kept every expectation so far.
    """

    def __init__(self, texts: pa.StringArray, length: int) -> None:
        self._places: Bytes = np.ascontiguousarray(bytes_of(texts)[: len(texts) * length].reshape(len(texts), length).T)
        self.is_good: Mask = np.ones(len(texts), np.bool_)

    def __getitem__(self, place: int) -> Bytes:
        characters: Bytes = self._places[place]
        return characters

    def expect(self, place: int, *characters: int) -> None:
        """Demand one of some characters at a place."""
        found = self._places[place] == characters[0]
        for character in characters[1:]:
            found |= self._places[place] == character
        self.is_good &= found

    def number(self, start: int, digits: int) -> Times:
        """Return the number that the digits from a place on are, and demand that they are digits."""
        value: Times = np.zeros(len(self.is_good), np.int64)
        for place in range(start, start + digits):
            digit = self._places[place] - np.uint8(_ZERO)
            self.is_good &= digit <= 9
            value = value * 10 + digit
        return value

    def moment(self, date: tuple[int, int, int], clock: tuple[int, int, int]) -> Times:
        """Return the wall clock's time whose year, month, day and hour, minute, second stand at these places."""
        year, month, day = self.number(date[0], 4), self.number(date[1], 2), self.number(date[2], 2)
        hour, minute, second = (self.number(place, 2) for place in clock)
        self.is_good &= (month >= 1) & (month <= 12) & (hour <= 23) & (minute <= 59) & (second <= 59)
        months = ((year - 1970) * 12 + month - 1).astype("M8[M]")
        first = months.astype("M8[D]").astype(np.int64)
        after = (months + 1).astype("M8[D]").astype(np.int64)
        self.is_good &= (day >= 1) & (day <= after - first)
        return ((first + day - 1) * 86_400 + hour * 3600 + minute * 60 + second) * 1000


def _iso(texts: _Characters, length: int, zone: str) -> Times:
    """`YYYY-MM-DDTHH:MM:SS`, or with a blank for the T; then perhaps a fraction, then perhaps an offset."""
    for place in (4, 7):
        texts.expect(place, _DASH)
    for place in (13, 16):
        texts.expect(place, _COLON)
    texts.expect(10, _T, _BLANK)
    moment = texts.moment((0, 5, 8), (11, 14, 17))
    # The end tells which offset there is: none, Z, +HHMM or +HH:MM.
    ends_in_z = texts[-1] == _Z
    is_signed = {width: (texts[-width] == _PLUS) | (texts[-width] == _DASH) for width in (5, 6)}
    kinds = {1: ends_in_z, 5: is_signed[5] & ~ends_in_z, 6: is_signed[6] & (texts[-3] == _COLON) & ~ends_in_z}
    kinds[0] = ~(kinds[1] | kinds[5] | kinds[6])
    time = np.full(len(moment), NONE)
    base = texts.is_good
    for width, is_kind in kinds.items():
        if is_kind.any():
            texts.is_good = base.copy()
            instants = _behind_clock(texts, moment, length, width, zone)
            read = is_kind & texts.is_good
            time[read] = instants[read]
    texts.is_good = base & (time != NONE)
    return time


def _behind_clock(texts: _Characters, moment: Times, length: int, offset_width: int, zone: str) -> Times:
    """Return the instants of ISO texts whose offset has so many characters; all between is the fraction."""
    fraction_digits = length - 19 - offset_width - 1
    if fraction_digits != -1:
        if not 1 <= fraction_digits <= 9:
            return np.full(len(moment), NONE)
        texts.expect(19, _DOT)
        texts.number(20, fraction_digits)
        shown = min(fraction_digits, 3)
        moment = moment + texts.number(20, shown) * 10 ** (3 - shown)
    if offset_width == 0:
        return to_instants(moment, zone)
    if offset_width == 1:
        return moment
    sign = length - offset_width
    hours, minutes = texts.number(sign + 1, 2), texts.number(length - 2, 2)
    texts.is_good &= (hours <= 14) & (minutes <= 59)
    east = (hours * 60 + minutes) * 60_000
    return np.where(texts[sign] == _DASH, moment + east, moment - east)


def _basic_or_epoch_us(texts: _Characters, _: int, __: str) -> Times:
    """`YYYYMMDDTHHMMSSZ`; or, where there is no T, epoch microseconds."""
    is_basic, base = texts[8] == _T, texts.is_good
    texts.is_good = base.copy()
    epoch_ms = texts.number(0, 16) // 1000
    is_epoch, texts.is_good = texts.is_good, base & is_basic
    if not is_basic.any():
        texts.is_good = is_epoch
        return epoch_ms
    texts.expect(15, _Z)
    moments = texts.moment((0, 4, 6), (9, 11, 13))
    texts.is_good |= is_epoch
    return np.where(is_epoch, epoch_ms, moments)


def _compact(texts: _Characters, _: int, zone: str) -> Times:
    """`YYYYMMDDHHMMSS`, local."""
    return to_instants(texts.moment((0, 4, 6), (8, 10, 12)), zone)


def _epoch(texts: _Characters, length: int, _: str, unit_ms: int) -> Times:
    return texts.number(0, length) * unit_ms


_Read = Callable[[_Characters, int, str], Times]

_BY_LENGTH: dict[int, _Read] = dict.fromkeys(range(19, 36), _iso) | {
    9: partial(_epoch, unit_ms=1000),
    10: partial(_epoch, unit_ms=1000),
    12: partial(_epoch, unit_ms=1),
    13: partial(_epoch, unit_ms=1),
    14: _compact,
    16: _basic_or_epoch_us,
}
"""Length of a text to the one spelling that it may have."""


def parse_event_times(texts: pa.StringArray, zone: str) -> Times:
    """Return the instants that texts name, NONE where they name none.

    Args:
        texts: string column.
        zone: IANA zone of texts without an offset. Of an hour that comes twice the first counts.
    """
    times = np.full(len(texts), NONE)
    lengths = np.where(is_null(texts), 0, lengths_of(texts))
    for length in np.flatnonzero(np.bincount(lengths)) if len(texts) else ():
        if (read := _BY_LENGTH.get(int(length))) is None:
            continue
        rows = np.flatnonzero(lengths == length)
        # Taken rows are packed; their bytes start at the start of the buffer.
        characters = _Characters(texts.take(pa.array(rows)), int(length))
        instants = read(characters, int(length), zone)
        is_read = characters.is_good & (instants >= _FIRST) & (instants <= _LAST)
        times[rows[is_read]] = instants[is_read]
    return times


def as_timestamps(times: Times) -> pa.TimestampArray:
    """Return times as an Arrow column, null for NONE."""
    is_none = times == NONE
    return pa.array(times, pa.int64(), mask=is_none if is_none.any() else None).cast(TIMESTAMP)


def as_times(timestamps: pa.TimestampArray) -> Times:
    """Return an Arrow column as times, NONE for null."""
    numbers = timestamps.cast(pa.int64())
    return (numbers.fill_null(NONE) if numbers.null_count else numbers).to_numpy()  # type: ignore[no-any-return]


_SLOT_MS = 15 * 60_000
"""Since 1973 every zone's clock has changed at a multiple of this, so that all times of a slot have one offset."""
_SLOTS_SINCE = _milliseconds(datetime(1973, 1, 1, tzinfo=UTC))
_MANY_SLOTS = 1 << 16

_Clock = Callable[[str, int], int]
"""What is added to a time, by zone and time; NONE if there is no such time."""


def to_instants(moments: Times, zone: str) -> Times:
    """Return the instants of local times: the first of two in an overlap, NONE in a gap."""
    return _moved(moments, _from_local, zone)


def to_local(instants: Times, zone: str) -> Times:
    """Return the local times of instants."""
    return _moved(instants, _from_utc, zone)


def _moved(times: Times, clock: _Clock, zone: str) -> Times:
    """Return times moved as a clock says, which is asked once for each slot."""
    moved = np.full(len(times), NONE)
    for row in np.flatnonzero((times < _SLOTS_SINCE) & (times != NONE)):
        change = clock(zone, int(times[row]))
        moved[row] = NONE if change == NONE else times[row] + change
    recent = np.flatnonzero(times >= _SLOTS_SINCE)
    if not len(recent):
        return moved
    slots = times[recent] // _SLOT_MS
    first = int(slots.min())
    if int(slots.max()) - first < _MANY_SLOTS:
        places = slots - first
        present = np.flatnonzero(np.bincount(places))
        shifts = np.zeros(present[-1] + 1, np.int64)
        shifts[present] = [clock(zone, (first + int(place)) * _SLOT_MS) for place in present]
    else:
        present, places = np.unique(slots, return_inverse=True)
        shifts = np.array([clock(zone, int(slot) * _SLOT_MS) for slot in present])
    shift = shifts[places]
    moved[recent] = np.where(shift == NONE, NONE, times[recent] + shift)
    return moved


@lru_cache(maxsize=4 * _MANY_SLOTS)
def _from_local(zone: str, moment: int) -> int:
    try:
        return _milliseconds(local_instant(_EPOCH.replace(tzinfo=None) + moment * _MS, ZoneInfo(zone))) - moment
    except (ValueError, OverflowError):
        return NONE


@lru_cache(maxsize=4 * _MANY_SLOTS)
def _from_utc(zone: str, instant: int) -> int:
    try:
        local = (_EPOCH + instant * _MS).astimezone(ZoneInfo(zone))
    except OverflowError:
        return NONE
    return _milliseconds(local.replace(tzinfo=UTC)) - instant
