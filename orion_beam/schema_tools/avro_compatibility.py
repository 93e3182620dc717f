"""Compatibility of two versions of an Avro schema: can each read the other's records?

The rules are those of Avro 1.12, "Schema Resolution" and "Aliases". In two points they are stricter than the
specification, because following it would change values without an error:

* logical types that differ, such as timestamp-millis and timestamp-micros, over the same or a promotable type;
* an alias by which two fields of one side stand for one field of the other.

As in the specification, `bytes` is readable as `string`, although a reader fails on bytes that are not UTF-8.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fastavro.schema import SchemaParseException, UnknownType, parse_schema

from orion_beam.errors import UserError


class Direction(StrEnum):
    """Which side cannot read the other's records."""

    BACKWARD = "backward"
    """the new schema reads what the old one wrote"""
    FORWARD = "forward"
    """the old schema reads what the new one wrote"""


class SchemaRule(StrEnum):
    """The rules of schema resolution that two schemas can break."""

    TYPE_MISMATCH = "type_mismatch"
    NAME_MISMATCH = "name_mismatch"
    MISSING_DEFAULT = "missing_default"
    MISSING_SYMBOL = "missing_symbol"
    MISSING_BRANCH = "missing_branch"
    FIXED_SIZE = "fixed_size"
    LOGICAL_TYPE = "logical_type"
    AMBIGUOUS_ALIAS = "ambiguous_alias"


@dataclass(frozen=True)
class Incompatibility:
    """One place where records written with one schema cannot be read with the other."""

    direction: Direction
    rule: SchemaRule
    path: str
    """Path from the record's name: `.field`, `[]` for items, `{}` for map values, `<type>` for a union's branch."""
    message: str

    def __str__(self) -> str:
        """Return the incompatibility as one line for people."""
        return f"{self.path}: {self.message} ({self.rule}, {self.direction})"


def compatibility(old: str, new: str) -> list[Incompatibility]:
    """Return each point in which `old` and `new`, schemas as JSON text, cannot read each other's records.

    An empty list means that they are compatible both ways, so producers and consumers can be updated in any order.

    Raises:
        UserError: one of the two is no Avro schema. The message says which and why.
    """
    older, newer = _Schema.parse(old, "the old schema"), _Schema.parse(new, "the new schema")
    return [
        *_Resolver(Direction.BACKWARD, writer=older, reader=newer).run(),
        *_Resolver(Direction.FORWARD, writer=newer, reader=older).run(),
    ]


_PROMOTIONS = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
    "bytes": {"string"},
}
_PRIMITIVES = {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}
_NAMED = {"record", "error", "enum", "fixed"}


@dataclass(frozen=True)
class _Schema:
    """A parsed schema with full names; a named type is defined once and then referred to by its name."""

    root: Any
    named: dict[str, dict[str, Any]]
    origin: str

    @classmethod
    def parse(cls, text: str, origin: str) -> "_Schema":
        named: dict[str, Any] = {}
        try:
            root = parse_schema(json.loads(text), named_schemas=named)
            _check(root)
        except json.JSONDecodeError as error:
            raise UserError(f"{origin} is not JSON: {error}") from None
        except UnknownType as error:
            raise UserError(f"{origin} names the unknown type {error}") from None
        except SchemaParseException as error:
            raise UserError(f"{origin} is no Avro schema: {error}") from None
        except KeyError as error:
            raise UserError(f"{origin} is no Avro schema: a type lacks the attribute {error}") from None
        except (AttributeError, TypeError, ValueError, RecursionError) as error:
            raise UserError(f"{origin} is no Avro schema: {error}") from None
        return cls(root, named, origin)

    def definition(self, schema: Any) -> Any:
        """Return a union as a list and any other type as a dict with its `type`; names are looked up."""
        if isinstance(schema, str):
            return {"type": schema} if schema in _PRIMITIVES else self.named[schema]
        if isinstance(schema, dict) and not isinstance(schema["type"], str):
            return self.definition(schema["type"])
        return schema


