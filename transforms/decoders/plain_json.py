"""Decoding of plain JSON in columns. One compiled pass finds the values at known paths in each payload.

Plain JSON is what operators send: an object of strings without escapes, whole numbers and nulls, and of objects and
arrays of such values. Members that are not read may also hold fractions and booleans. Any other payload, valid JSON
(RFC 8259) or not, is left to a full parser.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from orion_beam.transforms.arrow.compiled import (
    BYTES,
    INT64,
    INT64S,
    MASK,
    TEXTS,
    Bytes,
    Mask,
    Offsets,
    Texts,
    compiled,
    texts_of,
)
from orion_beam.transforms.arrow.texts import ZERO, begins_with, to_bytes
from orion_beam.transforms.decoders.payloads import Payloads, Spans
from orion_beam.transforms.decoders.unread_members import distinct_names, names_of

_QUOTE, _ESCAPE, _COLON, _COMMA, _OPEN, _CLOSE, _OPEN_ARRAY, _CLOSE_ARRAY, _MINUS = map(ord, '"\\:,{}[]-')
_N, _U, _L = map(ord, "nul")
_BLANK, _TAB, _LINE_FEED, _RETURN = map(ord, " \t\n\r")
_PLUS, _DOT, _E, _CAPITAL_E = map(ord, "+.eE")
_TRUE, _FALSE = to_bytes(b"true"), to_bytes(b"false")
_MOST_DIGITS = 18
_NOT_PLAIN = -1
_MOST_DEPTH = 32
_UNKNOWN_A_ROW = 8
"""A batch keeps up to this number of unknown names, times its rows. Further names are ignored."""

Path = tuple[str | int, ...]
"""Path of a member: the names of objects' members, and the indices of arrays' elements, from the outside in."""


def path_text(path: Path) -> str:
    """Return a path as it is declared, such as `usage[0].up`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


class JsonPlaces(NamedTuple):
    """JsonPlaces in the shape of payloads.

    Attributes:
        names: Name of each place; empty for an element of an array.
        outer: Container of each place: 0 for the payload itself, else 1 + the index of a container.
        indices: Index of each element of an array; -1 for a member of an object.
        is_marker: Whether a place tells that a payload is of the format.
    """

    names: Texts
    outer: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int64]
    is_marker: Mask

    @classmethod
    def of(cls, paths: Sequence[Path], containers: Sequence[Path], markers: Collection[Path]) -> "JsonPlaces":
        """Make the places at these paths. The last part of a path is within the container at the other parts."""
        outer = [containers.index(path[:-1]) + 1 if len(path) > 1 else 0 for path in paths]
        names = ["" if isinstance(path[-1], int) else path[-1] for path in paths]
        indices = [path[-1] if isinstance(path[-1], int) else -1 for path in paths]
        return cls(
            texts_of(pa.array(names, pa.string())),
            np.array(outer, np.int64),
            np.array(indices, np.int64),
            np.array([path in markers for path in paths], np.bool_),
        )


class Shape(NamedTuple):
    """The members to read.

    Attributes:
        members: JsonPlaces of the members.
        containers: JsonPlaces of the objects and arrays that hold members.
        is_array: Whether a container is an array.
        container_paths: Paths of the containers.
    """

    members: JsonPlaces
    containers: JsonPlaces
    is_array: Mask
    container_paths: tuple[Path, ...]

    @classmethod
    def of(cls, paths: Sequence[Path], markers: Collection[Path] = ()) -> "Shape":
        """Make the shape with the members at these paths. A payload is of the format if it has one of `markers`.

        Markers are paths of members, or of containers. Without markers, every payload is of the format.
        """
        containers = tuple(dict.fromkeys(path[:end] for path in paths for end in range(1, len(path))))
        arrays = {path[:end] for path in paths for end in range(1, len(path)) if isinstance(path[end], int)}
        return cls(
            JsonPlaces.of(paths, containers, markers),
            JsonPlaces.of(containers, containers, markers),
            np.array([each in arrays for each in containers], np.bool_),
            containers,
        )


class Read(NamedTuple):
    """The content of plain payloads.

    Attributes:
        fields: String column for each member, without surrounding blanks; null if a payload has no such member.
        is_plain: Whether a payload is plain. All fields of other payloads are null.
        has_marker: Whether a plain payload has one of the shape's markers, which may be null.
        unknown: Number of plain payloads by name of an unread member. If the shape has markers, only payloads with one
            of them count.
    """

    fields: list[pa.StringArray]
    is_plain: Mask
    has_marker: Mask
    unknown: Mapping[str, int]


