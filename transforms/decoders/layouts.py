"""The positions of fields in a raw record, so that a field can be changed and every other byte stays the same.

Decoders read columns of many records. Mending and pseudonymising write one record, as text, with the layout of its
format. A property test checks the two against each other: the decoder reads what the layout wrote.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from orion_beam.schemas.fields import BLANKS
from orion_beam.transforms.decoders.conversions import Conversion, NotWritableError

FieldChange = Callable[[str | None, str], str]
"""Function from a field's unified name and its trimmed text to the new text. The name is None for an unknown field."""


class NoSuchFieldError(ValueError):
    """The format has no such field, or the field is too short for the text. The message holds no value."""


@dataclass(frozen=True, kw_only=True)
class Layout(ABC):
    """Base class of the layouts of raw records.

    Attributes:
        conversions: Conversion by unified name, for fields that the format writes in its own way.
    """

    conversions: Mapping[str, Conversion] = field(default_factory=dict)

    def edit(self, record: str, change: FieldChange) -> str:
        """Return a record with each text replaced by the result of `change`. Names of fields are texts, too.

        `change` takes and returns texts in the unified writing, but counts, and texts that do not keep to the format's
        writing, as the record has them.

        Raises:
            NoSuchFieldError: A new text has no writing in the format.
        """
        return self._edit(record, self._converted(change) if self.conversions else change)

    @abstractmethod
    def _edit(self, record: str, change: FieldChange) -> str:
        """Return a record with each text, as the format writes it, replaced by the result of `change`."""

    @abstractmethod
    def place_of(self, field: str) -> str:
        """Return the format's name for a field of `cdr.DecodedFields`.

        Raises:
            NoSuchFieldError: The format has no such field.
        """

    def _append(self, record: str, field: str, text: str) -> str:
        """Return a record with a field added that it does not have yet."""
        raise NotImplementedError(f"{type(self).__name__} has every field in every record")

    def _converted(self, change: FieldChange) -> FieldChange:
        def changed(field: str | None, text: str) -> str:
            conversion = self.conversions.get(field or "")
            # A count in the unified unit may have as many digits as a number.
            unified = None if conversion is None or conversion.is_scale else conversion.read_text(text)
            if unified is None:
                return change(field, text)
            new = change(field, unified)
            return text if new == unified else self._written(field or "", new)

        return changed

    def _written(self, field: str, text: str) -> str:
        try:
            return self.conversions[field].write(text) if field in self.conversions else text
        except NotWritableError as error:
            raise NoSuchFieldError(f"{field}: {error}") from None

    def with_field(self, record: str, field: str, text: str) -> str:
        """Return a record with a field set to `text`.

        Raises:
            NoSuchFieldError: The format has no such field, or the field is too short for the text.
        """
        self.place_of(field)
        written = self._written(field, text)
        seen = []

        def change(found: str | None, old: str) -> str:
            # If a name occurs twice, decoders differ in which one they read, so every occurrence is changed.
            if found != field:
                return old
            seen.append(found)
            return written

        edited = self._edit(record, change)
        return edited if seen else self._append(record, field, written)


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


class _InParts(Layout):
    """Base class of layouts whose fields are parts of the text between separators."""

    @abstractmethod
    def _spans(self, record: str) -> Iterator[_Span]:
        """Yield the parts of a record."""

    def _edit(self, record: str, change: FieldChange) -> str:
        return _replaced(record, self._spans(record), change)

    def with_field(self, record: str, field: str, text: str) -> str:
        """Return a record with a field set to `text`.

        Raises:
            NoSuchFieldError: The format has no such field, or the change would move other fields: the text holds a
                separator, or quotes of the record have no partner.
        """
        changed = super().with_field(record, field, text)
        before = self._others(record, field)
        if self._others(changed, field)[: len(before)] != before:
            raise NoSuchFieldError(f"this text for {field} would move other fields, by a separator or a lone quote")
        return changed

    def _others(self, record: str, field: str) -> list[tuple[str | None, str]]:
        """Return the names and texts of all parts but those of one field."""
        spans = self._spans(record)
        return [(span.field, record[span.start : span.end].strip(BLANKS)) for span in spans if span.field != field]


