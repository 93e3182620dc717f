"""YAML files with the line of each value, so that a message can say where a mistake is.

Values are those of YAML 1.2's core schema: `NO` is a text and not false, `0123` is a text and not an octal number, and
a date is a text. A key is always a text. Tags that make objects are refused.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from orion_beam.errors import UserError

__all__ = ["KeyPath", "YamlFile", "read_yaml", "shown_path"]

Model = TypeVar("Model", bound=BaseModel)

KeyPath = tuple[str | int, ...]
"""Keys and list positions from the top of a file to a value."""


class _Loader(yaml.SafeLoader):
    """Loader of plain data."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|false", "tf"),
    ("null", r"~|null|", ["~", "n", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]+(?:[eE][-+]?[0-9]+)?)", "-+0123456789"),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


_MOST_VALUES = 100_000
"""Most values of a file. Aliases of aliases are a few lines of text and any number of values."""

_NO_TEXT = re.compile("[\0\ud800-\udfff]")
"""Characters that no path, and no line on a screen, can hold: NUL, and halves of surrogate pairs."""

_COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


@dataclass(frozen=True)
class YamlFile:
    """Content of a YAML file.

    Attributes:
        path: The file.
        data: Mappings, lists, texts, numbers, booleans and None.
        lines: Line of each key and list item, from 1.
    """

    path: Path
    data: Any
    lines: Mapping[KeyPath, int]

    def place(self, where: KeyPath = ()) -> str:
        """Return `file:line` of a value; of the nearest value around it if the file does not have it."""
        while where and where not in self.lines:
            # The tables of a TOML array have lines, and the array has none.
            if within := [line for key, line in self.lines.items() if key[: len(where)] == where]:
                return f"{shown_path(self.path)}:{min(within)}"
            where = where[:-1]
        return f"{shown_path(self.path)}:{self.lines.get(where, 1)}"

    def _line(self, where: KeyPath) -> int:
        """Return the line of a value, or of the nearest value around it; 0 for the file as a whole."""
        return next((self.lines[where[:end]] for end in range(len(where), 0, -1) if where[:end] in self.lines), 0)

    def error(self, where: KeyPath, message: str) -> UserError:
        """Return the error of a value: `file:line: field: message`."""
        field = ".".join(map(str, where))
        return UserError(f"{self.place(where)}: {f'{field}: ' if field else ''}{message}")

    def checked(self, model: type[Model], data: Any = None) -> Model:
        """Return the content as a model.

        Args:
            model: The model.
            data: What to check instead of the content, such as the content over defaults; None for the content.

        Raises:
            UserError: A key is unknown, or a value breaks its rule. The message names file, line and field, and the
                nearest known key.
        """
        try:
            return model.model_validate(self.data if data is None else data)
        except ValidationError as error:
            problems = [(self._known_part(each["loc"]), each) for each in error.errors(include_url=False)]
            # A misspelt key may be the one that is missing. A value of several types has an error for each of them.
            where, problem = min(
                problems,
                key=lambda each: (
                    each[1]["type"] != "extra_forbidden",
                    self._line(each[0]),
                    -len(each[0]),
                    each[1]["type"].endswith("_type"),
                ),
            )
            if problem["type"] == "extra_forbidden":
                message = f"there is no such key; {_hint(str(where[-1]), _keys_at(model, where[:-1]))}"
            elif problem["type"] == "missing":
                where, message = (*where, str(problem["loc"][-1])), "is required"
            else:
                message = _in_words(problem["msg"])
            raise self.error(where, message) from None

    def _known_part(self, location: Sequence[str | int]) -> KeyPath:
        """Return the keys of an error's location. Pydantic adds the names of a union's types to it."""
        where: KeyPath = ()
        value: Any = self.data
        for part in location:
            if part in (value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()):
                where, value = (*where, part), value[part]
        return where