def read_plain(payloads: Payloads, shape: Shape) -> Read:
    """Decode the payloads that are plain."""
    starts, ends, is_plain, has_marker, spans = _read(
        payloads.data, payloads.starts, payloads.ends, *shape.members, *shape.containers, shape.is_array
    )
    noted, noted_ends, records, within = distinct_names(payloads.data, spans)
    before = ["", *(f"{path_text(path)}." for path in shape.container_paths)]
    unknown = names_of(payloads.data, noted, noted_ends, records, [before[each] for each in within])
    return Read(payloads.fields(starts, ends), is_plain, has_marker, unknown)


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


@compiled(BYTES, INT64, INT64)
def _behind_digits(data: Bytes, place: int, end: int) -> int:
    """Return the position of the first byte from `place` on that is no digit; _NOT_PLAIN if `place` has none."""
    first = place
    while place < end and 0 <= int(data[place]) - ZERO <= 9:
        place += 1
    return place if place > first else _NOT_PLAIN


@compiled(BYTES, INT64, INT64)
def _unread_end(data: Bytes, place: int, end: int) -> int:
    """Return the position after any number, true or false that is not read; _NOT_PLAIN if it is none of them."""
    for word in (_TRUE, _FALSE):
        if begins_with(data, place, end, word) and end - place >= len(word):
            return place + len(word)
    first = place + (data[place] == _MINUS)
    place = _behind_digits(data, first, end)
    if place < 0 or (data[first] == ZERO and place - first > 1):
        return _NOT_PLAIN
    if place < end and data[place] == _DOT:
        place = _behind_digits(data, place + 1, end)
    if 0 <= place < end and (data[place] == _E or data[place] == _CAPITAL_E):
        place += 1
        if place < end and (data[place] == _PLUS or data[place] == _MINUS):
            place += 1
        place = _behind_digits(data, place, end)
    return place


@compiled(BYTES, INT64, INT64, TEXTS, INT64S, INT64)
def _member(data: Bytes, start: int, end: int, names: Texts, outer: npt.NDArray[np.int64], within: int) -> int:
    """Return the index of the place in object `within` that is named data[start:end]; -1 if there is none."""
    for member in range(len(outer)):
        first, length = names.offsets[member], end - start
        if outer[member] == within and names.offsets[member + 1] - first == length:
            same = 0
            while same < length and data[start + same] == names.data[first + same]:
                same += 1
            if same == length:
                return member
    return -1


@compiled(INT64, INT64S, INT64S, INT64)
def _element(index: int, indices: npt.NDArray[np.int64], outer: npt.NDArray[np.int64], within: int) -> int:
    """Return the index of the place of element `index` of array `within`; -1 if there is none."""
    for member in range(len(outer)):
        if outer[member] == within and indices[member] == index:
            return member
    return -1