def _check(schema: Any) -> None:
    """Raise SchemaParseException for schemas that the specification forbids and fastavro accepts."""
    if isinstance(schema, list):
        if any(isinstance(branch, list) for branch in schema):
            raise SchemaParseException("a union directly holds a union")
        _check_unique(
            [branch if isinstance(branch, str) else _branch_name(branch) for branch in schema], "a union holds"
        )
        for branch in schema:
            _check(branch)
    elif isinstance(schema, dict):
        fields = schema.get("fields", [])
        _check_unique([field["name"] for field in fields], f"{schema.get('name')} declares the field")
        for part in [schema["type"], schema.get("items"), schema.get("values"), *(field["type"] for field in fields)]:
            _check(part)


def _check_unique(names: list[str], statement: str) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise SchemaParseException(f"{statement} {name} twice")


def _simple_name(full_name: str) -> str:
    return full_name.rpartition(".")[2]


def _names_match(writer: dict[str, Any], reader: dict[str, Any]) -> bool:
    """Return whether the simple names are equal, or the writer's full name is one of the reader's aliases."""
    if _simple_name(writer["name"]) == _simple_name(reader["name"]):
        return True
    namespace = reader["name"].rpartition(".")[0]
    aliases = reader.get("aliases", [])
    # An alias without a dot is in the namespace of the type that it belongs to.
    return writer["name"] in {alias if "." in alias or not namespace else f"{namespace}.{alias}" for alias in aliases}


def _type_name(definition: Any) -> str:
    if isinstance(definition, list):
        return "union"
    name = definition["name"] if definition["type"] in _NAMED else ""
    logical = f" ({definition['logicalType']})" if "logicalType" in definition else ""
    return f"{definition['type']} {name}".rstrip() + logical


def _branch_name(definition: dict[str, Any]) -> str:
    return str(definition["name"] if definition["type"] in _NAMED else definition["type"])


def _logical_type(definition: dict[str, Any]) -> tuple[Any, ...] | None:
    """Return the parts of a logical type that must be equal on both sides, or None when there is no logical type."""
    kind = definition.get("logicalType")
    if kind is None:
        return None
    return (kind, definition.get("precision"), definition.get("scale", 0)) if kind == "decimal" else (kind,)


