"""Reading plain JSON in columns: where the values of known members stand in each payload, by one compiled walk.

Plain is what operators send: an object of strings without escapes, whole numbers and nulls, and in it perhaps objects
of such members. A payload that has anything else, or is no JSON (RFC 8259), is left open for a parser that knows all.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from orion_beam.transforms.arrow.compiled import (
    BYTES,
    INT64,
    INT64S,
    TEXTS,
    Bytes,
    Mask,
    Offsets,
    Texts,
    compiled,
    texts_of,
)
from orion_beam.transforms.arrow.texts import ZERO
from orion_beam.transforms.decoders.payloads import Payloads, Spans
from orion_beam.transforms.decoders.unread_members import distinct_names, names_of

_QUOTE, _ESCAPE, _COLON, _COMMA, _OPEN, _CLOSE, _MINUS = map(ord, '"\\:,{}-')
_N, _U, _L = map(ord, "nul")
_BLANK, _TAB, _LINE_FEED, _RETURN = map(ord, " \t\n\r")
_MOST_DIGITS = 18
_NOT_PLAIN = -1
_UNKNOWN_A_ROW = 8
"""Unknown names that are noted, for each row of a batch, in all of it; others beyond are not looked at."""


class Shape(NamedTuple):
    """Which members are read.

    Attributes:
        names: of the members that are read.
        outer: for each, in which of the objects it is, counted from 1; 0 is the payload's own.
        objects: names of the payload's members that are objects.
        object_names: the same as Python has them.
    """

    names: Texts
    outer: npt.NDArray[np.int64]
    objects: Texts
    object_names: tuple[str, ...]

    @classmethod
    def of(cls, paths: Sequence[str]) -> "Shape":
        """Return the shape with these members, of which a path names those in an object: `subscriber.imsi`."""
        outer, names = zip(*(path.rpartition(".")[::2] for path in paths), strict=True)
        objects = tuple(dict.fromkeys(name for name in outer if name))
        places = np.array([objects.index(name) + 1 if name else 0 for name in outer], np.int64)
        return cls(texts_of(pa.array(names)), places, texts_of(pa.array(objects, pa.string())), objects)


class Read(NamedTuple):
    """What plain payloads hold.

    Attributes:
        fields: a string column for each member, without blanks around, null where there is none.
        is_plain: which payloads were read; the others have null in all fields.
        has_object: which of them have a member that the shape has as an object, be it null.
        unknown: names of members that are not read, and how many of the payloads that were read have each; where the
            shape has objects, of those that have one.
    """

    fields: list[pa.StringArray]
    is_plain: Mask
    has_object: Mask
    unknown: Mapping[str, int]


def read_plain(payloads: Payloads, shape: Shape) -> Read:
    """Read the payloads that are plain."""
    starts, ends, is_plain, has_object, spans = _read(
        payloads.data, payloads.starts, payloads.ends, shape.names, shape.outer, shape.objects
    )
    noted, noted_ends, records, within = distinct_names(payloads.data, spans)
    before = ["", *(f"{name}." for name in shape.object_names)]
    unknown = names_of(payloads.data, noted, noted_ends, records, [before[each] for each in within])
    return Read(payloads.fields(starts, ends), is_plain, has_object, unknown)


@compiled(BYTES, INT64, INT64)
def _behind_space(data: Bytes, place: int, end: int) -> int:
    while place < end and (
        data[place] == _BLANK or data[place] == _LINE_FEED or data[place] == _TAB or data[place] == _RETURN
    ):
        place += 1
    return place


@compiled(BYTES, INT64, INT64)
def _string_end(data: Bytes, place: int, end: int) -> int:
    """Return where the quote behind a string without escapes and control characters is."""
    while place < end and data[place] != _QUOTE:
        if data[place] == _ESCAPE or data[place] < _BLANK:
            return _NOT_PLAIN
        place += 1
    return place if place < end else _NOT_PLAIN


@compiled(BYTES, INT64, INT64)
def _number_end(data: Bytes, place: int, end: int) -> int:
    """Return what is behind a whole number that no reader writes otherwise: not 007, and not -0."""
    first = place + (data[place] == _MINUS)
    place = first
    while place < end and 0 <= int(data[place]) - ZERO <= 9:
        place += 1
    digits = place - first
    if not 1 <= digits <= _MOST_DIGITS:
        return _NOT_PLAIN
    begins_with_zero, is_negative = data[first] == ZERO, data[first - 1] == _MINUS
    return _NOT_PLAIN if begins_with_zero and (digits > 1 or is_negative) else place


@compiled(BYTES, INT64, INT64)
def _null_end(data: Bytes, place: int, end: int) -> int:
    is_null = end - place >= 4 and data[place + 1] == _U and data[place + 2] == _L and data[place + 3] == _L
    return place + 4 if is_null else _NOT_PLAIN


@compiled(BYTES, INT64, INT64, TEXTS, INT64S, INT64)
def _member(data: Bytes, start: int, end: int, names: Texts, outer: npt.NDArray[np.int64], within: int) -> int:
    """Return which of the members of an object has this name, -1 for none."""
    for member in range(len(outer)):
        first, length = names.offsets[member], end - start
        if outer[member] == within and names.offsets[member + 1] - first == length:
            same = 0
            while same < length and data[start + same] == names.data[first + same]:
                same += 1
            if same == length:
                return member
    return -1


@compiled(BYTES, INT64S, INT64S, TEXTS, INT64S, TEXTS)
def _read(
    data: Bytes, starts: Offsets, ends: Offsets, names: Texts, outer: npt.NDArray[np.int64], objects: Texts
) -> tuple[Spans, Spans, Mask, Mask, Spans]:
    rows = len(starts)
    value_starts, value_ends = np.zeros((len(outer), rows), np.int64), np.full((len(outer), rows), -1, np.int64)
    is_plain, has_object = np.zeros(rows, np.bool_), np.zeros(rows, np.bool_)
    of_payload = np.zeros(len(objects.offsets) - 1, np.int64)
    is_seen = np.zeros(len(of_payload), np.bool_)
    # Of each unknown name: where it begins and ends, within which object it is, and in which row.
    unknown, count = np.empty((_UNKNOWN_A_ROW * rows, 4), np.int64), 0
    for row in range(rows):
        end = ends[row]
        place = _behind_space(data, starts[row], end)
        # What a member must have before it: the brace of its object, or a comma. It ends at 0, or when it is not plain.
        depth = 1 if place < end and data[place] == _OPEN else _NOT_PLAIN
        within, may_be_empty = 0, True
        is_seen[:] = False
        count_before = count
        while depth > 0:
            place = _behind_space(data, place + 1, end)
            if place < end and data[place] == _CLOSE and may_be_empty:
                pass  # its brace is read below
            elif place < end and data[place] == _QUOTE:
                name = place + 1
                name_end = _string_end(data, name, end)
                place = _behind_space(data, name_end + 1, end) if name_end >= 0 else end
                if place >= end or data[place] != _COLON:
                    break
                place = _behind_space(data, place + 1, end)
                if place >= end:
                    break
                named = -1 if within else _member(data, name, name_end, objects, of_payload, 0)
                if named >= 0:
                    if is_seen[named] or (data[place] != _OPEN and data[place] != _N):
                        break
                    is_seen[named] = has_object[row] = True
                    if data[place] == _OPEN:
                        within, depth, may_be_empty = named + 1, 2, True
                        continue
                value = place
                if data[place] == _QUOTE:
                    value, value_end = place + 1, _string_end(data, place + 1, end)
                    place = value_end + 1
                elif data[place] == _N:
                    place = value_end = _null_end(data, place, end)
                    value = value_end
                else:
                    place = value_end = _number_end(data, place, end)
                if value_end < 0:
                    break
                member = _member(data, name, name_end, names, outer, within)
                if member >= 0:
                    if value_ends[member, row] >= 0:
                        break
                    value_starts[member, row], value_ends[member, row] = value, value_end
                elif named < 0 and count < len(unknown):
                    unknown[count, 0], unknown[count, 1] = name, name_end
                    unknown[count, 2], unknown[count, 3] = within, row
                    count += 1
                place = _behind_space(data, place, end)
            else:
                break
            while depth > 0 and place < end and data[place] == _CLOSE:
                place = _behind_space(data, place + 1, end)
                within, depth = 0, depth - 1
            if depth > 0 and (place >= end or data[place] != _COMMA):
                break
            may_be_empty = False
        is_plain[row] = depth == 0 and place == end
        if not is_plain[row]:
            has_object[row] = False
            value_ends[:, row] = -1
        if not is_plain[row] or (len(of_payload) > 0 and not has_object[row]):
            count = count_before
    return value_starts, value_ends, is_plain, has_object, unknown[:count]
