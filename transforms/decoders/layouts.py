"""Where the fields of a raw record stand, so that some can be changed and every other byte stays as it was.

Decoders read columns of records, and only what they need. Mending and pseudonymising write: one record, as text, by the
layout of its format. A property test holds both together: what a layout changes is what the decoder then reads.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from orion_beam.schemas.fields import BLANKS

FieldChange = Callable[[str | None, str], str]
"""Takes a field (None for what is no field of ours) and its text without blanks around; returns what it becomes."""


class NoSuchFieldError(ValueError):
    """A record has no place for a field, or the field no room for a text. The message holds no value."""


class Layout(ABC):
    """How records of a format are written."""

    @abstractmethod
    def edit(self, record: str, change: FieldChange) -> str:
        """Return a record with each text replaced by what `change` makes of it, names of fields included."""

    @abstractmethod
    def place_of(self, field: str) -> str:
        """Return what the format calls a field of `cdr.DecodedFields`.

        Raises:
            NoSuchFieldError: it has no such field.
        """

    def _append(self, record: str, field: str, text: str) -> str:
        """Return a record with a field that is not in it yet."""
        raise NotImplementedError(f"{type(self).__name__} has every field in every record")

    def with_field(self, record: str, field: str, text: str) -> str:
        """Return a record in which a field says `text`.

        Raises:
            NoSuchFieldError: the format has no such field, or no room for the text.
        """
        self.place_of(field)
        seen = []

        def change(found: str | None, old: str) -> str:
            # Of a name that is there twice the decoders differ in which counts: all say the same then.
            if found != field:
                return old
            seen.append(found)
            return text

        edited = self.edit(record, change)
        return edited if seen else self._append(record, field, text)


def _replaced(record: str, spans: Iterator["_Span"], change: FieldChange) -> str:
    parts, end = [], 0
    for span in spans:
        stripped = record[span.start : span.end].strip(BLANKS)
        text = stripped.replace('""', '"') if span.is_quoted else stripped
        if (changed := change(span.field, text)) != text:
            before = record[span.start : span.end].find(stripped) if stripped else 0
            parts += [record[end : span.start + before], changed.replace('"', '""') if span.is_quoted else changed]
            end = span.start + before + len(stripped)
    return "".join([*parts, record[end:]])


class _Span(NamedTuple):
    field: str | None
    start: int
    end: int
    is_quoted: bool = False


@dataclass(frozen=True)
class Separated(Layout):
    """Fields in a fixed order between separators, in quotes or not; trailing ones may be missing, more are nobody's.

    Attributes:
        separator: one character.
        fields: the unified name of each.
        names: what the header line calls a field, where that is not its unified name.
    """

    separator: str
    fields: tuple[str, ...]
    names: Mapping[str, str] | None = None

    @property
    def header(self) -> str:
        """The line that a file may begin with: it names the columns."""
        return self.separator.join((self.names or {}).get(field, field) for field in self.fields)

    def edit(self, record: str, change: FieldChange) -> str:
        """Change what stands between separators."""
        return _replaced(record, self._spans(record), change)

    def place_of(self, field: str) -> str:
        """Return the field itself."""
        if field not in self.fields:
            raise NoSuchFieldError(f"the format has no field {field}, only {', '.join(self.fields)}")
        return field

    def _spans(self, record: str) -> Iterator[_Span]:
        part = re.compile(
            rf'\ufeff?[{BLANKS}]*"(?P<quoted>(?:[^"]|"")*)"[{BLANKS}]*(?={re.escape(self.separator)}|\Z)'
            rf"|\ufeff?(?P<plain>[^{re.escape(self.separator)}]*)"
        )
        place, end = 0, -1
        while end < len(record):
            found = part.match(record, end + 1)
            assert found is not None
            is_quoted = found["quoted"] is not None
            field = self.fields[place] if place < len(self.fields) else None
            yield _Span(field, *found.span("quoted" if is_quoted else "plain"), is_quoted)
            place, end = place + 1, found.end()

    def _append(self, record: str, field: str, text: str) -> str:
        missing = self.fields.index(field) - (len(list(self._spans(record))) - 1)
        return record.rstrip(BLANKS) + self.separator * missing + text


@dataclass(frozen=True)
class Pairs(Layout):
    """`NAME=text` pairs between separators.

    Attributes:
        separator: one character.
        names: what the format calls each field, by its unified name.
    """

    separator: str
    names: Mapping[str, str]

    def edit(self, record: str, change: FieldChange) -> str:
        """Change texts, and names that are none of ours."""
        return _replaced(record, self._spans(record), change)

    def place_of(self, field: str) -> str:
        """Return the field's name in the record."""
        if field not in self.names:
            raise NoSuchFieldError(f"the format has no field {field}, only {', '.join(self.names)}")
        return self.names[field]

    def _spans(self, record: str) -> Iterator[_Span]:
        field_of = {name: field for field, name in self.names.items()}
        start = 0
        for pair in record.split(self.separator):
            name, sign, _ = pair.partition("=")
            yield _Span(None, start, start + len(name))
            if sign:
                yield _Span(field_of.get(name.strip(BLANKS)), start + len(name) + 1, start + len(pair))
            start += len(pair) + len(self.separator)

    def _append(self, record: str, field: str, text: str) -> str:
        return f"{record.rstrip(BLANKS)}{self.separator}{self.names[field]}={text}"


