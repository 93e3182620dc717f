"""Conversions of a field's text from a format's writing to the unified one, in columns, and back for one text.

Units, decimal marks, time patterns, zones and filler characters of a declared format are conversions. A text that does
not keep to the declared writing becomes one that its rule rejects.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from orion_beam.schemas.fields import parse_event_time
from orion_beam.schemas.raw_formats.sources import TIME_PART, TIME_PARTS, UNITS, FieldSource
from orion_beam.schemas.zones import zone_of
from orion_beam.transforms.arrow.compiled import (
    BYTE,
    BYTES,
    INT64,
    INT64S,
    TEXTS,
    Bytes,
    Mask,
    Texts,
    column_of,
    compiled,
    is_valid,
    set_valid,
    texts_of,
)
from orion_beam.transforms.arrow.texts import ZERO, empty_as_null, if_else, is_null, to_bytes
from orion_beam.transforms.arrow.times import NONE, as_timestamps, parse_event_times

_MAX = np.iinfo(np.int64).max
_MOST_FRACTION_DIGITS = 6
_DIGIT, _SIGN = 256, 257
_PLUS, _DASH, _ODD = map(ord, "+-?")
_ISO_PARTS = {"year": 0, "month": 5, "day": 8, "hour": 11, "minute": 14, "second": 17, "milliseconds": 20}


class NotWritableError(ValueError):
    """A text has no writing in the format. The message names the reason and holds no value."""


@dataclass(frozen=True)
class Conversion:
    """A conversion of a field.

    Attributes:
        read: Function from a column as the format writes it to the unified writing. Null stays null.
        write: Function from one unified text to the format's writing. It raises NotWritableError.
        is_scale: Whether the conversion is one of units only.
    """

    read: Callable[[pa.StringArray], pa.StringArray]
    write: Callable[[str], str]
    is_scale: bool = False

    def read_text(self, text: str) -> str | None:
        """Convert one text; None if writing the result would not give the same text, as of a broken one."""
        unified = str(self.read(pa.array([text or None], pa.string()))[0].as_py() or "")
        try:
            return unified if self.write(unified) == text else None
        except NotWritableError:
            return None


def conversion_of(source: FieldSource, decimal_mark: str | None, *, is_count: bool) -> Conversion | None:
    """Return the conversion of a field; None if its text is taken as it is."""
    steps: list[Conversion] = []
    if source.filler is not None:
        steps.append(_without_filler(source.filler))
    if is_count and (source.unit is not None or decimal_mark is not None):
        steps.append(_scaled(*UNITS[source.unit or "seconds"], decimal_mark))
    if source.pattern is not None:
        steps.append(_respelled(source.pattern, source.zone))
    if source.zone is not None:
        steps.append(_in_utc(source.zone))
    return _chained(steps) if steps else None


def _chained(steps: Sequence[Conversion]) -> Conversion:
    def read(texts: pa.StringArray) -> pa.StringArray:
        for step in steps:
            texts = step.read(texts)
        return texts

    def write(text: str) -> str:
        for step in reversed(steps):
            text = step.write(text)
        return text

    return steps[0] if len(steps) == 1 else Conversion(read, write)


def _same(text: str) -> str:
    return text


def _without_filler(filler: str) -> Conversion:
    characters = filler.lower() + filler.upper()

    def write(text: str) -> str:
        # The filler makes the number of digits even, 3GPP TS 29.002 (TBCD-STRING).
        return text + filler if len(text) % 2 else text

    return Conversion(lambda texts: empty_as_null(pc.ascii_rtrim(texts, characters=characters)), write)


def _scaled(factor: int, divisor: int, mark: str | None) -> Conversion:
    def read(texts: pa.StringArray) -> pa.StringArray:
        numbers, is_read = _scale(texts_of(texts), factor, divisor, ord(mark or "\0"))
        return if_else(is_read, pa.array(numbers).cast(pa.string()), texts)

    def write(text: str) -> str:
        if not text.isdecimal():
            return text
        if int(text) * divisor % factor:
            raise NotWritableError(f"the format counts in units of {factor}, and the count is no multiple of it")
        return str(int(text) * divisor // factor)

    return Conversion(read, write, is_scale=True)


@compiled(TEXTS, INT64, INT64, BYTE)
def _scale(texts: Texts, factor: int, divisor: int, mark: int) -> tuple[npt.NDArray[np.int64], Mask]:
    """Return each count times `factor` / `divisor`, one of which is 1, and whether a text is a count.

    A count may have a fraction after the byte `mark`, unless it is 0. The result is cut off to a whole number; it is -1
    if it is beyond 64 bits, so that the rule for counts rejects it.
    """
    rows = len(texts.offsets) - 1
    numbers, is_read = np.zeros(rows, np.int64), np.zeros(rows, np.bool_)
    for row in range(rows):
        if not is_valid(texts, row):
            continue
        start, end = texts.offsets[row], texts.offsets[row + 1]
        whole, fraction, scale, is_beyond = 0, 0, 1, False
        place = start
        while place < end and 0 <= int(texts.data[place]) - ZERO <= 9:
            digit = int(texts.data[place]) - ZERO
            is_beyond |= whole > (_MAX - digit) // 10
            whole = 0 if is_beyond else whole * 10 + digit
            place += 1
        is_good = place > start
        if is_good and place < end and mark != 0 and texts.data[place] == mark:
            first = place + 1
            place = first
            while place < end and 0 <= int(texts.data[place]) - ZERO <= 9:
                if place - first < _MOST_FRACTION_DIGITS:
                    fraction, scale = fraction * 10 + int(texts.data[place]) - ZERO, scale * 10
                place += 1
            is_good = place > first
        if not is_good or place < end:
            continue
        is_read[row] = True
        added = fraction * factor // scale
        is_beyond |= whole > (_MAX - added) // factor
        numbers[row] = -1 if is_beyond else whole // divisor if divisor > 1 else whole * factor + added
    return numbers, is_read


def _respelled(pattern: str, zone: str | None) -> Conversion:
    """Convert between a pattern of fixed places and ISO 8601."""
    template = bytearray(b"2000-00-00T00:00:00")
    wanted: list[int] = []
    taken: dict[int, int] = {}
    has_offset = False
    parts = {TIME_PARTS[found[0]]: found for found in TIME_PART.finditer(pattern)}
    if "milliseconds" in parts:
        template += b".000"
    end = 0
    for part, found in sorted(parts.items(), key=lambda item: item[1].start()):
        wanted += map(ord, pattern[end : found.start()])
        end = found.end()
        if part == "offset":
            has_offset = True
            at = len(template)
            template += found[0].encode()
            wanted += [_SIGN, *(ord(each) if each == ":" else _DIGIT for each in found[0][1:])]
        else:
            at = _ISO_PARTS[part] + (2 if found[0] == "YY" else 0)
            wanted += [_DIGIT] * len(found[0])
        taken |= {at + place: found.start() + place for place in range(len(found[0]))}
    wanted += map(ord, pattern[end:])
    spelled = to_bytes(bytes(template))
    places = np.array([taken.get(place, -1) for place in range(len(template))], np.int64)
    each_wanted = np.array(wanted, np.int64)

    def read(texts: pa.StringArray) -> pa.StringArray:
        return column_of(*_spell(texts_of(texts), spelled, places, each_wanted))

    def write(text: str) -> str:
        moment = _moment_of(text, zone)
        if moment.tzinfo is None and has_offset:
            raise NotWritableError("the format writes an offset: give a time with one")
        if moment.tzinfo is not None and not has_offset:
            raise NotWritableError("the format writes local times: give a time without an offset")
        offset = moment.strftime("%z") or "+0000"
        texts = {
            "YYYY": f"{moment.year:04}", "YY": f"{moment.year % 100:02}", "MM": f"{moment.month:02}",
            "DD": f"{moment.day:02}", "hh": f"{moment.hour:02}", "mm": f"{moment.minute:02}",
            "ss": f"{moment.second:02}", "SSS": f"{moment.microsecond // 1000:03}", "+hhmm": offset[:5],
            "+hh:mm": f"{offset[:3]}:{offset[3:5]}",
        }  # fmt: skip
        return TIME_PART.sub(lambda part: texts[part[0]], pattern)

    return Conversion(read, write)


def _moment_of(text: str, zone: str | None) -> datetime:
    """Return the time that a format writes for a unified text: in its zone if it has one, otherwise as it is."""
    try:
        moment = datetime.fromisoformat(text)
        if zone is None:
            return moment
        return parse_event_time(text, zone_of(zone)).astimezone(zone_of(zone)).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise NotWritableError("is no time in ISO 8601") from None


@compiled(TEXTS, BYTES, INT64S, INT64S)
def _spell(
    texts: Texts, template: Bytes, places: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int32], Bytes, Bytes, int]:
    """Return the buffers of a column: the template with the bytes of each text, or `?` for a text that does not fit.

    Args:
        texts: Times as the format writes them.
        template: Unified writing.
        places: For each byte of the template its place in the text; -1 for the template's own byte.
        wanted: For each place in the text its byte, or _DIGIT, or _SIGN.
    """
    rows = len(texts.offsets) - 1
    offsets, validity = np.zeros(rows + 1, np.int32), np.zeros((rows + 7) // 8, np.uint8)
    data = np.empty(rows * len(template), np.uint8)
    written, nulls = 0, 0
    for row in range(rows):
        if is_valid(texts, row):
            set_valid(validity, row)
            start = texts.offsets[row]
            is_good = texts.offsets[row + 1] - start == len(wanted)
            place = 0
            while is_good and place < len(wanted):
                byte = int(texts.data[start + place])
                if wanted[place] == _DIGIT:
                    is_good = 0 <= byte - ZERO <= 9
                elif wanted[place] == _SIGN:
                    is_good = byte in (_PLUS, _DASH)
                else:
                    is_good = byte == wanted[place]
                place += 1
            if is_good:
                for at in range(len(template)):
                    data[written + at] = template[at] if places[at] < 0 else texts.data[start + places[at]]
                written += len(template)
            else:
                data[written] = _ODD
                written += 1
        else:
            nulls += 1
        offsets[row + 1] = written
    return offsets, data[:written].copy(), validity, nulls


def _in_utc(zone: str) -> Conversion:
    def read(texts: pa.StringArray) -> pa.StringArray:
        instants = parse_event_times(texts, zone).instants
        # A text that is no time in this zone must not be read in the country's.
        return if_else((instants == NONE) & ~is_null(texts), "?", as_timestamps(instants).cast(pa.string()))

    return Conversion(read, _same)
