"""Decoding of plain JSON in columns. One compiled pass finds the values of known members in each payload.

Plain JSON is what operators send: an object of strings without escapes, whole numbers and nulls, and perhaps inner
objects of such members. Any other payload, valid JSON (RFC 8259) or not, is left to a full parser.
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
"""A batch keeps up to this number of unknown names, times its rows. Further names are ignored."""


class Shape(NamedTuple):
    """The members to read.

    Attributes:
        names: Names of the members.
        outer: For each member its object: 0 for the payload itself, else 1 + the index of an inner object.
        objects: Names of the inner objects.
        object_names: The same names as Python strings.
    """

    names: Texts
    outer: npt.NDArray[np.int64]
    objects: Texts
    object_names: tuple[str, ...]

    @classmethod
    def of(cls, paths: Sequence[str]) -> "Shape":
        """Make the shape with the members at these paths. The path of a member of an inner object is `object.name`."""
        outer, names = zip(*(path.rpartition(".")[::2] for path in paths), strict=True)
        objects = tuple(dict.fromkeys(name for name in outer if name))
        places = np.array([objects.index(name) + 1 if name else 0 for name in outer], np.int64)
        return cls(texts_of(pa.array(names)), places, texts_of(pa.array(objects, pa.string())), objects)


class Read(NamedTuple):
    """The content of plain payloads.

    Attributes:
        fields: String column for each member, without surrounding blanks; null if a payload has no such member.
        is_plain: Whether a payload is plain. All fields of other payloads are null.
        has_object: Whether a plain payload has one of the shape's inner objects, which may be null.
        unknown: Number of plain payloads by name of an unread member. If the shape has inner objects, only payloads
            with one of them count.
    """

    fields: list[pa.StringArray]
    is_plain: Mask
    has_object: Mask
    unknown: Mapping[str, int]


def read_plain(payloads: Payloads, shape: Shape) -> Read:
    """Decode the payloads that are plain."""
    starts, ends, is_plain, has_object, spans = _read(
        payloads.data, payloads.starts, payloads.ends, shape.names, shape.outer, shape.objects
    )
    noted, noted_ends, records, within = distinct_names(payloads.data, spans)
    before = ["", *(f"{name}." for name in shape.object_names)]
    unknown = names_of(payloads.data, noted, noted_ends, records, [before[each] for each in within])
    return Read(payloads.fields(starts, ends), is_plain, has_object, unknown)


@compiled(BYTES, INT64, INT64)
def _behind_space(data: Bytes, place: int, end: int) -> int:
    """Return the position of the first byte from `place` on that is not JSON whitespace; `end` if none."""
    while place < end and (
        data[place] == _BLANK or data[place] == _LINE_FEED or data[place] == _TAB or data[place] == _RETURN
    ):
        place += 1
    return place


@compiled(BYTES, INT64, INT64)
def _string_end(data: Bytes, place: int, end: int) -> int:
    """Return the position of the quote that closes a string; _NOT_PLAIN if an escape or control character comes first.

    `place` is the position after the opening quote.
    """
    while place < end and data[place] != _QUOTE:
        if data[place] == _ESCAPE or data[place] < _BLANK:
            return _NOT_PLAIN
        place += 1
    return place if place < end else _NOT_PLAIN


@compiled(BYTES, INT64, INT64)
def _number_end(data: Bytes, place: int, end: int) -> int:
    """Return the position after a whole number of at most 18 digits; _NOT_PLAIN for any other, such as 007 or -0."""
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
    """Return the position after `null`, whose `n` is at `place`; _NOT_PLAIN if it is another word."""
    is_null = end - place >= 4 and data[place + 1] == _U and data[place + 2] == _L and data[place + 3] == _L
    return place + 4 if is_null else _NOT_PLAIN


@compiled(BYTES, INT64, INT64, TEXTS, INT64S, INT64)
def _member(data: Bytes, start: int, end: int, names: Texts, outer: npt.NDArray[np.int64], within: int) -> int:
    """Return the index of the member of object `within` that is named data[start:end]; -1 if there is none."""
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
    """Return the starts and ends of values, the masks of `Read`, and the unknown names.

    Starts and ends have shape (members, payloads). An absent member has the end -1. Each unknown name is a row of four
    numbers: its start and end in `data`, its object as in `Shape.outer`, and its payload.

        data   {"subscriber":{"imsi":"20801","x":1},...}
        imsi                          ^start^end
        x      unknown: its span, object 1 (subscriber), payload 0
    """
    rows = len(starts)
    value_starts, value_ends = np.zeros((len(outer), rows), np.int64), np.full((len(outer), rows), -1, np.int64)
    is_plain, has_object = np.zeros(rows, np.bool_), np.zeros(rows, np.bool_)
    of_payload = np.zeros(len(objects.offsets) - 1, np.int64)
    is_seen = np.zeros(len(of_payload), np.bool_)
    unknown, count = np.empty((_UNKNOWN_A_ROW * rows, 4), np.int64), 0
    for row in range(rows):
        end = ends[row]
        place = _behind_space(data, starts[row], end)
        # The loop reads one member a pass. `place` is at the byte before it: the opening brace or a comma. `depth` is
        # the number of open braces; the loop ends at depth 0, or by `break` if the payload is not plain.
        depth = 1 if place < end and data[place] == _OPEN else _NOT_PLAIN
        within, may_be_empty = 0, True
        is_seen[:] = False
        count_before = count
        while depth > 0:
            place = _behind_space(data, place + 1, end)
            if place < end and data[place] == _CLOSE and may_be_empty:
                pass  # the closing brace is consumed below
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