@compiled(BYTES, INT64S, INT64S, TEXTS, INT64S, INT64S, MASK, TEXTS, INT64S, INT64S, MASK, MASK)
def _read(
    data: Bytes,
    starts: Offsets,
    ends: Offsets,
    names: Texts,
    outer: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int64],
    is_marker: Mask,
    inner_names: Texts,
    inner_outer: npt.NDArray[np.int64],
    inner_indices: npt.NDArray[np.int64],
    is_inner_marker: Mask,
    is_array: Mask,
) -> tuple[Spans, Spans, Mask, Mask, Spans]:
    """Return the starts and ends of values, the masks of `Read`, and the unknown names.

    Starts and ends have shape (members, payloads). An absent member has the end -1. Each unknown name is a row of four
    numbers: its start and end in `data`, its container as in `JsonPlaces.outer`, and its payload.

        data   {"subscriber":{"imsi":"20801","x":1},...}
        imsi                          ^start^end
        x      unknown: its span, container 1 (subscriber), payload 0
    """
    rows, inner = len(starts), len(inner_outer)
    value_starts, value_ends = np.zeros((len(outer), rows), np.int64), np.full((len(outer), rows), -1, np.int64)
    is_plain, has_marker = np.zeros(rows, np.bool_), np.zeros(rows, np.bool_)
    is_seen = np.zeros(inner, np.bool_)
    needs_marker = is_marker.any() or is_inner_marker.any()
    # The containers around the present one: which, whether it is an array, and the index of its present element.
    withins, indexes = np.zeros(_MOST_DEPTH, np.int64), np.zeros(_MOST_DEPTH, np.int64)
    are_arrays = np.zeros(_MOST_DEPTH, np.bool_)
    unknown, count = np.empty((_UNKNOWN_A_ROW * rows, 4), np.int64), 0
    for row in range(rows):
        end = ends[row]
        place = _behind_space(data, starts[row], end)
        # The loop reads one value a pass. `place` is at the byte before it: the opening brace or a comma. `depth` is
        # the number of open containers; the loop ends at depth 0, or by `break` if the payload is not plain. `within`
        # is the present container, -1 for one that holds no member to read.
        depth = 1 if place < end and data[place] == _OPEN else _NOT_PLAIN
        within, in_array, index, may_be_empty = 0, False, -1, True
        is_seen[:] = False
        count_before = count
        while depth > 0:
            place = _behind_space(data, place + 1, end)
            if place >= end:
                break
            if not (may_be_empty and data[place] == (_CLOSE_ARRAY if in_array else _CLOSE)):
                name, name_end, member, container = 0, 0, -1, -1
                if in_array:
                    index += 1
                    if within > 0:
                        member = _element(index, indices, outer, within)
                        container = _element(index, inner_indices, inner_outer, within)
                else:
                    if data[place] != _QUOTE:
                        break
                    name = place + 1
                    name_end = _string_end(data, name, end)
                    place = _behind_space(data, name_end + 1, end) if name_end >= 0 else end
                    if place >= end or data[place] != _COLON:
                        break
                    place = _behind_space(data, place + 1, end)
                    if place >= end:
                        break
                    if within >= 0:
                        member = _member(data, name, name_end, names, outer, within)
                        if member < 0 and inner > 0:
                            container = _member(data, name, name_end, inner_names, inner_outer, within)
                if member < 0 and container < 0 and within >= 0 and not in_array and count < len(unknown):
                    unknown[count, 0], unknown[count, 1] = name, name_end
                    unknown[count, 2], unknown[count, 3] = within, row
                    count += 1
                if container >= 0:
                    if is_seen[container]:
                        break
                    is_seen[container] = True
                    has_marker[row] |= is_inner_marker[container]
                if data[place] == _OPEN or data[place] == _OPEN_ARRAY:
                    opens_array = data[place] == _OPEN_ARRAY
                    if member >= 0 or depth == _MOST_DEPTH or (container >= 0 and is_array[container] != opens_array):
                        break
                    withins[depth], indexes[depth], are_arrays[depth] = within, index, in_array
                    depth += 1
                    within = container + 1 if container >= 0 else -1
                    in_array, index, may_be_empty = opens_array, -1, True
                    continue
                if container >= 0 and data[place] != _N:
                    break
                value = place
                if data[place] == _QUOTE:
                    value, value_end = place + 1, _string_end(data, place + 1, end)
                    place = value_end + 1
                elif data[place] == _N:
                    place = value_end = _null_end(data, place, end)
                    value = value_end
                elif member >= 0:
                    place = value_end = _number_end(data, place, end)
                else:
                    place = value_end = _unread_end(data, place, end)
                if value_end < 0:
                    break
                if member >= 0:
                    if value_ends[member, row] >= 0:
                        break
                    value_starts[member, row], value_ends[member, row] = value, value_end
                    has_marker[row] |= is_marker[member]
                place = _behind_space(data, place, end)
            while depth > 0 and place < end and data[place] == (_CLOSE_ARRAY if in_array else _CLOSE):
                place = _behind_space(data, place + 1, end)
                depth -= 1
                within, index, in_array = withins[depth], indexes[depth], are_arrays[depth]
            if depth > 0 and (place >= end or data[place] != _COMMA):
                break
            may_be_empty = False
        is_plain[row] = depth == 0 and place == end
        if not is_plain[row]:
            has_marker[row] = False
            value_ends[:, row] = -1
        if not is_plain[row] or (needs_marker and not has_marker[row]):
            count = count_before
    return value_starts, value_ends, is_plain, has_marker, unknown[:count]