@dataclass(frozen=True)
class FixedWidth(Layout):
    """Fields of fixed width, padded with blanks on the right.

    Attributes:
        widths: characters of each, by its unified name, in order.
    """

    widths: Mapping[str, int]

    def edit(self, record: str, change: FieldChange) -> str:
        """Change what stands in the columns; a text keeps its column's width."""
        start, parts = 0, []
        for field, width in self.widths.items():
            column = record[start : start + width]
            stripped = column.strip(BLANKS)
            changed = change(field, stripped)
            if len(changed) > width:
                raise NoSuchFieldError(f"the field {field} has {width} characters")
            parts.append(column if changed == stripped else changed.ljust(width))
            start += width
        return "".join([*parts, record[start:]])

    def place_of(self, field: str) -> str:
        """Return the field itself."""
        if field not in self.widths:
            raise NoSuchFieldError(f"the format has no field {field}, only {', '.join(self.widths)}")
        return field


_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class JsonObject(Layout):
    """A JSON object.

    Attributes:
        paths: names of members from the outside in, joined by `.`, by the unified name of the field. Where a field
            has several, a comma joins them; the first is the one that is written where none is there.
    """

    paths: Mapping[str, str]

    def edit(self, record: str, change: FieldChange) -> str:
        """Change strings and numbers, wherever they are, and names of members."""
        field_of = {path: field for field, paths in self.paths.items() for path in paths.split(",")}
        parts: list[str] = []
        end = 0
        for token in _scalars(record):
            changed = _changed_token(token.text, field_of.get(token.path), change)
            parts += [record[end : token.start], changed]
            end = token.start + len(token.text)
        return "".join([*parts, record[end:]])

    def place_of(self, field: str) -> str:
        """Return the path of the field's member."""
        if field not in self.paths:
            raise NoSuchFieldError(f"the format has no field {field}, only {', '.join(self.paths)}")
        return self.paths[field].partition(",")[0]

    def _append(self, record: str, field: str, text: str) -> str:
        *outer, name = self.place_of(field).split(".")
        members = whole = json.loads(record.lstrip("\ufeff"))
        for each in outer:
            if members.get(each) is None:
                members[each] = {}
            members = members[each]
        members[name] = text
        return json.dumps(whole, ensure_ascii=False, separators=(",", ":"))


class _Token(NamedTuple):
    path: str
    """Of a name of a member it is empty: no field has that path."""
    text: str
    start: int


def _scalars(record: str) -> Iterator[_Token]:
    """Yield the strings, numbers and words of well-formed JSON with the path of the member that each stands in."""
    path: list[str] = []
    opened: list[str] = []
    is_name = False
    for found in _JSON_TOKEN.finditer(record):
        text = found[0]
        if text in "{[":
            opened.append(text)
            path.append("")
            is_name = text == "{"
        elif text in "}]":
            opened.pop()
            path.pop()
            is_name = False
        elif text == ",":
            is_name = opened[-1] == "{"
        elif text == ":":
            is_name = False
        elif is_name:
            path[-1] = _string_of(text)
            yield _Token("", text, found.start())
        else:
            yield _Token(".".join(path), text, found.start())


def _string_of(token: str) -> str:
    return str(json.loads(token, strict=False))


def _changed_token(token: str, field: str | None, change: FieldChange) -> str:
    if token.startswith('"'):
        whole = _string_of(token)
        text = whole.strip(BLANKS)
        changed = change(field, text)
        return token if changed == text else json.dumps(whole.replace(text, changed) if text else changed)
    if token == "null":
        changed = change(field, "")
        return json.dumps(changed) if changed else token
    changed = change(field, token)
    # What is a number stays one: quotes around it would be another record.
    return changed if changed == token or _JSON_NUMBER.fullmatch(changed) else json.dumps(changed)