class _Resolver:
    """Resolves a writer's schema against a reader's and collects the incompatibilities."""

    def __init__(self, direction: Direction, *, writer: _Schema, reader: _Schema) -> None:
        self._direction = direction
        self._writer = writer
        self._reader = reader
        # Pairs of records being resolved; meeting one again inside itself (recursion) would find nothing new.
        self._open: set[tuple[str, str]] = set()

    def run(self) -> Iterator[Incompatibility]:
        root = self._reader.definition(self._reader.root)
        path = "union" if isinstance(root, list) else _simple_name(_branch_name(root))
        return self._resolve(self._writer.root, self._reader.root, path)

    def _found(self, rule: SchemaRule, path: str, message: str) -> Incompatibility:
        return Incompatibility(self._direction, rule, path, message)

    def _resolve(self, writer_schema: Any, reader_schema: Any, path: str) -> Iterator[Incompatibility]:
        writer, reader = self._writer.definition(writer_schema), self._reader.definition(reader_schema)
        if isinstance(writer, list):
            # Any branch may have been written, so each must be readable.
            for branch in writer:
                name = _branch_name(self._writer.definition(branch))
                yield from self._resolve_branch(branch, reader_schema, f"{path}<{name}>")
        elif isinstance(reader, list):
            yield from self._resolve_branch(writer_schema, reader_schema, path)
        elif not self._kinds_match(writer, reader):
            yield self._found(
                SchemaRule.TYPE_MISMATCH,
                path,
                f"{_type_name(writer)} of {self._writer.origin} is not readable as {_type_name(reader)}",
            )
        elif writer["type"] in _NAMED and not _names_match(writer, reader):
            yield self._found(
                SchemaRule.NAME_MISMATCH,
                path,
                f"{writer['name']} of {self._writer.origin} is neither the name nor an alias of {reader['name']}",
            )
        else:
            yield from self._resolve_alike(writer, reader, path)

    def _resolve_branch(self, branch: Any, reader_schema: Any, path: str) -> Iterator[Incompatibility]:
        """Resolve a type that is no union against the reader, or against the first matching branch of its union."""
        reader = self._reader.definition(reader_schema)
        if not isinstance(reader, list):
            yield from self._resolve(branch, reader_schema, path)
            return
        match = next((candidate for candidate in reader if self._match(branch, candidate)), None)
        if match is None:
            written = _type_name(self._writer.definition(branch))
            yield self._found(
                SchemaRule.MISSING_BRANCH,
                path,
                f"the union of {self._reader.origin} has no branch for {written} of {self._writer.origin}",
            )
        else:
            yield from self._resolve(branch, match, path)

    @staticmethod
    def _kinds_match(writer: dict[str, Any], reader: dict[str, Any]) -> bool:
        written, read = writer["type"], reader["type"]
        return bool(written == read or read in _PROMOTIONS.get(written, ()) or {written, read} <= {"record", "error"})

    def _match(self, writer_schema: Any, reader_schema: Any) -> bool:
        """Return whether two schemas match by the specification's rule for choosing a branch: by names, not fields."""
        writer, reader = self._writer.definition(writer_schema), self._reader.definition(reader_schema)
        if isinstance(writer, list) or isinstance(reader, list):
            return True
        if not self._kinds_match(writer, reader):
            return False
        if writer["type"] == "array":
            return self._match(writer["items"], reader["items"])
        if writer["type"] == "map":
            return self._match(writer["values"], reader["values"])
        if writer["type"] == "fixed" and writer["size"] != reader["size"]:
            return False
        return writer["type"] not in _NAMED or _names_match(writer, reader)

    def _resolve_alike(self, writer: dict[str, Any], reader: dict[str, Any], path: str) -> Iterator[Incompatibility]:
        """Resolve two types of the same kind with matching names."""
        match writer["type"]:
            case "array":
                yield from self._resolve(writer["items"], reader["items"], f"{path}[]")
            case "map":
                yield from self._resolve(writer["values"], reader["values"], f"{path}{{}}")
            case "enum":
                yield from self._resolve_enum(writer, reader, path)
            case "record" | "error":
                pair = writer["name"], reader["name"]
                if pair not in self._open:
                    self._open.add(pair)
                    yield from self._resolve_record(writer, reader, path)
                    self._open.remove(pair)
            case "fixed" if writer["size"] != reader["size"]:
                sizes = f"{writer['size']} bytes in {self._writer.origin}, {reader['size']} in {self._reader.origin}"
                yield self._found(SchemaRule.FIXED_SIZE, path, f"{reader['name']} has {sizes}")
        written, read = _logical_type(writer), _logical_type(reader)
        if written != read and written is not None and read is not None:
            yield self._found(
                SchemaRule.LOGICAL_TYPE,
                path,
                f"{_type_name(writer)} of {self._writer.origin} would be misread as {_type_name(reader)}",
            )

    def _resolve_enum(self, writer: dict[str, Any], reader: dict[str, Any], path: str) -> Iterator[Incompatibility]:
        unknown = [symbol for symbol in writer["symbols"] if symbol not in reader["symbols"]]
        if unknown and "default" not in reader:
            symbols = f"{', '.join(unknown)} of {self._writer.origin}"
            yield self._found(
                SchemaRule.MISSING_SYMBOL, path, f"{self._reader.origin} lacks {symbols} and has no default"
            )

    def _resolve_record(self, writer: dict[str, Any], reader: dict[str, Any], path: str) -> Iterator[Incompatibility]:
        written = {field["name"]: field for field in writer["fields"]}
        reader_of: dict[str, str] = {}
        for field in reader["fields"]:
            name, where = field["name"], f"{path}.{field['name']}"
            sources = [source for source in dict.fromkeys([name, *field.get("aliases", [])]) if source in written]
            taken = [reader_of[source] for source in sources if source in reader_of]
            if len(sources) > 1:
                message = f"stands for {' and '.join(sources)} of {self._writer.origin}"
                yield self._found(SchemaRule.AMBIGUOUS_ALIAS, where, message)
            elif taken:
                message = f"stands for {sources[0]} of {self._writer.origin}, as {taken[0]} does"
                yield self._found(SchemaRule.AMBIGUOUS_ALIAS, where, message)
            elif sources:
                yield from self._resolve(written[sources[0]]["type"], field["type"], where)
            elif "default" not in field:
                message = f"{self._reader.origin} needs it or a default, {self._writer.origin} does not have it"
                yield self._found(SchemaRule.MISSING_DEFAULT, where, message)
            reader_of |= dict.fromkeys(sources, name)
