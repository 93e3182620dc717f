"""Decoding of JSON objects by paths: the members that give a record's fields.

Plain payloads are decoded in columns, see `plain_json`. msgspec parses the others row by row into typed structs. A
general columnar parser is no option: it would join payloads into one document, where a broken payload can shift its
neighbours, and it would read `5.0` as 5.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Sized
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from orion_beam.schemas.fields import text_of
from orion_beam.transforms.arrow.texts import Mask, Offsets, take_texts, to_list, trimmed
from orion_beam.transforms.decoders import Decoded
from orion_beam.transforms.decoders.payloads import Payloads
from orion_beam.transforms.decoders.plain_json import Path, Shape, path_text, read_plain

# Type of a field's value. An object or array in its place makes the payload malformed.
Scalar = str | int | float | bool | None

_PATH_PART = re.compile(r"(?:^|\.)([^.\[\]]+)|\[([0-9]{1,4})\]")


def path_of(text: str) -> Path:
    """Read a path, such as `usage[0].up`.

    Raises:
        ValueError: The text is no path.
    """
    parts = list(_PATH_PART.finditer(text))
    if "".join(part[0] for part in parts) != text or text.startswith(("[", ".")):
        raise ValueError(f"{text}: is no path; write one as in usage[0].up")
    return tuple(part[1] if part[2] is None else int(part[2]) for part in parts)


class _Container:
    """An object or array that holds members to read, and the type that msgspec parses it to.

    Attributes:
        path: Path of the container.
        members: Attribute of the struct by name of the member, or by index of the element.
        inner: Inner containers by name or index.
        kind: Type of the container.
        nothing: The container without members.
    """

    def __init__(self, path: Path, paths: Sequence[Path], markers: Sequence[Path]) -> None:
        """Make the container at a path of the members at `paths`.

        Raises:
            ValueError: Two paths contradict each other. The message names the container.
        """
        depth = len(path)
        self.path = path
        self.members = {each[depth]: f"m{place}" for place, each in enumerate(paths) if len(each) == depth + 1}
        parts = dict.fromkeys(each[depth] for each in paths if len(each) > depth + 1)
        self.inner = {
            part: _Container((*path, part), [each for each in paths if each[depth] == part], markers) for part in parts
        }
        if len({type(part) for part in (*self.members, *self.inner)}) > 1 or self.members.keys() & self.inner.keys():
            raise ValueError(f"{path_text(path) or 'the record'}: is read as two different things")
        self.kind: Any = list[Any]
        self.nothing: Any = ()
        if isinstance(next(iter((*self.members, *self.inner))), str):
            fields: list[Any] = []
            names: dict[str, str] = {}
            for name, attribute in self.members.items():
                is_marker = (*path, name) in markers
                fields.append((attribute, Scalar | msgspec.UnsetType, msgspec.UNSET if is_marker else None))
                names[attribute] = str(name)
            for place, (name, container) in enumerate(self.inner.items()):
                fields.append((f"c{place}", container.kind | None | msgspec.UnsetType, msgspec.UNSET))
                names[f"c{place}"] = str(name)
            self.kind = msgspec.defstruct("Record", fields, rename=names, gc=False)
            self.nothing = self.kind()

    def attributes(self) -> dict[str | int, str]:
        """Return the attribute of the struct by name, of members and inner containers."""
        return self.members | {part: f"c{place}" for place, part in enumerate(self.inner)}

    def columns(self, records: Sequence[Any], is_malformed: Mask) -> Iterator[tuple[Path, list[Any]]]:
        """Yield path and values of each member of the containers of some rows.

        An element of an array is checked only here; a row where it has the wrong type becomes malformed.
        """
        if self.kind == list[Any]:
            for index in self.members:
                yield (*self.path, index), _elements(records, int(index), Scalar, is_malformed)
            for index, container in self.inner.items():
                elements = _elements(records, int(index), container.kind | None, is_malformed)
                yield from container.columns([each or container.nothing for each in elements], is_malformed)
            return
        # It reads field by field, because one tuple for each struct would keep the garbage collector busy.
        for name, attribute in self.members.items():
            values = list(map(attrgetter(attribute), records))
            yield (*self.path, name), [None if value is msgspec.UNSET else value for value in values]
        for place, container in enumerate(self.inner.values()):
            inner = map(attrgetter(f"c{place}"), records)
            yield from container.columns([each or container.nothing for each in inner], is_malformed)

    def unread(self, record: Any) -> Iterator[str]:
        """Yield the paths of the members of a parsed container that are not read."""
        parts = record.items() if isinstance(record, dict) else enumerate(record if isinstance(record, list) else ())
        for part, value in parts:
            if part in self.inner:
                yield from self.inner[part].unread(value)
            elif part not in self.members and isinstance(part, str):
                yield ".".join(filter(None, [path_text(self.path), part]))


def _elements(arrays: Sequence[Sequence[Any]], index: int, kind: Any, is_malformed: Mask) -> list[Any]:
    elements = []
    for row, array in enumerate(arrays):
        try:
            elements.append(msgspec.convert(array[index], kind) if index < len(array) else None)
        except msgspec.ValidationError:
            is_malformed[row] = True
            elements.append(None)
    return elements


class JsonReader:
    """Reader of the members at some paths."""

    def __init__(self, paths: Sequence[str], markers: Sequence[str] = ()) -> None:
        """Prepare to read the members at `paths`.

        Args:
            paths: Paths of the members, each once.
            markers: Names of the record's members, of which a payload of the format has at least one. Without markers,
                every payload is of the format.

        Raises:
            ValueError: A text is no path, or two paths contradict each other. The message names the path.
        """
        members, marks = [path_of(path) for path in paths], [(marker,) for marker in markers]
        containers = {path[:end] for path in members for end in range(1, len(path))}
        # Markers that are neither read nor containers are read, too, but give no column.
        members += [mark for mark in marks if mark not in containers and mark not in members]
        self._paths = tuple(paths)
        self._shape = Shape.of(members, marks)
        self._record = _Container((), members, marks)
        attributes = self._record.attributes()
        self._markers = tuple(attributes[marker] for marker in markers)
        self._parse = msgspec.json.Decoder(self._record.kind).decode

    def decode(self, payloads: Payloads) -> Decoded:
        """Return a column of texts for each path; a member that is null in all rows has no column.

        A payload without any of the markers belongs to another format.
        """
        plain = read_plain(payloads, self._shape)
        texts = {path: column for path, column in zip(self._paths, plain.fields, strict=False) if _has_values(column)}
        rows = np.flatnonzero(~plain.is_plain)
        is_malformed = np.zeros(len(payloads), np.bool_)
        is_for_others = ~plain.has_marker if self._markers else None
        unknown = plain.unknown
        if len(rows):
            parsed = self.parse(payloads.of_rows(rows))
            texts = _merged(texts, parsed.texts, rows, payloads)
            is_malformed[rows] = parsed.is_malformed
            if is_for_others is not None:
                is_for_others[rows] = parsed.is_for_others
            unknown = Counter(unknown) + Counter(parsed.unknown)
        return Decoded(texts, is_malformed, is_for_others, unknown)

    def parse(self, payloads: Payloads) -> Decoded:
        """Return what `decode` returns, parsed row by row."""
        records, is_malformed = self._parse_each(payloads)
        columns = dict(self._record.columns(records, is_malformed))
        texts = {path: columns[path_of(path)] for path in self._paths}
        is_for_others = None
        is_kept = ~is_malformed
        if self._markers:
            is_for_others = is_kept & ~np.array([_has_any(record, self._markers) for record in records], np.bool_)
            is_kept &= ~is_for_others
        unknown = self._unknown(payloads.of_rows(np.flatnonzero(is_kept)[:_MOST_LOOKED_AT]))
        return Decoded(
            {path: _texts(values) for path, values in texts.items() if values.count(None) < len(values)},
            is_malformed,
            is_for_others,
            unknown,
        )

    def _parse_each(self, payloads: Payloads) -> tuple[list[Any], Mask]:
        """Parse each payload. Return the structs, with an empty one for a malformed payload, and the malformed ones."""
        records: list[Any] = []
        is_malformed = np.zeros(len(payloads), np.bool_)
        texts = to_list(payloads.texts())
        parsed = map(self._parse, texts)
        while len(records) < len(texts):
            try:
                # If a payload raises, the structs before it are kept, and the next call goes on after it.
                records.extend(parsed)
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                record = self._parse_odd_numbers(texts[len(records)])
                is_malformed[len(records)] = record is None
                records.append(self._record.nothing if record is None else record)
        return records, is_malformed

    def _parse_odd_numbers(self, payload: str) -> Any:
        """Parse JSON with numbers that no machine type holds (1e400, NaN, thousands of digits). Numbers stay text.

        The rules then reject such a number with the name of its field. Return None if the payload is malformed.
        """
        try:
            fields = json.loads(payload, parse_int=str, parse_float=str, parse_constant=str)
            # A lone surrogate cannot be encoded as UTF-8, so it makes the payload malformed.
            json.dumps(fields, ensure_ascii=False).encode()
            return msgspec.convert(fields, self._record.kind)
        except (ValueError, RecursionError):
            return None

    def _unknown(self, payloads: Payloads) -> Counter[str]:
        """Return the number of payloads by path of a member that is not read."""
        found: Counter[str] = Counter()
        for text in to_list(payloads.texts()):
            try:
                found.update(set(self._record.unread(json.loads(text))))
            except (ValueError, RecursionError):
                continue
        return found


_MOST_LOOKED_AT = 32
"""Number of payloads in a batch that are not plain and are searched for unknown members. More would take too long."""


def _has_any(record: Any, attributes: Sequence[str]) -> bool:
    return any(getattr(record, attribute) is not msgspec.UNSET for attribute in attributes)


def _has_values(column: pa.StringArray) -> bool:
    return bool(column.null_count < len(column))


def _merged(
    plain: Mapping[str, pa.StringArray], parsed: Mapping[str, pa.StringArray], rows: Offsets, payloads: Sized
) -> dict[str, pa.StringArray]:
    """Return the columns of plain payloads with those of the parsed payloads, which are in `rows`."""
    places = np.arange(len(payloads))
    places[rows] = len(payloads) + np.arange(len(rows))
    return {
        name: take_texts(pa.concat_arrays([plain.get(name, _nulls(payloads)), parsed.get(name, _nulls(rows))]), places)
        for name in {**plain, **parsed}
    }


def _nulls(rows: Sized) -> pa.StringArray:
    return pa.nulls(len(rows), pa.string())


def _texts(values: Sequence[Scalar]) -> pa.StringArray:
    """Return scalars as a column of text. A number becomes its digits, as if it were in quotes."""
    try:
        texts = pa.array(values, pa.string())
    except pa.ArrowTypeError:
        # Most values that are not text are whole numbers, for which `str` is enough and fast.
        values = [
            value
            if value is None or (kind := value.__class__) is str
            else str(value)
            if kind is int
            else text_of(value)
            for value in values
        ]
        texts = pa.array(values, pa.string())
    return trimmed(texts)


def is_object(payloads: Payloads) -> Mask:
    """Return which payloads begin with `{`, as JSON objects do."""
    return payloads.begin_with(b"{")