def read_yaml(path: Path) -> YamlFile:
    """Read a YAML file.

    Raises:
        UserError: The file cannot be read, is not YAML, holds a key twice, or asks for an object. The message names
            file and line.
    """
    lines: dict[KeyPath, int] = {}
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        return YamlFile(path, None if node is None else _plain(loader, node, (), lines), lines)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f":{error.problem_mark.line + 1}"
        raise UserError(f"{shown_path(path)}{line}: {error.problem}") from None
    except OSError as error:
        raise UserError(f"{shown_path(path)}: {error.strerror}") from None
    except (ValueError, yaml.YAMLError) as error:
        reason = "is no UTF-8 text" if isinstance(error, UnicodeDecodeError) else " ".join(str(error).split())
        raise UserError(f"{shown_path(path)}: {reason}") from None
    except RecursionError:
        raise UserError(f"{shown_path(path)}: holds itself, or too many levels") from None


def shown_path(path: Path) -> str:
    """Return a path for people: relative if it is within the current directory."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _plain(loader: _Loader, node: yaml.Node, where: KeyPath, lines: dict[KeyPath, int]) -> Any:
    """Return the value of a node, and note the lines of what it holds."""
    if isinstance(node, yaml.CollectionNode) and node.tag not in _COLLECTIONS:
        raise yaml.MarkedYAMLError(problem=f"{node.tag}: only plain values are read", problem_mark=node.start_mark)
    if isinstance(node, yaml.MappingNode):
        _refuse_repeated(node)
        loader.flatten_mapping(node)
        found = {}
        for key, value in node.value:
            lines[*where, key.value] = key.start_mark.line + 1
            found[key.value] = _plain(loader, value, (*where, key.value), lines)
        return found
    if isinstance(node, yaml.SequenceNode):
        for place, item in enumerate(node.value):
            lines[*where, place] = item.start_mark.line + 1
        return [_plain(loader, item, (*where, place), lines) for place, item in enumerate(node.value)]
    if len(lines) > _MOST_VALUES:
        problem = f"more than {_MOST_VALUES:,} values: use fewer aliases"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    try:
        value = loader.construct_object(node, deep=True)
    except (ValueError, LookupError, AttributeError, TypeError, OverflowError):
        problem = f"no {node.tag.rpartition(':')[2]} that can be read; write a text in quotes"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None
    if isinstance(value, str) and _NO_TEXT.search(value):
        raise yaml.MarkedYAMLError(problem="a character that no text can hold", problem_mark=node.start_mark)
    return value


def _refuse_repeated(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.MarkedYAMLError(problem="a key is one word", problem_mark=key.start_mark)
        if key.value in seen:
            raise yaml.MarkedYAMLError(problem=f"{key.value} is there twice", problem_mark=key.start_mark)
        seen.add(key.value)


def _in_words(message: str) -> str:
    """Return pydantic's message in the words of YAML."""
    words = message.removeprefix("Value error, ").partition(", unable")[0].replace("Input should be", "expected")
    if "a valid dictionary" in words:
        return "expected keys and values"
    words = re.sub(r"<\w+\.\w+: ('\w*')>", r"\1", words)
    return words.replace("a valid tuple", "a list").replace("a valid", "a").replace("a integer", "an integer")


def _hint(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"


def _keys_at(model: type[BaseModel], where: KeyPath) -> list[str]:
    """Return the keys that a model takes at a place."""
    kinds: list[Any] = [model]
    for part in where:
        kinds = [inner for kind in kinds for inner in _inner(kind, part)]
    return [field.alias or name for kind in kinds if _is_model(kind) for name, field in kind.model_fields.items()]


def _inner(kind: Any, part: str | int) -> list[Any]:
    """Return the types of what a type holds at a key or list position."""
    if _is_model(kind):
        fields = {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
        return _alternatives(fields[str(part)]) if part in fields else []
    arguments = [each for each in get_args(kind) if each is not Ellipsis]
    return _alternatives(arguments[-1]) if arguments else []


def _alternatives(kind: Any) -> list[Any]:
    if get_origin(kind) in (Union, UnionType):
        return [inner for each in get_args(kind) for inner in _alternatives(each)]
    return _alternatives(get_args(kind)[0]) if get_origin(kind) is Annotated else [kind]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