@dataclass(frozen=True)
class Separated(_InParts):
    """Fields in a fixed order between separators, with or without quotes. Trailing fields may be missing.

    Attributes:
        separator: One character.
        fields: Names of the fields, in order: unified ones, otherwise the format's own. Further parts of a record are
            unknown fields.
        may_be_quoted: Whether a part may be in quotes.
    """

    separator: str
    fields: tuple[str, ...]
    may_be_quoted: bool = True

    def place_of(self, field: str) -> str:
        """Return the field itself."""
        if field not in self.fields:
            raise NoSuchFieldError(f"the format has no field {field}, only {', '.join(self.fields)}")
        return field

    def _spans(self, record: str) -> Iterator[_Span]:
        quote = '"' if self.may_be_quoted else r"(?!)"
        part = re.compile(
            rf'\ufeff?[{BLANKS}]*{quote}(?P<quoted>(?:[^"]|"")*)"[{BLANKS}]*(?={re.escape(self.separator)}|\Z)'
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
class Pairs(_InParts):
    """Pairs of name and text, such as `NAME=text`, between separators.

    Attributes:
        separator: One character.
        names: Names in the record by unified name of the field. The first is used to add the field to a record.
        sign: Character between name and text.
    """

    separator: str
    names: Mapping[str, tuple[str, ...]]
    sign: str = "="

    def place_of(self, field: str) -> str:
        """Return the field's name in the record."""
        if field not in self.names:
            raise NoSuchFieldError(f"the format has no field {field}, only {', '.join(self.names)}")
        return self.names[field][0]

    def _spans(self, record: str) -> Iterator[_Span]:
        field_of = {name: field for field, names in self.names.items() for name in names}
        start = 0
        for pair in record.split(self.separator):
            name, sign, _ = pair.partition(self.sign)
            yield _Span(None, start, start + len(name))
            if sign:
                yield _Span(field_of.get(name.strip(BLANKS)), start + len(name) + 1, start + len(pair))
            start += len(pair) + len(self.separator)

    def _append(self, record: str, field: str, text: str) -> str:
        return f"{record.rstrip(BLANKS)}{self.separator}{self.place_of(field)}{self.sign}{text}"


@dataclass(frozen=True)
class FixedWidth(Layout):
    """Fields of fixed width, padded with blanks on the right.

    Attributes:
        columns: Name and width in characters of each field, in order. The name is the unified one, otherwise the
            format's own.
    """

    columns: tuple[tuple[str, int], ...]

    def _edit(self, record: str, change: FieldChange) -> str:
        """Change the texts in the columns. Columns keep their width."""
        start, parts = 0, []
        for name, width in self.columns:
            column = record[start : start + width]
            stripped = column.strip(BLANKS)
            changed = change(name, stripped)
            if len(changed) > width:
                raise NoSuchFieldError(f"the field {name} has {width} characters")
            parts.append(column if changed == stripped else changed.ljust(width))
            start += width
        return "".join([*parts, record[start:]])

    def place_of(self, field: str) -> str:
        """Return the field itself."""
        names = dict(self.columns)
        if field not in names:
            raise NoSuchFieldError(f"the format has no field {field}, only {', '.join(names)}")
        return field


_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class JsonObject(Layout):
    """A JSON object.

    Attributes:
        paths: Paths of a field's members by unified name, such as `usage[0].up`. The first is used to add the field to
            a record.
    """

    paths: Mapping[str, tuple[str, ...]]

    def _edit(self, record: str, change: FieldChange) -> str:
        """Change all strings, numbers and names of members at any depth."""
        field_of = {path: field for field, paths in self.paths.items() for path in paths}
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
        return self.paths[field][0]

    def _append(self, record: str, field: str, text: str) -> str:
        path = self.place_of(field)
        if "[" in path:
            raise NoSuchFieldError(f"the record has no element {path} for the field {field}")
        *outer, name = path.split(".")
        members = whole = json.loads(record.lstrip("\ufeff"))
        for each in outer:
            if members.get(each) is None:
                members[each] = {}
            members = members[each]
        members[name] = text
        return json.dumps(whole, ensure_ascii=False, separators=(",", ":"))


class _Token(NamedTuple):
    path: str
    """Path of the member; empty for the name of a member, so that it is no field."""
    text: str
    start: int


def _scalars(record: str) -> Iterator[_Token]:
    """Yield the strings, numbers and literals of well-formed JSON, each with the path of its member."""
    # Of each open object the present member's name, of each open array the present element's index.
    path: list[str | int] = []
    opened: list[str] = []
    is_name = False
    for found in _JSON_TOKEN.finditer(record):
        text = found[0]
        if text in "{[":
            opened.append(text)
            path.append(0 if text == "[" else "")
            is_name = text == "{"
        elif text in "}]":
            opened.pop()
            path.pop()
            is_name = False
        elif text == ",":
            is_name = opened[-1] == "{"
            path[-1] = "" if is_name else int(path[-1]) + 1
        elif text == ":":
            is_name = False
        elif is_name:
            path[-1] = _string_of(text)
            yield _Token("", text, found.start())
        else:
            yield _Token(_path_text(path), text, found.start())


def _path_text(path: Sequence[str | int]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).removeprefix(".")


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
    # A number stays a number, because quotes would change the record's JSON type.
    return changed if changed == token or _JSON_NUMBER.fullmatch(changed) else json.dumps(changed)
